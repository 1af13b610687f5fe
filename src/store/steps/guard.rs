//! What a step looks at before it changes a batch, and the ops' numbers.

use super::db::{Db, Record, Us, corrupt, locked, one, params, sql, time, us};
use super::together::together;
use crate::model::{BatchId, BatchState, JobKey, OpId, Timestamp};
use crate::store::{OpRegistration, StoreError};

/// What a step must know of a batch before it changes it.
pub(in crate::store) struct Guard {
    pub(in crate::store) state: BatchState,
    pub(in crate::store) op: i64,
    pub(in crate::store) priority: i64,
    pub(in crate::store) created_at: Us,
    pub(in crate::store) run_at: Option<Us>,
    pub(in crate::store) expires_at: Option<Us>,
    pub(in crate::store) abort_at: Option<Us>,
    pub(in crate::store) blocks: i64,
    pub(in crate::store) given: i64,
    pub(in crate::store) hash: Option<[u8; 32]>,
    pub(in crate::store) load_token: Option<i64>,
    pub(in crate::store) loaded_at: Option<Us>,
    pub(in crate::store) context: String,
    pub(in crate::store) purged_at: Option<Us>,
}

/// What is found of a batch; it may change at once.
pub(in crate::store) async fn look(c: &impl Db, id: BatchId) -> Result<Option<Guard>, StoreError> {
    let found = one(c, sql!("batch_guard"), params![id], read).await?;
    found.map(|found| checked(id, found)).transpose()
}

/// What is found of a batch that nobody else changes until this transaction ends.
pub(in crate::store) async fn guard(c: &impl Db, id: BatchId) -> Result<Option<Guard>, StoreError> {
    let found = locked(
        c,
        sql!("batch_lock"),
        sql!("batch_guard"),
        params![id],
        read,
    )
    .await?;
    found.map(|found| checked(id, found)).transpose()
}

/// As [`guard`], for many at the same moment: nobody changes the batch, and each of them may read it.
pub(in crate::store) async fn share(c: &impl Db, id: BatchId) -> Result<Option<Guard>, StoreError> {
    let found = locked(
        c,
        sql!("batch_share"),
        sql!("batch_guard"),
        params![id],
        read,
    )
    .await?;
    found.map(|found| checked(id, found)).transpose()
}

fn read(r: &mut Record) -> Result<(i64, Guard), StoreError> {
    Ok((
        r.get(0)?,
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
}

fn checked(id: BatchId, (code, guard): (i64, Guard)) -> Result<Guard, StoreError> {
    let state = BatchState::from_code(code)
        .ok_or_else(|| corrupt(format!("batch {id} has state {code}")))?;
    Ok(Guard { state, ..guard })
}

/// The number of an op, made known where it is not.
pub(in crate::store) async fn op_id(
    c: &impl Db,
    op: &JobKey,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let (app, name, kind) = (op.app.as_str(), op.op.as_str(), op.kind.code());
    if let Some(id) = one(c, sql!("op_find"), params![app, name, kind], |r| r.get(0)).await? {
        return Ok(id);
    }
    one(
        c,
        sql!("op_make"),
        params![app, name, kind, false, None::<u32>, us(now), None::<i64>],
        |r| r.get(0),
    )
    .await?
    .ok_or_else(|| corrupt("an op that was made has no id"))
}

/// Makes ops known with what a process registered for them.
pub(in crate::store) async fn register_ops(
    c: &impl Db,
    ops: &[OpRegistration],
    now: Timestamp,
) -> Result<Vec<OpId>, StoreError> {
    let known = together(ops.iter().map(|op| {
        let k = &op.key;
        one(
            c,
            sql!("op_find"),
            params![k.app.as_str(), k.op.as_str(), k.kind.code()],
            |r| r.get::<i64>(0),
        )
    }))
    .await?;
    // In the order of those who enter: each holds its ops until its transaction ends. New ones are the last.
    let mut order: Vec<usize> = (0..ops.len()).collect();
    order.sort_by_key(|at| known[*at].unwrap_or(i64::MAX));
    let mut numbers = vec![OpId(0); ops.len()];
    for at in order {
        let op = &ops[at];
        let k = &op.key;
        let keep = op
            .keep
            .map(|keep| i64::try_from(keep.as_micros()).unwrap_or(i64::MAX));
        let made = params![
            k.app.as_str(),
            k.op.as_str(),
            k.kind.code(),
            op.notify,
            op.max_lost,
            us(now),
            keep
        ];
        let no = one(c, sql!("op_make"), made, |r| r.get(0)).await?;
        numbers[at] = OpId(no.ok_or_else(|| corrupt("an op that was made has no id"))?);
    }
    Ok(numbers)
}

/// An acknowledged batch of which more is left than its tombstone; it may change at once.
pub(in crate::store) async fn unpurged(c: &impl Db, id: BatchId) -> Result<Guard, StoreError> {
    let found = look(c, id)
        .await?
        .filter(|g| g.state != BatchState::Loading);
    let found = found.ok_or(StoreError::NotFound(id))?;
    match found.purged_at {
        None => Ok(found),
        Some(at) => Err(StoreError::Purged { id, at: time(at) }),
    }
}

/// A batch that was acknowledged, and that nobody else changes until this transaction ends.
pub(in crate::store) async fn visible(c: &impl Db, id: BatchId) -> Result<Guard, StoreError> {
    guard(c, id)
        .await?
        .filter(|g| g.state != BatchState::Loading)
        .ok_or(StoreError::NotFound(id))
}
