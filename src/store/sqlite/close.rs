//! close and notices: what follows a batch's last row.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::claim::job_key;
use super::end;
use super::errors::corrupt;
use super::liveness;
use super::read;
use super::sql::{all, batch_id, change, key, one, sql, time, unlist, us};
use crate::model::{BatchId, BatchState, EndedAs, OpId, OutputFile, Timestamp, Token, WorkerNo};
use crate::store::{
    BlockOutcomes, CloseRef, CloseTask, Notice, NoticeRef, OutcomePart, Recorded, StoreError,
};

pub(super) fn claim_close(
    c: &Connection,
    worker: WorkerNo,
    token: Token,
    max: u32,
    now: Timestamp,
) -> Result<Vec<CloseTask>, StoreError> {
    liveness::alive(c, worker)?;
    let ready = all(c, sql!("close_ready"), [max], |r| {
        Ok((batch_id(r.get(0)?), r.get::<_, u32>(1)?))
    })?;
    let mut claimed = Vec::new();
    for (batch, attempts) in ready {
        let attempt = attempts + 1;
        change(
            c,
            sql!("close_claim"),
            params![key(batch), attempt, token.0, worker.0, us(now)],
        )?;
        let names = one(c, sql!("claim_batch"), [key(batch)], |r| {
            Ok((
                r.get::<_, String>(4)?,
                r.get::<_, String>(5)?,
                r.get::<_, i64>(6)?,
            ))
        })?;
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

/// One record of `attempts` as outcomes.
pub(super) fn part(
    ordinals: Option<String>,
    body: String,
    attempt: u32,
    at: i64,
    (ended_as, ended, rest): (Option<i64>, i64, Option<String>),
) -> Result<OutcomePart, StoreError> {
    let rest = if ended > 0 {
        let how = match ended_as.and_then(EndedAs::from_code) {
            Some(EndedAs::Expired) => BatchState::Expired,
            _ => BatchState::Aborted,
        };
        Some((how, unlist(rest)?))
    } else {
        None
    };
    Ok(OutcomePart {
        ordinals: unlist(ordinals)?,
        body,
        attempt,
        at: time(at),
        rest,
    })
}

pub(super) fn outcomes(
    c: &Connection,
    id: BatchId,
    from: i64,
    max_bytes: usize,
) -> Result<Vec<BlockOutcomes>, StoreError> {
    let mut statement = c.prepare_cached(sql!("close_outcomes"))?;
    let mut rows = statement.query(params![key(id), from])?;
    let mut blocks: Vec<BlockOutcomes> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let no: i64 = row.get(0)?;
        if blocks.last().is_none_or(|b| b.no != no) {
            if bytes >= max_bytes {
                break;
            }
            blocks.push(BlockOutcomes {
                no,
                rows: row.get(1)?,
                parts: Vec::new(),
            });
        }
        let read = part(
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
            (row.get(6)?, row.get(7)?, row.get(8)?),
        )?;
        bytes += read.body.len() + 64;
        if let Some(block) = blocks.last_mut() {
            block.parts.push(read);
        }
    }
    Ok(blocks)
}

pub(super) fn close(
    c: &Connection,
    worker: WorkerNo,
    task: CloseRef,
    files: &[OutputFile],
    now: Timestamp,
) -> Result<Recorded, StoreError> {
    if change(
        c,
        sql!("close_end"),
        params![key(task.batch), task.token.0, worker.0],
    )? == 0
    {
        return Ok(Recorded::Fenced);
    }
    for file in files {
        change(
            c,
            sql!("close_file"),
            params![
                key(task.batch),
                file.name,
                file.key,
                file.size,
                file.sha256,
                file.content_type
            ],
        )?;
    }
    end::finish(c, task.batch, now)?;
    Ok(Recorded::Done)
}

pub(super) fn close_later(
    c: &Connection,
    worker: WorkerNo,
    task: CloseRef,
    error: &str,
    due: Timestamp,
) -> Result<Recorded, StoreError> {
    let changed = change(
        c,
        sql!("close_later"),
        params![key(task.batch), task.token.0, worker.0, us(due), error],
    )?;
    Ok(if changed == 1 {
        Recorded::Done
    } else {
        Recorded::Fenced
    })
}

/// A notice that was claimed, before its batch is read.
pub(super) struct ClaimedNotice {
    pub(super) claim: NoticeRef,
    op: OpId,
    attempts: u32,
    batch: BatchId,
}

pub(super) fn has_notices(
    c: &Connection,
    ops: &[OpId],
    now: Timestamp,
) -> Result<bool, StoreError> {
    for op in ops {
        if one(c, sql!("notice_ready"), params![op.0, us(now)], |_| Ok(()))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn claim_notices(
    c: &Connection,
    worker: WorkerNo,
    token: Token,
    ops: &[OpId],
    now: Timestamp,
) -> Result<Vec<ClaimedNotice>, StoreError> {
    liveness::alive(c, worker)?;
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
                batch: batch_id(r.get(1)?),
                attempts: r.get(2)?,
            })
        })?;
        claimed.extend(taken);
    }
    claimed.sort_by_key(|notice| notice.claim.id);
    Ok(claimed)
}

/// Adds what is told: a batch that has ended does not change, so no writer waits for this.
pub(super) fn read_notices(
    c: &Connection,
    claimed: &[ClaimedNotice],
) -> Result<Vec<Notice>, StoreError> {
    claimed
        .iter()
        .map(|notice| {
            let batch = read::batch(c, notice.batch)?;
            Ok(Notice {
                claim: notice.claim,
                op: notice.op,
                attempts: notice.attempts,
                batch: batch.ok_or(StoreError::NotFound(notice.batch))?,
            })
        })
        .collect()
}

pub(super) fn settle_notices(
    c: &Connection,
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
                )?;
            }
        }
    }
    for (token, ids) in delivered {
        let ids = serde_json::to_string(&ids).map_err(|e| corrupt(e.to_string()))?;
        change(c, sql!("notice_delivered"), params![ids, token, worker.0])?;
    }
    Ok(())
}
