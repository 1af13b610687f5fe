//! redact: the one step that may rewrite a body.

use super::db::{Db, all, change, corrupt, one, params, sql, us};
use super::guard::{guard, unpurged};
use crate::model::{BatchId, Timestamp, redact_outcome};
use crate::store::StoreError;

/// Takes a row's input, results, messages and texts away; that it was there, and how it ended, stays.
pub(in crate::store) async fn redact(
    c: &impl Db,
    id: BatchId,
    line: u32,
    by: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // It is locked, and then read again.
    guard(c, id).await?;
    let batch = unpurged(c, id).await?;
    if !batch.state.is_final() {
        return Err(StoreError::WrongState {
            id,
            found: batch.state.as_str(),
            needs: "ended",
        });
    }
    let Some((no, ordinal, body)) = find(c, id, line).await? else {
        return Ok(false);
    };
    let body = replace(&body, ordinal, "null");
    change(c, sql!("redact_block"), params![id, no, body.as_str()]).await?;
    let parts = all(c, sql!("redact_parts"), params![id, no], |r| {
        Ok((
            (r.get::<i64>(0)?, r.get::<i64>(1)?, r.get::<i64>(2)?),
            r.get::<Option<Vec<u32>>>(3)?,
            r.get::<String>(4)?,
        ))
    })
    .await?;
    for ((task, attempt, part), ordinals, body) in parts {
        let at = match ordinals {
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
        let params = params![id, no, task, attempt, part, body.as_str()];
        change(c, sql!("redact_part"), params).await?;
    }
    change(c, sql!("audit_add"), params![us(now), by, "redact", id]).await?;
    Ok(true)
}

/// The block and the ordinal of a line, with the block's inputs.
pub(in crate::store) async fn find(
    c: &impl Db,
    id: BatchId,
    line: u32,
) -> Result<Option<(i64, u32, String)>, StoreError> {
    let before = line.saturating_sub(1);
    let found = one(c, sql!("rows_block"), params![id, before], |r| {
        Ok((
            r.get::<i64>(0)?,
            r.get::<u32>(1)?,
            r.get::<u32>(2)?,
            r.get::<Option<Vec<u32>>>(3)?,
            r.get::<String>(4)?,
        ))
    })
    .await?;
    let Some((no, first_line, rows, lines, body)) = found else {
        return Ok(None);
    };
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
