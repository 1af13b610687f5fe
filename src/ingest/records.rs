//! The records of an input, one after the other.

use std::io::Read;

use memchr::memchr2;

use super::csv::Csv;
use super::encoding::Encoding;
use super::input::Input;
use super::json_text;
use super::jsonl;
use super::reject::Rejection;
use super::scan::{Extent, OpenQuote, Quoting, Rules, Scan, Span, after_break};
use super::unpack::Packing;
use super::window::Window;
use super::{Format, IngestError, Options};

/// How much of a record that is too large is kept, in characters.
const KEPT_CHARS: usize = 1_024;

/// As many bytes as so many characters can have.
const KEPT_BYTES: usize = 4 * KEPT_CHARS;

/// The last line that a batch may have.
const LAST_LINE: u32 = i32::MAX as u32;

/// The records of an input, read as a stream.
///
/// Memory stays at a few times `max_row_bytes`, however long a line is.
///
/// ```
/// # use rowmill::ingest::{Options, Records};
/// let file = "name,amount\nAnn,1.10\n\n\"O'Neil, Bob\",2\n";
/// let mut records = Records::open(file.as_bytes(), Options::csv())?;
/// assert_eq!(records.columns().unwrap(), ["name", "amount"]);
///
/// let mut input = String::new();
/// let ann = records.read(&mut input)?.unwrap();
/// assert_eq!((ann.line, input.as_str()), (2, r#"{"name":"Ann","amount":"1.10"}"#));
///
/// input.clear();
/// let bob = records.read(&mut input)?.unwrap();
/// assert_eq!((bob.line, input.as_str()), (4, r#"{"name":"O'Neil, Bob","amount":"2"}"#));
///
/// assert!(records.read(&mut input)?.is_none());
/// assert_eq!((records.lines(), records.blank()), (4, 1));
/// # Ok::<(), rowmill::ingest::IngestError>(())
/// ```
pub struct Records<R: Read> {
    window: Window<R>,
    rules: Rules,
    rows: Rows,
    lines: u64,
    blank: u64,
    /// Where the last quote that was not closed was given up: see [`Scan::new`].
    open_quote: Option<OpenQuote>,
}

/// Who turns a record into a row.
enum Rows {
    Csv(Csv),
    Jsonl,
}

/// One record: where it begins, and why it cannot be a row if it cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The physical line on which it begins, 1 to 2³¹−1.
    pub line: u32,
    /// Why it cannot be a row; its input is then what is kept of it.
    pub rejected: Option<Rejection>,
}

impl<R: Read> Records<R> {
    /// Begins to read; a CSV's header is read at once.
    ///
    /// # Errors
    /// An option that cannot be used, a header that cannot be read, an input that cannot be read or
    /// unpacked or has more bytes than it may.
    pub fn open(reader: R, options: Options) -> Result<Self, IngestError> {
        options.check()?;
        let quoting = Quoting {
            quote: options.quote,
            delimiter: options.delimiter,
        };
        let mut records = Self {
            window: Window::new(Input::open(reader, &options)?),
            rules: Rules {
                quoting: (options.format == Format::Csv).then_some(quoting),
                max_bytes: options.max_row_bytes,
            },
            rows: Rows::Jsonl,
            lines: 0,
            blank: 0,
            open_quote: None,
        };
        if options.format == Format::Csv {
            let encoding = records.encoding();
            let mut csv = Csv::new(quoting, options.ignored, encoding);
            if options.header {
                records.read_header(&mut csv)?;
            } else if let Some(names) = options.columns {
                csv.set_columns(names);
            }
            records.rows = Rows::Csv(csv);
        }
        Ok(records)
    }

    /// The names of a CSV's columns in their order; without a header, from the first record on.
    #[must_use]
    pub fn columns(&self) -> Option<&[String]> {
        match &self.rows {
            Rows::Csv(csv) => csv.columns(),
            Rows::Jsonl => None,
        }
    }

    /// Reads one record and appends its input, one JSON text without a line break, to `input`.
    ///
    /// `None` at the end. A rejected record has an input, too: what is kept of it.
    ///
    /// # Errors
    /// The input cannot be read, has more bytes than it may, or a row after line 2³¹−1; `input` is
    /// then as it was or ends in a part of a record.
    pub fn read(&mut self, input: &mut String) -> Result<Option<Record>, IngestError> {
        loop {
            let Some(extent) = self.find()? else {
                return Ok(None);
            };
            let (span, lines) = match extent {
                Extent::Record { span, lines } => (span, lines),
                Extent::Unclosed(span) => (span, 1),
                Extent::TooLarge { at, lines } => {
                    let line = self.next_line()?;
                    self.write_beginning(at, input)?;
                    self.lines += u64::from(lines);
                    let rejected = Some(Rejection::row_too_large(self.rules.max_bytes));
                    return Ok(Some(Record { line, rejected }));
                }
            };
            let bytes = self.window.held().get(..span.len).unwrap_or_default();
            let blank = match self.rows {
                Rows::Csv(_) => bytes.is_empty(),
                Rows::Jsonl => jsonl::is_blank(bytes),
            };
            if blank {
                self.blank += 1;
                self.pass(span, lines);
                continue;
            }
            let line = self.next_line()?;
            let rejected = match (&extent, &mut self.rows) {
                (Extent::Unclosed(_), _) => {
                    json_text::push_lossy(input, bytes);
                    Some(Rejection::unclosed_quote())
                }
                (_, Rows::Csv(csv)) => csv.write(bytes, input),
                (_, Rows::Jsonl) => jsonl::write(bytes, self.window.input().encoding(), input),
            };
            self.pass(span, lines);
            return Ok(Some(Record { line, rejected }));
        }
    }

    /// The blank lines skipped so far.
    #[must_use]
    pub fn blank(&self) -> u64 {
        self.blank
    }

    /// The physical lines passed so far; at the end, the number of the last one.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The bytes read so far, unpacked and before they were decoded, with what was read ahead.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.window.input().bytes()
    }

    /// The encoding that is in force: a byte order mark's, or that of the options.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.window.input().encoding()
    }

    /// How the input is packed, whatever its name says.
    #[must_use]
    pub fn packing(&self) -> Option<Packing> {
        self.window.input().packing()
    }

    /// How far the next record goes; `None` at the end.
    fn find(&mut self) -> Result<Option<Extent>, IngestError> {
        while self.window.held().is_empty() {
            if self.window.ended() {
                return Ok(None);
            }
            self.window.fill()?;
        }
        let mut scan = Scan::new(
            self.rules,
            self.window.offset(),
            self.lines,
            self.open_quote,
        );
        let extent = loop {
            match scan.step(self.window.held(), self.window.ended()) {
                Some(extent) => break extent,
                None => self.window.fill()?,
            }
        };
        if let Extent::Unclosed(_) = extent {
            let (at, lines) = scan.place();
            self.open_quote = Some(OpenQuote {
                bytes: self.window.offset() + at as u64,
                lines: self.lines + u64::from(lines),
            });
        }
        Ok(Some(extent))
    }

    fn pass(&mut self, span: Span, lines: u32) {
        self.window.consume(span.next);
        self.lines += u64::from(lines);
    }

    /// The number of the line on which the next record begins.
    fn next_line(&self) -> Result<u32, IngestError> {
        match u32::try_from(self.lines + 1) {
            Ok(line) if line <= LAST_LINE => Ok(line),
            _ => Err(IngestError::TooManyLines),
        }
    }

    /// Appends the beginning of a record that is too large, and passes over all of it.
    ///
    /// It ends at the first line break from `at` on; what was looked at is let go of, so that a
    /// line of any length takes no room.
    fn write_beginning(&mut self, mut at: usize, input: &mut String) -> Result<(), IngestError> {
        let mut written = false;
        loop {
            let (held, ended) = (self.window.held(), self.window.ended());
            let rest = held.get(at..).unwrap_or_default();
            let found = memchr2(b'\n', b'\r', rest).map(|found| at + found);
            let next = match found {
                Some(found) => after_break(held, found, ended),
                None => ended.then_some(held.len()),
            };
            at = found.unwrap_or(held.len());
            if !written && (next.is_some() || at >= KEPT_BYTES) {
                let kept = held.get(..at.min(KEPT_BYTES)).unwrap_or_default();
                push_first_chars(input, kept);
                written = true;
            }
            if let Some(next) = next {
                self.window.consume(next);
                return Ok(());
            }
            if written {
                self.window.consume(at);
                at = 0;
            }
            self.window.fill()?;
        }
    }

    fn read_header(&mut self, csv: &mut Csv) -> Result<(), IngestError> {
        loop {
            let extent = self.find()?;
            let line = self.next_line()?;
            let unreadable = |reason: String| Err(IngestError::Header { line, reason });
            let (span, lines) = match extent {
                None => {
                    let advice = "there is none; a CSV begins with its columns' names";
                    return unreadable(advice.into());
                }
                Some(Extent::Unclosed(_)) => {
                    return unreadable("a quote is not closed; close it or remove it".into());
                }
                Some(Extent::TooLarge { .. }) => {
                    let limit = self.rules.max_bytes;
                    let advice = "is this a CSV, and max_row_bytes high enough?";
                    return unreadable(format!("it is larger than {limit} bytes; {advice}"));
                }
                Some(Extent::Record { span, lines }) => (span, lines),
            };
            let bytes = self.window.held().get(..span.len).unwrap_or_default();
            if bytes.is_empty() {
                self.blank += 1;
            } else if let Err(reason) = csv.set_header(bytes) {
                return unreadable(reason);
            }
            let done = !bytes.is_empty();
            self.pass(span, lines);
            if done {
                return Ok(());
            }
        }
    }
}

impl<R: Read> std::fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("lines", &self.lines)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

fn push_first_chars(input: &mut String, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let end = text.char_indices().nth(KEPT_CHARS).map(|(at, _)| at);
    let kept = end.and_then(|end| text.get(..end)).unwrap_or(&text);
    json_text::push_string(input, kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_after_the_last_line_is_refused() {
        for (before, ok) in [(LAST_LINE - 1, true), (LAST_LINE, false), (u32::MAX, false)] {
            let mut records = Records::open(&b"\n1\n"[..], Options::jsonl()).expect("opens");
            records.lines = u64::from(before) - 1;
            let read = records.read(&mut String::new());
            match read {
                Ok(Some(record)) => assert!(ok && record.line == LAST_LINE),
                Ok(None) => panic!("a row is lost"),
                Err(error) => assert!(!ok && matches!(error, IngestError::TooManyLines)),
            }
        }
    }

    #[test]
    fn blank_lines_after_the_last_line_are_no_error() {
        let mut records = Records::open(&b"\n\n"[..], Options::jsonl()).expect("opens");
        records.lines = u64::from(LAST_LINE);
        assert!(matches!(records.read(&mut String::new()), Ok(None)));
    }

    #[test]
    fn a_line_of_any_length_takes_no_room() {
        for options in [
            Options::jsonl(),
            Options {
                header: false,
                ..Options::csv()
            },
        ] {
            let options = Options {
                max_row_bytes: 1_000,
                ..options
            };
            let line = std::io::repeat(b'7').take(1 << 28);
            let mut records = Records::open(line.chain(&b"\n5\n"[..]), options).expect("opens");
            let mut input = String::new();
            let record = records.read(&mut input).expect("reads").expect("a record");
            assert!(record.rejected.is_some());
            assert_eq!(input.len(), KEPT_CHARS + 2);
            assert_eq!(records.window.room(), Window::<&[u8]>::FIRST_ROOM);
            let next = records.read(&mut input).expect("reads").expect("a record");
            assert_eq!((next.line, next.rejected), (2, None));
        }
    }

    #[test]
    fn quotes_that_are_not_closed_take_room_for_one_row() {
        let options = Options {
            max_row_bytes: 100_000,
            header: false,
            ..Options::csv()
        };
        let line = b"a\"b,\"c\n";
        let lines = std::io::Cursor::new(line.repeat(200_000));
        let mut records = Records::open(lines, options).expect("opens");
        let mut input = String::new();
        let mut count = 0;
        while let Some(record) = records.read(&mut input).expect("reads") {
            assert_eq!(record.rejected.map(|r| r.code.msgid()), Some(24));
            input.clear();
            count += 1;
        }
        assert_eq!((count, records.lines()), (200_000, 200_000));
        assert!(records.window.room() <= 4 * 100_000);
    }
}
