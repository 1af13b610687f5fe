//! Quotes that are not closed, and what is larger than it may be.

use super::super::RejectCode::RowTooLarge;
use super::*;

#[test]
fn an_unclosed_quote_keeps_its_line_and_leaves_its_neighbours() {
    assert_eq!(
        csv("a,b\n1,\"x\r\n3,4\n5,6\n"),
        [
            bad(2, r#""1,\"x""#, UnclosedQuote),
            ok(3, r#"{"a":"3","b":"4"}"#),
            ok(4, r#"{"a":"5","b":"6"}"#),
        ]
    );
    assert_eq!(csv("a\n\""), [bad(2, r#""\"""#, UnclosedQuote)]);
    assert_eq!(
        csv(b"a\n\"\xFF\n1"),
        [
            bad(2, "\"\\\"\u{FFFD}\"", UnclosedQuote),
            ok(3, r#"{"a":"1"}"#)
        ]
    );
}

#[test]
fn a_record_whose_last_quote_is_open_gives_all_its_lines_back() {
    assert_eq!(
        csv("a,b\n\"1\n2\",\"3\n4,5\n"),
        [
            bad(2, r#""\"1""#, UnclosedQuote),
            bad(3, r#""2\",\"3""#, UnclosedQuote),
            ok(4, r#"{"a":"4","b":"5"}"#),
        ]
    );
}

#[test]
fn a_quote_may_stay_open_for_a_thousand_lines() {
    for line_break in ["\n", "\r\n", "\r"] {
        let closed = format!("a\n\"{}\"\n1\n", line_break.repeat(999));
        let rows = csv(&closed);
        assert_eq!(
            rows.iter().map(|r| (r.0, r.2)).collect::<Vec<_>>(),
            [(2, None), (1002, None)]
        );

        let open = format!("a\n\"{}\"\n1\n", format!("x{line_break}").repeat(1_000));
        let rows = csv(&open);
        assert_eq!(rows.first(), Some(&bad(2, r#""\"x""#, UnclosedQuote)));
        assert_eq!(rows.get(1), Some(&ok(3, r#"{"a":"x"}"#)));
        // The closing quote opens one of its own, which nothing closes.
        assert_eq!(rows.get(1_000), Some(&bad(1_002, r#""\"""#, UnclosedQuote)));
        assert_eq!(rows.get(1_001), Some(&ok(1_003, r#"{"a":"1"}"#)));
        assert_eq!(rows.len(), 1_002);
    }
}

#[test]
fn a_quote_that_passes_the_row_limit_is_unclosed() {
    let options = Options {
        max_row_bytes: 6,
        ..Options::csv()
    };
    assert_eq!(
        read("a\n\"12\n4\"\n\"12\n45\"\n", options),
        [
            ok(2, r#"{"a":"12\n4"}"#),
            bad(4, r#""\"12""#, UnclosedQuote),
            ok(5, r#"{"a":"45\""}"#),
        ]
    );
}

#[test]
fn a_record_over_the_limit_keeps_its_beginning() {
    let options = |max_row_bytes| Options {
        max_row_bytes,
        ..Options::csv()
    };
    assert_eq!(
        read("a\n123\n1234\n12\n", options(3)),
        [
            ok(2, r#"{"a":"123"}"#),
            bad(3, r#""1234""#, RowTooLarge),
            ok(4, r#"{"a":"12"}"#)
        ]
    );
    let long = "é".repeat(5_000);
    assert_eq!(
        read(format!("a\n{long}\r\n1"), options(2_000)),
        [
            bad(2, &format!("\"{}\"", "é".repeat(1_024)), RowTooLarge),
            ok(3, r#"{"a":"1"}"#)
        ]
    );
    let crabs = "🦀".repeat(1_025);
    assert_eq!(
        read(format!("a\n{crabs}"), options(10)),
        [bad(2, &format!("\"{}\"", "🦀".repeat(1_024)), RowTooLarge)]
    );
}

#[test]
fn one_line_over_the_limit_is_too_large_whatever_its_quotes() {
    let options = Options {
        max_row_bytes: 4,
        ..Options::csv()
    };
    assert_eq!(
        read("a\n\"1234\n5\"\n\"123\"\n6\n", options.clone()),
        [
            bad(2, r#""\"1234""#, RowTooLarge),
            ok(3, r#"{"a":"5\""}"#),
            bad(4, r#""\"123\"""#, RowTooLarge),
            ok(5, r#"{"a":"6"}"#),
        ]
    );
    // A line that just fits is kept whole.
    assert_eq!(
        read("a\n\"123\n5\n", options),
        [bad(2, r#""\"123""#, UnclosedQuote), ok(3, r#"{"a":"5"}"#)]
    );
}

#[test]
fn a_record_of_several_lines_over_the_limit_ends_with_the_line_that_passes_it() {
    let options = Options {
        max_row_bytes: 7,
        ..Options::csv()
    };
    assert_eq!(
        read("a\n\"1\r\n2\"3456,\"7\n8\n", options),
        [
            bad(2, r#""\"1\r\n2\"3456,\"7""#, RowTooLarge),
            ok(4, r#"{"a":"8"}"#)
        ]
    );
}

#[test]
fn an_input_over_its_limit_is_refused() {
    let options = |limit| Options {
        max_input_bytes: Some(limit),
        ..Options::csv()
    };
    assert_eq!(read("a\n1\n", options(4)), [ok(2, r#"{"a":"1"}"#)]);
    let refused = Records::open(&b"a\n1\n"[..], options(3)).expect_err("refused");
    assert!(matches!(refused, IngestError::TooLarge { limit: 3 }));
    assert!(refused.to_string().contains("larger than 3 bytes"));
}
