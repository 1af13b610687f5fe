//! Ops and workers: what waits, who works on it, and what an operator sets.

use std::collections::HashMap;

use super::claim::job_key;
use super::db::{Db, Sql, all, change, one, params, sql, time, us};
use super::guard::op_id;
use crate::model::{Amount, BatchId, JobKey, OpEntry, OpId, Timestamp, WorkerEntry, WorkerNo};
use crate::store::{LiveOp, OpState, Recorded, StoreError};

/// Tells which workers live.
pub(in crate::store) trait Lives {
    /// Whether a worker that has not ended lives; `lock` is what its record names as its life.
    fn lives(&mut self, worker: WorkerNo, lock: &str) -> Result<bool, StoreError>;

    /// Whether it is known to be dead: one that is cut off for a moment neither lives nor is gone.
    fn is_gone(&mut self, worker: WorkerNo, lock: &str) -> Result<bool, StoreError>;
}

/// A worker of an op that has not ended.
struct Worker {
    no: WorkerNo,
    lock: String,
    only: Option<BatchId>,
    notify: bool,
}

async fn workers_of(c: &impl Db, op: i64) -> Result<Vec<Worker>, StoreError> {
    all(c, sql!("op_workers"), params![op], |r| {
        Ok(Worker {
            no: WorkerNo(r.get(0)?),
            lock: r.get(1)?,
            only: r.get(2)?,
            notify: r.get(3)?,
        })
    })
    .await
}

/// Live workers that work on whatever comes for an op, or on this batch of it.
async fn serving(
    c: &impl Db,
    lives: &mut impl Lives,
    op: i64,
    batch: Option<BatchId>,
) -> Result<u32, StoreError> {
    let mut serving = 0;
    for worker in workers_of(c, op).await? {
        let works = worker.only.is_none() || worker.only == batch;
        serving += u32::from(works && lives.lives(worker.no, &worker.lock)?);
    }
    Ok(serving)
}

/// Stores an op's ends no longer, unless a worker tells them that is not known to be dead: what is stored in vain
/// goes with its batch, and what is not stored is told to nobody.
async fn stop_notices(c: &impl Db, lives: &mut impl Lives, op: OpId) -> Result<(), StoreError> {
    for worker in workers_of(c, op.0).await? {
        if worker.notify && !lives.is_gone(worker.no, &worker.lock)? {
            return Ok(());
        }
    }
    change(c, sql!("op_notify"), params![op.0, false]).await?;
    Ok(())
}

pub(in crate::store) async fn ops(
    c: &impl Db,
    lives: &mut impl Lives,
) -> Result<Vec<OpEntry>, StoreError> {
    let running: HashMap<i64, Amount> = all(c, sql!("op_running"), params![], |r| {
        let running = Amount {
            tasks: r.get(1)?,
            rows: r.get(2)?,
            more: false,
        };
        Ok((r.get(0)?, running))
    })
    .await?
    .into_iter()
    .collect();
    let known = all(c, sql!("op_list"), params![], |r| {
        Ok((
            r.get::<i64>(0)?,
            (r.get::<String>(1)?, r.get::<String>(2)?, r.get(3)?),
            r.get::<bool>(4)?,
            r.get::<Option<String>>(5)?,
        ))
    })
    .await?;
    let mut ops = Vec::with_capacity(known.len());
    for (id, (app, op, kind), paused, settings) in known {
        let oldest = one(c, sql!("op_oldest"), params![id], |r| r.get(0)).await?;
        ops.push(OpEntry {
            id: Some(OpId(id)),
            key: job_key(&app, &op, kind)?,
            paused,
            settings,
            queued: bounded(c, sql!("op_queued"), id).await?,
            running: running.get(&id).copied().unwrap_or_default(),
            later: bounded(c, sql!("op_later"), id).await?,
            oldest_queued: oldest.map(time),
            workers: serving(c, lives, id, None).await?,
        });
    }
    Ok(ops)
}

/// The ops that are known, without their work.
pub(in crate::store) async fn names(c: &impl Db) -> Result<Vec<(OpId, JobKey)>, StoreError> {
    let known = all(c, sql!("op_list"), params![], |r| {
        Ok((
            OpId(r.get(0)?),
            (r.get::<String>(1)?, r.get::<String>(2)?, r.get(3)?),
        ))
    })
    .await?;
    let names =
        |(id, (app, op, kind)): (OpId, (String, String, i64))| Ok((id, job_key(&app, &op, kind)?));
    known.into_iter().map(names).collect()
}

async fn bounded(c: &impl Db, count: Sql, op: i64) -> Result<Amount, StoreError> {
    let (tasks, rows): (u64, u64) = one(c, count, params![op, Amount::MOST + 1], |r| {
        Ok((r.get(0)?, r.get(1)?))
    })
    .await?
    .unwrap_or_default();
    Ok(Amount {
        tasks: tasks.min(Amount::MOST),
        rows,
        more: tasks > Amount::MOST,
    })
}

pub(in crate::store) async fn op(
    c: &impl Db,
    lives: &mut impl Lives,
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
    })
    .await?;
    let Some(state) = found else { return Ok(None) };
    let workers = serving(c, lives, state.id.0, batch).await?;
    Ok(Some(OpState { workers, ..state }))
}

pub(in crate::store) async fn live_ops(c: &impl Db) -> Result<Vec<LiveOp>, StoreError> {
    all(c, sql!("live_ops"), params![], |r| {
        Ok(LiveOp {
            id: OpId(r.get(0)?),
            paused: r.get(1)?,
            settings: r.get(2)?,
        })
    })
    .await
}

/// Whether workers may claim its tasks.
#[derive(Clone, Copy)]
enum Turn {
    Off,
    On,
}

pub(in crate::store) async fn pause_op(
    c: &impl Db,
    op: &JobKey,
    by: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    turn(c, op, Turn::Off, by, now).await
}

pub(in crate::store) async fn resume_op(
    c: &impl Db,
    op: &JobKey,
    by: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    turn(c, op, Turn::On, by, now).await
}

async fn turn(
    c: &impl Db,
    op: &JobKey,
    to: Turn,
    by: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let id = op_id(c, op, now).await?;
    let (sql, action) = match to {
        Turn::Off => (sql!("pause_op"), "pause_op"),
        Turn::On => (sql!("resume_op"), "resume_op"),
    };
    let turned = change(c, sql, params![id]).await? == 1;
    if turned {
        audit(c, id, action, None, by, now).await?;
    }
    Ok(turned || c.is_again())
}

pub(in crate::store) async fn set_op(
    c: &impl Db,
    op: &JobKey,
    from: Option<&str>,
    to: Option<&str>,
    by: &str,
    now: Timestamp,
) -> Result<Recorded, StoreError> {
    let id = op_id(c, op, now).await?;
    if change(c, sql!("set_op"), params![id, from, to]).await? == 0 {
        // What is there may be what this same step has set.
        let set = c.is_again() && change(c, sql!("set_op"), params![id, to, to]).await? == 1;
        return Ok(if set {
            Recorded::Done
        } else {
            Recorded::Fenced
        });
    }
    if from != to {
        audit(c, id, "set_op", Some(to.unwrap_or("{}")), by, now).await?;
    }
    Ok(Recorded::Done)
}

async fn audit(
    c: &impl Db,
    op: i64,
    what: &str,
    detail: Option<&str>,
    by: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    change(c, sql!("audit_op"), params![us(now), by, what, op, detail]).await?;
    Ok(())
}

pub(in crate::store) async fn workers(
    c: &impl Db,
    lives: &mut impl Lives,
) -> Result<Vec<WorkerEntry>, StoreError> {
    let found = all(c, sql!("worker_list_all"), params![], |r| {
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
        Ok((worker, r.get::<String>(1)?))
    })
    .await?;
    let mut workers = Vec::with_capacity(found.len());
    for (mut worker, lock) in found {
        worker.alive = lives.lives(worker.no, &lock)?;
        let serves = all(c, sql!("worker_ops"), params![worker.no.0], |r| {
            let names: (String, String, i64) = (r.get(0)?, r.get(1)?, r.get(2)?);
            Ok((names, r.get::<Option<BatchId>>(3)?))
        })
        .await?;
        for ((app, op, kind), only) in serves {
            worker.ops.push(job_key(&app, &op, kind)?);
            worker.only = only;
        }
        workers.push(worker);
    }
    Ok(workers)
}

/// Notes what a worker that enters works on, and whose ends it tells.
pub(in crate::store) async fn serve(
    c: &impl Db,
    lives: &mut impl Lives,
    worker: WorkerNo,
    new: &crate::store::NewWorker,
) -> Result<(), StoreError> {
    // In one order everywhere: who enters waits for others, and nobody for each other.
    let mut ops: Vec<_> = new.ops.iter().collect();
    ops.sort_unstable_by_key(|serves| serves.op);
    for serves in ops {
        // Of two who enter at the same moment, the one that tells none would not see the other, and end what it tells.
        one(c, sql!("op_lock"), params![serves.op.0], |_| Ok(())).await?;
        let only = new.only;
        let params = params![worker.0, serves.op.0, only, serves.notify];
        change(c, sql!("worker_serves"), params).await?;
        if serves.notify {
            change(c, sql!("op_notify"), params![serves.op.0, true]).await?;
        } else {
            stop_notices(c, lives, serves.op).await?;
        }
    }
    Ok(())
}
