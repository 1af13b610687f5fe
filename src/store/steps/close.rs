//! close and notices: what follows a batch's last row.

use std::collections::BTreeMap;

use super::claim::job_key;
use super::db::{Db, Many, Record, all, change, corrupt, one, params, sql, time, us};
use super::end;
use super::guard::guard;
use super::read;
use super::take_over;
use super::together::together;
use crate::model::{BatchId, BatchState, EndedAs, OpId, OutputFile, Timestamp, Token, WorkerNo};
use crate::store::{
    BlockOutcomes, CloseRef, CloseTask, Notice, NoticeRef, OutcomePart, Recorded, StoreError,
};

/// Ended batches that are read at the same time.
const TOGETHER: usize = 25;

/// Whether a close task is ready; takes no lock.
pub(in crate::store) async fn is_ready(c: &impl Db) -> Result<bool, StoreError> {
    let ready = one(c, sql!("close_any"), params![], |_| Ok(())).await?;
    Ok(ready.is_some())
}

pub(in crate::store) async fn claim_close(
    c: &impl Db,
    worker: WorkerNo,
    token: Token,
    max: u32,
    now: Timestamp,
) -> Result<Vec<CloseTask>, StoreError> {
    take_over::alive(c, worker).await?;
    let ready = all(c, sql!("close_ready"), params![max], |r| {
        Ok((r.get(0)?, r.get::<u32>(1)?))
    })
    .await?;
    let mut claimed = Vec::new();
    for (batch, attempts) in ready {
        let attempt = attempts + 1;
        change(
            c,
            sql!("close_claim"),
            params![batch, attempt, token.0, worker.0, us(now)],
        )
        .await?;
        let names = one(c, sql!("claim_batch"), params![batch], |r| {
            Ok((r.get::<String>(4)?, r.get::<String>(5)?, r.get::<i64>(6)?))
        })
        .await?;
        let (app, op, kind) =
            names.ok_or_else(|| corrupt(format!("batch {batch} is to close and is gone")))?;
        claimed.push(CloseTask {
            claim: CloseRef { batch, token },
            key: job_key(&app, &op, kind)?,
            attempt,
        });
    }
    Ok(claimed)
}

/// Blocks of which one step reads outcomes at most.
const BLOCKS: i64 = 256;

/// What was recorded by one part, from this column on: ordinals, body, attempt, at, ended_as, ended, rest.
pub(in crate::store) fn part(r: &mut Record, column: usize) -> Result<OutcomePart, StoreError> {
    let ended_as: Option<i64> = r.get(column + 4)?;
    let rest = if r.get::<i64>(column + 5)? > 0 {
        let how = match ended_as.and_then(EndedAs::from_code) {
            Some(EndedAs::Expired) => BatchState::Expired,
            _ => BatchState::Aborted,
        };
        Some((how, r.get(column + 6)?))
    } else {
        None
    };
    Ok(OutcomePart {
        ordinals: r.get(column)?,
        body: r.get(column + 1)?,
        attempt: r.get(column + 2)?,
        at: time(r.get(column + 3)?),
        rest,
    })
}

pub(in crate::store) async fn outcomes(
    c: &impl Db,
    id: BatchId,
    from: i64,
    max_bytes: usize,
) -> Result<Vec<BlockOutcomes>, StoreError> {
    // Which blocks, before their texts: not more is read than is asked for.
    let sizes = all(c, sql!("outcome_blocks"), params![id, from, BLOCKS], |r| {
        Ok((r.get::<i64>(0)?, r.get::<u64>(1)?))
    })
    .await?;
    let mut bytes = 0;
    let mut below = None;
    for (no, size) in sizes {
        if bytes >= max_bytes {
            break;
        }
        below = Some(no + 1);
        bytes = bytes.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
    }
    let Some(below) = below else {
        return Ok(Vec::new());
    };
    let mut blocks: Vec<BlockOutcomes> = Vec::new();
    let parts = all(c, sql!("close_outcomes"), params![id, from, below], |r| {
        Ok((r.get::<i64>(0)?, r.get::<u32>(1)?, part(r, 2)?))
    })
    .await?;
    for (no, rows, read) in parts {
        if blocks.last().is_none_or(|b| b.no != no) {
            let parts = Vec::new();
            blocks.push(BlockOutcomes { no, rows, parts });
        }
        if let Some(block) = blocks.last_mut() {
            block.parts.push(read);
        }
    }
    Ok(blocks)
}

pub(in crate::store) async fn close(
    c: &impl Db,
    worker: WorkerNo,
    task: CloseRef,
    files: &[OutputFile],
    now: Timestamp,
) -> Result<Recorded, StoreError> {
    if change(
        c,
        sql!("close_end"),
        params![task.batch, task.token.0, worker.0],
    )
    .await?
        == 0
    {
        // It may be this same step that has ended it.
        let ended = c.is_again()
            && guard(c, task.batch)
                .await?
                .is_some_and(|g| g.state.is_final());
        return Ok(if ended {
            Recorded::Done
        } else {
            Recorded::Fenced
        });
    }
    for file in files {
        change(
            c,
            sql!("close_file"),
            params![
                task.batch,
                file.name.as_str(),
                file.key.as_str(),
                file.size,
                file.sha256.as_str(),
                file.content_type.as_str()
            ],
        )
        .await?;
    }
    end::finish(c, task.batch, now).await?;
    Ok(Recorded::Done)
}

pub(in crate::store) async fn close_later(
    c: &impl Db,
    worker: WorkerNo,
    task: CloseRef,
    error: &str,
    due: Timestamp,
) -> Result<Recorded, StoreError> {
    let changed = change(
        c,
        sql!("close_later"),
        params![task.batch, task.token.0, worker.0, us(due), error],
    )
    .await?;
    Ok(if changed == 1 {
        Recorded::Done
    } else {
        Recorded::Fenced
    })
}

/// A notice that was claimed, before its batch is read.
pub(in crate::store) struct ClaimedNotice {
    pub(in crate::store) claim: NoticeRef,
    op: OpId,
    attempts: u32,
    batch: BatchId,
}

pub(in crate::store) async fn has_notices(
    c: &impl Db,
    ops: &[OpId],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let asked = Many::of(ops.iter().map(|op| params![op.0, us(now)]));
    let found = c.each(sql!("notice_ready"), &asked).await?;
    Ok(found.iter().any(Option::is_some))
}

pub(in crate::store) async fn claim_notices(
    c: &impl Db,
    worker: WorkerNo,
    token: Token,
    ops: &[OpId],
    now: Timestamp,
) -> Result<Vec<ClaimedNotice>, StoreError> {
    take_over::alive(c, worker).await?;
    if c.is_again() {
        // What this same step has claimed nobody here knows of, and it would be told to nobody for as long as the worker lives.
        change(c, sql!("take_over_notices"), params![worker.0]).await?;
    }
    let mut claimed = Vec::new();
    for op in ops {
        let params = params![op.0, us(now), token.0, worker.0];
        let taken = all(c, sql!("notice_claim"), params, |r| {
            Ok(ClaimedNotice {
                claim: NoticeRef {
                    id: r.get(0)?,
                    token,
                },
                op: *op,
                batch: r.get(1)?,
                attempts: r.get(2)?,
            })
        })
        .await?;
        claimed.extend(taken);
    }
    claimed.sort_by_key(|notice| notice.claim.id);
    Ok(claimed)
}

/// Adds what is told: a batch that has ended does not change, so no writer waits for this.
pub(in crate::store) async fn read_notices(
    c: &impl Db,
    claimed: &[ClaimedNotice],
) -> Result<Vec<Notice>, StoreError> {
    let mut notices = Vec::with_capacity(claimed.len());
    for some in claimed.chunks(TOGETHER) {
        // One wait for all of them, where a read waits.
        let read = some.iter().map(|notice| read::batch(c, notice.batch));
        for (notice, batch) in some.iter().zip(together(read).await?) {
            notices.push(Notice {
                claim: notice.claim,
                op: notice.op,
                attempts: notice.attempts,
                batch: batch.ok_or(StoreError::NotFound(notice.batch))?,
            });
        }
    }
    Ok(notices)
}

pub(in crate::store) async fn settle_notices(
    c: &impl Db,
    worker: WorkerNo,
    settled: &[(NoticeRef, Option<Timestamp>)],
) -> Result<(), StoreError> {
    let mut delivered: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (notice, retry) in settled {
        match retry {
            None => delivered.entry(notice.token.0).or_default().push(notice.id),
            Some(at) => {
                change(
                    c,
                    sql!("notice_again"),
                    params![notice.id, notice.token.0, worker.0, us(*at)],
                )
                .await?;
            }
        }
    }
    for (token, ids) in delivered {
        change(
            c,
            sql!("notice_delivered"),
            params![ids.as_slice(), token, worker.0],
        )
        .await?;
    }
    Ok(())
}
