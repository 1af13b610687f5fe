//! Encodings and byte order marks.

use super::super::{Encoding, Rejection};
use super::*;

fn in_encoding(label: &str, options: Options) -> Options {
    Options {
        encoding: label.parse().expect("a label"),
        ..options
    }
}

fn utf16(text: &str, little: bool) -> Vec<u8> {
    let bytes = |unit: u16| {
        if little {
            unit.to_le_bytes()
        } else {
            unit.to_be_bytes()
        }
    };
    text.encode_utf16().flat_map(bytes).collect()
}

fn rejections(bytes: &[u8], options: Options) -> Vec<(u32, Rejection)> {
    let mut records = Records::open(bytes, options).expect("opens");
    let mut all = Vec::new();
    while let Some(record) = records.read(&mut String::new()).expect("reads") {
        all.extend(record.rejected.map(|r| (record.line, r)));
    }
    all
}

const TEXT: &str = "a,é\n1,🦀\r\n\"x\ny\",\0\n\u{FEFF}\u{FFFD},€\n";

#[test]
fn utf_16_is_read_by_its_mark_or_its_name() {
    let expected = csv(TEXT);
    assert_eq!(expected.len(), 3);
    for (little, label) in [(true, "utf-16le"), (false, "utf-16be")] {
        let plain = utf16(TEXT, little);
        let marked = utf16(&format!("\u{FEFF}{TEXT}"), little);
        assert_eq!(read(&plain, in_encoding(label, Options::csv())), expected);
        assert_eq!(csv(&marked), expected);
        for other in ["utf-8", "utf-16be", "utf-16le", "windows-1252"] {
            let options = in_encoding(other, Options::csv());
            let mut records = Records::open(marked.as_slice(), options).expect("opens");
            assert_eq!(
                read_all(&mut records),
                expected,
                "the mark wins over {other}"
            );
            assert_eq!(records.encoding().name().to_lowercase(), label);
            assert_eq!(records.bytes(), marked.len() as u64);
        }
    }
}

#[test]
fn the_mark_of_utf_8_wins_over_the_name() {
    let options = in_encoding("windows-1252", Options::csv());
    let mut records = Records::open("\u{FEFF}é\n1".as_bytes(), options).expect("opens");
    assert_eq!(records.encoding(), Encoding::UTF_8);
    assert_eq!(read_all(&mut records), [ok(2, r#"{"é":"1"}"#)]);
}

#[test]
fn only_the_first_mark_is_removed() {
    let twice = format!("\u{FEFF}\u{FEFF}{}", "[1]");
    for bytes in [
        twice.clone().into_bytes(),
        utf16(&twice, true),
        utf16(&twice, false),
    ] {
        assert_eq!(
            read(bytes, Options::jsonl()),
            [bad(1, "\"\u{FEFF}[1]\"", RejectCode::BadJson)]
        );
    }
    for little in [true, false] {
        let bytes = utf16("\u{FEFF}a\n\u{FEFF}1\n", little);
        assert_eq!(csv(bytes), [ok(2, "{\"a\":\"\u{FEFF}1\"}")]);
    }
}

#[test]
fn a_mark_alone_is_an_empty_input() {
    for mark in [&b"\xEF\xBB\xBF"[..], b"\xFF\xFE", b"\xFE\xFF"] {
        assert_eq!(read(mark, Options::jsonl()), []);
        assert_eq!(read(mark, headless()), []);
        let (line, reason) = header_error(mark, Options::csv());
        assert!(line == 1 && reason.contains("there is none"), "{reason}");
    }
    // The beginning of a mark is no mark.
    assert_eq!(
        read(b"\xEF\xBB", headless()),
        [bad(1, "{\"column_1\":\"\u{FFFD}\"}", BadEncoding)]
    );
    assert_eq!(
        read(b"\xFF", headless()),
        [bad(1, "{\"column_1\":\"\u{FFFD}\"}", BadEncoding)]
    );
    assert_eq!(
        read(b"\0\0", headless()),
        [ok(1, "{\"column_1\":\"\\u0000\\u0000\"}")]
    );
}

#[test]
fn utf_32_is_refused_by_its_mark() {
    for mark in [
        &b"\xFF\xFE\0\0a\0\0\0"[..],
        b"\0\0\xFE\xFF\0\0\0a",
        b"\xFF\xFE\0\0",
    ] {
        let error = Records::open(mark, Options::csv()).expect_err("refused");
        assert!(matches!(error, IngestError::Utf32), "{error}");
        assert!(error.to_string().contains("iconv"), "{error}");
    }
}

#[test]
fn windows_1252_is_read_by_its_name() {
    let options = in_encoding("windows-1252", Options::csv());
    assert_eq!(
        read(b"caf\xE9\n\x80 \x93x\x94\n", options),
        [ok(2, "{\"café\":\"€ “x”\"}")]
    );
    // Without it the header tells what to do.
    let (line, reason) = header_error(b"caf\xE9\n1\n", Options::csv());
    assert_eq!(line, 1);
    assert!(reason.contains("not UTF-8 at its byte 4"), "{reason}");
    assert!(reason.contains("encoding"), "{reason}");
}

#[test]
fn other_encodings_are_read_by_their_labels() {
    for (label, bytes) in [
        ("iso-8859-15", &b"a\n\xA4\n"[..]),
        ("windows-1250", b"a\n\x80\n"),
        ("gb18030", b"a\n\xA2\xE3\n"),
        ("utf-8", "a\n€\n".as_bytes()),
    ] {
        let rows = read(bytes, in_encoding(label, Options::csv()));
        assert_eq!(rows, [ok(2, r#"{"a":"€"}"#)], "{label}");
    }
}

#[test]
fn a_backslash_within_a_character_of_two_bytes_is_none() {
    // The second byte of this character is a backslash in ASCII.
    let rows = read(
        b"{\"a\":\"\x83\x5C\"}\n",
        in_encoding("shift_jis", Options::jsonl()),
    );
    assert_eq!(rows, [ok(1, r#"{"a":"ソ"}"#)]);
}

#[test]
fn a_lone_surrogate_fails_its_record_alone() {
    for (little, order) in [(true, "LE"), (false, "BE")] {
        let mut bytes = utf16("\u{FEFF}a,b\n1,2\nx", little);
        let lone: u16 = 0xD83E;
        bytes.extend(if little {
            lone.to_le_bytes()
        } else {
            lone.to_be_bytes()
        });
        bytes.extend(utf16(",é\n3,4\n", little));
        assert_eq!(
            csv(&bytes),
            [
                ok(2, r#"{"a":"1","b":"2"}"#),
                bad(3, "{\"a\":\"x\u{FFFD}\",\"b\":\"é\"}", BadEncoding),
                ok(4, r#"{"a":"3","b":"4"}"#),
            ]
        );
        let told = rejections(&bytes, Options::csv());
        let [(3, rejection)] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!(
            rejection.text,
            format!("not UTF-16{order} at character 2 of the record")
        );
        assert_eq!(rejection.vals, ["2"]);
    }
}

#[test]
fn half_a_unit_at_the_end_fails_the_last_record() {
    let mut bytes = utf16("\u{FEFF}a\n1\n2", true);
    bytes.push(b'3');
    assert_eq!(
        csv(&bytes),
        [
            ok(2, r#"{"a":"1"}"#),
            bad(3, "{\"a\":\"2\u{FFFD}\"}", BadEncoding)
        ]
    );
    bytes.truncate(bytes.len() - 3);
    bytes.push(b'\n');
    assert_eq!(
        csv(&bytes).last(),
        Some(&bad(3, "{\"a\":\"\u{FFFD}\"}", BadEncoding))
    );
}

#[test]
fn a_header_that_cannot_be_decoded_says_where() {
    let mut bytes = utf16("\u{FEFF}ab", true);
    bytes.extend([0x00, 0xDC]);
    bytes.extend(utf16("\n1\n", true));
    let (line, reason) = header_error(&bytes, Options::csv());
    assert_eq!(line, 1);
    assert!(
        reason.contains("not UTF-16LE at its character 3"),
        "{reason}"
    );
}

#[test]
fn many_bad_sequences_are_each_one_replacement() {
    let bad_units = [0x00, 0xD8].repeat(100_000);
    let bytes = [utf16("\u{FEFF}a\n", true), bad_units, utf16("\n1\n", true)].concat();
    let rows = csv(&bytes);
    let (line, input, code) = rows.first().expect("a row");
    assert_eq!((*line, *code, rows.len()), (2, Some(BadEncoding), 2));
    assert_eq!(input.matches('\u{FFFD}').count(), 100_000);
    assert_eq!(rows.get(1), Some(&ok(3, r#"{"a":"1"}"#)));
}

#[test]
fn a_bad_sequence_never_takes_its_neighbour_with_it() {
    // A first byte without its second, before a line break, a delimiter and a quote.
    for label in ["shift_jis", "gb18030", "euc-kr", "big5", "euc-jp"] {
        let rows = read(
            b"a,b\n\x82\n\x82,2\n\"\x82\",3\n",
            in_encoding(label, Options::csv()),
        );
        let lines: Vec<_> = rows.iter().map(|r| (r.0, r.2)).collect();
        let code = Some(BadEncoding);
        assert_eq!(
            lines,
            [(2, code), (3, code), (4, code)],
            "{label}: {rows:?}"
        );
        assert!(
            rows.get(1).is_some_and(|r| r.1.contains(r#""b":"2""#)),
            "{label}: {rows:?}"
        );
        assert!(
            rows.get(2).is_some_and(|r| r.1.contains(r#""b":"3""#)),
            "{label}: {rows:?}"
        );
    }
}

#[test]
fn limits_count_read_bytes_of_the_input_and_utf_8_of_a_row() {
    let bytes = utf16("\u{FEFF}a\néé\n", true);
    let options = |input, row| Options {
        max_input_bytes: Some(input),
        max_row_bytes: row,
        ..Options::csv()
    };
    assert_eq!(bytes.len(), 12);
    assert_eq!(read(&bytes, options(12, 4)), [ok(2, r#"{"a":"éé"}"#)]);
    assert_eq!(
        read(&bytes, options(12, 3)),
        [bad(2, r#""éé""#, RejectCode::RowTooLarge)]
    );
    let mut records = Records::open(bytes.as_slice(), options(12, 4)).expect("opens");
    while records.read(&mut String::new()).expect("reads").is_some() {}
    assert_eq!(records.bytes(), 12);
    let error = Records::open(bytes.as_slice(), options(11, 4)).expect_err("refused");
    assert!(matches!(error, IngestError::TooLarge { limit: 11 }));
}
