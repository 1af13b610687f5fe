//! The statements, one file each, and how their values are written.

use std::fmt::Write as _;

use rusqlite::{CachedStatement, Connection, Row};

use crate::model::BatchId;
use crate::store::StoreError;

/// The text of `sql/sqlite/NAME.sql`.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/sql/sqlite/",
            $name,
            ".sql"
        ))
    };
}
pub(super) use sql;

/// Runs a statement that changes something; returns how many records it changed.
pub(super) fn change(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<usize, StoreError> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}

/// Reads the first record of a statement, if there is one.
#[cfg(test)]
pub(super) fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    Ok(match rows.next()? {
        Some(row) => Some(read(row)?),
        None => None,
    })
}

/// Reads all records of a statement.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement: CachedStatement<'_> = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, read)?;
    rows.collect::<Result<_, _>>().map_err(StoreError::from)
}

/// A list of numbers as JSON.
pub(super) fn list(ordinals: &[impl std::fmt::Display]) -> String {
    let mut text = String::with_capacity(ordinals.len() * 5 + 2);
    text.push('[');
    for (i, ordinal) in ordinals.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        let _ = write!(text, "{ordinal}");
    }
    text.push(']');
    text
}

/// A list of batches as JSON, each in hexadecimal.
pub(super) fn hex(ids: &[BatchId]) -> String {
    let ids: Vec<String> = ids
        .iter()
        .map(|id| format!("\"{}\"", id.0.simple()))
        .collect();
    format!("[{}]", ids.join(","))
}
