//! SQLite's errors in the store's words.

use crate::store::StoreError;

/// An error of the database while doing `what`.
pub(super) fn sqlite_error(
    what: impl std::fmt::Display,
) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |error| {
        use rusqlite::ErrorCode::{
            ConstraintViolation, DatabaseCorrupt, DiskFull, NotADatabase, ReadOnly, SystemIoFailure,
        };
        match error.sqlite_error_code() {
            Some(NotADatabase) => StoreError::Unusable(format!(
                "{what}: it is not a SQLite database; name another file with --database"
            )),
            Some(DatabaseCorrupt) => StoreError::unavailable(
                format!(
                    "{what}: the file is damaged; restore it from a copy with its -wal beside it"
                ),
                error,
            ),
            Some(ConstraintViolation) => StoreError::Corrupt(format!("{what}: {error}")),
            Some(DiskFull) => StoreError::unavailable(format!("{what}: the disk is full"), error),
            Some(SystemIoFailure) => StoreError::unavailable(
                format!(
                    "{what}: the file could not be read or written; see that there is room and that no limit forbids it"
                ),
                error,
            ),
            Some(ReadOnly) => StoreError::unavailable(
                format!(
                    "{what}: the file or its folder may not be written; see to its owner and mode"
                ),
                error,
            ),
            _ => StoreError::unavailable(what.to_string(), error),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        sqlite_error("a statement failed")(error)
    }
}

pub(super) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}
