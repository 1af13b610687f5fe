//! How batches end: by their last record, by their close task, by abort, by expiry.

use rusqlite::{Connection, params};

use super::errors::corrupt;
use super::guard::{guard, visible};
use super::release::{add_close, partial};
use super::sql::{change, key, list, one, sql, us};
use crate::model::{BatchId, BatchState, EndedAs, TaskState, Timestamp};
use crate::store::StoreError;

/// Asks whether a batch has a task of rows left, and if not ends it or lets its close task begin.
pub(super) fn settle(c: &Connection, id: BatchId, now: Timestamp) -> Result<(), StoreError> {
    if one(c, sql!("end_open_rows"), [key(id)], |_| Ok(()))?.is_some() {
        return Ok(());
    }
    let Some(batch) = guard(c, id)? else {
        return Ok(());
    };
    if batch.state == BatchState::Loading || batch.state.is_final() || batch.given < batch.blocks {
        return Ok(());
    }
    if one(c, sql!("end_has_files"), [key(id)], |_| Ok(()))?.is_none() {
        change(c, sql!("end_drop_close"), [key(id)])?;
        return finish(c, id, now);
    }
    if change(c, sql!("end_wake_close"), [key(id)])? == 0
        && one(c, sql!("batch_progress"), [key(id)], |_| Ok(()))?.is_none()
    {
        add_close(c, id, &batch, TaskState::Queued)?;
        let counts = one(c, sql!("end_counts"), [key(id)], |r| {
            Ok((r.get::<_, u64>(0)?, r.get::<_, u64>(1)?))
        })?;
        let (success, failed) = counts.unwrap_or_default();
        change(
            c,
            sql!("record_progress"),
            params![key(id), success, failed],
        )?;
    }
    Ok(())
}

/// Ends a batch by what its rows came to, and stores the notice.
pub(super) fn finish(c: &Connection, id: BatchId, now: Timestamp) -> Result<(), StoreError> {
    let (success, failed, aborted, expired, started): (u64, u64, u64, u64, Option<i64>) =
        one(c, sql!("end_counts"), [key(id)], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
        })?
        .ok_or_else(|| corrupt("a sum without a record"))?;
    let state = BatchState::of_counts(failed, expired, aborted);
    let changed = change(
        c,
        sql!("end_batch"),
        params![
            key(id),
            state.code(),
            success,
            failed,
            aborted,
            expired,
            started,
            us(now)
        ],
    )?;
    if changed != 1 {
        return Err(corrupt(format!("batch {id} was to end and had ended")));
    }
    change(c, sql!("end_notice"), params![key(id), us(now)])?;
    Ok(())
}

pub(super) fn abort(
    c: &Connection,
    id: BatchId,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let batch = visible(c, id)?;
    if batch.state.is_final() {
        return Ok(());
    }
    if change(c, sql!("abort_mark"), params![key(id), us(now), by])? == 0 {
        return Ok(());
    }
    change(c, sql!("audit_add"), params![us(now), by, "abort", key(id)])?;
    stop(c, id, EndedAs::Aborted, now)
}

/// Ends what has not begun of a batch whose time has passed, and what came back since.
pub(super) fn expire(c: &Connection, id: BatchId, now: Timestamp) -> Result<(), StoreError> {
    change(c, sql!("expire_mark"), [key(id)])?;
    stop(c, id, EndedAs::Expired, now)
}

/// Ends every row that is in no running task.
pub(super) fn stop(
    c: &Connection,
    id: BatchId,
    ended_as: EndedAs,
    now: Timestamp,
) -> Result<(), StoreError> {
    let params = params![key(id), ended_as.code(), us(now)];
    change(c, sql!("stop_ungiven"), params)?;
    if let Some(batch) = guard(c, id)? {
        for (no, pick) in partial(c, id, batch.given, batch.blocks)? {
            let params = params![
                key(id),
                no,
                ended_as.code(),
                us(now),
                pick.len(),
                list(&pick)
            ];
            change(c, sql!("stop_partial"), params)?;
        }
    }
    change(c, sql!("stop_all_given"), [key(id)])?;
    change(c, sql!("stop_tasks"), params)?;
    change(c, sql!("stop_tasks_end"), [key(id)])?;
    settle(c, id, now)
}
