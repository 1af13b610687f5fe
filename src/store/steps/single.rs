//! Batches of one block, as every slow query is one: submitted and ended with few writes.
//!
//! What `submit` and `end` do step by step for a batch of any size is one write each where there is
//! one block, because nothing of such a batch is ever seen half done.

use super::db::{Db, Us, change, one, params, sql, us, us_opt};
use super::guard::op_id;
use super::release::queued_or_later;
use super::retry;
use super::submit::columns;
use crate::model::{BatchState, Block, JobKey, NewBatch, Timestamp};
use crate::store::{Part, StoreError};

/// What the submits of one step share: it is looked up once.
#[derive(Default)]
pub(in crate::store) struct Known {
    op: Option<(JobKey, i64)>,
    /// The turn of the next task of an op at a priority. What the step itself adds does not change it.
    turn: Option<(i64, i32, i64)>,
}

impl Known {
    async fn op(&mut self, c: &impl Db, key: &JobKey, now: Timestamp) -> Result<i64, StoreError> {
        if let Some((known, id)) = &self.op
            && known == key
        {
            return Ok(*id);
        }
        let id = op_id(c, key, now).await?;
        self.op = Some((key.clone(), id));
        Ok(id)
    }

    async fn turn(&mut self, c: &impl Db, op: i64, priority: i32) -> Result<i64, StoreError> {
        if let Some((_, _, turn)) = self.turn.filter(|t| (t.0, t.1) == (op, priority)) {
            return Ok(turn);
        }
        let turn = one(c, sql!("release_turn"), params![op, priority], |r| r.get(0))
            .await?
            .unwrap_or(0);
        self.turn = Some((op, priority, turn));
        Ok(turn)
    }
}

/// Stores a batch of one block without rejected rows, that is not there yet.
pub(in crate::store) async fn submit(
    c: &impl Db,
    known: &mut Known,
    batch: &NewBatch,
    block: &Block,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<(), StoreError> {
    let op = known.op(c, &batch.key, now).await?;
    let state = if batch.hold {
        BatchState::Wait
    } else {
        BatchState::Queued
    };
    let columns = columns(batch)?;
    change(
        c,
        sql!("submit_whole"),
        params![
            batch.id,
            op,
            state.code(),
            batch.context.get(),
            batch.priority,
            batch.external_id.as_deref(),
            batch.by.as_str(),
            us(now),
            us_opt(batch.run_at),
            us_opt(batch.expires_at),
            columns.as_deref(),
            block.rows,
            block.body.len(),
            block.last_line(),
            i64::from(!batch.hold),
            &hash,
            retry::root(batch),
            retry::parent(batch),
            retry::generation(batch)
        ],
    )
    .await?;
    change(
        c,
        sql!("submit_block"),
        params![
            batch.id,
            0,
            block.first_line,
            block.rows,
            0,
            block.lines.as_deref(),
            block.body.as_str(),
        ],
    )
    .await?;
    if let Some(external) = &batch.external_id {
        change(
            c,
            sql!("submit_external"),
            params![batch.key.app.as_str(), external, batch.id, &hash, us(now)],
        )
        .await?;
    }
    if batch.hold {
        return Ok(());
    }
    let (task, due) = queued_or_later(us_opt(batch.run_at), now);
    let turn = known.turn(c, op, batch.priority).await?;
    change(
        c,
        sql!("queue_add"),
        params![
            batch.id,
            0,
            0,
            0,
            op,
            task.code(),
            batch.priority,
            turn,
            us(now),
            due,
            block.rows,
            None::<&[u32]>,
            0,
            0,
            0,
            0,
            false
        ],
    )
    .await?;
    Ok(())
}

/// Ends a batch whose one block a part has said everything about; false where there are more blocks.
pub(in crate::store) async fn end(
    c: &impl Db,
    part: &Part,
    op: i64,
    started_at: Option<Us>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // Only the first block can be alone: no look at the others.
    if part.claim.no != 0 {
        return Ok(false);
    }
    let batch = part.claim.batch;
    let state = BatchState::of_counts(u64::from(part.failed), 0, 0);
    let (success, failed) = (part.success, part.failed);
    let params = params![batch, state.code(), success, failed, started_at, us(now)];
    if change(c, sql!("end_single"), params).await? == 0 {
        return Ok(false);
    }
    change(c, sql!("end_single_notice"), params![batch, op, us(now)]).await?;
    Ok(true)
}
