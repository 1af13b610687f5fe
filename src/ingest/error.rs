//! What ends the reading of a whole input.

/// Why an input cannot be used; a single bad record is a [`Rejection`](super::Rejection) instead.
///
/// After an error the reader is of no further use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The bytes could not be read.
    #[error("the input cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A CSV without a header that can be read.
    #[error("line {line}: the header cannot be read: {reason}")]
    Header {
        /// The physical line on which the header begins, from 1.
        line: u32,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// More bytes than `max_input_bytes`.
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
