//! Sizes and shapes that files should not have, and have.

use std::io::Read as _;

use super::super::RejectCode::RowTooLarge;
use super::*;

const FIELD: u64 = 50 << 20;

/// A CSV whose second row has a field of 50 MiB, made while it is read.
fn one_large_field() -> impl std::io::Read {
    (&b"a,b\n1,2\n3,\""[..])
        .chain(std::io::repeat(b'x').take(FIELD))
        .chain(&b"\"\n5,6\n"[..])
}

#[test]
fn a_field_of_50_mib_is_too_large_and_leaves_its_neighbours() {
    let mut records = Records::open(one_large_field(), Options::csv()).expect("opens");
    let mut rows = Rows::new();
    let mut input = String::new();
    while let Some(record) = records.read(&mut input).expect("reads") {
        let code = record.rejected.map(|r| r.code);
        rows.push((record.line, std::mem::take(&mut input), code));
    }
    let kept = format!(r#""3,\"{}""#, "x".repeat(1_024 - 3));
    assert_eq!(
        rows,
        [
            ok(2, r#"{"a":"1","b":"2"}"#),
            bad(3, &kept, RowTooLarge),
            ok(4, r#"{"a":"5","b":"6"}"#),
        ]
    );
}

#[test]
fn a_field_of_50_mib_is_taken_where_it_may_be() {
    let options = Options {
        max_row_bytes: 256 << 20,
        ..Options::csv()
    };
    let mut records = Records::open(one_large_field(), options).expect("opens");
    let mut lengths = Vec::new();
    let mut input = String::new();
    while let Some(record) = records.read(&mut input).expect("reads") {
        lengths.push((record.line, input.len() as u64, record.rejected));
        input.clear();
    }
    let short = r#"{"a":"1","b":"2"}"#.len() as u64;
    assert_eq!(
        lengths,
        [
            (2, short, None),
            (3, short - 1 + FIELD, None),
            (4, short, None)
        ]
    );
}

#[test]
fn five_thousand_columns_are_columns() {
    let header: Vec<String> = (1..=5_000).map(|n| format!("c{n}")).collect();
    let row: Vec<String> = (1..=5_000).map(|n| n.to_string()).collect();
    let file = format!("{}\n{}\n1\n", header.join(","), row.join(","));
    let rows = csv(file);
    let members: Vec<String> = (1..=5_000).map(|n| format!("\"c{n}\":\"{n}\"")).collect();
    assert_eq!(
        rows.first(),
        Some(&ok(2, &format!("{{{}}}", members.join(","))))
    );
    assert_eq!(rows.get(1), Some(&bad(3, r#"{"c1":"1"}"#, FieldCount)));

    let nameless = csv(format!("{}\n{}\n", ",".repeat(4_999), row.join(",")));
    assert_eq!(
        nameless.first(),
        Some(&ok(
            2,
            &format!("{{{}}}", members.join(",")).replace("\"c", "\"column_")
        ))
    );
}

#[test]
fn a_row_of_a_hundred_thousand_surplus_fields_is_one_bad_row() {
    let rows = csv(format!("a\n1{}\n2\n", ",x".repeat(100_000)));
    let (line, input, code) = rows.first().expect("a row");
    assert_eq!((*line, *code, rows.len()), (2, Some(FieldCount), 2));
    assert!(input.ends_with(r#""column_100001":"x"}"#));
}

#[test]
fn two_hundred_thousand_bad_rows_are_each_told() {
    for (line, code) in [
        (&b"1\n"[..], FieldCount),
        (b"\xFF,2\n", BadEncoding),
        (b"1\"2,\"\n", UnclosedQuote),
    ] {
        let file = [b"a,b\n".to_vec(), line.repeat(200_000), b"1,2\n".to_vec()].concat();
        let rows = csv(file);
        assert_eq!(rows.len(), 200_001);
        for ((line, _, found), wanted) in rows.iter().zip(2..) {
            let wanted_code = (wanted < 200_002).then_some(code);
            assert_eq!((*line, *found), (wanted, wanted_code));
        }
    }
}

#[test]
fn a_million_blank_lines_are_counted() {
    for line_break in ["\n", "\r", "\r\n"] {
        let blank = line_break.repeat(1_000_000);
        let file = format!("{blank}a\n{blank}1\n{blank}");
        let mut records = Records::open(file.as_bytes(), Options::csv()).expect("opens");
        assert_eq!(read_all(&mut records), [ok(2_000_002, r#"{"a":"1"}"#)]);
        assert_eq!((records.blank(), records.lines()), (3_000_000, 3_000_002));
    }
}

#[test]
fn a_header_of_repeated_and_empty_names_keeps_every_field() {
    assert_eq!(
        csv("a,a,,a_2,column_3,_line,a,_line\n1,2,3,4,5,6,7,8\n"),
        [ok(
            2,
            r#"{"a":"1","a_3":"2","column_4":"3","a_2":"4","column_3":"5","a_4":"7","_line_2":"8"}"#
        )]
    );
}
