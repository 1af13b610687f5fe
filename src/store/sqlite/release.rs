//! release: a batch's tasks are made, in pieces behind a watermark.

use rusqlite::{Connection, params};

use super::end;
use super::errors::corrupt;
use super::guard::{Guard, visible};
use super::sql::{all, change, key, list, one, sql, unlist, us};
use crate::model::{BatchId, TaskState, Timestamp};
use crate::store::StoreError;

/// Blocks whose tasks are made in one step, so that a release is short.
const GIVE: i64 = 10_000;

/// The state in which a task begins, and when it is due.
pub(super) fn queued_or_later(run_at: Option<i64>, now: Timestamp) -> (TaskState, Option<i64>) {
    match run_at.filter(|at| *at > us(now)) {
        None => (TaskState::Queued, None),
        due => (TaskState::Later, due),
    }
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
    for (no, pick) in partial(c, id, from, to)? {
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

/// Blocks of which some rows were refused at intake, with the rows that are to run.
pub(super) fn partial(
    c: &Connection,
    id: BatchId,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, Vec<u32>)>, StoreError> {
    let blocks = all(
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
    blocks
        .into_iter()
        .map(|(no, rows, refused)| {
            let refused = unlist(refused)?.unwrap_or_default();
            let mut refused = refused.iter().peekable();
            let runs = |o: &u32| refused.next_if_eq(&o).is_none();
            Ok((no, (0..rows).filter(runs).collect()))
        })
        .collect()
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
