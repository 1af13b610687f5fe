//! retry: what a batch's retries are, and the guard under which one becomes a batch.

use super::db::{Db, all, change, locked, one, params, sql, us};
use crate::model::{BatchId, BatchState, NewBatch, Timestamp};
use crate::store::{Child, Children, StoreError};

/// The first of a batch's line.
pub(in crate::store) fn root(batch: &NewBatch) -> BatchId {
    batch.retry_of.map_or(batch.id, |of| of.root)
}

/// The batch whose failed rows it repeats.
pub(in crate::store) fn parent(batch: &NewBatch) -> Option<BatchId> {
    batch.retry_of.map(|of| of.parent)
}

/// Retries between its root and it.
pub(in crate::store) fn generation(batch: &NewBatch) -> u32 {
    batch.retry_of.map_or(0, |of| of.generation)
}

/// The retries of a batch, oldest first.
pub(in crate::store) async fn children(c: &impl Db, id: BatchId) -> Result<Children, StoreError> {
    let purged = one(c, sql!("retry_parent"), params![id], |r| r.get(0)).await?;
    let batches = all(c, sql!("retry_children"), params![id], |r| {
        Ok(Child {
            id: r.get(0)?,
            purged: r.get(1)?,
            ran: r.get(2)?,
        })
    })
    .await?;
    Ok(Children {
        purged: purged.ok_or(StoreError::NotFound(id))?,
        batches,
    })
}

/// Refuses a retry whose rows were chosen when its parent had other retries, and notes the others.
pub(in crate::store) async fn guard(
    c: &impl Db,
    batch: &NewBatch,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(of) = batch.retry_of else {
        return Ok(());
    };
    let found = locked(
        c,
        sql!("batch_lock"),
        sql!("retry_guard"),
        params![of.parent],
        |r| Ok((r.get::<i64>(0)?, r.get::<bool>(1)?, r.get::<u32>(2)?)),
    )
    .await?;
    let (state, purged, before) = found.ok_or(StoreError::NotFound(of.parent))?;
    let ended = BatchState::from_code(state).is_some_and(BatchState::is_final);
    if !ended || purged || before != of.before {
        return Err(StoreError::Retried(of.parent));
    }
    let params = params![us(now), batch.by.as_str(), "retry", of.parent];
    change(c, sql!("audit_add"), params).await?;
    Ok(())
}
