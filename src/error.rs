//! The error that users of the library meet.
//!
//! Which error goes where: [`StoreError`] is the store's answer to the engine and the client;
//! [`Error`] is what the client and the manager return, with a kind to act on and a stable code;
//! a [`RowFailure`](crate::RowFailure) is a processor's, and ends in a row's messages; an internal
//! error's text goes to the log and to the operator, never to a row's owner.

use crate::cache::CacheError;
use crate::model::{BatchId, IdError};
use crate::store::StoreError;

/// What kind of error it is: what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was given cannot be used; nothing was stored.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// The state forbids it, or other content is there.
    Conflict,
    /// The database or the object store cannot be reached, read or written.
    Unavailable,
    /// A bug of ours, or damage.
    Internal,
}

/// An error with a kind, a stable code and the cause.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    code: &'static str,
    text: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the library's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, code: &'static str, text: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            code,
            text: text.into(),
            source: None,
        }))
    }

    pub(crate) fn with(
        kind: ErrorKind,
        code: &'static str,
        text: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let mut error = Self::new(kind, code, text);
        error.0.source = Some(source.into());
        error
    }

    pub(crate) fn invalid(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, code, text)
    }

    pub(crate) fn not_found(id: BatchId) -> Self {
        StoreError::NotFound(id).into()
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stable code: the same in JSON and on the command line.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_ref()?;
        Some(&**source)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (kind, code) = match &error {
            StoreError::NotFound(_) => (ErrorKind::NotFound, "not_found"),
            StoreError::WrongState { .. } => (ErrorKind::Conflict, "wrong_state"),
            StoreError::Purged { .. } => (ErrorKind::Conflict, "purged"),
            StoreError::Duplicate { .. } => (ErrorKind::Conflict, "duplicate"),
            StoreError::SubmitInProgress(_) => (ErrorKind::Conflict, "submit_in_progress"),
            StoreError::SubmitLost(_) => (ErrorKind::Conflict, "submit_lost"),
            StoreError::AppendInProgress(_) => (ErrorKind::Conflict, "append_in_progress"),
            StoreError::AppendLost(_) => (ErrorKind::Conflict, "append_lost"),
            StoreError::AppendDuplicate { .. } => (ErrorKind::Conflict, "duplicate"),
            StoreError::BadLine { .. } => (ErrorKind::Invalid, "bad_line"),
            StoreError::Retried(_) => (ErrorKind::Conflict, "retried"),
            StoreError::Fenced(_) => (ErrorKind::Conflict, "fenced"),
            StoreError::Unusable(_) => (ErrorKind::Invalid, "unusable_database"),
            StoreError::Unavailable { .. } => (ErrorKind::Unavailable, "unavailable"),
            StoreError::Corrupt(_) => (ErrorKind::Internal, "corrupt"),
        };
        let text = error.to_string();
        Self::with(kind, code, text, error)
    }
}

impl From<CacheError> for Error {
    fn from(error: CacheError) -> Self {
        Self::invalid("bad_redis", error.to_string())
    }
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Self {
        Self::invalid("bad_name", error.to_string())
    }
}
