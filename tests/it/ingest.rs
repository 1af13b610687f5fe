//! The reader of inputs against a slow one, which follows the input rules's words byte by byte.

mod against;
mod corpus;
mod grammar;
mod packed;
mod python;
mod slow;

use proptest::prelude::*;
use rowmill::ingest::Options;

use self::against::{Pieces, read};

/// Bytes of few kinds, so that what matters meets often.
fn soup(kinds: &'static [&'static [u8]], most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(kinds), 0..most).prop_map(|parts| parts.concat())
}

const CSV_KINDS: &[&[u8]] = &[
    b"a",
    b"a",
    b",",
    b",",
    b"\"",
    b"\"",
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"\0",
    b"\xFF",
    "é".as_bytes(),
    b"\xC3",
    b"\xA9",
    b"\\",
    b"\t",
    b"\"\"",
    b",\"",
    b"\",",
    b"\"\n",
    b"_line",
    b"column_2",
];

const JSON_KINDS: &[&[u8]] = &[
    b"\n",
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"\t",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"a\"",
    b"\"a\":",
    b"\"",
    b"\\",
    b"\\u00e9",
    b"\\ud83e",
    b"1",
    b"0",
    b"-",
    b".",
    b"e",
    b"E+",
    b"1.10",
    b"true",
    b"null",
    b"fals",
    b"\0",
    b"\xFF",
    "é".as_bytes(),
    b"\xC3",
    b"{\"a\":1,\"a\":2}",
    b"1e200000",
    b"\x0B",
    b"\xEF\xBB\xBF",
];

const LINES: &[&[u8]] = &[b"\n", b"\r\n", b"a\n", b"a\"b,\"c\n", b"\"\"\"\r"];

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..8, 1..6)
}

fn csv_options() -> impl Strategy<Value = Options> {
    let limit = prop_oneof![1_usize..16, Just(1_000), Just(1024 * 1024)];
    (limit, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(max_row_bytes, header, other)| {
        let (delimiter, quote) = if other { (b' ', b'a') } else { (b',', b'"') };
        Options {
            delimiter,
            quote,
            header,
            max_row_bytes,
            ..Options::csv()
        }
    })
}

/// A JSON value's text, with white space wherever it may be.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(&[
        "1.10",
        "-0",
        "1e200000",
        "0E-5",
        "true",
        "null",
        "\"\"",
        "\"é\\n\\\"\\u0000[\"",
        "\"\u{2028}\"",
    ])
    .prop_map(String::from);
    let value = leaf.prop_recursive(5, 40, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4);
        let members = prop::collection::vec((prop::sample::select(&["a", "b", ""]), inner), 0..4);
        prop_oneof![
            list.prop_map(|values| format!("[ {}\t]", values.join(" ,"))),
            members.prop_map(|members| {
                let text: Vec<_> = members
                    .iter()
                    .map(|(k, v)| format!("\"{k}\" : {v}"))
                    .collect();
                format!("{{{}}}", text.join(", "))
            }),
        ]
    });
    value.boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_csv_is_read_as_the_slow_reader_reads_it(
        bytes in soup(CSV_KINDS, 60),
        options in csv_options(),
        sizes in sizes(),
    ) {
        let expected = slow::csv(&bytes, &options);
        let whole = read(bytes.as_slice(), options.clone());
        prop_assert_eq!(&whole, &expected);
        let pieces = Pieces { bytes: &bytes, sizes: sizes.into_iter().cycle() };
        prop_assert_eq!(&read(pieces, options), &expected);
    }

    #[test]
    fn json_lines_are_read_as_the_slow_reader_reads_them(
        bytes in soup(JSON_KINDS, 40),
        max_row_bytes in prop_oneof![1_usize..16, Just(1024 * 1024)],
        sizes in sizes(),
    ) {
        let options = Options { max_row_bytes, ..Options::jsonl() };
        let expected = Ok(slow::jsonl(&bytes, max_row_bytes));
        prop_assert_eq!(&read(bytes.as_slice(), options.clone()), &expected);
        let pieces = Pieces { bytes: &bytes, sizes: sizes.into_iter().cycle() };
        prop_assert_eq!(&read(pieces, options), &expected);
    }

    #[test]
    fn every_json_text_survives_byte_for_byte(texts in prop::collection::vec(json(), 0..5)) {
        let file: String = texts.iter().map(|text| format!(" {text}\t\r\n")).collect();
        let reading = read(file.as_bytes(), Options::jsonl()).expect("no header");
        let inputs: Vec<_> = reading.rows.iter().map(|row| &row.input).collect();
        prop_assert_eq!(inputs, texts.iter().collect::<Vec<_>>());
        prop_assert!(reading.rows.iter().all(|row| row.code.is_none()));
    }

    #[test]
    fn any_values_come_back_from_a_csv(
        values in prop::collection::vec(prop::collection::vec(any::<String>(), 3), 0..6),
    ) {
        let mut file = b"x,y,z\n".to_vec();
        for row in &values {
            let fields: Vec<_> = row.iter().map(|v| format!("\"{}\"", v.replace('"', "\"\""))).collect();
            file.extend_from_slice(fields.join(",").as_bytes());
            file.extend_from_slice(b"\r\n");
        }
        let reading = read(file.as_slice(), Options::csv()).expect("a header");
        prop_assert_eq!(reading.rows.len(), values.len());
        for (row, values) in reading.rows.iter().zip(&values) {
            let object: serde_json::Value = serde_json::from_str(&row.input).expect("JSON");
            for (key, value) in ["x", "y", "z"].iter().zip(values) {
                prop_assert_eq!(object[key].as_str(), Some(value.as_str()));
            }
        }
    }

    #[test]
    fn the_slow_reader_splits_fields_as_the_csv_crate_does(bytes in soup(CSV_KINDS, 40)) {
        let Some(ours) = slow::fields_of_all(&bytes) else { return Ok(()) };
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(bytes.as_slice());
        let theirs: Vec<Vec<Vec<u8>>> = reader
            .byte_records()
            .map(|record| record.expect("a record").iter().map(<[u8]>::to_vec).collect())
            .collect();
        prop_assert_eq!(ours, theirs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quotes_open_over_a_thousand_lines_are_read_as_the_slow_reader_reads_them(
        parts in prop::collection::vec((soup(CSV_KINDS, 8), 0_usize..3, 990_usize..1_005), 1..4),
        line in prop::sample::select(LINES),
        max_row_bytes in prop_oneof![Just(1_500_usize), Just(3_000), Just(1024 * 1024)],
        sizes in sizes(),
    ) {
        let mut bytes = Vec::new();
        for (soup, begin, lines) in parts {
            bytes.extend_from_slice(&soup);
            bytes.extend_from_slice([&b"\n\""[..], b",\"", b""][begin]);
            bytes.extend_from_slice(&line.repeat(lines));
        }
        let options = Options { header: false, max_row_bytes, ..Options::csv() };
        let expected = slow::csv(&bytes, &options);
        prop_assert_eq!(&read(bytes.as_slice(), options.clone()), &expected);
        let pieces = Pieces { bytes: &bytes, sizes: sizes.into_iter().cycle() };
        prop_assert_eq!(&read(pieces, options), &expected);
    }
}
