//! claim: `queued → running`, under a token.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::damage::Damage;
use super::db::{
    Db, Many, Record, Unread, Us, all, change, corrupt, locked, one, params, sql, time, us,
};
use super::end;
use super::take_over;
use super::together::both;
use crate::model::{
    AppName, BatchId, EndedAs, JobKey, Kind, OpId, OpName, TaskId, TaskState, Timestamp,
};
use crate::store::{BatchHead, Claim, ClaimRef, ClaimedTask, Head, StoreError};

/// The best ready task of each op, and whether it stands with others.
pub(in crate::store) async fn heads(
    c: &impl Db,
    ops: &[OpId],
    only: Option<BatchId>,
) -> Result<Vec<(Head, bool)>, StoreError> {
    let found = match only {
        None => {
            let asked = Many::of(ops.iter().map(|op| params![op.0]));
            c.each(sql!("heads"), &asked).await?
        }
        Some(batch) => {
            let asked = Many::of(ops.iter().map(|op| params![op.0, batch]));
            c.each(sql!("heads_of"), &asked).await?
        }
    };
    let heads = ops.iter().zip(found).filter_map(|(op, found)| {
        let mut r = found?;
        let head = |r: &mut Record| {
            let head = Head {
                op: *op,
                priority: r.get(0)?,
                age: time(r.get(1)?),
            };
            Ok((head, r.get(2)?))
        };
        Some(head(&mut r))
    });
    heads.collect()
}

/// So many tasks of batches that are passed over are looked behind.
const FAR: u32 = 10_000;

struct Ready {
    batch: BatchId,
    id: i64,
    no: i64,
    rows: u32,
    pick: Unread,
    attempt: u32,
    failures: u32,
    laters: u32,
    suspect: u32,
    turn: i64,
    age: Us,
    priority: i64,
    losses: u32,
}

/// The tasks that the claim would take, without their rows.
async fn ready(c: &impl Db, ask: &Claim, limit: u32) -> Result<Vec<Ready>, StoreError> {
    let read = |r: &mut Record| {
        Ok(Ready {
            batch: r.get(0)?,
            id: r.get(1)?,
            no: r.get(2)?,
            rows: r.get(3)?,
            pick: r.get(4)?,
            attempt: r.get(5)?,
            failures: r.get(6)?,
            laters: r.get(7)?,
            suspect: r.get(8)?,
            turn: r.get(9)?,
            age: r.get(10)?,
            priority: r.get(11)?,
            losses: r.get(12)?,
        })
    };
    match ask.only {
        Some(batch) => all(c, sql!("claim_of"), params![ask.op.0, limit, batch], read).await,
        None if ask.oldest => all(c, sql!("claim_oldest"), params![ask.op.0, limit], read).await,
        None => all(c, sql!("claim_ready"), params![ask.op.0, limit], read).await,
    }
}

/// How many tasks may be claimed, and of what; none where the op is paused.
pub(in crate::store) async fn room(
    c: &impl Db,
    ask: &Claim,
) -> Result<Option<(JobKey, u32)>, StoreError> {
    let op = one(c, sql!("op_get"), params![ask.op.0], |r| {
        let key = job_key(&r.get::<String>(0)?, &r.get::<String>(1)?, r.get(2)?)?;
        Ok((key, r.get::<bool>(3)?))
    });
    // Sent together.
    let ((), op) = both(take_over::alive(c, ask.worker), op).await?;
    let Some((key, false)) = op else {
        return Ok(None);
    };
    let mut limit = ask.max_tasks;
    if let Some((cap, parallel)) = ask.cap {
        // Of several claims at the same moment each counts what the one before has taken.
        let op = params![ask.op.0];
        let running = locked(c, sql!("op_lock"), sql!("claim_running"), op, |r| r.get(0)).await?;
        let running: u32 = running.unwrap_or(u32::MAX);
        limit = limit.min((cap / parallel.max(1)).saturating_sub(running));
    }
    Ok((limit > 0).then_some((key, limit)))
}

pub(in crate::store) async fn claim(
    c: &impl Db,
    damage: &Damage,
    ask: &Claim,
    now: Timestamp,
) -> Result<Vec<ClaimedTask>, StoreError> {
    let Some((_, limit)) = room(c, ask).await? else {
        return Ok(Vec::new());
    };
    let mut reach = limit;
    loop {
        let found = ready(c, ask, reach).await?;
        let all_there = found.len() < usize::try_from(reach).unwrap_or(usize::MAX);
        let claimed = of_these(c, damage, ask, found, limit, now).await?;
        // Tasks that nobody gets may stand before all the others.
        if !claimed.is_empty() || all_there || reach >= FAR {
            return Ok(claimed);
        }
        reach = FAR;
    }
}

/// Claims the first of these tasks. Those of a batch whose time has passed stay for the keeper: a claim
/// may be taken back by a power failure, and the end of a batch may not. What is damaged stays too. Tasks
/// that an abort had to pass over, because another claim held them which came to nothing, end here.
async fn of_these(
    c: &impl Db,
    damage: &Damage,
    ask: &Claim,
    found: Vec<Ready>,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<ClaimedTask>, StoreError> {
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut claimed: Vec<ClaimedTask> = Vec::new();
    let (mut rows, mut bytes) = (0_u64, 0_usize);
    let mut batch: Option<Arc<BatchHead>> = None;
    let mut passed: BTreeSet<BatchId> = BTreeSet::new();
    let mut aborted: BTreeSet<BatchId> = BTreeSet::new();
    for mut task in found {
        if rows >= ask.max_rows || bytes >= ask.max_bytes || claimed.len() >= most {
            break;
        }
        let id = task.batch;
        // Whoever works on one batch alone is told what is wrong with it.
        let pass_over = |error| match ask.only {
            Some(_) => Err(error),
            None => damage.met_or(id, error),
        };
        if passed.contains(&id) {
            continue;
        }
        let head = match batch.take().filter(|b| b.id == id) {
            Some(head) => Ok(head),
            None => batch_head(c, id).await.map(|(head, aborting)| {
                // Where one writes alone, an abort has ended every task that is queued.
                aborted.extend((aborting && c.is_shared()).then_some(id));
                Arc::new(head)
            }),
        };
        let head = match head {
            Ok(_) if aborted.contains(&id) => None,
            Ok(head) if head.expires_at.is_some_and(|at| at <= now) => None,
            Ok(head) => Some(head),
            Err(error) => pass_over(error).map(|()| None)?,
        };
        let Some(head) = head else {
            passed.insert(id);
            continue;
        };
        match inputs(c, &mut task).await {
            Ok(inputs) => {
                let task = take(c, ask, &head, task, inputs, now).await?;
                rows += u64::from(task.rows);
                bytes += task.body.len();
                claimed.push(task);
            }
            Err(error) => pass_over(error)?,
        }
        batch = Some(head);
    }
    for id in aborted {
        let stop = end::stop(c, id, EndedAs::Aborted, now);
        damage.apart(c, id, stop).await?;
    }
    Ok(claimed)
}

/// What a task's processor gets of its block.
struct Inputs {
    pick: Option<Vec<u32>>,
    first_line: u32,
    lines: Option<Vec<u32>>,
    body: String,
}

async fn inputs(c: &impl Db, task: &mut Ready) -> Result<Inputs, StoreError> {
    let block = params![task.batch, task.no];
    let (first_line, lines, body) = one(c, sql!("claim_block"), block, |r| {
        Ok((r.get(0)?, r.get(1)?, r.get(2)?))
    })
    .await?
    .ok_or_else(|| corrupt(format!("block {} of batch {} is gone", task.no, task.batch)))?;
    Ok(Inputs {
        pick: std::mem::take(&mut task.pick).rows()?,
        first_line,
        lines,
        body,
    })
}

/// Claims one task; where it is too long, its end stays queued as a task of its own.
async fn take(
    c: &impl Db,
    ask: &Claim,
    head: &Arc<BatchHead>,
    mut task: Ready,
    mut inputs: Inputs,
    now: Timestamp,
) -> Result<ClaimedTask, StoreError> {
    if let Some(most) = ask.split_over.filter(|most| *most > 0 && task.rows > *most) {
        let mut mine = inputs
            .pick
            .take()
            .unwrap_or_else(|| (0..task.rows).collect());
        let rest = mine.split_off(usize::try_from(most).unwrap_or(usize::MAX));
        end::ensure_close(c, task.batch, ask.op.0, task.priority, task.age).await?;
        let id = TaskId::split().map_err(|e| StoreError::unavailable("making a task's id", e))?;
        change(
            c,
            sql!("queue_add"),
            params![
                task.batch,
                id.0,
                task.no,
                0,
                ask.op.0,
                TaskState::Queued.code(),
                task.priority,
                task.turn,
                task.age,
                None::<i64>,
                rest.len(),
                &rest,
                task.attempt,
                task.failures,
                task.losses,
                task.laters,
                task.suspect
            ],
        )
        .await?;
        task.rows = most;
        inputs.pick = Some(mine);
    }
    let attempt = task.attempt + 1;
    let changed = change(
        c,
        sql!("claim_task"),
        params![
            task.batch,
            task.id,
            attempt,
            ask.token.0,
            ask.worker.0,
            us(now),
            task.rows,
            inputs.pick.as_deref(),
            if ask.once { 2 } else { 0 }
        ],
    )
    .await?;
    if changed != 1 {
        return Err(corrupt("a ready task was not queued"));
    }
    Ok(ClaimedTask {
        batch: Arc::clone(head),
        claim: ClaimRef {
            batch: task.batch,
            task: TaskId(task.id),
            no: task.no,
            attempt,
            token: ask.token,
        },
        failures: task.failures,
        laters: task.laters,
        suspect: task.suspect > 0 || ask.once,
        accused: task.suspect == 1 && task.losses > 0 && !ask.once,
        believed: task.suspect == 0 && task.losses > 0 && !ask.once,
        first_line: inputs.first_line,
        lines: inputs.lines,
        body: inputs.body,
        pick: inputs.pick,
        rows: task.rows,
    })
}

/// Reads a stored name back.
pub(in crate::store) fn job_key(app: &str, op: &str, kind: i64) -> Result<JobKey, StoreError> {
    let bad = |e: crate::model::IdError| corrupt(e.to_string());
    Ok(JobKey {
        app: app.parse::<AppName>().map_err(bad)?,
        op: op.parse::<OpName>().map_err(bad)?,
        kind: Kind::from_code(kind).ok_or_else(|| corrupt(format!("kind {kind}")))?,
    })
}

pub(in crate::store) fn raw(json: String) -> Result<Box<RawValue>, StoreError> {
    RawValue::from_string(json).map_err(|e| corrupt(format!("a stored JSON text: {e}")))
}

/// A batch as its tasks' processors see it, and whether it is being aborted.
type Seen = (BatchHead, bool);

async fn batch_head(c: &impl Db, id: BatchId) -> Result<Seen, StoreError> {
    let found = one(c, sql!("claim_batch"), params![id], read_head).await?;
    found.ok_or_else(|| corrupt(format!("batch {id} has tasks and is gone")))
}

/// Reads what `claim_batch` returns.
fn read_head(r: &mut Record) -> Result<Seen, StoreError> {
    let key = job_key(&r.get::<String>(4)?, &r.get::<String>(5)?, r.get(6)?)?;
    let head = BatchHead {
        id: r.get(7)?,
        key,
        context: raw(r.get(0)?)?,
        root: r.get(1)?,
        generation: r.get(2)?,
        expires_at: r.get::<Option<Us>>(3)?.map(time),
    };
    Ok((head, r.get::<Option<Us>>(8)?.is_some()))
}
