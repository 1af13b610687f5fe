//! Who lives, and what becomes of a dead worker's tasks.
//!
//! A worker's life is a lock on a file of its own, taken before its record is made: whoever gets
//! that lock knows that the worker is dead. It falls with the process, however that ends.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::Path;

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::damage::Damage;
use super::end;
use super::guard::guard;
use super::lost::{Lost, held_by};
use super::ops;
use super::record::{Task, requeue, stop_if_stopped};
use super::sql::{all, batch_id, change, key, list, one, sql, unlist, us};
use crate::model::{
    EndedAs, Message, OutcomeStatus, RowOutcome, TaskId, Timestamp, Token, WorkerNo, codes,
    encode_outcome,
};
use crate::store::{Again, ClaimRef, NewWorker, Running, StoreError, TakenOver};

/// A lock that lives as long as its worker.
pub(super) struct Life {
    pub(super) name: String,
    file: File,
}

impl Life {
    pub(super) fn begin(dir: &Path) -> Result<Self, StoreError> {
        let name = format!("{}.lock", Uuid::now_v7().simple());
        let path = dir.join(&name);
        let failed = |e| StoreError::unavailable(format!("locking {}", path.display()), e);
        let file = File::create(&path).map_err(failed)?;
        file.try_lock().map_err(|e| match e {
            TryLockError::Error(e) => failed(e),
            TryLockError::WouldBlock => failed(std::io::ErrorKind::WouldBlock.into()),
        })?;
        Ok(Self { name, file })
    }

    pub(super) fn end(self, dir: &Path) {
        // The record says that the worker has ended; the file is only litter now.
        drop(std::fs::remove_file(dir.join(&self.name)));
        drop(self.file);
    }
}

pub(super) fn enter(
    c: &Connection,
    dir: &Path,
    lock: &str,
    worker: &NewWorker,
    now: Timestamp,
) -> Result<WorkerNo, StoreError> {
    let no = one(
        c,
        sql!("worker_enter"),
        params![lock, worker.host, worker.pid, worker.version, us(now)],
        |r| Ok(WorkerNo(r.get(0)?)),
    )?
    .ok_or_else(|| super::errors::corrupt("a worker that entered has no number"))?;
    ops::serve(c, dir, no, worker)?;
    Ok(no)
}

/// Workers whose lock can be had; `lives` are those of this process.
pub(super) fn dead(c: &Connection, dir: &Path) -> Result<Vec<WorkerNo>, StoreError> {
    let workers = all(c, sql!("worker_list"), [], |r| {
        Ok((WorkerNo(r.get(0)?), r.get::<_, String>(1)?))
    })?;
    let mut dead = Vec::new();
    for (no, lock) in workers {
        if is_dead(&dir.join(lock))? {
            dead.push(no);
        }
    }
    Ok(dead)
}

/// Whether a worker's lock can be had: nobody holds its life.
pub(super) fn is_dead(path: &Path) -> Result<bool, StoreError> {
    let failed = |e| StoreError::unavailable(format!("looking at {}", path.display()), e);
    match File::open(path) {
        // The lock is taken before the record is made, and the file goes after the record has ended.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => {
            // Nothing is known of it, and nobody is declared dead for that.
            tracing::warn!(path = %path.display(), %error, "a worker's lock cannot be looked at");
            Ok(false)
        }
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(failed(e)),
        },
    }
}

/// The name of a worker's lock.
pub(super) fn lock_of(c: &Connection, worker: WorkerNo) -> Result<Option<String>, StoreError> {
    one(c, sql!("worker_lock"), [worker.0], |r| r.get(0))
}

/// Ends a worker that holds nothing; one that does is left to whoever takes it over.
pub(super) fn leave(c: &Connection, worker: WorkerNo, now: Timestamp) -> Result<bool, StoreError> {
    if change(c, sql!("worker_leave"), params![worker.0, us(now)])? == 0 {
        return Ok(false);
    }
    change(c, sql!("worker_serves_none"), [worker.0])?;
    Ok(true)
}

pub(super) fn beat(c: &Connection, worker: WorkerNo) -> Result<Vec<Running>, StoreError> {
    all(c, sql!("beat"), [worker.0], |r| {
        Ok(Running {
            claim: ClaimRef {
                batch: batch_id(r.get(0)?),
                task: TaskId(r.get(1)?),
                no: r.get(2)?,
                attempt: r.get(3)?,
                token: Token(r.get(4)?),
            },
            close: r.get::<_, i64>(5)? == 1,
            aborting: r.get::<_, Option<i64>>(6)?.is_some(),
        })
    })
}

/// Refuses a worker that was declared dead: what it claimed would belong to nobody.
pub(super) fn alive(c: &Connection, worker: WorkerNo) -> Result<(), StoreError> {
    match one(c, sql!("worker_alive"), [worker.0], |_| Ok(()))? {
        Some(()) => Ok(()),
        None => Err(StoreError::Fenced(worker)),
    }
}

/// Takes one task from a worker that lives and knows nothing of it any more, as if it had died with it.
pub(super) fn lose(
    c: &Connection,
    worker: WorkerNo,
    claim: &ClaimRef,
    now: Timestamp,
) -> Result<(), StoreError> {
    let held = held_by(c, worker)?;
    let mut held = held.into_iter().filter_map(|(_, lost)| lost.ok());
    if let Some(lost) = held.find(|lost| lost.claim == *claim && !lost.close) {
        take_back(c, worker, &lost, now)?;
    }
    Ok(())
}

/// Ends a dead worker and gives its tasks back under their tokens, one loss each. One of which
/// something is damaged stays what it is.
pub(super) fn take_over(
    c: &Connection,
    damage: &Damage,
    worker: WorkerNo,
    now: Timestamp,
) -> Result<TakenOver, StoreError> {
    let mut done = TakenOver::default();
    if change(c, sql!("worker_end"), params![worker.0, us(now)])? == 0 {
        return Ok(done);
    }
    change(c, sql!("worker_serves_none"), [worker.0])?;
    for (batch, lost) in held_by(c, worker)? {
        let taken = damage.apart(c, batch, || {
            let lost = lost?;
            if lost.close {
                let params = params![key(batch), worker.0];
                change(c, sql!("take_over_close"), params)?;
                return Ok(0);
            }
            take_back(c, worker, &lost, now)
        })?;
        if let Some(lost_rows) = taken {
            done.tasks += 1;
            done.lost_rows += lost_rows;
        }
    }
    change(c, sql!("take_over_notices"), [worker.0])?;
    Ok(done)
}

/// Gives one lost task back; returns how many of its rows failed for good.
fn take_back(
    c: &Connection,
    worker: WorkerNo,
    lost: &Lost,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (claim, task) = (&lost.claim, &lost.task);
    let mut left = open_rows(c, claim, task)?;
    let batch = guard(c, claim.batch)?.ok_or(StoreError::NotFound(claim.batch))?;
    if batch.abort_at.is_some() {
        let outcome = RowOutcome::of(
            OutcomeStatus::Aborted,
            Message::own(
                codes::INTERRUPTED,
                "was running when the batch was aborted; may still take effect",
            ),
        );
        end_part(
            c,
            worker,
            lost,
            &left,
            Some((&left, &outcome)),
            EndedAs::Aborted,
            now,
        )?;
        remove(c, worker, claim)?;
        end::settle(c, claim.batch, now)?;
        return Ok(0);
    }
    let max_lost: u32 = one(c, sql!("op_max_lost"), [task.op], |r| r.get(0))?.unwrap_or(3);
    // Only a row that is known to have been running is to blame; a block that was lost for the
    // first time only becomes suspect.
    let Some(culprit) = lost.row_now.filter(|row| left.contains(row)) else {
        end_part(c, worker, lost, &left, None, EndedAs::Lost, now)?;
        put_back(c, worker, lost, &left, task.losses, true)?;
        end::settle(c, claim.batch, now)?;
        stop_if_stopped(c, claim.batch, now)?;
        return Ok(0);
    };
    let alone = left.len() == 1;
    let losses = if alone { task.losses + 1 } else { 1 };
    let gives_up = task.suspect == 2 || (alone && losses >= max_lost);
    let outcome = gives_up.then(|| {
        RowOutcome::of(
            OutcomeStatus::Failed,
            Message::own(
                codes::WORKER_LOST,
                "its worker died while it was running; may have taken effect",
            ),
        )
    });
    let failed = [culprit];
    let failed: &[u32] = if gives_up { &failed } else { &[] };
    end_part(
        c,
        worker,
        lost,
        &left,
        outcome.as_ref().map(|outcome| (failed, outcome)),
        EndedAs::Lost,
        now,
    )?;
    if gives_up {
        change(c, sql!("record_progress"), params![key(claim.batch), 0, 1])?;
    } else if alone {
        put_back(c, worker, lost, &left, losses, true)?;
        stop_if_stopped(c, claim.batch, now)?;
        return Ok(0);
    } else {
        let group = Again {
            ordinals: vec![culprit],
            due_at: None,
            failures: lost.failures,
            laters: lost.laters,
            suspect: true,
        };
        let source = Task {
            pick: None,
            losses,
            suspect: 1,
            ..*task
        };
        requeue(c, claim, &source, &group, now)?;
    }
    left.retain(|o| *o != culprit);
    if left.is_empty() {
        remove(c, worker, claim)?;
    } else {
        // The others had no part in it.
        put_back(c, worker, lost, &left, 0, false)?;
    }
    end::settle(c, claim.batch, now)?;
    stop_if_stopped(c, claim.batch, now)?;
    Ok(u64::try_from(failed.len()).unwrap_or(1))
}

/// The rows of a task that have no outcome in its attempt.
fn open_rows(c: &Connection, claim: &ClaimRef, task: &Task) -> Result<Vec<u32>, StoreError> {
    let parts = all(
        c,
        sql!("take_over_done"),
        params![key(claim.batch), task.no, claim.task.0, task.attempt],
        |r| Ok((r.get::<_, Option<String>>(0)?, r.get::<_, String>(1)?)),
    )?;
    let mut done: BTreeSet<u32> = BTreeSet::new();
    for (ordinals, body) in parts {
        match unlist(ordinals)? {
            Some(ordinals) => done.extend(ordinals),
            None => {
                done.extend((0..).take(memchr::memchr_iter(b'\n', body.as_bytes()).count()));
            }
        }
    }
    let mut left = task.ordinals()?;
    left.retain(|o| !done.contains(o));
    Ok(left)
}

/// Writes the part that ends a lost attempt: rows with one outcome for each of them, and those of `left` that go back.
fn end_part(
    c: &Connection,
    worker: WorkerNo,
    lost: &Lost,
    left: &[u32],
    told: Option<(&[u32], &RowOutcome)>,
    how: EndedAs,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (claim, task) = (&lost.claim, &lost.task);
    let part: i64 = one(
        c,
        sql!("take_over_part"),
        params![key(claim.batch), task.no, claim.task.0, task.attempt],
        |r| r.get(0),
    )?
    .unwrap_or(0);
    let mut body = String::new();
    let mut rows: &[u32] = &[];
    if let Some((with, outcome)) = told {
        rows = with;
        for _ in rows {
            encode_outcome(&mut body, outcome);
        }
    }
    let rest = if how == EndedAs::Lost {
        // Rows that go back have no line: the attempt's history names them.
        let back = left.iter().filter(|row| !rows.contains(row));
        Some(list(&back.copied().collect::<Vec<u32>>()))
    } else {
        (!rows.is_empty()).then(|| list(&[]))
    };
    let failed = if how == EndedAs::Lost { rows.len() } else { 0 };
    let ended = if how == EndedAs::Aborted {
        rows.len()
    } else {
        0
    };
    change(
        c,
        sql!("record_part"),
        params![
            key(claim.batch),
            task.no,
            claim.task.0,
            task.attempt,
            part,
            worker.0,
            claim.token.0,
            task.started_at,
            us(now),
            how.code(),
            0,
            failed,
            ended,
            false,
            list(rows),
            rest,
            body
        ],
    )?;
    Ok(())
}

fn put_back(
    c: &Connection,
    worker: WorkerNo,
    lost: &Lost,
    rows: &[u32],
    losses: u32,
    suspect: bool,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return remove(c, worker, &lost.claim);
    }
    change(
        c,
        sql!("take_over_requeue"),
        params![
            key(lost.claim.batch),
            lost.claim.task.0,
            lost.claim.token.0,
            worker.0,
            rows.len(),
            list(rows),
            losses,
            suspect
        ],
    )?;
    Ok(())
}

fn remove(c: &Connection, worker: WorkerNo, claim: &ClaimRef) -> Result<(), StoreError> {
    change(
        c,
        sql!("record_end"),
        params![key(claim.batch), claim.task.0, claim.token.0, worker.0],
    )?;
    Ok(())
}
