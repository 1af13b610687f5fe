//! Why a record cannot be a row.

use std::str::Utf8Error;

use super::encoding::Encoding;

/// Why a record cannot be a row: the code on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectCode {
    /// More or fewer fields than columns.
    FieldCount,
    /// Bytes that are none of the input's encoding.
    BadEncoding,
    /// A line that is not one JSON value, or one nested too deep.
    BadJson,
    /// More bytes than `max_row_bytes`.
    RowTooLarge,
    /// A quote that is not closed in time.
    UnclosedQuote,
}

impl RejectCode {
    /// The word that users and programs see.
    ///
    /// ```
    /// # use rowmill::ingest::RejectCode;
    /// assert_eq!(RejectCode::FieldCount.errcode(), "field_count");
    /// ```
    #[must_use]
    pub const fn errcode(self) -> &'static str {
        match self {
            Self::FieldCount => "field_count",
            Self::BadEncoding => "bad_encoding",
            Self::BadJson => "bad_json",
            Self::RowTooLarge => "row_too_large",
            Self::UnclosedQuote => "unclosed_quote",
        }
    }

    /// The number of its message.
    ///
    /// ```
    /// # use rowmill::ingest::RejectCode;
    /// assert_eq!(RejectCode::UnclosedQuote.msgid(), 24);
    /// ```
    #[must_use]
    pub const fn msgid(self) -> u32 {
        match self {
            Self::FieldCount => 20,
            Self::BadEncoding => 21,
            Self::BadJson => 22,
            Self::RowTooLarge => 23,
            Self::UnclosedQuote => 24,
        }
    }
}

/// Why one record was rejected, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The reason's code.
    pub code: RejectCode,
    /// The reason for people.
    pub text: String,
    /// The numbers in the text, in its order.
    pub vals: Vec<String>,
}

impl Rejection {
    pub(super) fn field_count(found: usize, columns: usize) -> Self {
        Self {
            code: RejectCode::FieldCount,
            text: format!("the number of fields is {found}, of columns {columns}"),
            vals: vec![found.to_string(), columns.to_string()],
        }
    }

    pub(super) fn bad_encoding(encoding: Encoding, bytes: &[u8], error: Utf8Error) -> Self {
        let (unit, place) = place_of_bad(encoding, bytes, error);
        Self {
            code: RejectCode::BadEncoding,
            text: format!("not {encoding} at {unit} {place} of the record"),
            vals: vec![place.to_string()],
        }
    }

    pub(super) fn bad_json(reason: &str, byte: usize) -> Self {
        Self {
            code: RejectCode::BadJson,
            text: format!("not one JSON value: {reason} at byte {byte} of the line"),
            vals: vec![byte.to_string()],
        }
    }

    pub(super) fn too_deep(limit: usize) -> Self {
        Self {
            code: RejectCode::BadJson,
            text: format!("nested more than {limit} deep"),
            vals: vec![limit.to_string()],
        }
    }

    pub(super) fn row_too_large(limit: usize) -> Self {
        Self {
            code: RejectCode::RowTooLarge,
            text: format!("larger than {limit} bytes: only its beginning is kept"),
            vals: vec![limit.to_string()],
        }
    }

    pub(super) fn unclosed_quote() -> Self {
        Self {
            code: RejectCode::UnclosedQuote,
            text: "a quote at the start of a field is not closed: the line is kept as it is".into(),
            vals: Vec::new(),
        }
    }
}

/// Where the first bad bytes of a record are, from 1: what was decoded has only its characters' places.
pub(super) fn place_of_bad(
    encoding: Encoding,
    bytes: &[u8],
    error: Utf8Error,
) -> (&'static str, usize) {
    let good = error.valid_up_to();
    if encoding == Encoding::UTF_8 {
        return ("byte", good + 1);
    }
    let good = bytes.get(..good).unwrap_or_default();
    (
        "character",
        String::from_utf8_lossy(good).chars().count() + 1,
    )
}
