//! What a step looks at before it changes a batch, and the ops' numbers.

use rusqlite::{Connection, params};

use super::errors::corrupt;
use super::sql::{key, one, sql, time, us};
use crate::model::{BatchId, BatchState, JobKey, OpId, Timestamp};
use crate::store::{OpRegistration, StoreError};

/// What a step must know of a batch before it changes it.
pub(super) struct Guard {
    pub(super) state: BatchState,
    pub(super) op: i64,
    pub(super) priority: i64,
    pub(super) created_at: i64,
    pub(super) run_at: Option<i64>,
    pub(super) expires_at: Option<i64>,
    pub(super) abort_at: Option<i64>,
    pub(super) blocks: i64,
    pub(super) given: i64,
    pub(super) hash: Option<[u8; 32]>,
    pub(super) load_token: Option<i64>,
    pub(super) loaded_at: Option<i64>,
    pub(super) context: String,
    pub(super) purged_at: Option<i64>,
}

pub(super) fn guard(c: &Connection, id: BatchId) -> Result<Option<Guard>, StoreError> {
    let found = one(c, sql!("batch_guard"), [key(id)], |r| {
        Ok((
            r.get::<_, i64>(0)?,
            Guard {
                state: BatchState::Loading,
                op: r.get(1)?,
                priority: r.get(2)?,
                created_at: r.get(3)?,
                run_at: r.get(4)?,
                expires_at: r.get(5)?,
                abort_at: r.get(6)?,
                blocks: r.get(8)?,
                given: r.get(9)?,
                hash: r.get(10)?,
                load_token: r.get(11)?,
                loaded_at: r.get(12)?,
                context: r.get(13)?,
                purged_at: r.get(15)?,
            },
        ))
    })?;
    found
        .map(|(code, guard)| {
            let state = BatchState::from_code(code)
                .ok_or_else(|| corrupt(format!("batch {id} has state {code}")))?;
            Ok(Guard { state, ..guard })
        })
        .transpose()
}

/// The number of an op, made known where it is not.
pub(super) fn op_id(c: &Connection, op: &JobKey, now: Timestamp) -> Result<i64, StoreError> {
    let (app, name, kind) = (op.app.as_str(), op.op.as_str(), op.kind.code());
    if let Some(id) = one(c, sql!("op_find"), params![app, name, kind], |r| r.get(0))? {
        return Ok(id);
    }
    one(
        c,
        sql!("op_make"),
        params![app, name, kind, false, None::<u32>, us(now), None::<i64>],
        |r| r.get(0),
    )?
    .ok_or_else(|| corrupt("an op that was made has no id"))
}

/// Makes ops known with what a process registered for them.
pub(super) fn register_ops(
    c: &Connection,
    ops: &[OpRegistration],
    now: Timestamp,
) -> Result<Vec<OpId>, StoreError> {
    ops.iter()
        .map(|op| {
            let k = &op.key;
            one(
                c,
                sql!("op_make"),
                params![
                    k.app.as_str(),
                    k.op.as_str(),
                    k.kind.code(),
                    op.notify,
                    op.max_lost,
                    us(now),
                    op.keep
                        .map(|keep| i64::try_from(keep.as_micros()).unwrap_or(i64::MAX))
                ],
                |r| Ok(OpId(r.get(0)?)),
            )?
            .ok_or_else(|| corrupt("an op that was made has no id"))
        })
        .collect()
}

/// An acknowledged batch of which more is left than its tombstone.
pub(super) fn unpurged(c: &Connection, id: BatchId) -> Result<Guard, StoreError> {
    let found = visible(c, id)?;
    match found.purged_at {
        None => Ok(found),
        Some(at) => Err(StoreError::Purged { id, at: time(at) }),
    }
}

/// A batch that was acknowledged.
pub(super) fn visible(c: &Connection, id: BatchId) -> Result<Guard, StoreError> {
    guard(c, id)?
        .filter(|g| g.state != BatchState::Loading)
        .ok_or(StoreError::NotFound(id))
}
