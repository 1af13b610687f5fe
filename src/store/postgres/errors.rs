//! PostgreSQL's errors in the store's words.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use super::tls;
use crate::store::StoreError;

/// An error of the server, or of the way to it, while doing `what`.
pub(super) fn postgres_error(
    what: impl std::fmt::Display,
) -> impl FnOnce(tokio_postgres::Error) -> StoreError {
    move |error| {
        if let Some(db) = error.as_db_error() {
            let code = db.code();
            let text = format!("{what}: {}", db.message());
            if *code == SqlState::CHECK_VIOLATION || *code == SqlState::NOT_NULL_VIOLATION {
                return StoreError::Corrupt(text);
            }
            if *code == SqlState::INSUFFICIENT_PRIVILEGE {
                let text =
                    format!("{text}; `rowmill migrate --grants ROLE` prints what a role needs");
                return StoreError::unavailable(text, error);
            }
            return StoreError::unavailable(text, error);
        }
        if let Some(why) = tls::refusal(&error) {
            return StoreError::unavailable(format!("{what}: {why}"), error);
        }
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        StoreError::unavailable(format!("{what}: {cause}"), error)
    }
}

/// What was made again and again and was there each time, or in a transaction that is not made again,
/// breaks a key that nothing of ours may break.
pub(super) fn final_word(error: StoreError) -> StoreError {
    match &error {
        StoreError::Unavailable { what, source } => {
            let source = source.downcast_ref::<tokio_postgres::Error>();
            let code = source.and_then(tokio_postgres::Error::code);
            match code {
                Some(code) if *code == SqlState::UNIQUE_VIOLATION => {
                    StoreError::Corrupt(what.clone())
                }
                _ => error,
            }
        }
        _ => error,
    }
}

/// Whether a step that failed so may be made again from its beginning: others were in its way.
pub(super) fn is_in_the_way(error: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = error else {
        return false;
    };
    let code = source
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(tokio_postgres::Error::code);
    // Another made the same at the same moment, or two waited for each other.
    code.is_some_and(|code| {
        [
            SqlState::UNIQUE_VIOLATION,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
        ]
        .contains(code)
    })
}
