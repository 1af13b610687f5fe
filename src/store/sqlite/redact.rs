//! redact: the one step that may rewrite a body.

use rusqlite::{Connection, params};

use super::errors::corrupt;
use super::guard::unpurged;
use super::sql::{all, change, key, one, sql, unlist, us};
use crate::model::{BatchId, Timestamp, redact_outcome};
use crate::store::StoreError;

/// Takes a row's input, results, messages and texts away; that it was there, and how it ended, stays.
pub(super) fn redact(
    c: &Connection,
    id: BatchId,
    line: u32,
    by: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let batch = unpurged(c, id)?;
    if !batch.state.is_final() {
        return Err(StoreError::WrongState {
            id,
            found: batch.state.as_str(),
            needs: "ended",
        });
    }
    let Some((no, ordinal, body)) = find(c, id, line)? else {
        return Ok(false);
    };
    let body = replace(&body, ordinal, "null");
    change(c, sql!("redact_block"), params![key(id), no, body])?;
    let parts = all(c, sql!("redact_parts"), params![key(id), no], |r| {
        Ok((
            (
                r.get::<_, i64>(0)?,
                r.get::<_, i64>(1)?,
                r.get::<_, i64>(2)?,
            ),
            r.get::<_, Option<String>>(3)?,
            r.get::<_, String>(4)?,
        ))
    })?;
    for ((task, attempt, part), ordinals, body) in parts {
        let at = match unlist(ordinals)? {
            Some(ordinals) => ordinals.iter().position(|o| *o == ordinal),
            None => usize::try_from(ordinal).ok(),
        };
        let Some((at, outcome)) = at.and_then(|at| Some((at, body.lines().nth(at)?))) else {
            continue;
        };
        let body = replace(
            &body,
            u32::try_from(at).unwrap_or(u32::MAX),
            &redact_outcome(outcome).map_err(|e| corrupt(format!("an outcome's line: {e}")))?,
        );
        let params = params![key(id), no, task, attempt, part, body];
        change(c, sql!("redact_part"), params)?;
    }
    change(
        c,
        sql!("audit_add"),
        params![us(now), by, "redact", key(id)],
    )?;
    Ok(true)
}

/// The block and the ordinal of a line, with the block's inputs.
pub(super) fn find(
    c: &Connection,
    id: BatchId,
    line: u32,
) -> Result<Option<(i64, u32, String)>, StoreError> {
    let before = line.saturating_sub(1);
    let found = one(c, sql!("rows_block"), params![key(id), before], |r| {
        Ok((
            r.get::<_, i64>(0)?,
            r.get::<_, u32>(1)?,
            r.get::<_, u32>(2)?,
            r.get::<_, Option<String>>(3)?,
            r.get::<_, String>(4)?,
        ))
    })?;
    let Some((no, first_line, rows, lines, body)) = found else {
        return Ok(None);
    };
    let lines = unlist(lines)?;
    let mut ordinals = 0..rows;
    let ordinal =
        ordinals.find(|o| crate::model::line_of(first_line, lines.as_deref(), *o).0 == line);
    Ok(ordinal.map(|ordinal| (no, ordinal, body)))
}

fn replace(body: &str, at: u32, with: &str) -> String {
    let mut text = String::with_capacity(body.len());
    for (i, line) in (0..).zip(body.lines()) {
        text.push_str(if i == at { with } else { line });
        text.push('\n');
    }
    text
}
