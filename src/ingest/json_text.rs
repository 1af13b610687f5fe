//! JSON strings, written straight from text.

use std::fmt::Write as _;

/// The bytes that a JSON string cannot hold as they are.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// Whether no byte but `except` needs an escape.
///
/// Looks at every byte without a branch, which the compiler turns into vector instructions.
#[inline]
pub(super) fn is_plain(bytes: &[u8], except: u8) -> bool {
    let escaped = |b: u8| ((b < 0x20) & (b != except)) | (b == b'"') | (b == b'\\');
    !bytes.iter().fold(false, |any, &b| any | escaped(b))
}

/// Appends `text` as a JSON string.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends `bytes` as a JSON string, with U+FFFD for what is not UTF-8.
pub(super) fn push_lossy(out: &mut String, bytes: &[u8]) {
    push_string(out, &String::from_utf8_lossy(bytes));
}

/// Appends `text` as the inside of a JSON string.
pub(super) fn push_escaped(out: &mut String, text: &str) {
    let needs_escape = |&byte: &u8| ESCAPED[usize::from(byte)];
    let mut rest = text;
    while let Some(at) = rest.as_bytes().iter().position(needs_escape) {
        out.push_str(rest.get(..at).unwrap_or_default());
        push_escape(out, rest.as_bytes().get(at).copied().unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    out.push_str(rest);
}

fn push_escape(out: &mut String, byte: u8) {
    match byte {
        b'"' => out.push_str(r#"\""#),
        b'\\' => out.push_str(r"\\"),
        b'\n' => out.push_str(r"\n"),
        b'\r' => out.push_str(r"\r"),
        b'\t' => out.push_str(r"\t"),
        0x08 => out.push_str(r"\b"),
        0x0C => out.push_str(r"\f"),
        _ => {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{byte:04x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_reads_back_as_it_was() {
        let text: String = ('\0'..='\u{2FFF}').chain(['\u{FFFD}', '🦀']).collect();
        let mut json = String::from("before ");
        push_string(&mut json, &text);
        let written = json.strip_prefix("before ").expect("appended");
        assert_eq!(serde_json::from_str::<String>(written).expect("JSON"), text);
        assert_eq!(serde_json::to_string(&text).expect("JSON"), written);
        assert!(!written.contains(['\n', '\r']));
    }

    #[test]
    fn bad_bytes_become_the_replacement_character() {
        let mut json = String::new();
        push_lossy(&mut json, b"a\xFF\n");
        assert_eq!(json, "\"a\u{FFFD}\\n\"");
    }

    #[test]
    fn plain_is_what_needs_no_escape() {
        assert!(is_plain("aé,b".as_bytes(), b','));
        assert!(is_plain(b"a\tb", b'\t'));
        for bytes in [&b"a\tb"[..], b"a\"b", b"a\\b", b"\0", b"\x1F"] {
            assert!(!is_plain(bytes, b','));
        }
    }
}
