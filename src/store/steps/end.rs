//! How batches end: by their last record, by their close task, by abort, by expiry.

use super::db::{Db, Us, change, corrupt, one, params, sql, us};
use super::guard::{guard, visible};
use super::release::{add_close, partial};
use crate::model::{BatchId, BatchState, EndedAs, TaskState, Timestamp};
use crate::store::StoreError;

/// Asks whether a batch has a task of rows left, and if not ends it or lets its close task begin.
///
/// Where others write at the same moment, a batch that more than one of them may be ending has a
/// close task, and is looked at after the commit.
pub(in crate::store) async fn settle(
    c: &impl Db,
    id: BatchId,
    now: Timestamp,
) -> Result<(), StoreError> {
    if c.is_shared() && has_close(c, id).await? {
        c.settle_later(id);
        return Ok(());
    }
    settle_now(c, id, now).await
}

/// Whether a batch has a task of rows left.
pub(in crate::store) async fn has_open_rows(c: &impl Db, id: BatchId) -> Result<bool, StoreError> {
    let open = one(c, sql!("end_open_rows"), params![id], |_| Ok(())).await?;
    Ok(open.is_some())
}

async fn has_close(c: &impl Db, id: BatchId) -> Result<bool, StoreError> {
    let close = one(c, sql!("batch_progress"), params![id], |_| Ok(())).await?;
    Ok(close.is_some())
}

/// Adds to a batch's progress. Where others write at the same moment they would wait for each other
/// at its record: there the progress is what is recorded.
pub(in crate::store) async fn progress(
    c: &impl Db,
    id: BatchId,
    success: u64,
    failed: u64,
) -> Result<(), StoreError> {
    if !c.is_shared() {
        change(c, sql!("record_progress"), params![id, success, failed]).await?;
    }
    Ok(())
}

/// Sees to it that a batch of which a task is split has a close task, so that whoever ends the last
/// part of it is found out after the commit.
pub(in crate::store) async fn ensure_close(
    c: &impl Db,
    id: BatchId,
    op: i64,
    priority: i64,
    age: Us,
) -> Result<(), StoreError> {
    if !c.is_shared() || has_close(c, id).await? {
        return Ok(());
    }
    add_close(c, id, (op, priority, age), TaskState::Waiting).await
}

/// As [`settle`], in a step after the commit.
pub(in crate::store) async fn settle_now(
    c: &impl Db,
    id: BatchId,
    now: Timestamp,
) -> Result<(), StoreError> {
    if has_open_rows(c, id).await? {
        return Ok(());
    }
    let Some(batch) = guard(c, id).await? else {
        return Ok(());
    };
    if batch.state == BatchState::Loading || batch.state.is_final() || batch.given < batch.blocks {
        return Ok(());
    }
    // The last blocks may have been given while the batch was waited for: files of what has not run would lack it.
    if c.is_shared() && has_open_rows(c, id).await? {
        return Ok(());
    }
    if one(c, sql!("end_has_files"), params![id], |_| Ok(()))
        .await?
        .is_none()
    {
        change(c, sql!("end_drop_close"), params![id]).await?;
        return finish(c, id, now).await;
    }
    if change(c, sql!("end_wake_close"), params![id]).await? == 0 && !has_close(c, id).await? {
        let of = (batch.op, batch.priority, batch.created_at);
        add_close(c, id, of, TaskState::Queued).await?;
        let counts = one(c, sql!("end_counts"), params![id], |r| {
            Ok((r.get::<u64>(0)?, r.get::<u64>(1)?))
        })
        .await?;
        let (success, failed) = counts.unwrap_or_default();
        progress(c, id, success, failed).await?;
    }
    Ok(())
}

/// Ends a batch by what its rows came to, and stores the notice.
pub(in crate::store) async fn finish(
    c: &impl Db,
    id: BatchId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (success, failed, aborted, expired, started): (u64, u64, u64, u64, Option<Us>) =
        one(c, sql!("end_counts"), params![id], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
        })
        .await?
        .ok_or_else(|| corrupt("a sum without a record"))?;
    let state = BatchState::of_counts(failed, expired, aborted);
    let changed = change(
        c,
        sql!("end_batch"),
        params![
            id,
            state.code(),
            success,
            failed,
            aborted,
            expired,
            started,
            us(now)
        ],
    )
    .await?;
    if changed != 1 {
        return Err(corrupt(format!("batch {id} was to end and had ended")));
    }
    change(c, sql!("end_notice"), params![id, us(now)]).await?;
    Ok(())
}

pub(in crate::store) async fn abort(
    c: &impl Db,
    id: BatchId,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    // Before the batch is locked: whoever records the others holds what they stand in, and then their batches.
    c.loosen(&[id]).await?;
    let batch = visible(c, id).await?;
    if batch.state.is_final() {
        return Ok(());
    }
    if change(c, sql!("abort_mark"), params![id, us(now), by]).await? == 0 {
        // Where it is this same step that has marked it, nobody has looked since whether that ended it.
        return match c.is_again() {
            true => settle(c, id, now).await,
            false => Ok(()),
        };
    }
    change(c, sql!("audit_add"), params![us(now), by, "abort", id]).await?;
    stop(c, id, EndedAs::Aborted, now).await
}

/// Ends what an abort has passed over because others held it; false where they still do.
pub(in crate::store) async fn abort_rest(
    c: &impl Db,
    id: BatchId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if !has_unbegun(c, id).await? {
        return Ok(true);
    }
    // It was submitted between the abort's first look and its mark.
    c.loosen(&[id]).await?;
    let batch = guard(c, id).await?;
    if batch.is_none_or(|batch| batch.abort_at.is_none() || batch.state.is_final()) {
        return Ok(true);
    }
    stop(c, id, EndedAs::Aborted, now).await?;
    Ok(!has_unbegun(c, id).await?)
}

/// Whether a batch has a task that waits to be claimed, or to be due.
async fn has_unbegun(c: &impl Db, id: BatchId) -> Result<bool, StoreError> {
    let (one_state, other) = (TaskState::Later.code(), TaskState::Queued.code());
    let asked = params![id, 0, one_state, other];
    let next = one(c, sql!("rows_next_open"), asked, |r| {
        r.get::<Option<i64>>(0)
    })
    .await?;
    Ok(next.flatten().is_some())
}

/// Ends what has not begun of a batch whose time has passed, and what came back since; false where others hold
/// something of it, so that it is to be asked for again.
pub(in crate::store) async fn expire(
    c: &impl Db,
    id: BatchId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let is_open = async || {
        let batch = guard(c, id).await?;
        Ok::<_, StoreError>(batch.is_some_and(|batch| !batch.state.is_final()))
    };
    if !is_open().await? {
        return Ok(true);
    }
    stop(c, id, EndedAs::Expired, now).await?;
    let marked = change(c, sql!("expire_mark"), params![id]).await? == 1;
    Ok(marked || !is_open().await?)
}

/// Ends every row that is in no running task.
pub(in crate::store) async fn stop(
    c: &impl Db,
    id: BatchId,
    ended_as: EndedAs,
    now: Timestamp,
) -> Result<(), StoreError> {
    let params = params![id, ended_as.code(), us(now)];
    change(c, sql!("stop_ungiven"), params).await?;
    if let Some(batch) = guard(c, id).await? {
        for (no, pick) in partial(c, id, batch.given, batch.blocks).await? {
            let params = params![id, no, ended_as.code(), us(now), pick.len(), &pick];
            change(c, sql!("stop_partial"), params).await?;
        }
    }
    change(c, sql!("stop_all_given"), params![id]).await?;
    change(c, sql!("stop_tasks"), params).await?;
    change(c, sql!("stop_tasks_end"), params![id]).await?;
    settle(c, id, now).await
}
