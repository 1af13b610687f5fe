//! submit, load and release: how a batch comes to be and its tasks with it.

use super::db::{Db, Insert, Many, change, corrupt, insert, one, params, sql, us, us_opt};
use std::borrow::Cow;

use super::discard::{Leftover, take_load};
use super::guard::{guard, look, op_id};
use super::release::give;
use super::retry;
use super::single::{self, Known, Whole};
use super::together::both;
use crate::model::{BatchId, BatchState, Block, NewBatch, Timestamp, Token};
use crate::store::{LoadPiece, QueryBlock, StoreError, Submitted};

/// A CSV's columns as they are stored.
pub(in crate::store) fn columns(batch: &NewBatch) -> Result<Option<String>, StoreError> {
    let columns = batch.columns.as_ref().map(serde_json::to_string);
    columns.transpose().map_err(|e| corrupt(e.to_string()))
}

async fn begin(
    c: &impl Db,
    batch: &NewBatch,
    token: Token,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let op = op_id(c, &batch.key, now).await?;
    let columns = columns(batch)?;
    change(
        c,
        sql!("submit_batch"),
        params![
            batch.id,
            op,
            batch.context.get(),
            batch.priority,
            retry::root(batch),
            retry::parent(batch),
            retry::generation(batch),
            batch.external_id.as_deref(),
            batch.by.as_str(),
            us(now),
            us_opt(batch.run_at),
            us_opt(batch.expires_at),
            columns.as_deref(),
            token.0,
        ],
    )
    .await?;
    Ok(op)
}

/// A query that is to be stored.
pub(in crate::store) struct Asked<'a> {
    pub(in crate::store) query: &'a NewBatch,
    pub(in crate::store) block: &'a Block,
    pub(in crate::store) hash: &'a [u8; 32],
    /// When it came.
    pub(in crate::store) at: Timestamp,
}

impl<'a> Asked<'a> {
    pub(in crate::store) fn of((query, block, hash): &'a QueryBlock, at: Timestamp) -> Self {
        Self {
            query,
            block,
            hash,
            at,
        }
    }
}

/// A block and where it stands in its batch: its number, and the line that its own are counted from.
pub(in crate::store) struct Placed<'a> {
    pub(in crate::store) no: i64,
    pub(in crate::store) after: u32,
    pub(in crate::store) block: &'a Block,
}

impl Placed<'_> {
    fn lines(&self) -> Option<Cow<'_, [u32]>> {
        let lines = self.block.lines.as_deref()?;
        Some(match self.after {
            0 => Cow::Borrowed(lines),
            after => Cow::Owned(lines.iter().map(|line| line + after).collect()),
        })
    }
}

/// How blocks come to be.
pub(in crate::store) const BLOCKS: Insert = insert!(sql!("submit_block"), "copy_blocks");

/// Inserts blocks, with the outcomes of their rejected rows.
pub(in crate::store) async fn insert_blocks(
    c: &impl Db,
    id: BatchId,
    blocks: &[Placed<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    let lines: Vec<Option<Cow<'_, [u32]>>> = blocks.iter().map(Placed::lines).collect();
    let records = blocks.iter().zip(&lines).map(|(placed, lines)| {
        params![
            id,
            placed.no,
            placed.block.first_line + placed.after,
            placed.block.rows,
            placed.block.rejected.len(),
            lines.as_deref(),
            placed.block.body.as_str(),
        ]
    });
    c.add(BLOCKS, &Many::of(records)).await?;
    for Placed { no, block, .. } in blocks.iter().filter(|p| !p.block.rejected.is_empty()) {
        let ordinals: Vec<u32> = block.rejected.iter().map(|r| r.ordinal).collect();
        let body: String = block.rejected.iter().map(|r| r.outcome.as_str()).collect();
        change(
            c,
            sql!("submit_rejected"),
            params![id, *no, us(now), ordinals.len(), &ordinals, body.as_str()],
        )
        .await?;
    }
    Ok(())
}

/// Counts blocks of a load under its loader's token, and inserts them.
async fn load_blocks(
    c: &impl Db,
    id: BatchId,
    token: Token,
    first_no: i64,
    blocks: &[Block],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (mut rows, mut bytes, mut last_line) = (0_i64, 0_i64, 0_i64);
    for block in blocks {
        rows += i64::from(block.rows);
        bytes += i64::try_from(block.body.len()).unwrap_or(i64::MAX);
        last_line = last_line.max(i64::from(block.last_line()));
    }
    let count = i64::try_from(blocks.len()).unwrap_or(i64::MAX);
    let params = params![id, token.0, rows, bytes, count, last_line, us(now)];
    // Asked first: the blocks of whoever loads anew have the same numbers.
    if change(c, sql!("submit_loaded"), params).await? != 1 {
        return Err(StoreError::SubmitLost(id));
    }
    let placed = (first_no..).zip(blocks);
    let placed: Vec<Placed<'_>> = placed
        .map(|(no, block)| Placed {
            no,
            after: 0,
            block,
        })
        .collect();
    insert_blocks(c, id, &placed, now).await
}

/// `loading → wait | queued`, with the tasks of the first blocks.
async fn finish(
    c: &impl Db,
    batch: &NewBatch,
    token: Token,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<(), StoreError> {
    let state = if batch.hold {
        BatchState::Wait
    } else {
        BatchState::Queued
    };
    let columns = columns(batch)?;
    let changed = change(
        c,
        sql!("submit_finish"),
        params![
            batch.id,
            token.0,
            state.code(),
            &hash,
            us(now),
            columns.as_deref()
        ],
    )
    .await?;
    if changed != 1 {
        return Err(StoreError::SubmitLost(batch.id));
    }
    if let Some(external) = &batch.external_id {
        change(
            c,
            sql!("submit_external"),
            params![batch.key.app.as_str(), external, batch.id, &hash, us(now)],
        )
        .await?;
    }
    if !batch.hold {
        give(c, batch.id, now).await?;
    }
    Ok(())
}

/// Answers a repeat: the batch that is there has the same op, context and rows, or it is another. Of a
/// purged one the context is gone; op and rows are compared.
async fn repeat(
    c: &impl Db,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
    what: String,
    existing: BatchId,
) -> Result<Submitted, StoreError> {
    let found = look(c, existing).await?;
    let op = one(
        c,
        sql!("op_find"),
        params![
            batch.key.app.as_str(),
            batch.key.op.as_str(),
            batch.key.kind.code()
        ],
        |r| r.get::<i64>(0),
    )
    .await?;
    let equal = found.is_some_and(|g| {
        Some(g.op) == op
            && (g.purged_at.is_some() || g.context == batch.context.get())
            && (hash.is_none() || g.hash == hash)
    });
    if equal {
        Ok(Submitted::Existing(existing))
    } else {
        Err(StoreError::Duplicate { what, existing })
    }
}

/// Looks for the same external id.
async fn existing_external(
    c: &impl Db,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
) -> Result<Option<Submitted>, StoreError> {
    let Some(external) = &batch.external_id else {
        return Ok(None);
    };
    let named = params![batch.key.app.as_str(), external];
    match one(c, sql!("external_find"), named, |r| r.get(0)).await? {
        None => Ok(None),
        Some(id) => {
            let what = format!("external id {external:?}");
            repeat(c, batch, hash, what, id).await.map(Some)
        }
    }
}

/// Looks for the same id or external id; a load under the id has to go first, however long it was silent.
pub(in crate::store) async fn existing(
    c: &impl Db,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
) -> Result<Option<Submitted>, StoreError> {
    if let Some(found) = look(c, batch.id).await? {
        if found.state != BatchState::Loading {
            return repeat(c, batch, hash, format!("id {}", batch.id), batch.id)
                .await
                .map(Some);
        }
        return Err(StoreError::SubmitInProgress(batch.id));
    }
    existing_external(c, batch, hash).await
}

pub(in crate::store) async fn submit(
    c: &impl Db,
    known: &mut Known,
    batch: &NewBatch,
    blocks: &[Block],
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    if let [block] = blocks
        && block.rejected.is_empty()
    {
        // One wait for what may be there and for what it would be.
        let whole = Whole::of(c, known, batch, block, &hash, now);
        let (there, whole) = both(existing(c, batch, Some(hash)), whole).await?;
        if let Some(there) = there {
            return Ok(there);
        }
        retry::guard(c, batch, now).await?;
        single::submit(c, &whole).await?;
        return Ok(Submitted::New(batch.id));
    }
    if let Some(there) = existing(c, batch, Some(hash)).await? {
        return Ok(there);
    }
    retry::guard(c, batch, now).await?;
    let token = Token(0);
    begin(c, batch, token, now).await?;
    load_blocks(c, batch.id, token, 0, blocks, now).await?;
    finish(c, batch, token, hash, now).await?;
    Ok(Submitted::New(batch.id))
}

/// Whether a load is there under this token, which nobody else changes until this transaction ends.
async fn is_ours(c: &impl Db, id: BatchId, token: Token) -> Result<bool, StoreError> {
    let found = guard(c, id).await?;
    Ok(found.is_some_and(|g| g.state == BatchState::Loading && g.load_token == Some(token.0)))
}

/// Submits many queries of one block each: those that can be nobody else's are added together.
pub(in crate::store) async fn submit_many(
    c: &impl Db,
    queries: &[Asked<'_>],
) -> Result<Vec<Submitted>, StoreError> {
    let mut known = Known::default();
    let together = single::submit_new(c, &mut known, queries).await?;
    let mut done = Vec::with_capacity(queries.len());
    for asked in queries {
        done.push(if together.contains(&asked.query.id) {
            Submitted::New(asked.query.id)
        } else {
            let blocks = std::slice::from_ref(asked.block);
            submit(c, &mut known, asked.query, blocks, *asked.hash, asked.at).await?
        });
    }
    Ok(done)
}

pub(in crate::store) async fn begin_load(
    c: &impl Db,
    batch: &NewBatch,
    token: Token,
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    // What this loader began already is its own.
    if c.is_again() && is_ours(c, batch.id, token).await? {
        return Ok(Submitted::New(batch.id));
    }
    if let Some(there) = existing(c, batch, None).await? {
        return Ok(there);
    }
    begin(c, batch, token, now).await?;
    Ok(Submitted::New(batch.id))
}

pub(in crate::store) async fn load(
    c: &impl Db,
    piece: &LoadPiece,
    now: Timestamp,
) -> Result<(), StoreError> {
    if c.is_again() && is_ours(c, piece.id, piece.token).await? {
        let first = params![piece.id, piece.first_no];
        if one(c, sql!("claim_block"), first, |_| Ok(()))
            .await?
            .is_some()
        {
            return Ok(());
        }
    }
    load_blocks(c, piece.id, piece.token, piece.first_no, &piece.blocks, now).await
}

pub(in crate::store) async fn finish_load(
    c: &impl Db,
    batch: &NewBatch,
    token: Token,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<(Submitted, Option<Leftover>), StoreError> {
    if is_ours(c, batch.id, token).await? {
        // The external id may have come in by another submit while this one was loading. Where it is
        // a duplicate, the load is removed by its loader, which hears of it.
        if let Some(there) = existing_external(c, batch, Some(hash)).await? {
            return Ok((there, take_load(c, batch.id, token.0).await?));
        }
        retry::guard(c, batch, now).await?;
        finish(c, batch, token, hash, now).await?;
        return Ok((Submitted::New(batch.id), None));
    }
    // Another may have submitted the same meanwhile; one that still loads is no answer.
    let there = match look(c, batch.id).await? {
        Some(found) if found.state != BatchState::Loading => {
            let what = format!("id {}", batch.id);
            Some(repeat(c, batch, Some(hash), what, batch.id).await?)
        }
        _ => existing_external(c, batch, Some(hash)).await?,
    };
    Ok((there.ok_or(StoreError::SubmitLost(batch.id))?, None))
}
