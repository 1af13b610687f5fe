//! What ends the reading of a whole input.

use super::unpack::Packing;

/// Why an input cannot be used; a single bad record is a [`Rejection`](super::Rejection) instead.
///
/// After an error the reader is of no further use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The bytes could not be read.
    #[error("the input cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A packed input that cannot be unpacked.
    #[error("the {name} input cannot be unpacked: {reason}; nothing of it is stored", name = packing.name())]
    Packed {
        /// How it is packed, or is said to be.
        packing: Packing,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A byte order mark of UTF-32.
    #[error(
        "the input is in UTF-32, which is not read: convert it first (iconv -f UTF-32 -t UTF-8)"
    )]
    Utf32,
    /// A CSV without a header that can be read.
    #[error("line {line}: the header cannot be read: {reason}")]
    Header {
        /// The physical line on which the header begins, from 1.
        line: u32,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// More bytes than `max_input_bytes`, unpacked.
    #[error(
        "the input is larger than {limit} bytes: split it, or raise max_input_bytes; nothing of it is stored"
    )]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// A row on a line above 2³¹−1, the last that a batch can have.
    #[error("the input has a row after line 2147483647, the last that a batch can have: split it")]
    TooManyLines,
    /// An option that cannot be used; the text names it.
    #[error("{0}")]
    BadOption(String),
}
