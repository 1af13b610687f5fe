//! PostgreSQL's errors in the store's words.

use std::error::Error as _;

use tokio_postgres::error::{Severity, SqlState};

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
        let cause = error.source().map(ToString::to_string);
        let cause = cause.unwrap_or_else(|| error.to_string());
        StoreError::unavailable(format!("{what}: {cause}"), error)
    }
}

/// What the server, or the way to it, has said.
fn cause(error: &StoreError) -> Option<&tokio_postgres::Error> {
    match error {
        StoreError::Unavailable { source, .. } => source.downcast_ref(),
        _ => None,
    }
}

/// What was made again and again and was there each time, or in a transaction that is not made again,
/// breaks a key that nothing of ours may break.
pub(super) fn final_word(error: StoreError) -> StoreError {
    let code = cause(&error).and_then(tokio_postgres::Error::code);
    let is_there = code.is_some_and(|code| *code == SqlState::UNIQUE_VIOLATION);
    match error {
        StoreError::Unavailable { what, .. } if is_there => StoreError::Corrupt(what),
        error => error,
    }
}

/// Whether a step that failed so may be made again from its beginning: others were in its way.
pub(super) fn is_in_the_way(error: &StoreError) -> bool {
    let code = cause(error).and_then(tokio_postgres::Error::code);
    // Another made the same at the same moment, or two waited for each other.
    code.is_some_and(|code| *code == SqlState::UNIQUE_VIOLATION || is_conflict(code))
}

/// Two were in each other's way, or one waited long for the other: the later of them may do all of it again.
pub(super) fn is_conflict(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
    ]
    .contains(code)
}

/// Whether the connection has ended with this: an answer that had not come then comes no more.
pub(super) fn is_lost(error: &tokio_postgres::Error) -> bool {
    let Some(db) = error.as_db_error() else {
        let source = error.source();
        return error.is_closed() || source.is_some_and(|s| s.is::<std::io::Error>());
    };
    let last = matches!(
        db.parsed_severity(),
        Some(Severity::Fatal | Severity::Panic)
    );
    // The server's own words when it ends a session: shutdown, crash, a connection that failed.
    last || ["57P", "08"]
        .iter()
        .any(|class| db.code().code().starts_with(class))
}

/// Whether nobody knows what became of what was asked.
pub(super) fn is_unknown(error: &StoreError) -> bool {
    cause(error).is_some_and(|e| e.as_db_error().is_none() || is_lost(e))
}

/// Whether a transaction may not have begun on a connection that lives: its first statement then meets none, where
/// nothing may be written and rowmill's tables are not looked for, or one that its settings have undone.
pub(super) fn is_without_begin(error: &StoreError) -> bool {
    let code = cause(error).and_then(tokio_postgres::Error::code);
    let without = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        SqlState::UNDEFINED_TABLE,
        SqlState::IN_FAILED_SQL_TRANSACTION,
    ];
    code.is_some_and(|code| without.contains(code))
}
