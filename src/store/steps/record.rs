//! record: parts of attempts, each under its own token.

mod part;

use std::collections::{BTreeMap, HashMap};

use super::db::{Db, Us, change, locked, one, params, sql, us};
use super::end;
use super::guard::guard;
use super::single;
use super::take_over;
use super::together::together;
use crate::model::{BatchId, EndedAs, TaskId, Timestamp, Token, WorkerNo};
use crate::store::{ClaimRef, Part, Recorded, StoreError, Then};

pub(in crate::store) use part::requeue;
use part::write;

/// Tasks of which parts are recorded at once.
const AT_ONCE: usize = 64;

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
///
/// What is asked for different tasks is sent together; parts of one follow each other.
pub(in crate::store) async fn record_these(
    c: &impl Db,
    worker: WorkerNo,
    parts: &[&Part],
    now: Timestamp,
) -> Result<Vec<Recorded>, StoreError> {
    let mut written: Vec<Written> = parts.iter().map(|_| Written::Fenced).collect();
    for some in by_task(parts).chunks(AT_ONCE) {
        let claims = some
            .iter()
            .filter_map(|of| Some(parts.get(*of.first()?)?.claim));
        let claims: Vec<ClaimRef> = claims.collect();
        let mut held = together(claims.iter().map(|claim| task(c, worker, claim))).await?;
        // What stands with others is made to stand alone. Whoever else does so meanwhile is waited for.
        let missing = claims.iter().zip(&held).filter(|(_, held)| held.is_none());
        let missing: Vec<BatchId> = missing.map(|(claim, _)| claim.batch).collect();
        if !missing.is_empty() && c.bundles().is_some() {
            c.loosen(&missing).await?;
            let again = claims.iter().zip(held).map(|(claim, held)| async move {
                match held {
                    Some(held) => Ok(Some(held)),
                    None => task(c, worker, claim).await,
                }
            });
            held = together(again).await?;
        }
        let told = some
            .iter()
            .zip(held)
            .map(|(of, held)| write_task(c, worker, parts, of, held, now));
        for (at, done) in together(told).await?.into_iter().flatten() {
            if let Some(place) = written.get_mut(at) {
                *place = done;
            }
        }
    }
    let mut answers = Vec::with_capacity(parts.len());
    // What each batch's progress grows by, and whether one of its tasks has ended.
    let mut touched: BTreeMap<BatchId, (u32, u32, bool)> = BTreeMap::new();
    for (&part, written) in parts.iter().zip(written) {
        let all = match written {
            Written::Fenced => {
                answers.push(Recorded::Fenced);
                continue;
            }
            Written::Before => {
                c.settle_later(part.claim.batch);
                answers.push(Recorded::Done);
                continue;
            }
            Written::Part => None,
            Written::All { op, started_at } => Some((op, started_at)),
        };
        answers.push(Recorded::Done);
        if let Some((op, started_at)) = all
            && single::end(c, part, op, started_at, now).await?
        {
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

/// What became of a part.
enum Written {
    Fenced,
    /// It was recorded before.
    Before,
    Part,
    /// It said all of its task.
    All {
        op: i64,
        started_at: Option<Us>,
    },
}

/// The places of the parts of each task, in the order of the first of them.
fn by_task(parts: &[&Part]) -> Vec<Vec<usize>> {
    let mut tasks: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<(BatchId, TaskId, Token), usize> = HashMap::new();
    for (at, part) in parts.iter().enumerate() {
        let ClaimRef {
            batch, task, token, ..
        } = part.claim;
        let task = *known.entry((batch, task, token)).or_insert(tasks.len());
        match tasks.get_mut(task) {
            Some(task) => task.push(at),
            None => tasks.push(vec![at]),
        }
    }
    tasks
}

/// Writes the parts of one task, which the first one's claim holds, or nobody here.
async fn write_task(
    c: &impl Db,
    worker: WorkerNo,
    parts: &[&Part],
    of: &[usize],
    first: Option<Task>,
    now: Timestamp,
) -> Result<Vec<(usize, Written)>, StoreError> {
    let mut told = Vec::with_capacity(of.len());
    let mut first = Some(first);
    for at in of {
        let Some(part) = parts.get(*at) else { continue };
        let task = match first.take() {
            Some(task) => task,
            None => held(c, worker, &part.claim).await?,
        };
        // Asked under the task's lock, or when it is gone: what was committed before is there by now.
        let written = if c.is_again() && is_there(c, &part.claim, part.part).await? {
            Written::Before
        } else if let Some(task) = task {
            write(c, worker, part, &task, now).await?;
            match is_all(part, &task) {
                true => Written::All {
                    op: task.op,
                    started_at: task.started_at,
                },
                false => Written::Part,
            }
        } else {
            Written::Fenced
        };
        told.push((*at, written));
    }
    Ok(told)
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
