//! submit, load and release: how a batch comes to be and its tasks with it.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::end;
use super::errors::corrupt;
use super::single::{self, Known};
use super::sql::{all, batch_id, change, key, list, list_opt, one, sql, unlist, us, us_opt};
use crate::model::{
    BatchId, BatchState, Block, JobKey, NewBatch, OpId, TaskState, Timestamp, Token,
};
use crate::store::{LoadPiece, OpRegistration, StoreError, Submitted};

/// A load whose loader has been silent for so long may be replaced and is swept.
pub(super) const SILENT: Duration = Duration::from_secs(60);
/// Blocks whose tasks are made in one step, so that a release is short.
const GIVE: i64 = 10_000;

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
    hash: Option<[u8; 32]>,
    load_token: Option<i64>,
    loaded_at: Option<i64>,
    context: String,
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
        params![app, name, kind, false, None::<u32>, us(now)],
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
                    us(now)
                ],
                |r| Ok(OpId(r.get(0)?)),
            )?
            .ok_or_else(|| corrupt("an op that was made has no id"))
        })
        .collect()
}

/// A CSV's columns as they are stored.
pub(super) fn columns(batch: &NewBatch) -> Result<Option<String>, StoreError> {
    let columns = batch.columns.as_ref().map(serde_json::to_string);
    columns.transpose().map_err(|e| corrupt(e.to_string()))
}

/// The state in which a task begins, and when it is due.
pub(super) fn queued_or_later(run_at: Option<i64>, now: Timestamp) -> (TaskState, Option<i64>) {
    match run_at.filter(|at| *at > us(now)) {
        None => (TaskState::Queued, None),
        due => (TaskState::Later, due),
    }
}

fn insert(
    c: &Connection,
    batch: &NewBatch,
    token: Token,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let op = op_id(c, &batch.key, now)?;
    change(
        c,
        sql!("submit_batch"),
        params![
            key(batch.id),
            op,
            batch.context.get(),
            batch.priority,
            key(batch.id),
            None::<Vec<u8>>,
            0,
            batch.external_id,
            batch.by,
            us(now),
            us_opt(batch.run_at),
            us_opt(batch.expires_at),
            columns(batch)?,
            token.0,
        ],
    )?;
    Ok(op)
}

fn insert_blocks(
    c: &Connection,
    id: BatchId,
    token: Token,
    first_no: i64,
    blocks: &[Block],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (mut rows, mut bytes, mut last_line) = (0_i64, 0_i64, 0_i64);
    for (no, block) in (first_no..).zip(blocks) {
        change(
            c,
            sql!("submit_block"),
            params![
                key(id),
                no,
                block.first_line,
                block.rows,
                block.rejected.len(),
                list_opt(block.lines.as_deref()),
                block.body,
            ],
        )?;
        if !block.rejected.is_empty() {
            let ordinals: Vec<u32> = block.rejected.iter().map(|r| r.ordinal).collect();
            let body: String = block.rejected.iter().map(|r| r.outcome.as_str()).collect();
            change(
                c,
                sql!("submit_rejected"),
                params![key(id), no, us(now), ordinals.len(), list(&ordinals), body],
            )?;
        }
        rows += i64::from(block.rows);
        bytes += i64::try_from(block.body.len()).unwrap_or(i64::MAX);
        last_line = last_line.max(i64::from(block.last_line()));
    }
    let count = i64::try_from(blocks.len()).unwrap_or(i64::MAX);
    let changed = change(
        c,
        sql!("submit_loaded"),
        params![key(id), token.0, rows, bytes, count, last_line, us(now)],
    )?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::NotFound(id))
    }
}

/// `loading → wait | queued`, with the tasks of the first blocks.
fn finish(
    c: &Connection,
    batch: &NewBatchName<'_>,
    token: Token,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<(), StoreError> {
    let state = if batch.hold {
        BatchState::Wait
    } else {
        BatchState::Queued
    };
    let changed = change(
        c,
        sql!("submit_finish"),
        params![key(batch.id), token.0, state.code(), hash, us(now)],
    )?;
    if changed != 1 {
        return Err(StoreError::NotFound(batch.id));
    }
    if let Some(external) = batch.external_id {
        change(
            c,
            sql!("submit_external"),
            params![batch.app, external, key(batch.id), hash, us(now)],
        )?;
    }
    if !batch.hold {
        give(c, batch.id, now)?;
    }
    Ok(())
}

/// What the end of a load must know of the batch that it began with.
pub(super) struct NewBatchName<'a> {
    pub(super) id: BatchId,
    pub(super) app: &'a str,
    pub(super) external_id: Option<&'a str>,
    pub(super) hold: bool,
}

impl<'a> From<&'a NewBatch> for NewBatchName<'a> {
    fn from(batch: &'a NewBatch) -> Self {
        Self {
            id: batch.id,
            app: batch.key.app.as_str(),
            external_id: batch.external_id.as_deref(),
            hold: batch.hold,
        }
    }
}

/// Answers a repeat: the batch that is there has the same op, context and rows, or it is another.
fn repeat(
    c: &Connection,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
    what: String,
    existing: BatchId,
) -> Result<Submitted, StoreError> {
    let found = guard(c, existing)?;
    let op = one(
        c,
        sql!("op_find"),
        params![
            batch.key.app.as_str(),
            batch.key.op.as_str(),
            batch.key.kind.code()
        ],
        |r| r.get::<_, i64>(0),
    )?;
    let equal = found.is_some_and(|g| {
        Some(g.op) == op && g.context == batch.context.get() && (hash.is_none() || g.hash == hash)
    });
    if equal {
        Ok(Submitted::Existing(existing))
    } else {
        Err(StoreError::Duplicate { what, existing })
    }
}

/// Looks for the same external id.
fn existing_external(
    c: &Connection,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
) -> Result<Option<Submitted>, StoreError> {
    let Some(external) = &batch.external_id else {
        return Ok(None);
    };
    one(
        c,
        sql!("external_find"),
        params![batch.key.app.as_str(), external],
        |r| Ok(batch_id(r.get(0)?)),
    )?
    .map(|id| repeat(c, batch, hash, format!("external id {external:?}"), id))
    .transpose()
}

/// Looks for the same id or external id; an abandoned load under the id is removed.
fn existing(
    c: &Connection,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
    now: Timestamp,
) -> Result<Option<Submitted>, StoreError> {
    if let Some(found) = guard(c, batch.id)? {
        if found.state != BatchState::Loading {
            return repeat(c, batch, hash, format!("id {}", batch.id), batch.id).map(Some);
        }
        let silent_since = found.loaded_at.unwrap_or(0);
        if us(now) - silent_since < i64::try_from(SILENT.as_micros()).unwrap_or(i64::MAX) {
            return Err(StoreError::SubmitInProgress(batch.id));
        }
        discard(c, batch.id, found.load_token.unwrap_or(0))?;
    }
    existing_external(c, batch, hash)
}

pub(super) fn submit(
    c: &Connection,
    known: &mut Known,
    batch: &NewBatch,
    blocks: &[Block],
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    if let Some(there) = existing(c, batch, Some(hash), now)? {
        return Ok(there);
    }
    if let [block] = blocks
        && block.rejected.is_empty()
    {
        single::submit(c, known, batch, block, hash, now)?;
        return Ok(Submitted::New(batch.id));
    }
    let token = Token(0);
    insert(c, batch, token, now)?;
    insert_blocks(c, batch.id, token, 0, blocks, now)?;
    finish(c, &batch.into(), token, hash, now)?;
    Ok(Submitted::New(batch.id))
}

pub(super) fn begin_load(
    c: &Connection,
    batch: &NewBatch,
    token: Token,
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    if let Some(there) = existing(c, batch, None, now)? {
        return Ok(there);
    }
    insert(c, batch, token, now)?;
    Ok(Submitted::New(batch.id))
}

pub(super) fn load(c: &Connection, piece: &LoadPiece, now: Timestamp) -> Result<(), StoreError> {
    insert_blocks(c, piece.id, piece.token, piece.first_no, &piece.blocks, now)
}

pub(super) fn finish_load(
    c: &Connection,
    batch: &NewBatch,
    token: Token,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    let ours = guard(c, batch.id)?
        .is_some_and(|g| g.state == BatchState::Loading && g.load_token == Some(token.0));
    if ours {
        // The external id may have come in by another submit while this one was loading. Where it is
        // a duplicate, the load is removed by its loader, which hears of it.
        if let Some(there) = existing_external(c, batch, Some(hash))? {
            discard(c, batch.id, token.0)?;
            return Ok(there);
        }
        finish(c, &batch.into(), token, hash, now)?;
        return Ok(Submitted::New(batch.id));
    }
    existing(c, batch, Some(hash), now)?.ok_or(StoreError::NotFound(batch.id))
}

/// Removes a load under its token.
pub(super) fn discard(c: &Connection, id: BatchId, token: i64) -> Result<bool, StoreError> {
    if change(c, sql!("discard_batch"), params![key(id), token])? == 0 {
        return Ok(false);
    }
    change(c, sql!("discard_blocks"), [key(id)])?;
    change(c, sql!("discard_attempts"), [key(id)])?;
    Ok(true)
}

pub(super) fn release(
    c: &Connection,
    id: BatchId,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let found = visible(c, id)?;
    if change(c, sql!("release_state"), [key(id)])? == 1 {
        change(
            c,
            sql!("audit_add"),
            params![us(now), by, "release", key(id)],
        )?;
        return give(c, id, now);
    }
    if found.state.is_final() {
        return Err(StoreError::WrongState {
            id,
            found: found.state.as_str(),
            needs: "wait",
        });
    }
    Ok(())
}

/// A batch that was acknowledged.
pub(super) fn visible(c: &Connection, id: BatchId) -> Result<Guard, StoreError> {
    guard(c, id)?
        .filter(|g| g.state != BatchState::Loading)
        .ok_or(StoreError::NotFound(id))
}

/// Makes the tasks of the next blocks; with the last of them, the batch is whole.
pub(super) fn give(c: &Connection, id: BatchId, now: Timestamp) -> Result<(), StoreError> {
    let batch = visible(c, id)?;
    let (from, to) = (batch.given, batch.blocks.min(batch.given + GIVE));
    let (state, due) = queued_or_later(batch.run_at, now);
    // Blocks given later go on from those that were given first.
    let before = if from > 0 {
        one(c, sql!("release_base"), [key(id)], |r| r.get::<_, i64>(0))?
    } else {
        None
    };
    let base = match before {
        Some(base) => base,
        None => {
            let smallest = one(
                c,
                sql!("release_turn"),
                params![batch.op, batch.priority],
                |r| r.get::<_, i64>(0),
            )?;
            smallest.unwrap_or(0) - from
        }
    };
    change(
        c,
        sql!("release_whole"),
        params![
            key(id),
            from,
            to,
            batch.op,
            state.code(),
            batch.priority,
            base,
            batch.created_at,
            due
        ],
    )?;
    let partial = all(
        c,
        sql!("release_partial"),
        params![key(id), from, to],
        |r| {
            Ok((
                r.get::<_, i64>(0)?,
                r.get::<_, u32>(1)?,
                r.get::<_, Option<String>>(2)?,
            ))
        },
    )?;
    for (no, rows, refused) in partial {
        let refused = unlist(refused)?.unwrap_or_default();
        let mut refused = refused.iter().peekable();
        let pick: Vec<u32> = (0..rows)
            .filter(|o| refused.next_if_eq(&o).is_none())
            .collect();
        change(
            c,
            sql!("queue_add"),
            params![
                key(id),
                no,
                no,
                0,
                batch.op,
                state.code(),
                batch.priority,
                base + no,
                batch.created_at,
                due,
                pick.len(),
                list(&pick),
                0,
                0,
                0,
                0,
                false
            ],
        )?;
    }
    if from == 0 && batch.blocks > 1 {
        add_close(c, id, &batch, TaskState::Waiting)?;
        let rejected: i64 = one(c, sql!("batch_rejected"), [key(id)], |r| r.get(0))?.unwrap_or(0);
        change(c, sql!("record_progress"), params![key(id), 0, rejected])?;
    }
    let changed = change(c, sql!("release_given"), params![key(id), from, to])?;
    if changed != 1 {
        return Err(corrupt(format!(
            "the blocks of batch {id} were given twice"
        )));
    }
    if to == batch.blocks {
        end::settle(c, id, now)?;
    }
    Ok(())
}

/// Adds the task that ends a batch; until then it carries the progress.
pub(super) fn add_close(
    c: &Connection,
    id: BatchId,
    batch: &Guard,
    state: TaskState,
) -> Result<(), StoreError> {
    change(
        c,
        sql!("queue_add"),
        params![
            key(id),
            crate::model::TaskId::CLOSE.0,
            -1,
            1,
            batch.op,
            state.code(),
            batch.priority,
            0,
            batch.created_at,
            None::<i64>,
            0,
            None::<String>,
            0,
            0,
            0,
            0,
            false
        ],
    )?;
    Ok(())
}
