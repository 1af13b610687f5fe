//! record: parts of attempts, each under its own token.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::end;
use super::errors::corrupt;
use super::guard::guard;
use super::liveness;
use super::single;
use super::sql::{change, key, list, list_opt, one, sql, unlist, us, us_opt};
use crate::model::{BatchId, EndedAs, TaskId, TaskState, Timestamp, WorkerNo};
use crate::store::{Again, ClaimRef, Part, Recorded, StoreError, Then};

/// The task that a claim holds.
pub(super) struct Task {
    pub(super) no: i64,
    pub(super) op: i64,
    pub(super) priority: i64,
    pub(super) turn: i64,
    pub(super) age: i64,
    pub(super) rows: u32,
    pub(super) pick: Option<String>,
    pub(super) attempt: u32,
    pub(super) losses: u32,
    pub(super) started_at: Option<i64>,
    pub(super) suspect: u32,
}

impl Task {
    /// Its rows' ordinals.
    pub(super) fn ordinals(&self) -> Result<Vec<u32>, StoreError> {
        Ok(unlist(self.pick.clone())?.unwrap_or_else(|| (0..self.rows).collect()))
    }
}

pub(super) fn held(
    c: &Connection,
    worker: WorkerNo,
    claim: &ClaimRef,
) -> Result<Option<Task>, StoreError> {
    one(
        c,
        sql!("record_task"),
        params![key(claim.batch), claim.task.0, claim.token.0, worker.0],
        |r| {
            Ok(Task {
                no: r.get(0)?,
                op: r.get(1)?,
                priority: r.get(2)?,
                turn: r.get(3)?,
                age: r.get(4)?,
                rows: r.get(5)?,
                pick: r.get(6)?,
                attempt: r.get(7)?,
                losses: r.get(8)?,
                started_at: r.get(9)?,
                suspect: r.get(10)?,
            })
        },
    )
}

pub(super) fn record(
    c: &Connection,
    worker: WorkerNo,
    parts: &[Part],
    now: Timestamp,
) -> Result<Vec<Recorded>, StoreError> {
    let mut answers = Vec::with_capacity(parts.len());
    // What each batch's progress grows by, and whether one of its tasks has ended.
    let mut touched: BTreeMap<BatchId, (u32, u32, bool)> = BTreeMap::new();
    for part in parts {
        let Some(task) = held(c, worker, &part.claim)? else {
            answers.push(Recorded::Fenced);
            continue;
        };
        write(c, worker, part, &task, now)?;
        answers.push(Recorded::Done);
        if is_all(part, &task) && single::end(c, part, task.op, task.started_at, now)? {
            continue;
        }
        let batch = touched.entry(part.claim.batch).or_default();
        batch.0 += part.success;
        batch.1 += part.failed;
        batch.2 |= matches!(part.then, Then::Ends { .. });
    }
    for (id, (success, failed, ended)) in touched {
        change(
            c,
            sql!("record_progress"),
            params![key(id), success, failed],
        )?;
        if ended {
            end::settle(c, id, now)?;
        }
    }
    Ok(answers)
}

/// Whether a part says all that was ever to be said about the rows of a block, and none writes to a file.
fn is_all(part: &Part, task: &Task) -> bool {
    let finished = matches!(
        &part.then,
        Then::Ends { ended_as: EndedAs::Finished, rest, interrupted: 0 } if rest.is_empty()
    );
    finished
        && (part.part, task.attempt) == (0, 1)
        && task.pick.is_none()
        && part.ordinals.is_none()
        && part.again.is_empty()
        && !part.files
}

fn write(
    c: &Connection,
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
        let batch = guard(c, claim.batch)?.ok_or(StoreError::NotFound(claim.batch))?;
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
            key(claim.batch),
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
            list_opt(part.ordinals.as_deref()),
            own_rest,
            part.body,
        ],
    )?;
    if let Some(how) = split_end {
        end_rows(c, claim, task, &rest, how, now)?;
    }
    for group in again {
        requeue(c, claim, task, group, now)?;
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
                (
                    u32::try_from(left.len()).unwrap_or(u32::MAX),
                    Some(list(&left)),
                )
            };
            guarded(change(
                c,
                sql!("record_goes_on"),
                params![
                    key(claim.batch),
                    claim.task.0,
                    claim.token.0,
                    worker.0,
                    row_now,
                    rows,
                    pick
                ],
            )?)
        }
        Then::Ends { .. } => guarded(change(
            c,
            sql!("record_end"),
            params![key(claim.batch), claim.task.0, claim.token.0, worker.0],
        )?),
    }
}

/// The rows that end by how their attempt ends, where there are any.
fn rest_of(rest: &[u32], ended: u32) -> Option<String> {
    (ended > 0).then(|| list(rest))
}

/// The rows of an attempt that was given back which it says nothing else about: its history names them.
fn went_back(part: &Part) -> String {
    let told = part.ordinals.as_deref().unwrap_or_default();
    let again = part.again.iter().flat_map(|a| &a.ordinals);
    let rows: Vec<u32> = again.filter(|row| !told.contains(row)).copied().collect();
    list(&rows)
}

/// The task was read under its guard in this same transaction; a miss is damage, not a race.
fn guarded(changed: usize) -> Result<(), StoreError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(corrupt(
            "a task changed within the transaction that held it",
        ))
    }
}

/// Ends rows that left a running task of a stopped batch, under a task id of their own.
fn end_rows(
    c: &Connection,
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
            key(claim.batch),
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
            None::<String>,
            list(rows),
            ""
        ],
    )?;
    Ok(())
}

fn split_id() -> Result<TaskId, StoreError> {
    TaskId::split().map_err(|e| StoreError::unavailable("making a task's id", e))
}

/// Makes a task of rows that go again; its attempts go on from its source's.
pub(super) fn requeue(
    c: &Connection,
    claim: &ClaimRef,
    task: &Task,
    group: &Again,
    now: Timestamp,
) -> Result<(), StoreError> {
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
            key(claim.batch),
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
            list(&group.ordinals),
            task.attempt,
            group.failures,
            losses,
            group.laters,
            suspect
        ],
    )?;
    Ok(())
}

/// `running → queued` for tasks that were not begun. One that was is lost: its rows that have an
/// outcome do not go again, nor does one that may start only once.
pub(super) fn give_back(
    c: &Connection,
    worker: WorkerNo,
    tasks: &[ClaimRef],
    now: Timestamp,
) -> Result<(), StoreError> {
    for claim in tasks {
        let params = params![key(claim.batch), claim.task.0, claim.token.0, worker.0];
        if one(c, sql!("give_back_begun"), params, |_| Ok(()))?.is_some() {
            liveness::lose(c, worker, claim, now)?;
            continue;
        }
        let changed = change(c, sql!("give_back"), params)?;
        if changed == 1 {
            stop_if_stopped(c, claim.batch, now)?;
        }
    }
    Ok(())
}

/// Ends tasks that came back to a batch that was aborted or has expired meanwhile.
pub(super) fn stop_if_stopped(
    c: &Connection,
    id: BatchId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(batch) = guard(c, id)? else {
        return Ok(());
    };
    if batch.abort_at.is_some() {
        end::stop(c, id, EndedAs::Aborted, now)
    } else if batch.expires_at.is_some_and(|at| at <= us(now)) {
        end::expire(c, id, now)
    } else {
        Ok(())
    }
}
