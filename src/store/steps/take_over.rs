//! Who works, and what becomes of a dead worker's tasks.

use std::collections::BTreeSet;

use super::damage::Damage;
use super::db::{Db, Us, all, change, corrupt, one, params, sql, us};
use super::end;
use super::guard::guard;
use super::lost::{Lost, held_by};
use super::ops;
use super::record::{Task, requeue, stop_if_stopped};
use crate::model::{
    EndedAs, Message, OutcomeStatus, RowOutcome, TaskId, Timestamp, Token, WorkerNo, codes,
    encode_outcome,
};
use crate::store::{Again, ClaimRef, NewWorker, Running, StoreError, TakenOver};

pub(in crate::store) async fn enter(
    c: &impl Db,
    lives: &mut impl ops::Lives,
    lock: &str,
    worker: &NewWorker,
    now: Timestamp,
) -> Result<WorkerNo, StoreError> {
    let no = one(
        c,
        sql!("worker_enter"),
        params![
            lock,
            worker.host.as_str(),
            worker.pid,
            worker.version,
            us(now)
        ],
        |r| Ok(WorkerNo(r.get(0)?)),
    )
    .await?
    .ok_or_else(|| corrupt("a worker that entered has no number"))?;
    ops::serve(c, lives, no, worker).await?;
    Ok(no)
}

/// The name of a worker's lock.
pub(in crate::store) async fn lock_of(
    c: &impl Db,
    worker: WorkerNo,
) -> Result<Option<String>, StoreError> {
    one(c, sql!("worker_lock"), params![worker.0], |r| r.get(0)).await
}

/// Ends a worker that holds nothing; one that does is left to whoever takes it over.
pub(in crate::store) async fn leave(
    c: &impl Db,
    worker: WorkerNo,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if change(c, sql!("worker_leave"), params![worker.0, us(now)]).await? == 0 {
        return Ok(false);
    }
    change(c, sql!("worker_serves_none"), params![worker.0]).await?;
    // A claim that was under way when it was asked whether it holds something is through by now: tasks are found by the
    // next look, ends that it was to tell would be nobody's.
    change(c, sql!("take_over_notices"), params![worker.0]).await?;
    Ok(true)
}

pub(in crate::store) async fn beat(
    c: &impl Db,
    worker: WorkerNo,
) -> Result<Vec<Running>, StoreError> {
    all(c, sql!("beat"), params![worker.0], |r| {
        Ok(Running {
            claim: ClaimRef {
                batch: r.get(0)?,
                task: TaskId(r.get(1)?),
                no: r.get(2)?,
                attempt: r.get(3)?,
                token: Token(r.get(4)?),
            },
            close: r.get::<i64>(5)? == 1,
            aborting: r.get::<Option<Us>>(6)?.is_some(),
        })
    })
    .await
}

/// Refuses a worker that was declared dead: what it claimed would belong to nobody.
pub(in crate::store) async fn alive(c: &impl Db, worker: WorkerNo) -> Result<(), StoreError> {
    match lives(c, worker).await? {
        true => Ok(()),
        false => Err(StoreError::Fenced(worker)),
    }
}

/// Whether a worker was not declared dead, nor is before this transaction ends.
pub(in crate::store) async fn lives(c: &impl Db, worker: WorkerNo) -> Result<bool, StoreError> {
    let found = one(c, sql!("worker_alive"), params![worker.0], |_| Ok(())).await?;
    Ok(found.is_some())
}

/// Takes one task from a worker that lives and knows nothing of it any more, as if it had died with it.
pub(in crate::store) async fn lose(
    c: &impl Db,
    worker: WorkerNo,
    claim: &ClaimRef,
    now: Timestamp,
) -> Result<(), StoreError> {
    let held = held_by(c, worker).await?;
    let mut held = held.into_iter().filter_map(|(_, lost)| lost.ok());
    if let Some(lost) = held.find(|lost| lost.claim == *claim && !lost.close) {
        take_back(c, worker, &lost, now).await?;
    }
    Ok(())
}

/// Ends a dead worker and gives its tasks back under their tokens, one loss each. One of which
/// something is damaged stays what it is.
pub(in crate::store) async fn take_over(
    c: &impl Db,
    damage: &Damage,
    worker: WorkerNo,
    now: Timestamp,
) -> Result<TakenOver, StoreError> {
    let mut done = TakenOver::default();
    let ended = change(c, sql!("worker_end"), params![worker.0, us(now)]).await?;
    // Where a task was locked it was left, and is taken back by a later look.
    if ended == 0 && !c.is_shared() {
        return Ok(done);
    }
    change(c, sql!("worker_serves_none"), params![worker.0]).await?;
    c.loosen_of(worker).await?;
    for (batch, lost) in held_by(c, worker).await? {
        let back = async {
            let lost = lost?;
            if lost.close {
                let params = params![batch, worker.0];
                change(c, sql!("take_over_close"), params).await?;
                return Ok(0);
            }
            take_back(c, worker, &lost, now).await
        };
        let taken = damage.apart(c, batch, back).await?;
        if let Some(lost_rows) = taken {
            done.tasks += 1;
            done.lost_rows += lost_rows;
        }
    }
    change(c, sql!("take_over_notices"), params![worker.0]).await?;
    Ok(done)
}

/// Gives one lost task back; returns how many of its rows failed for good.
async fn take_back(
    c: &impl Db,
    worker: WorkerNo,
    lost: &Lost,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (claim, task) = (&lost.claim, &lost.task);
    let mut left = open_rows(c, claim, task).await?;
    let batch = guard(c, claim.batch)
        .await?
        .ok_or(StoreError::NotFound(claim.batch))?;
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
        )
        .await?;
        remove(c, worker, claim).await?;
        end::settle(c, claim.batch, now).await?;
        return Ok(0);
    }
    let max_lost: u32 = one(c, sql!("op_max_lost"), params![task.op], |r| r.get(0))
        .await?
        .unwrap_or(3);
    // Only a row that is known to have been running is to blame; a block that was lost for the
    // first time only becomes suspect.
    let Some(culprit) = lost.row_now.filter(|row| left.contains(row)) else {
        let suspect = is_suspect(c, lost, left.len()).await?;
        end_part(c, worker, lost, &left, None, EndedAs::Lost, now).await?;
        let losses = match suspect {
            // What it was believed for is no loss of its rows.
            true if task.suspect != 1 => 0,
            true => task.losses,
            false => BELIEVED,
        };
        put_back(c, worker, lost, &left, losses, suspect).await?;
        end::settle(c, claim.batch, now).await?;
        stop_if_stopped(c, claim.batch, now).await?;
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
    )
    .await?;
    if gives_up {
        end::progress(c, claim.batch, 0, 1).await?;
    } else if alone {
        put_back(c, worker, lost, &left, losses, true).await?;
        stop_if_stopped(c, claim.batch, now).await?;
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
        requeue(c, claim, &source, &group, now).await?;
    }
    left.retain(|o| *o != culprit);
    if left.is_empty() {
        remove(c, worker, claim).await?;
    } else {
        // The others had no part in it; of many it will be known when they begin.
        let losses = if are_many(c, left.len()) { BELIEVED } else { 0 };
        put_back(c, worker, lost, &left, losses, false).await?;
    }
    end::settle(c, claim.batch, now).await?;
    stop_if_stopped(c, claim.batch, now).await?;
    Ok(u64::try_from(failed.len()).unwrap_or(1))
}

/// Rows that cost little more one by one than together.
const FEW: usize = 32;

/// Whether it would cost much to run so many rows one by one: where each row costs a round trip.
fn are_many(c: &impl Db, rows: usize) -> bool {
    c.is_shared() && rows > FEW
}

/// What is noted as the losses of a task that was lost and is not suspect.
const BELIEVED: u32 = 1;

/// Whether a lost task runs row by row from now on. Where each row would cost a round trip, one of many rows of
/// which nobody knows that it had begun is believed: most of what a worker holds waits for its turn. When it is begun
/// after that, it is known.
async fn is_suspect(c: &impl Db, lost: &Lost, left: usize) -> Result<bool, StoreError> {
    let (claim, task) = (&lost.claim, &lost.task);
    if !are_many(c, left) || task.suspect != 0 {
        return Ok(true);
    }
    let asked = params![claim.batch, task.no, claim.task.0, task.attempt];
    let seen = one(c, sql!("take_over_seen"), asked, |_| Ok(())).await?;
    Ok(seen.is_some())
}

/// The rows of a task that have no outcome in its attempt.
async fn open_rows(c: &impl Db, claim: &ClaimRef, task: &Task) -> Result<Vec<u32>, StoreError> {
    let parts = all(
        c,
        sql!("take_over_done"),
        params![claim.batch, task.no, claim.task.0, task.attempt],
        |r| Ok((r.get::<Option<Vec<u32>>>(0)?, r.get::<String>(1)?)),
    )
    .await?;
    let mut done: BTreeSet<u32> = BTreeSet::new();
    for (ordinals, body) in parts {
        match ordinals {
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
async fn end_part(
    c: &impl Db,
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
        params![claim.batch, task.no, claim.task.0, task.attempt],
        |r| r.get(0),
    )
    .await?
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
        Some(back.copied().collect::<Vec<u32>>())
    } else {
        (!rows.is_empty()).then(Vec::new)
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
            claim.batch,
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
            rows,
            rest.as_deref(),
            body.as_str()
        ],
    )
    .await?;
    Ok(())
}

async fn put_back(
    c: &impl Db,
    worker: WorkerNo,
    lost: &Lost,
    rows: &[u32],
    losses: u32,
    suspect: bool,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return remove(c, worker, &lost.claim).await;
    }
    change(
        c,
        sql!("take_over_requeue"),
        params![
            lost.claim.batch,
            lost.claim.task.0,
            lost.claim.token.0,
            worker.0,
            rows.len(),
            rows,
            losses,
            suspect
        ],
    )
    .await?;
    Ok(())
}

async fn remove(c: &impl Db, worker: WorkerNo, claim: &ClaimRef) -> Result<(), StoreError> {
    change(
        c,
        sql!("record_end"),
        params![claim.batch, claim.task.0, claim.token.0, worker.0],
    )
    .await?;
    Ok(())
}
