//! Text of others on a terminal: nothing in it may steer the terminal, and a line keeps its width.

use std::io::{IsTerminal as _, Stdout, Write};

use terminal_size::Width;
use unicode_width::UnicodeWidthChar as _;

/// Columns where stdout is no terminal.
const WIDTH: u16 = 80;
/// Nobody reads a table in less.
const NARROWEST: u16 = 40;

/// Columns of a line on stdout.
pub(super) fn columns() -> usize {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    let width = size.map_or(WIDTH, |(Width(width), _)| width);
    usize::from(width.max(NARROWEST))
}

/// One line for people: what would steer a terminal, or turn the reading direction, is no longer
/// in it.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(clean_char).collect()
}

fn clean_char(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}' => ' ',
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// Columns that a cleaned text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text, clean, in at most so many columns; an ellipsis stands where something is left out.
pub(super) fn cut(text: &str, most: usize) -> String {
    let mut kept = String::new();
    let mut taken = 0;
    // Where the ellipsis goes, if it is needed.
    let mut end = 0;
    for c in text.chars().map(clean_char) {
        taken += c.width().unwrap_or(0);
        if taken > most {
            kept.truncate(end);
            kept.push('…');
            return kept;
        }
        kept.push(c);
        if taken < most {
            end = kept.len();
        }
    }
    kept
}

/// The text, clean, in exactly so many columns.
pub(super) fn padded(text: &str, columns: usize) -> String {
    let mut text = cut(text, columns);
    text.extend(std::iter::repeat_n(' ', columns - width(&text)));
    text
}

/// Stdout for data: kept byte for byte in a file or pipe; a terminal gets no byte that steers it.
pub(super) struct Out {
    out: Stdout,
    terminal: bool,
    /// The first byte of a character of two, which is held back until the second tells which.
    held: bool,
}

/// U+0080 to U+009F, which some terminals obey, begin with it in UTF-8.
const LEAD: u8 = 0xC2;

impl Out {
    pub(super) fn new() -> Self {
        let out = std::io::stdout();
        let terminal = out.is_terminal();
        Self {
            out,
            terminal,
            held: false,
        }
    }
}

/// `bytes` for a terminal; `held` goes on from call to call.
fn harmless(bytes: &[u8], held: &mut bool) -> Vec<u8> {
    let mut clean = Vec::with_capacity(bytes.len() + 1);
    for &byte in bytes {
        if std::mem::take(held) {
            if matches!(byte, 0x80..=0x9F) {
                clean.push(b'?');
                continue;
            }
            clean.push(LEAD);
        }
        match byte {
            LEAD => *held = true,
            b'\n' | b'\t' => clean.push(byte),
            0..0x20 | 0x7F => clean.push(b'?'),
            _ => clean.push(byte),
        }
    }
    clean
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.terminal {
            return self.out.write(bytes);
        }
        self.out.write_all(&harmless(bytes, &mut self.held))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_to_its_width_in_columns() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("a\tb", 9), "a b");
        assert_eq!(cut("漢字漢字", 8), "漢字漢字");
        assert_eq!(cut("漢字漢字", 7), "漢字漢…");
        assert_eq!(cut("漢字漢字", 6), "漢字…");
        for most in 1..12 {
            let text = cut("a漢e\u{301}\u{1f980}字字字", most);
            assert!(width(&text) <= most, "{most}: {text}");
        }
    }

    #[test]
    fn a_cell_has_its_width_whatever_is_in_it() {
        assert_eq!(padded("漢字", 6), "漢字  ");
        assert_eq!(padded("漢字漢", 4), "漢… ");
        assert_eq!(padded("é", 1), "é");
        assert_eq!(padded("", 2), "  ");
    }

    #[test]
    fn nothing_in_a_text_steers_a_terminal() {
        let text = "a\u{1b}[31mb\u{9b}2Jc\u{7}\u{7f}\u{202e}d";
        assert_eq!(
            clean(text),
            "a\u{fffd}[31mb\u{fffd}2Jc\u{fffd}\u{fffd}\u{fffd}d"
        );
    }

    #[test]
    fn data_on_a_terminal_loses_what_steers_it_wherever_it_is_cut() {
        let text = "é\u{1b}[2Jx\u{9b}2J\ta\rb\u{7f}\u{a0}\n".as_bytes();
        for at in 0..text.len() {
            let mut held = false;
            let (before, after) = text.split_at(at);
            let mut shown = harmless(before, &mut held);
            shown.extend(harmless(after, &mut held));
            assert_eq!(String::from_utf8(shown).unwrap(), "é?[2Jx?2J\ta?b?\u{a0}\n");
        }
    }
}
