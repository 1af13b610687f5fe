//! retry: what a batch's retries are, and the guard under which one becomes a batch.

use rusqlite::{Connection, params};

use super::sql::{all, batch_id, change, key, one, sql, us};
use crate::model::{BatchId, BatchState, NewBatch, Timestamp};
use crate::store::{Child, Children, StoreError};

/// The first of a batch's line.
pub(super) fn root(batch: &NewBatch) -> BatchId {
    batch.retry_of.map_or(batch.id, |of| of.root)
}

/// The batch whose failed rows it repeats.
pub(super) fn parent(batch: &NewBatch) -> Option<BatchId> {
    batch.retry_of.map(|of| of.parent)
}

/// Retries between its root and it.
pub(super) fn generation(batch: &NewBatch) -> u32 {
    batch.retry_of.map_or(0, |of| of.generation)
}

/// The retries of a batch, oldest first.
pub(super) fn children(c: &Connection, id: BatchId) -> Result<Children, StoreError> {
    let purged = one(c, sql!("retry_parent"), [key(id)], |r| r.get(0))?;
    let batches = all(c, sql!("retry_children"), [key(id)], |r| {
        Ok(Child {
            id: batch_id(r.get(0)?),
            purged: r.get(1)?,
            ran: r.get(2)?,
        })
    })?;
    Ok(Children {
        purged: purged.ok_or(StoreError::NotFound(id))?,
        batches,
    })
}

/// Refuses a retry whose rows were chosen when its parent had other retries, and notes the others.
pub(super) fn guard(c: &Connection, batch: &NewBatch, now: Timestamp) -> Result<(), StoreError> {
    let Some(of) = batch.retry_of else {
        return Ok(());
    };
    let found = one(c, sql!("retry_guard"), [key(of.parent)], |r| {
        Ok((
            r.get::<_, i64>(0)?,
            r.get::<_, bool>(1)?,
            r.get::<_, u32>(2)?,
        ))
    })?;
    let (state, purged, before) = found.ok_or(StoreError::NotFound(of.parent))?;
    let ended = BatchState::from_code(state).is_some_and(BatchState::is_final);
    if !ended || purged || before != of.before {
        return Err(StoreError::Retried(of.parent));
    }
    let params = params![us(now), batch.by, "retry", key(of.parent)];
    change(c, sql!("audit_add"), params)?;
    Ok(())
}
