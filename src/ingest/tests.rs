//! The rules of input files, "Input files", one test each.

use super::{IngestError, Options, Records, RejectCode};

use RejectCode::{BadEncoding, FieldCount, UnclosedQuote};

mod encodings;
mod hostile;
mod limits;
mod packed;

/// What is read of an input: line, input and code of each record.
type Rows = Vec<(u32, String, Option<RejectCode>)>;

fn read_all(records: &mut Records<&[u8]>) -> Rows {
    let mut rows = Rows::new();
    let mut input = String::new();
    while let Some(record) = records.read(&mut input).expect("readable") {
        let code = record.rejected.map(|r| r.code);
        rows.push((record.line, std::mem::take(&mut input), code));
    }
    rows
}

fn read(bytes: impl AsRef<[u8]>, options: Options) -> Rows {
    read_all(&mut Records::open(bytes.as_ref(), options).expect("opens"))
}

fn csv(bytes: impl AsRef<[u8]>) -> Rows {
    read(bytes, Options::csv())
}

fn headless() -> Options {
    Options {
        header: false,
        ..Options::csv()
    }
}

fn ok(line: u32, input: &str) -> (u32, String, Option<RejectCode>) {
    (line, input.into(), None)
}

fn bad(line: u32, input: &str, code: RejectCode) -> (u32, String, Option<RejectCode>) {
    (line, input.into(), Some(code))
}

fn header_error(bytes: &[u8], options: Options) -> (u32, String) {
    match Records::open(bytes, options) {
        Err(IngestError::Header { line, reason }) => (line, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_ends_at_any_line_break() {
    let rows = [
        ok(2, r#"{"a":"1"}"#),
        ok(3, r#"{"a":"2"}"#),
        ok(4, r#"{"a":"3"}"#),
    ];
    for file in [
        "a\n1\n2\n3\n",
        "a\r\n1\r\n2\r\n3\r\n",
        "a\r1\r2\r3\r",
        "a\r\n1\n2\r3",
    ] {
        assert_eq!(csv(file), rows, "{file:?}");
    }
    for file in [
        "\n1\n2\n3\n",
        "\r\n1\r\n2\r\n3\r\n",
        "\r1\r2\r3\r",
        "\r\n1\n2\r3",
    ] {
        let rows = [ok(2, "1"), ok(3, "2"), ok(4, "3")];
        assert_eq!(read(file, Options::jsonl()), rows, "{file:?}");
    }
}

#[test]
fn line_breaks_in_quotes_count_and_stay() {
    assert_eq!(
        csv("a\n\"x\ny\r\nz\rw\"\n\"2\"\n"),
        [ok(2, r#"{"a":"x\ny\r\nz\rw"}"#), ok(6, r#"{"a":"2"}"#)]
    );
}

#[test]
fn blank_lines_are_skipped_and_counted() {
    let mut records =
        Records::open(&b"\n\r\na\n\n\r1\n \n\r\n"[..], Options::csv()).expect("opens");
    assert_eq!(
        read_all(&mut records),
        [ok(6, r#"{"a":"1"}"#), ok(7, r#"{"a":" "}"#)]
    );
    assert_eq!(
        (records.blank(), records.lines(), records.bytes()),
        (5, 8, 13)
    );

    let mut records = Records::open(&b"1\n \t \n\n2"[..], Options::jsonl()).expect("opens");
    assert_eq!(read_all(&mut records), [ok(1, "1"), ok(4, "2")]);
    assert_eq!((records.blank(), records.lines()), (2, 4));
}

#[test]
fn an_empty_field_in_quotes_is_no_blank_line() {
    assert_eq!(csv("a\n\"\"\n\n"), [ok(2, r#"{"a":""}"#)]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_record() {
    assert_eq!(csv("\u{FEFF}\"a\"\n1"), [ok(2, r#"{"a":"1"}"#)]);
    assert_eq!(read("\u{FEFF}[1]", Options::jsonl()), [ok(1, "[1]")]);
    assert_eq!(csv("a\n\u{FEFF}1"), [ok(2, "{\"a\":\"\u{FEFF}1\"}")]);
}

#[test]
fn an_input_without_rows_is_no_error() {
    assert_eq!(csv("a,b\n"), []);
    assert_eq!(read("", Options::jsonl()), []);
    assert_eq!(read("\u{FEFF}", headless()), []);
    assert_eq!(read("\n\n", headless()), []);
}

#[test]
fn values_are_strings_exactly_as_they_stand() {
    assert_eq!(
        csv("a,b,c\n 1.10 ,é\0,\\\"x\n"),
        [ok(2, r#"{"a":" 1.10 ","b":"é\u0000","c":"\\\"x"}"#)]
    );
}

#[test]
fn another_delimiter_and_quote_are_obeyed() {
    let options = Options {
        delimiter: b'\t',
        quote: b'\'',
        ..Options::csv()
    };
    assert_eq!(
        read("a\tb\n'x\ty''z'\t\"\n1,2\t3", options),
        [
            ok(2, r#"{"a":"x\ty'z","b":"\""}"#),
            ok(3, r#"{"a":"1,2","b":"3"}"#)
        ]
    );
}

#[test]
fn columns_are_named_after_the_header() {
    let records = Records::open(&b"\"x, \"\"y\"\"\",,x,x\n"[..], Options::csv()).expect("opens");
    assert_eq!(
        records.columns().expect("a CSV"),
        ["x, \"y\"", "column_2", "x", "x_2"]
    );
    let records = Records::open(&b"1"[..], Options::jsonl()).expect("opens");
    assert_eq!(records.columns(), None);
}

#[test]
fn a_key_is_escaped() {
    assert_eq!(csv("\"a\n\"\"\"\n1"), [ok(3, r#"{"a\n\"":"1"}"#)]);
}

#[test]
fn without_a_header_the_first_record_decides_the_columns() {
    let mut records = Records::open(&b"\n1,2\n3\n"[..], headless()).expect("opens");
    assert_eq!(records.columns(), None);
    assert_eq!(
        read_all(&mut records),
        [
            ok(2, r#"{"column_1":"1","column_2":"2"}"#),
            bad(3, r#"{"column_1":"3"}"#, FieldCount)
        ]
    );
    assert_eq!(
        records.columns().expect("known by now"),
        ["column_1", "column_2"]
    );
}

#[test]
fn a_record_without_fields_decides_no_columns() {
    assert_eq!(
        read("\"a\n1,2\n", headless()),
        [
            bad(1, r#""\"a""#, UnclosedQuote),
            ok(2, r#"{"column_1":"1","column_2":"2"}"#)
        ]
    );
}

#[test]
fn columns_can_be_given_by_name() {
    let options = Options {
        columns: Some(vec!["a".into(), "b".into()]),
        ..headless()
    };
    assert_eq!(
        read("1,2\n3\n", options),
        [
            ok(1, r#"{"a":"1","b":"2"}"#),
            bad(2, r#"{"a":"3"}"#, FieldCount)
        ]
    );
}

#[test]
fn the_reports_own_columns_are_left_out() {
    let mut records = Records::open(
        &b"a,_line,_status,_errcode,_message\n1,2,failed,x,y\n1\n"[..],
        Options::csv(),
    )
    .expect("opens");
    assert_eq!(
        read_all(&mut records),
        [ok(2, r#"{"a":"1"}"#), bad(3, r#"{"a":"1"}"#, FieldCount)]
    );
    assert_eq!(records.columns().expect("a CSV"), ["a"]);
    assert_eq!(
        csv("_line\n1\n1,2"),
        [ok(2, "{}"), bad(3, r#"{"column_2":"2"}"#, FieldCount)]
    );
}

#[test]
fn another_number_of_fields_keeps_what_there_is() {
    assert_eq!(
        csv("a,column_3\n1\n1,2,\"3\"\"\",4\n1,2\n"),
        [
            bad(2, r#"{"a":"1"}"#, FieldCount),
            bad(
                3,
                r#"{"a":"1","column_3":"2","column_4":"3\"","column_5":"4"}"#,
                FieldCount
            ),
            ok(4, r#"{"a":"1","column_3":"2"}"#),
        ]
    );
}

#[test]
fn a_rejection_tells_people_and_programs() {
    let mut records = Records::open(&b"a,b\n1\n"[..], Options::csv()).expect("opens");
    let record = records
        .read(&mut String::new())
        .expect("reads")
        .expect("a record");
    let rejected = record.rejected.expect("rejected");
    assert_eq!(rejected.text, "the number of fields is 1, of columns 2");
    assert_eq!(rejected.vals, ["1", "2"]);
    assert_eq!(
        (rejected.code.errcode(), rejected.code.msgid()),
        ("field_count", 20)
    );
}

#[test]
fn bad_bytes_become_the_replacement_character() {
    assert_eq!(
        csv(b"a,b\n\xFF,\xC3\n"),
        [bad(
            2,
            "{\"a\":\"\u{FFFD}\",\"b\":\"\u{FFFD}\"}",
            BadEncoding
        )]
    );
    // The parts of one character, between which a quote is taken out, do not make that character.
    assert_eq!(
        csv(b"a\n\"\xC3\"\xA9\n"),
        [bad(2, "{\"a\":\"\u{FFFD}\u{FFFD}\"}", BadEncoding)]
    );
}

#[test]
fn bad_bytes_tell_before_the_number_of_fields() {
    assert_eq!(
        csv(b"a,b\n\xFF\n"),
        [bad(2, "{\"a\":\"\u{FFFD}\"}", BadEncoding)]
    );
}

#[test]
fn a_header_that_cannot_be_read_says_why() {
    let csv = Options::csv;
    assert_eq!(header_error(b"", csv()).0, 1);
    assert!(header_error(b"\n\n", csv()).1.contains("there is none"));
    assert!(
        header_error(b"a,\xFF\n", csv())
            .1
            .contains("not UTF-8 at its byte 3")
    );
    let (line, reason) = header_error(b"\n\"a\n1\n", csv());
    assert_eq!(line, 2);
    assert!(reason.contains("quote is not closed"), "{reason}");
    let small = Options {
        max_row_bytes: 2,
        ..csv()
    };
    assert!(
        header_error(b"abc\n", small)
            .1
            .contains("larger than 2 bytes")
    );
}

#[test]
fn a_header_of_several_lines_moves_the_rows() {
    assert_eq!(csv("\"a\nb\"\n1\n"), [ok(3, r#"{"a\nb":"1"}"#)]);
}

#[test]
fn a_read_error_is_told() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    let error = Records::open(Broken, Options::csv()).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the input cannot be read: the disk is gone"
    );
}
