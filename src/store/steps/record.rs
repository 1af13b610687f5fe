//! record: parts of attempts, each under its own token.

use std::collections::BTreeMap;

use super::db::{Db, Us, change, corrupt, locked, one, params, sql, us, us_opt};
use super::end;
use super::guard::{guard, share};
use super::single;
use super::take_over;
use crate::model::{BatchId, EndedAs, TaskId, TaskState, Timestamp, WorkerNo};
use crate::store::{Again, ClaimRef, Part, Recorded, StoreError, Then};

/// The task that a claim holds.
pub(in crate::store) struct Task {
    pub(in crate::store) no: i64,
    pub(in crate::store) op: i64,
    pub(in crate::store) priority: i64,
    pub(in crate::store) turn: i64,
    pub(in crate::store) age: Us,
    pub(in crate::store) rows: u32,
    pub(in crate::store) pick: Option<Vec<u32>>,
    pub(in crate::store) attempt: u32,
    pub(in crate::store) losses: u32,
    pub(in crate::store) started_at: Option<Us>,
    pub(in crate::store) suspect: u32,
}

impl Task {
    /// Its rows' ordinals.
    pub(in crate::store) fn ordinals(&self) -> Result<Vec<u32>, StoreError> {
        Ok(self
            .pick
            .clone()
            .unwrap_or_else(|| (0..self.rows).collect()))
    }
}

/// The task that a claim holds under its token and worker, whether it stands alone or with others; from here on it stands alone.
pub(in crate::store) async fn held(
    c: &impl Db,
    worker: WorkerNo,
    claim: &ClaimRef,
) -> Result<Option<Task>, StoreError> {
    let mut found = task(c, worker, claim).await?;
    if found.is_none() && c.bundles().is_some() {
        // Whoever else makes it stand alone meanwhile is waited for.
        c.loosen(&[claim.batch]).await?;
        found = task(c, worker, claim).await?;
    }
    Ok(found)
}

/// As [`held`], where it stands alone.
pub(in crate::store) async fn task(
    c: &impl Db,
    worker: WorkerNo,
    claim: &ClaimRef,
) -> Result<Option<Task>, StoreError> {
    one(
        c,
        sql!("record_task"),
        params![claim.batch, claim.task.0, claim.token.0, worker.0],
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
    .await
}

/// Whether a part of an attempt is recorded.
pub(in crate::store) async fn is_there(
    c: &impl Db,
    claim: &ClaimRef,
    part: u32,
) -> Result<bool, StoreError> {
    let named = params![
        claim.batch,
        claim.no,
        claim.task.0,
        claim.attempt,
        part,
        claim.token.0
    ];
    let found = one(c, sql!("record_known"), named, |_| Ok(())).await?;
    Ok(found.is_some())
}

pub(in crate::store) async fn record(
    c: &impl Db,
    worker: WorkerNo,
    parts: &[Part],
    now: Timestamp,
) -> Result<Vec<Recorded>, StoreError> {
    let parts: Vec<&Part> = parts.iter().collect();
    record_these(c, worker, &parts, now).await
}

/// As [`record`], for some of several parts.
pub(in crate::store) async fn record_these(
    c: &impl Db,
    worker: WorkerNo,
    parts: &[&Part],
    now: Timestamp,
) -> Result<Vec<Recorded>, StoreError> {
    let mut answers = Vec::with_capacity(parts.len());
    // What each batch's progress grows by, and whether one of its tasks has ended.
    let mut touched: BTreeMap<BatchId, (u32, u32, bool)> = BTreeMap::new();
    for &part in parts {
        let task = held(c, worker, &part.claim).await?;
        // Asked under the task's lock, or when it is gone: what was committed before is there by now.
        if c.is_again() && is_there(c, &part.claim, part.part).await? {
            c.settle_later(part.claim.batch);
            answers.push(Recorded::Done);
            continue;
        }
        let Some(task) = task else {
            answers.push(Recorded::Fenced);
            continue;
        };
        write(c, worker, part, &task, now).await?;
        answers.push(Recorded::Done);
        if is_all(part, &task) && single::end(c, part, task.op, task.started_at, now).await? {
            continue;
        }
        let batch = touched.entry(part.claim.batch).or_default();
        batch.0 += part.success;
        batch.1 += part.failed;
        batch.2 |= matches!(part.then, Then::Ends { .. });
    }
    for (id, (success, failed, ended)) in touched {
        end::progress(c, id, success.into(), failed.into()).await?;
        if ended {
            end::settle(c, id, now).await?;
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

async fn write(
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

/// `running → queued` for tasks that were not begun. One that was is lost: its rows that have an
/// outcome do not go again, nor does one that may start only once.
pub(in crate::store) async fn give_back(
    c: &impl Db,
    worker: WorkerNo,
    tasks: &[ClaimRef],
    now: Timestamp,
) -> Result<(), StoreError> {
    let batches: Vec<BatchId> = tasks.iter().map(|claim| claim.batch).collect();
    c.loosen(&batches).await?;
    for claim in tasks {
        let params = params![claim.batch, claim.task.0, claim.token.0, worker.0];
        // Asked under the task's lock: a part of it may be on its way to its commit, by a connection that was taken for lost.
        let (lock, begun) = (sql!("record_task"), sql!("give_back_begun"));
        if locked(c, lock, begun, params, |_| Ok(())).await?.is_some() {
            take_over::lose(c, worker, claim, now).await?;
            continue;
        }
        let changed = change(c, sql!("give_back"), params).await?;
        if changed == 1 {
            stop_if_stopped(c, claim.batch, now).await?;
        }
    }
    Ok(())
}

/// Ends tasks that came back to a batch that was aborted or has expired meanwhile.
pub(in crate::store) async fn stop_if_stopped(
    c: &impl Db,
    id: BatchId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(batch) = guard(c, id).await? else {
        return Ok(());
    };
    if batch.abort_at.is_some() {
        end::stop(c, id, EndedAs::Aborted, now).await
    } else if batch.expires_at.is_some_and(|at| at <= us(now)) {
        end::expire(c, id, now).await.map(drop)
    } else {
        Ok(())
    }
}
