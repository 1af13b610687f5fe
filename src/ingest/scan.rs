//! Where a record ends, and how many physical lines it covers.
//!
//! A scanner of ours and no library's: what is asked here (lines counted at LF, CRLF and lone CR,
//! inside quotes too; a quote that is not closed gives its lines back) no CSV reader tells. Whoever
//! knows where the quotes are has the fields as well, so `fields` splits without one, too.

use memchr::{memchr2, memchr3};

/// The most physical lines that a record may cover.
const MAX_LINES: u32 = 1_000;

/// What the records of an input are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// `None` where quotes mean nothing: JSON Lines.
    pub(super) quoting: Option<Quoting>,
    /// The most bytes of a record, its line break apart.
    pub(super) max_bytes: usize,
}

/// The two characters that CSV is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoting {
    pub(super) quote: u8,
    pub(super) delimiter: u8,
}

/// How far a record, a line or an input goes: `len` bytes of its own, `next` with the line break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) len: usize,
    pub(super) next: usize,
}

/// What a scan found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// A record; blank where its length is 0.
    Record { span: Span, lines: u32 },
    /// A quote is open: the record ends with its first line, and the rest is to be read again.
    Unclosed(Span),
    /// It passes the limit on its `lines`-th line: from `at` its end is the next line break.
    TooLarge { at: usize, lines: u32 },
}

/// A place in the input at which a quote was found open: the bytes and the lines before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenQuote {
    pub(super) bytes: u64,
    pub(super) lines: u64,
}

/// The search for the end of one record, which goes on as bytes come in.
pub(super) struct Scan {
    rules: Rules,
    at: usize,
    in_quotes: bool,
    breaks: u32,
    first_line: Option<Span>,
    known_open: (usize, u32),
}

impl Scan {
    /// Begins after the first `bytes` and `lines` of the input.
    ///
    /// `open` is where an earlier scan gave up. Whoever is in quotes at a line break before it is so
    /// at every line break up to it, as that scan was: it need not be read again, and a file full of
    /// stray quotes costs no more than any other.
    pub(super) fn new(rules: Rules, bytes: u64, lines: u64, open: Option<OpenQuote>) -> Self {
        let ahead = |open: OpenQuote| {
            let at = usize::try_from(open.bytes.checked_sub(bytes)?).ok()?;
            let breaks = u32::try_from(open.lines.checked_sub(lines)?).ok()?;
            Some((at, breaks))
        };
        Self {
            rules,
            at: 0,
            in_quotes: false,
            breaks: 0,
            first_line: None,
            known_open: open.and_then(ahead).unwrap_or_default(),
        }
    }

    /// The bytes and the line breaks of its record before the place where it stands.
    pub(super) fn place(&self) -> (usize, u32) {
        (self.at, self.breaks)
    }

    /// Goes as far as the record's `bytes` allow; `None` asks for more of them.
    pub(super) fn step(&mut self, bytes: &[u8], ended: bool) -> Option<Extent> {
        // The byte after the limit is looked at: the line break of a record that just fits.
        let view = bytes.get(..=self.rules.max_bytes).unwrap_or(bytes);
        loop {
            let rest = view.get(self.at..).unwrap_or_default();
            let Some(found) = self.find(rest) else {
                self.at = self.at.max(view.len());
                return if self.at > self.rules.max_bytes {
                    Some(self.over())
                } else if ended {
                    Some(self.end_of_input(bytes.len()))
                } else {
                    None
                };
            };
            self.at += found;
            let is_break = matches!(bytes.get(self.at), Some(b'\n' | b'\r'));
            let done = match (self.in_quotes, is_break) {
                (false, true) => {
                    let next = after_break(bytes, self.at, ended)?;
                    let span = Span { len: self.at, next };
                    let lines = self.breaks + 1;
                    Some(Extent::Record { span, lines })
                }
                (true, true) => {
                    let next = after_break(bytes, self.at, ended)?;
                    self.break_in_quotes(next)
                }
                _ if self.at == self.rules.max_bytes => Some(self.over()),
                (false, false) => {
                    self.quote_in_text(bytes);
                    None
                }
                (true, false) => {
                    let after = bytes.get(self.at + 1);
                    if after.is_none() && !ended {
                        return None;
                    }
                    self.quote_in_quotes(after.copied());
                    None
                }
            };
            if done.is_some() {
                return done;
            }
        }
    }

    /// The next byte that may mean something.
    #[inline]
    fn find(&self, rest: &[u8]) -> Option<usize> {
        match self.rules.quoting {
            Some(Quoting { quote, .. }) => memchr3(b'\n', b'\r', quote, rest),
            None => memchr2(b'\n', b'\r', rest),
        }
    }

    fn quote_in_text(&mut self, bytes: &[u8]) {
        let before = self.at.checked_sub(1).and_then(|at| bytes.get(at));
        let delimiter = self.rules.quoting.map(|q| q.delimiter);
        self.in_quotes = before.is_none() || before.copied() == delimiter;
        self.at += 1;
    }

    fn quote_in_quotes(&mut self, after: Option<u8>) {
        if after.is_some() && after == self.rules.quoting.map(|q| q.quote) {
            self.at += 2;
        } else {
            self.in_quotes = false;
            self.at += 1;
        }
    }

    fn break_in_quotes(&mut self, next: usize) -> Option<Extent> {
        let line = Span { len: self.at, next };
        let first_line = *self.first_line.get_or_insert(line);
        self.at = next;
        self.breaks += 1;
        if self.breaks == MAX_LINES {
            return Some(Extent::Unclosed(first_line));
        }
        if self.known_open.0 > self.at {
            (self.at, self.breaks) = self.known_open;
        }
        None
    }

    /// The record is larger than it may be: an open quote gives its lines back, if it holds any.
    fn over(&self) -> Extent {
        match self.first_line {
            Some(first_line) if self.in_quotes => Extent::Unclosed(first_line),
            _ => Extent::TooLarge {
                at: self.at,
                lines: self.breaks + 1,
            },
        }
    }

    fn end_of_input(&self, len: usize) -> Extent {
        let span = Span { len, next: len };
        if self.in_quotes {
            Extent::Unclosed(self.first_line.unwrap_or(span))
        } else {
            Extent::Record {
                span,
                lines: self.breaks + 1,
            }
        }
    }
}

/// Where the line after the break at `at` begins; `None` where a CR's next byte is still to come.
pub(super) fn after_break(bytes: &[u8], at: usize, ended: bool) -> Option<usize> {
    if bytes.get(at) != Some(&b'\r') {
        return Some(at + 1);
    }
    match bytes.get(at + 1) {
        Some(b'\n') => Some(at + 2),
        Some(_) => Some(at + 1),
        None => ended.then_some(at + 1),
    }
}
