//! What one part of an attempt changes: what it says of its rows, those that go again, and its task.

use super::super::db::{Db, change, corrupt, params, sql, us, us_opt};
use super::super::end;
use super::super::guard::share;
use super::Task;
use crate::model::{EndedAs, TaskId, TaskState, Timestamp, WorkerNo};
use crate::store::{Again, ClaimRef, Part, StoreError, Then};

/// Writes a part of a task that is held.
pub(super) async fn write(
    c: &impl Db,
    worker: WorkerNo,
    part: &Part,
    task: &Task,
    now: Timestamp,
) -> Result<(), StoreError> {
    let claim = &part.claim;
    let mut again: &[Again] = &part.again;
    let (mut ended_as, mut rest, mut ended) = match &part.then {
        Then::GoesOn { .. } => (None, Vec::new(), 0),
        Then::Ends {
            ended_as,
            rest,
            interrupted,
        } => (Some(*ended_as), rest.clone(), *interrupted),
    };
    // Rows that would go again end with their batch instead.
    let mut stopped = None;
    if !again.is_empty() {
        let batch = share(c, claim.batch)
            .await?
            .ok_or(StoreError::NotFound(claim.batch))?;
        if batch.abort_at.is_some() {
            stopped = Some(EndedAs::Aborted);
        } else if batch.expires_at.is_some_and(|at| at <= us(now)) {
            stopped = Some(EndedAs::Expired);
        }
    }
    if let Some(how) = stopped {
        rest.extend(again.iter().flat_map(|a| a.ordinals.iter().copied()));
        again = &[];
        ended_as = ended_as.map(|_| how);
    }
    // A part that goes on cannot end rows: those wait for the attempt's end in a part of their own.
    let split_end = stopped.filter(|_| ended_as.is_none());
    ended += u32::try_from(rest.len()).unwrap_or(u32::MAX);
    let (mut own_rest, mut own_ended) = (rest_of(&rest, ended), ended);
    if split_end.is_some() {
        (own_rest, own_ended) = (None, 0);
    }
    if ended_as == Some(EndedAs::Released) {
        own_rest = Some(went_back(part));
    }
    change(
        c,
        sql!("record_part"),
        params![
            claim.batch,
            task.no,
            claim.task.0,
            task.attempt,
            part.part,
            worker.0,
            claim.token.0,
            task.started_at,
            us(now),
            ended_as.map(EndedAs::code),
            part.success,
            part.failed,
            own_ended,
            part.files,
            part.ordinals.as_deref(),
            own_rest.as_deref(),
            part.body.as_str(),
        ],
    )
    .await?;
    if let Some(how) = split_end {
        end_rows(c, claim, task, &rest, how, now).await?;
    }
    for group in again {
        requeue(c, claim, task, group, now).await?;
    }
    match &part.then {
        Then::GoesOn { row_now, .. } => {
            let leaving: Vec<u32> = part
                .again
                .iter()
                .flat_map(|a| a.ordinals.iter().copied())
                .collect();
            if row_now.is_none() && leaving.is_empty() {
                return Ok(());
            }
            let (rows, pick) = if leaving.is_empty() {
                (task.rows, task.pick.clone())
            } else {
                let mut left = task.ordinals()?;
                left.retain(|o| !leaving.contains(o));
                (u32::try_from(left.len()).unwrap_or(u32::MAX), Some(left))
            };
            guarded(
                change(
                    c,
                    sql!("record_goes_on"),
                    params![
                        claim.batch,
                        claim.task.0,
                        claim.token.0,
                        worker.0,
                        *row_now,
                        rows,
                        pick.as_deref()
                    ],
                )
                .await?,
            )
        }
        Then::Ends { .. } => guarded(
            change(
                c,
                sql!("record_end"),
                params![claim.batch, claim.task.0, claim.token.0, worker.0],
            )
            .await?,
        ),
    }
}

/// The rows that end by how their attempt ends, where there are any.
fn rest_of(rest: &[u32], ended: u32) -> Option<Vec<u32>> {
    (ended > 0).then(|| rest.to_vec())
}

/// The rows of an attempt that was given back which it says nothing else about: its history names them.
fn went_back(part: &Part) -> Vec<u32> {
    let told = part.ordinals.as_deref().unwrap_or_default();
    let again = part.again.iter().flat_map(|a| &a.ordinals);
    again.filter(|row| !told.contains(row)).copied().collect()
}

/// The task was read under its guard in this same transaction; a miss is damage, not a race.
fn guarded(changed: u64) -> Result<(), StoreError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(corrupt(
            "a task changed within the transaction that held it",
        ))
    }
}

/// Ends rows that left a running task of a stopped batch, under a task id of their own.
async fn end_rows(
    c: &impl Db,
    claim: &ClaimRef,
    task: &Task,
    rows: &[u32],
    how: EndedAs,
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = split_id()?;
    change(
        c,
        sql!("record_part"),
        params![
            claim.batch,
            task.no,
            id.0,
            task.attempt,
            0,
            None::<i64>,
            None::<i64>,
            None::<i64>,
            us(now),
            how.code(),
            0,
            0,
            rows.len(),
            false,
            None::<&[u32]>,
            rows,
            ""
        ],
    )
    .await?;
    Ok(())
}

fn split_id() -> Result<TaskId, StoreError> {
    TaskId::split().map_err(|e| StoreError::unavailable("making a task's id", e))
}

/// Makes a task of rows that go again; its attempts go on from its source's.
pub(in crate::store) async fn requeue(
    c: &impl Db,
    claim: &ClaimRef,
    task: &Task,
    group: &Again,
    now: Timestamp,
) -> Result<(), StoreError> {
    end::ensure_close(c, claim.batch, task.op, task.priority, task.age).await?;
    let due = group.due_at.filter(|at| *at > now);
    let state = if due.is_some() {
        TaskState::Later
    } else {
        TaskState::Queued
    };
    let (losses, suspect) = if group.suspect {
        (task.losses, task.suspect.clamp(1, 1))
    } else {
        (0, 0)
    };
    change(
        c,
        sql!("queue_add"),
        params![
            claim.batch,
            split_id()?.0,
            task.no,
            0,
            task.op,
            state.code(),
            task.priority,
            task.turn,
            task.age,
            us_opt(due),
            group.ordinals.len(),
            &group.ordinals,
            task.attempt,
            group.failures,
            losses,
            group.laters,
            suspect
        ],
    )
    .await?;
    Ok(())
}
