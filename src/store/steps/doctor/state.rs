//! What goes on: workers, ops, tasks, ends to be told, what stands still.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::db::{Db, Record, Us, Value, all, one, params, sql, time, us};
use super::Words;
use super::behind;
use crate::model::{BatchId, Timestamp, WorkerNo, counted};
use crate::store::health::Wrong;
use crate::store::{Check, StoreError};

/// Tasks that are read at once.
const TASKS: i64 = 10_000;
/// A clock that is so far behind what was recorded is wrong.
const AHEAD: Duration = Duration::from_secs(300);
/// What a worker should have taken up long ago.
const STANDS: Duration = Duration::from_secs(600);
/// An end that should have been told long ago.
const TELL: Duration = Duration::from_secs(3600);
/// Attempts after which a close that fails is no bad moment any more.
const CLOSES: u32 = 3;
const WORK: &str = "start a worker: `rowmill work`";

/// What several looks have in common.
struct Scene<'c, D> {
    c: &'c D,
    now: Timestamp,
    dead: BTreeSet<WorkerNo>,
    ops: Vec<Op>,
    words: &'c Words,
}

struct Op {
    id: i64,
    name: String,
    paused: bool,
    ready: i64,
}

impl<D> Scene<'_, D> {
    fn before(&self, ago: Duration) -> Us {
        let ago = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
        Us(us(self.now).0.saturating_sub(ago))
    }
}

/// Looks at what goes on.
pub(super) async fn looks<D: Db>(
    c: &D,
    dead: Vec<WorkerNo>,
    now: Timestamp,
    words: &Words,
    checks: &mut Vec<Check>,
) {
    let ops = all(c, sql!("doctor_ops"), params![], |r| {
        let (app, op): (String, String) = (r.get(1)?, r.get(2)?);
        Ok(Op {
            id: r.get(0)?,
            name: format!("{app}/{op}"),
            paused: r.get(4)?,
            ready: r.get(5)?,
        })
    });
    let ops = match ops.await {
        Ok(ops) => ops,
        Err(error) => return checks.push(words.unread("workers", &error)),
    };
    let scene = Scene {
        c,
        now,
        dead: dead.into_iter().collect(),
        ops,
        words,
    };
    let mut add = |name, looked: Result<Check, StoreError>| {
        checks.push(looked.unwrap_or_else(|e| words.unread(name, &e)));
    };
    add("queue", queue(&scene).await);
    add("clock", clock(&scene).await);
    add("workers", Ok(workers(&scene)));
    add("served_ops", served_ops(&scene).await);
    add("paused_ops", Ok(paused_ops(&scene)));
    add("closes", closes(&scene).await);
    add("notices", notices(&scene).await);
    add("purges", purges(&scene).await);
    add("loads", loads(&scene).await);
    add("appends", appends(&scene).await);
}

/// A task as it is walked over.
struct Task {
    batch: BatchId,
    id: i64,
    no_batch: bool,
    not_open: bool,
    not_given: bool,
    stranded: bool,
    attempts: u32,
    error: Option<String>,
    no_rows: bool,
}

async fn each_task(c: &impl Db, mut look: impl FnMut(&Task)) -> Result<u64, StoreError> {
    let (mut batch, mut id, mut count) = (None, i64::MIN, 0);
    loop {
        let params = [behind(c, batch), Value::from(id), Value::from(TASKS)];
        let page = all(c, sql!("doctor_queue"), params, |r| {
            Ok(Task {
                batch: r.get(0)?,
                id: r.get(1)?,
                no_batch: r.get(2)?,
                not_open: r.get(3)?,
                not_given: r.get(4)?,
                stranded: r.get(5)?,
                attempts: r.get(6)?,
                error: r.get(7)?,
                no_rows: r.get(8)?,
            })
        })
        .await?;
        let Some(last) = page.last() else {
            return Ok(count);
        };
        (batch, id) = (Some(last.batch), last.id);
        count += u64::try_from(page.len()).unwrap_or(0);
        page.iter().for_each(&mut look);
    }
}

/// Every task belongs to an open batch, to a block that was given, and to a worker that has not ended.
async fn queue(scene: &Scene<'_, impl Db>) -> Result<Check, StoreError> {
    let mut wrong = Wrong::default();
    let count = each_task(scene.c, |task| {
        let what = if task.no_batch {
            "of a batch that is not there"
        } else if task.not_open {
            "of a batch that is not open"
        } else if task.not_given {
            "of a block that was not given"
        } else if task.stranded {
            "of a worker that has ended"
        } else if task.no_rows {
            "its list of rows cannot be read"
        } else {
            return;
        };
        wrong.add(|| format!("task {} of batch {}: {what}", task.id, task.batch));
    });
    let count = count.await?;
    Ok(wrong.check(
        "queue",
        counted(count, "task is as it must be", "tasks are as they must be"),
        scene.words.report,
    ))
}

/// Batches whose output files could not be assembled again and again.
async fn closes(scene: &Scene<'_, impl Db>) -> Result<Check, StoreError> {
    let mut wrong = Wrong::default();
    each_task(scene.c, |task| {
        if let Some(error) = task.error.as_ref().filter(|_| task.attempts >= CLOSES) {
            let error = error.lines().next().unwrap_or_default();
            wrong.add(|| format!("batch {}: {error}", task.batch));
        }
    })
    .await?;
    let repair = "make the object store writable; the batches then end by themselves";
    Ok(wrong.check("closes", "no batch fails to end", repair))
}

async fn clock(scene: &Scene<'_, impl Db>) -> Result<Check, StoreError> {
    let newest = one(scene.c, sql!("doctor_newest"), params![], |r| {
        r.get::<Us>(0)
    });
    let newest = newest.await?.map(time);
    let newest = newest.unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(if newest > scene.now + AHEAD {
        Check::repair(
            "clock",
            format!(
                "it is {} here, and the latest record is of {newest}",
                scene.now
            ),
            "set this machine's clock, or that of the machine that wrote it",
        )
    } else {
        Check::ok("clock", "not behind the latest record")
    })
}

fn workers<D>(scene: &Scene<'_, D>) -> Check {
    let mut wrong = Wrong::default();
    for worker in &scene.dead {
        wrong.add(|| format!("worker {worker} died and nobody took its tasks over"));
    }
    let repair = "start a worker: `rowmill work --once` takes over and ends";
    wrong.check("workers", "no worker died and was not taken over", repair)
}

async fn served_ops(scene: &Scene<'_, impl Db>) -> Result<Check, StoreError> {
    let mut wrong = Wrong::default();
    for op in scene.ops.iter().filter(|op| op.ready > 0 && !op.paused) {
        let workers = all(scene.c, sql!("doctor_served"), params![op.id], |r| {
            Ok(WorkerNo(r.get(0)?))
        })
        .await?;
        if workers.iter().all(|worker| scene.dead.contains(worker)) {
            wrong.add(|| format!("{}: {}, and no live worker of it", op.name, waiting(op)));
        }
    }
    let repair = format!("{WORK}, with a handler of the op in its configuration");
    Ok(wrong.check(
        "served_ops",
        "every op with ready tasks has a worker",
        &repair,
    ))
}

fn paused_ops<D>(scene: &Scene<'_, D>) -> Check {
    let mut wrong = Wrong::default();
    for op in scene.ops.iter().filter(|op| op.paused && op.ready > 0) {
        wrong.add(|| format!("{}: {}", op.name, waiting(op)));
    }
    let repair = "resume it when it may go on: `rowmill ops resume APP/OP`";
    wrong.check("paused_ops", "no task waits for a paused op", repair)
}

fn waiting(op: &Op) -> String {
    match op.ready {
        // Counted no further.
        1000 => "1000 tasks or more wait".to_owned(),
        ready => counted(ready, "task waits", "tasks wait"),
    }
}

async fn notices(scene: &Scene<'_, impl Db>) -> Result<Check, StoreError> {
    let oldest = one(scene.c, sql!("doctor_notice"), params![], |r| {
        Ok((r.get::<BatchId>(0)?, r.get::<Us>(1)?, r.get::<u32>(2)?))
    })
    .await?;
    Ok(match oldest {
        Some((id, at, tries)) if at < scene.before(TELL) => Check::repair(
            "notices",
            format!(
                "the end of batch {id} waits to be told since {}, after {tries} tries",
                time(at)
            ),
            format!("{WORK}; where it runs, its log says why its `mark_done` fails"),
        ),
        _ => Check::ok("notices", "no end has waited for an hour to be told"),
    })
}

/// Batches of which nobody sees a row and which still take room.
async fn purges(scene: &Scene<'_, impl Db>) -> Result<Check, StoreError> {
    let marked = all(scene.c, sql!("doctor_purging"), params![100], |r| {
        Ok((r.get::<BatchId>(0)?, r.get::<Us>(1)?))
    })
    .await?;
    let mut wrong = Wrong::default();
    for (id, at) in marked {
        if at < scene.before(STANDS) {
            wrong.add(|| format!("batch {id} is half purged since {}", time(at)));
        }
    }
    let repair = "start a worker, or run `rowmill purge` again: either goes on with it";
    Ok(wrong.check("purges", "no purge was cut off", repair))
}

async fn loads(scene: &Scene<'_, impl Db>) -> Result<Check, StoreError> {
    let silent = all(
        scene.c,
        sql!("keep_loads"),
        params![scene.before(STANDS)],
        id,
    )
    .await?;
    Ok(given_up("loads", "submit", &silent))
}

async fn appends(scene: &Scene<'_, impl Db>) -> Result<Check, StoreError> {
    let params = params![scene.before(STANDS), 100];
    let silent = all(scene.c, sql!("doctor_appends"), params, id).await?;
    Ok(given_up("appends", "append", &silent))
}

fn id(r: &mut Record) -> Result<BatchId, StoreError> {
    r.get(0)
}

fn given_up(name: &'static str, what: &str, silent: &[BatchId]) -> Check {
    let mut wrong = Wrong::default();
    for id in silent {
        wrong.add(|| format!("batch {id}: its {what} was given up"));
    }
    let repair = "start a worker: `rowmill work --once` removes it; submit the file again if it is still wanted";
    wrong.check(name, format!("no {what} was given up"), repair)
}
