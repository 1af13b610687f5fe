//! Ops and workers: what waits, who works on it, and what an operator sets.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, params};

use super::claim::job_key;
use super::guard::op_id;
use super::liveness::is_dead;
use super::sql::{all, batch_id, change, key, one, sql, time, us};
use crate::model::{Amount, BatchId, JobKey, OpEntry, OpId, Timestamp, WorkerEntry, WorkerNo};
use crate::store::{LiveOp, OpState, Recorded, StoreError};

/// Whether locks are held, each looked at once.
struct Locks<'a> {
    dir: &'a Path,
    dead: HashMap<String, bool>,
}

impl<'a> Locks<'a> {
    fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            dead: HashMap::new(),
        }
    }

    fn is_held(&mut self, lock: &str) -> Result<bool, StoreError> {
        if let Some(dead) = self.dead.get(lock) {
            return Ok(!dead);
        }
        let dead = is_dead(&self.dir.join(lock))?;
        self.dead.insert(lock.to_owned(), dead);
        Ok(!dead)
    }
}

/// A worker of an op that has not ended.
struct Worker {
    lock: String,
    only: Option<BatchId>,
    notify: bool,
}

fn workers_of(c: &Connection, op: i64) -> Result<Vec<Worker>, StoreError> {
    all(c, sql!("op_workers"), [op], |r| {
        Ok(Worker {
            lock: r.get(0)?,
            only: r.get::<_, Option<[u8; 16]>>(1)?.map(batch_id),
            notify: r.get(2)?,
        })
    })
}

/// Live workers that work on whatever comes for an op, or on this batch of it.
fn serving(
    c: &Connection,
    locks: &mut Locks<'_>,
    op: i64,
    batch: Option<BatchId>,
) -> Result<u32, StoreError> {
    let mut serving = 0;
    for worker in workers_of(c, op)? {
        let works = worker.only.is_none() || worker.only == batch;
        serving += u32::from(works && locks.is_held(&worker.lock)?);
    }
    Ok(serving)
}

/// Stores an op's ends no longer, unless a live worker tells them.
fn stop_notices(c: &Connection, dir: &Path, op: OpId) -> Result<(), StoreError> {
    let mut locks = Locks::new(dir);
    for worker in workers_of(c, op.0)? {
        if worker.notify && locks.is_held(&worker.lock)? {
            return Ok(());
        }
    }
    change(c, sql!("op_notify"), params![op.0, false])?;
    Ok(())
}

pub(super) fn ops(c: &Connection, dir: &Path) -> Result<Vec<OpEntry>, StoreError> {
    let mut locks = Locks::new(dir);
    let running: HashMap<i64, Amount> = all(c, sql!("op_running"), [], |r| {
        let running = Amount {
            tasks: r.get(1)?,
            rows: r.get(2)?,
            more: false,
        };
        Ok((r.get(0)?, running))
    })?
    .into_iter()
    .collect();
    let known = all(c, sql!("op_list"), [], |r| {
        Ok((
            r.get::<_, i64>(0)?,
            (r.get::<_, String>(1)?, r.get::<_, String>(2)?, r.get(3)?),
            r.get::<_, bool>(4)?,
            r.get::<_, Option<String>>(5)?,
        ))
    })?;
    let entry = |(id, (app, op, kind), paused, settings): (i64, (String, String, i64), _, _)| {
        Ok(OpEntry {
            id: Some(OpId(id)),
            key: job_key(&app, &op, kind)?,
            paused,
            settings,
            queued: bounded(c, sql!("op_queued"), id)?,
            running: running.get(&id).copied().unwrap_or_default(),
            later: bounded(c, sql!("op_later"), id)?,
            oldest_queued: one(c, sql!("op_oldest"), [id], |r| r.get(0))?.map(time),
            workers: serving(c, &mut locks, id, None)?,
        })
    };
    known.into_iter().map(entry).collect()
}

/// The ops that are known, without their work.
pub(super) fn names(c: &Connection) -> Result<Vec<(OpId, JobKey)>, StoreError> {
    let known = all(c, sql!("op_list"), [], |r| {
        Ok((
            OpId(r.get(0)?),
            (r.get::<_, String>(1)?, r.get::<_, String>(2)?, r.get(3)?),
        ))
    })?;
    let names =
        |(id, (app, op, kind)): (OpId, (String, String, i64))| Ok((id, job_key(&app, &op, kind)?));
    known.into_iter().map(names).collect()
}

fn bounded(c: &Connection, count: &str, op: i64) -> Result<Amount, StoreError> {
    let (tasks, rows): (u64, u64) = one(c, count, params![op, Amount::MOST + 1], |r| {
        Ok((r.get(0)?, r.get(1)?))
    })?
    .unwrap_or_default();
    Ok(Amount {
        tasks: tasks.min(Amount::MOST),
        rows,
        more: tasks > Amount::MOST,
    })
}

pub(super) fn op(
    c: &Connection,
    dir: &Path,
    op: &JobKey,
    batch: Option<BatchId>,
) -> Result<Option<OpState>, StoreError> {
    let (app, name, kind) = (op.app.as_str(), op.op.as_str(), op.kind.code());
    let found = one(c, sql!("op_state"), params![app, name, kind], |r| {
        Ok(OpState {
            id: OpId(r.get(0)?),
            paused: r.get(1)?,
            settings: r.get(2)?,
            workers: 0,
        })
    })?;
    let Some(state) = found else { return Ok(None) };
    let workers = serving(c, &mut Locks::new(dir), state.id.0, batch)?;
    Ok(Some(OpState { workers, ..state }))
}

pub(super) fn live_ops(c: &Connection) -> Result<Vec<LiveOp>, StoreError> {
    all(c, sql!("live_ops"), [], |r| {
        Ok(LiveOp {
            id: OpId(r.get(0)?),
            paused: r.get(1)?,
            settings: r.get(2)?,
        })
    })
}

pub(super) fn pause_op(
    c: &Connection,
    op: &JobKey,
    by: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let id = op_id(c, op, now)?;
    let paused = change(c, sql!("pause_op"), [id])? == 1;
    if paused {
        audit(c, id, "pause_op", None, by, now)?;
    }
    Ok(paused)
}

pub(super) fn resume_op(
    c: &Connection,
    op: &JobKey,
    by: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let id = op_id(c, op, now)?;
    let resumed = change(c, sql!("resume_op"), [id])? == 1;
    if resumed {
        audit(c, id, "resume_op", None, by, now)?;
    }
    Ok(resumed)
}

pub(super) fn set_op(
    c: &Connection,
    op: &JobKey,
    from: Option<&str>,
    to: Option<&str>,
    by: &str,
    now: Timestamp,
) -> Result<Recorded, StoreError> {
    let id = op_id(c, op, now)?;
    if change(c, sql!("set_op"), params![id, from, to])? == 0 {
        return Ok(Recorded::Fenced);
    }
    if from != to {
        audit(c, id, "set_op", Some(to.unwrap_or("{}")), by, now)?;
    }
    Ok(Recorded::Done)
}

fn audit(
    c: &Connection,
    op: i64,
    what: &str,
    detail: Option<&str>,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    change(c, sql!("audit_op"), params![us(now), by, what, op, detail])?;
    Ok(())
}

pub(super) fn workers(c: &Connection, dir: &Path) -> Result<Vec<WorkerEntry>, StoreError> {
    let mut locks = Locks::new(dir);
    let found = all(c, sql!("worker_list_all"), [], |r| {
        let worker = WorkerEntry {
            no: WorkerNo(r.get(0)?),
            host: r.get(2)?,
            pid: r.get(3)?,
            version: r.get(4)?,
            started_at: time(r.get(5)?),
            ops: Vec::new(),
            only: None,
            running: r.get(6)?,
            alive: false,
        };
        Ok((worker, r.get::<_, String>(1)?))
    })?;
    let mut workers = Vec::with_capacity(found.len());
    for (mut worker, lock) in found {
        worker.alive = locks.is_held(&lock)?;
        let serves = all(c, sql!("worker_ops"), [worker.no.0], |r| {
            let names: (String, String, i64) = (r.get(0)?, r.get(1)?, r.get(2)?);
            Ok((names, r.get::<_, Option<[u8; 16]>>(3)?))
        })?;
        for ((app, op, kind), only) in serves {
            worker.ops.push(job_key(&app, &op, kind)?);
            worker.only = only.map(batch_id);
        }
        workers.push(worker);
    }
    Ok(workers)
}

/// Notes what a worker that enters works on, and whose ends it tells.
pub(super) fn serve(
    c: &Connection,
    dir: &Path,
    worker: WorkerNo,
    new: &crate::store::NewWorker,
) -> Result<(), StoreError> {
    for serves in &new.ops {
        let only = new.only.map(key);
        let params = params![worker.0, serves.op.0, only, serves.notify];
        change(c, sql!("worker_serves"), params)?;
        if serves.notify {
            change(c, sql!("op_notify"), params![serves.op.0, true])?;
        } else {
            stop_notices(c, dir, serves.op)?;
        }
    }
    Ok(())
}
