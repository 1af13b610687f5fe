//! How an input is to be read.

use std::path::Path;

use super::IngestError;
use super::encoding::Encoding;
use super::unpack::Packing;

/// The columns that `rows --format csv` adds after the input's own: no part of a row.
pub const REPORT_COLUMNS: [&str; 4] = ["_line", "_status", "_errcode", "_message"];

/// The column of `rows --format csv` that holds each input as JSON, where the input was no CSV.
///
/// With all of [`REPORT_COLUMNS`] beside it and no other, a file's rows are those inputs again.
pub const INPUT_COLUMN: &str = "_input";

/// The form of an input file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Fields between delimiters, a record a line or more.
    Csv,
    /// One JSON value a line.
    Jsonl,
}

impl Format {
    /// The format that a path's extension tells, in any case of letters; `None` where it tells none.
    ///
    /// Of a packed file it is the extension before that of the packing.
    ///
    /// ```
    /// # use rowmill::ingest::Format;
    /// # use std::path::Path;
    /// assert_eq!(Format::of_path(Path::new("payments.CSV")), Some(Format::Csv));
    /// assert_eq!(Format::of_path(Path::new("in/events.ndjson")), Some(Format::Jsonl));
    /// assert_eq!(Format::of_path(Path::new("payments.csv.gz")), Some(Format::Csv));
    /// assert_eq!(Format::of_path(Path::new("events.json")), None);
    /// ```
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let inner = match Packing::of_path(path) {
            Some(_) => Path::new(path.file_stem()?),
            None => path,
        };
        let extension = inner.extension()?.to_str()?;
        let is = |known: &str| extension.eq_ignore_ascii_case(known);
        if is("csv") {
            Some(Self::Csv)
        } else if is("jsonl") || is("ndjson") {
            Some(Self::Jsonl)
        } else {
            None
        }
    }
}

/// How an input is read; begin with [`Options::csv`] or [`Options::jsonl`] and change what differs.
///
/// ```
/// # use rowmill::ingest::Options;
/// let options = Options { delimiter: b';', header: false, ..Options::csv() };
/// assert_eq!(options.max_row_bytes, 1024 * 1024);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The form of the input; JSON Lines takes no notice of the options of CSV.
    pub format: Format,
    /// CSV: the ASCII character between two fields.
    pub delimiter: u8,
    /// CSV: the ASCII character around a field that holds delimiters, line breaks or quotes.
    pub quote: u8,
    /// CSV: whether the first record names the columns; otherwise they are `column_1`, `column_2` …
    pub header: bool,
    /// The encoding of the text; a byte order mark tells otherwise, and is no part of the text.
    pub encoding: Encoding,
    /// What the input's name says of its packing; then it must be packed. Whatever it says, the
    /// first bytes tell whether and how it is, so `None` unpacks, too.
    pub packing: Option<Packing>,
    /// The most bytes that a record may have, in UTF-8 and its line break apart; bounds the memory,
    /// too.
    pub max_row_bytes: usize,
    /// The most bytes that the input may have, unpacked and before they are decoded.
    pub max_input_bytes: Option<u64>,
    /// CSV without a header: the columns' names, where they are known from elsewhere.
    pub columns: Option<Vec<String>>,
    /// CSV: columns that are read and left out of the rows, by name.
    pub ignored: &'static [&'static str],
}

impl Options {
    /// UTF-8, comma, double quote, header, 1 MiB a row, the report's own columns ignored.
    #[must_use]
    pub fn csv() -> Self {
        Self {
            format: Format::Csv,
            delimiter: b',',
            quote: b'"',
            header: true,
            encoding: Encoding::UTF_8,
            packing: None,
            max_row_bytes: 1024 * 1024,
            max_input_bytes: None,
            columns: None,
            ignored: &REPORT_COLUMNS,
        }
    }

    /// JSON Lines, 1 MiB a row.
    #[must_use]
    pub fn jsonl() -> Self {
        Self {
            format: Format::Jsonl,
            ..Self::csv()
        }
    }

    pub(super) fn check(&self) -> Result<(), IngestError> {
        let bad = |text: &str| Err(IngestError::BadOption(text.into()));
        if self.max_row_bytes == 0 {
            return bad("max_row_bytes must be 1 or more");
        }
        if self.format == Format::Jsonl {
            return Ok(());
        }
        let usable = |c: u8| c.is_ascii() && c != b'\n' && c != b'\r';
        if !usable(self.delimiter) {
            return bad("the delimiter must be one ASCII character, not a line break");
        }
        if !usable(self.quote) {
            return bad("the quote must be one ASCII character, not a line break");
        }
        if self.delimiter == self.quote {
            return bad("the delimiter and the quote must be two different characters");
        }
        match &self.columns {
            Some(_) if self.header => bad("columns are given by the header or by name, not both"),
            Some(names) if names.is_empty() => bad("columns must name at least one column"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_extensions_tell_a_format() {
        for (path, format) in [
            ("a.csv", Some(Format::Csv)),
            ("a.b.jsonl", Some(Format::Jsonl)),
            ("a.NDJSON", Some(Format::Jsonl)),
            ("a.json", None),
            ("csv", None),
            ("-", None),
            ("a.csv.gz", Some(Format::Csv)),
            ("in.d/a.CSV.GZ", Some(Format::Csv)),
            ("a.ndjson.zst", Some(Format::Jsonl)),
            ("a.gz", None),
            ("csv.gz", None),
            (".csv.gz", None),
            ("a.gz.csv", Some(Format::Csv)),
            ("a.csv.gz.gz", None),
            ("a.csv.gzip", None),
        ] {
            assert_eq!(Format::of_path(Path::new(path)), format, "{path}");
        }
    }

    #[test]
    fn options_that_cannot_work_are_refused() {
        let csv = Options::csv;
        for bad in [
            Options {
                delimiter: b'\n',
                ..csv()
            },
            Options {
                delimiter: 0xE9,
                ..csv()
            },
            Options {
                quote: b'\r',
                ..csv()
            },
            Options {
                quote: b',',
                ..csv()
            },
            Options {
                max_row_bytes: 0,
                ..csv()
            },
            Options {
                columns: Some(vec!["a".into()]),
                ..csv()
            },
            Options {
                columns: Some(vec![]),
                header: false,
                ..csv()
            },
            Options {
                max_row_bytes: 0,
                ..Options::jsonl()
            },
        ] {
            assert!(
                matches!(bad.check(), Err(IngestError::BadOption(_))),
                "{bad:?}"
            );
        }
        assert!(csv().check().is_ok());
        assert!(
            Options {
                delimiter: b'\t',
                ..csv()
            }
            .check()
            .is_ok()
        );
        assert!(
            Options {
                delimiter: b'"',
                ..Options::jsonl()
            }
            .check()
            .is_ok()
        );
    }
}
