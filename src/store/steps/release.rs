//! release: a batch's tasks are made, in pieces behind a watermark.

use super::db::{Db, Us, all, change, corrupt, one, params, sql, us};
use super::end;
use super::guard::visible;
use crate::model::{BatchId, TaskState, Timestamp};
use crate::store::StoreError;

/// Blocks whose tasks are made in one step, so that a release is short.
const GIVE: i64 = 10_000;

/// The state in which a task begins, and when it is due.
pub(in crate::store) fn queued_or_later(
    run_at: Option<Us>,
    now: Timestamp,
) -> (TaskState, Option<Us>) {
    match run_at.filter(|at| *at > us(now)) {
        None => (TaskState::Queued, None),
        due => (TaskState::Later, due),
    }
}

pub(in crate::store) async fn release(
    c: &impl Db,
    id: BatchId,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let found = visible(c, id).await?;
    if change(c, sql!("release_state"), params![id]).await? == 1 {
        change(c, sql!("audit_add"), params![us(now), by, "release", id]).await?;
        return give(c, id, now).await;
    }
    // Where it is this same step that has released it, it may have ended since.
    if found.state.is_final() && !c.is_again() {
        return Err(StoreError::WrongState {
            id,
            found: found.state.as_str(),
            needs: "wait",
        });
    }
    Ok(())
}

/// Makes the tasks of the next blocks; with the last of them, the batch is whole.
pub(in crate::store) async fn give(
    c: &impl Db,
    id: BatchId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let batch = visible(c, id).await?;
    let (from, to) = (batch.given, batch.blocks.min(batch.given + GIVE));
    // Another has given the rest, or an abort has ended it, since it was listed.
    if batch.state.is_final() || (from > 0 && from == to) {
        return Ok(());
    }
    let (state, due) = queued_or_later(batch.run_at, now);
    // Blocks given later go on from those that were given first.
    let before = if from > 0 {
        one(c, sql!("release_base"), params![id], |r| r.get::<i64>(0)).await?
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
                |r| r.get::<i64>(0),
            )
            .await?;
            smallest.unwrap_or(0) - from
        }
    };
    change(
        c,
        sql!("release_whole"),
        params![
            id,
            from,
            to,
            batch.op,
            state.code(),
            batch.priority,
            base,
            batch.created_at,
            due
        ],
    )
    .await?;
    for (no, pick) in partial(c, id, from, to).await? {
        change(
            c,
            sql!("queue_add"),
            params![
                id,
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
                &pick,
                0,
                0,
                0,
                0,
                false
            ],
        )
        .await?;
    }
    if from == 0 && batch.blocks > 1 {
        let of = (batch.op, batch.priority, batch.created_at);
        add_close(c, id, of, TaskState::Waiting).await?;
        let rejected: u64 = one(c, sql!("batch_rejected"), params![id], |r| r.get(0))
            .await?
            .unwrap_or(0);
        end::progress(c, id, 0, rejected).await?;
    }
    let changed = change(c, sql!("release_given"), params![id, from, to]).await?;
    if changed != 1 {
        return Err(corrupt(format!(
            "the blocks of batch {id} were given twice"
        )));
    }
    if to == batch.blocks {
        end::settle(c, id, now).await?;
    }
    Ok(())
}

/// Blocks of which some rows were refused at intake, with the rows that are to run.
pub(in crate::store) async fn partial(
    c: &impl Db,
    id: BatchId,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, Vec<u32>)>, StoreError> {
    let blocks = all(c, sql!("release_partial"), params![id, from, to], |r| {
        Ok((
            r.get::<i64>(0)?,
            r.get::<u32>(1)?,
            r.get::<Option<Vec<u32>>>(2)?,
        ))
    })
    .await?;
    blocks
        .into_iter()
        .map(|(no, rows, refused)| {
            let refused = refused.unwrap_or_default();
            let mut refused = refused.iter().peekable();
            let runs = |o: &u32| refused.next_if_eq(&o).is_none();
            Ok((no, (0..rows).filter(runs).collect()))
        })
        .collect()
}

/// Adds the task that ends a batch; until then it carries the progress.
pub(in crate::store) async fn add_close(
    c: &impl Db,
    id: BatchId,
    (op, priority, age): (i64, i64, Us),
    state: TaskState,
) -> Result<(), StoreError> {
    change(
        c,
        sql!("queue_add"),
        params![
            id,
            crate::model::TaskId::CLOSE.0,
            -1,
            1,
            op,
            state.code(),
            priority,
            0,
            age,
            None::<i64>,
            0,
            None::<&[u32]>,
            0,
            0,
            0,
            0,
            false
        ],
    )
    .await?;
    Ok(())
}
