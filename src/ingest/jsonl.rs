//! One line of JSON Lines to its input.

use serde::de::IgnoredAny;

use super::encoding::Encoding;
use super::json_text;
use super::reject::Rejection;

/// The deepest nesting that is taken: whoever reads the row later may read it by recursion.
pub(crate) const MAX_DEPTH: usize = 500;

/// Whether a line holds nothing but white space.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|b| matches!(b, b' ' | b'\t'))
}

/// Appends the JSON text of a line that is not blank; what is wrong with it, if anything is.
pub(super) fn write(line: &[u8], encoding: Encoding, out: &mut String) -> Option<Rejection> {
    match str::from_utf8(line) {
        Ok(text) => write_text(text, out).err(),
        Err(error) => {
            // A value whose bad bytes are all in strings stays a value; else the line is kept.
            let _ = write_text(&String::from_utf8_lossy(line), out);
            Some(Rejection::bad_encoding(encoding, line, error))
        }
    }
}

fn write_text(line: &str, out: &mut String) -> Result<(), Rejection> {
    let checked = check(line);
    if checked.is_ok() {
        out.push_str(line.trim_matches([' ', '\t']));
    } else {
        json_text::push_string(out, line);
    }
    checked
}

/// Checks the grammar and the depth; the text is never taken apart, so that every byte survives.
fn check(line: &str) -> Result<(), Rejection> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(line) {
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or_default();
        return Err(Rejection::bad_json(reason, error.column()));
    }
    if is_too_deep(line) {
        return Err(Rejection::too_deep(MAX_DEPTH));
    }
    Ok(())
}

/// Whether a JSON text is nested deeper than it may be.
pub(crate) fn is_too_deep(json: &str) -> bool {
    // Every level has a byte to open and one to close it.
    if json.len() <= 2 * MAX_DEPTH {
        return false;
    }
    let mut depth = 0_usize;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::RejectCode;

    fn read(line: &str) -> (String, Option<RejectCode>) {
        let mut out = String::new();
        let rejected = write(line.as_bytes(), Encoding::UTF_8, &mut out).map(|r| r.code);
        (out, rejected)
    }

    #[test]
    fn a_value_keeps_every_byte_of_its_text() {
        for json in [
            r#"{"b":1.10,"a":1e200000,"b":-0,"\u00e9\/":"\ud83e\udd80"}"#,
            r#"{ "a" : [ 1 , 2 ] }"#,
            r#""lone \ud800""#,
            "null",
            "12345678901234567890123456789.0",
            "\"\u{2028}é\"",
            "\"\\u0000\"",
        ] {
            assert_eq!(read(json), (json.to_string(), None));
            assert_eq!(read(&format!(" \t{json}\t ")), (json.to_string(), None));
        }
    }

    #[test]
    fn what_is_not_one_value_is_kept_as_a_string() {
        for bad in [
            "{",
            "01",
            "1.",
            "+1",
            ".5",
            "1e",
            "tru",
            "'a'",
            "{\"a\":1,}",
            "[1,]",
            "{a:1}",
            "1 2",
            "NaN",
            "\"a\tb\"",
            "\"\0\"",
            "\"\\x\"",
            "\"\\u12\"",
            "[1]]",
            "// c",
            "\u{FEFF}1",
            "\u{A0}1",
        ] {
            let kept = serde_json::to_string(bad).expect("a string");
            assert_eq!(read(bad), (kept, Some(RejectCode::BadJson)), "{bad}");
        }
    }

    #[test]
    fn a_bad_line_says_where() {
        let mut out = String::new();
        let rejected = write(b"  {\"a\":1,}", Encoding::UTF_8, &mut out).expect("rejected");
        assert_eq!(rejected.vals, ["10"]);
        assert_eq!(out, r#""  {\"a\":1,}""#);
        assert!(
            rejected.text.contains("at byte 10 of the line"),
            "{}",
            rejected.text
        );
        assert!(!rejected.text.contains("line 1"), "{}", rejected.text);
    }

    #[test]
    fn five_hundred_levels_are_taken_and_one_more_is_not() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(read(&nested(500)).1, None);
        assert_eq!(read(&nested(501)).1, Some(RejectCode::BadJson));
        assert_eq!(read(&nested(500_000)).1, Some(RejectCode::BadJson));
        assert_eq!(read(&"[".repeat(1_000_000)).1, Some(RejectCode::BadJson));
        let objects = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
        assert_eq!(read(&objects(500)).1, None);
        assert_eq!(read(&objects(501)).1, Some(RejectCode::BadJson));
    }

    #[test]
    fn brackets_in_strings_are_no_levels() {
        let open = "[".repeat(1_000);
        let text = format!(r#"["{open}\"{open}\\", {}1]"#, "[],".repeat(600));
        assert_eq!(read(&text), (text.clone(), None));
    }

    #[test]
    fn bad_bytes_leave_an_object_an_object() {
        let mut out = String::new();
        let rejected = write(b" {\"a\":\"\xFF\"}", Encoding::UTF_8, &mut out).expect("rejected");
        assert_eq!(rejected.code, RejectCode::BadEncoding);
        assert_eq!(rejected.vals, ["8"]);
        assert_eq!(out, "{\"a\":\"\u{FFFD}\"}");
        out.clear();
        let rejected = write(b"{\xFF}", Encoding::UTF_8, &mut out).expect("rejected");
        assert_eq!(rejected.code, RejectCode::BadEncoding);
        assert_eq!(out, "\"{\u{FFFD}}\"");
    }

    #[test]
    fn only_json_white_space_is_blank() {
        assert!(is_blank(b" \t "));
        assert!(!is_blank(b"\x0B"));
        assert!(!is_blank("\u{A0}".as_bytes()));
    }
}
