//! Bytes to rows: CSV and JSON Lines, read as a stream in bounded memory.
//!
//! [`Records`] reads one record after the other, tells on which physical line each begins, and
//! writes its input as one JSON text. A record that cannot be a row comes back *rejected*, with the
//! input that is kept for it; what ends the whole input is an [`IngestError`].
//!
//! A record passes these rooms: `input` gives the text (`unpack` unpacks it, `encoding` names how it
//! is decoded), `window` holds its bytes, `scan` finds where the record ends, `csv`
//! (with `columns` and `fields`) or `jsonl` writes its input, `records` counts the lines.

mod columns;
mod csv;
mod encoding;
mod error;
mod fields;
mod input;
mod json_text;
mod jsonl;
mod options;
mod records;
mod reject;
mod scan;
#[cfg(test)]
mod tests;
mod unpack;
mod window;

pub use encoding::Encoding;
pub use error::IngestError;
pub(crate) use jsonl::{MAX_DEPTH, is_too_deep};
pub use options::{Format, INPUT_COLUMN, Options, REPORT_COLUMNS};
pub use records::{Record, Records};
pub use reject::{RejectCode, Rejection};
pub use unpack::Packing;
