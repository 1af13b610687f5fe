//! submit, load and release: how a batch comes to be and its tasks with it.

use rusqlite::{Connection, params};

use super::discard::{Leftover, take_load};
use super::errors::corrupt;
use super::guard::{guard, op_id};
use super::release::give;
use super::retry;
use super::single::{self, Known};
use super::sql::{batch_id, change, key, list, one, sql, us, us_opt};
use crate::model::{BatchId, BatchState, Block, NewBatch, Timestamp, Token};
use crate::store::{LoadPiece, StoreError, Submitted};

/// A CSV's columns as they are stored.
pub(super) fn columns(batch: &NewBatch) -> Result<Option<String>, StoreError> {
    let columns = batch.columns.as_ref().map(serde_json::to_string);
    columns.transpose().map_err(|e| corrupt(e.to_string()))
}

fn insert(
    c: &Connection,
    batch: &NewBatch,
    token: Token,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let op = op_id(c, &batch.key, now)?;
    change(
        c,
        sql!("submit_batch"),
        params![
            key(batch.id),
            op,
            batch.context.get(),
            batch.priority,
            key(retry::root(batch)),
            retry::parent(batch).map(key),
            retry::generation(batch),
            batch.external_id,
            batch.by,
            us(now),
            us_opt(batch.run_at),
            us_opt(batch.expires_at),
            columns(batch)?,
            token.0,
        ],
    )?;
    Ok(op)
}

/// Inserts a block whose lines count from the line `after` on, with the outcomes of its rejected rows.
pub(super) fn insert_block(
    c: &Connection,
    id: BatchId,
    no: i64,
    block: &Block,
    after: u32,
    now: Timestamp,
) -> Result<(), StoreError> {
    let lines = block.lines.as_deref().map(|lines| match after {
        0 => list(lines),
        _ => list(&lines.iter().map(|l| l + after).collect::<Vec<u32>>()),
    });
    change(
        c,
        sql!("submit_block"),
        params![
            key(id),
            no,
            block.first_line + after,
            block.rows,
            block.rejected.len(),
            lines,
            block.body,
        ],
    )?;
    if !block.rejected.is_empty() {
        let ordinals: Vec<u32> = block.rejected.iter().map(|r| r.ordinal).collect();
        let body: String = block.rejected.iter().map(|r| r.outcome.as_str()).collect();
        change(
            c,
            sql!("submit_rejected"),
            params![key(id), no, us(now), ordinals.len(), list(&ordinals), body],
        )?;
    }
    Ok(())
}

fn insert_blocks(
    c: &Connection,
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
    let params = params![key(id), token.0, rows, bytes, count, last_line, us(now)];
    // Asked first: the blocks of whoever loads anew have the same numbers.
    if change(c, sql!("submit_loaded"), params)? != 1 {
        return Err(StoreError::SubmitLost(id));
    }
    for (no, block) in (first_no..).zip(blocks) {
        insert_block(c, id, no, block, 0, now)?;
    }
    Ok(())
}

/// `loading → wait | queued`, with the tasks of the first blocks.
fn finish(
    c: &Connection,
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
    let changed = change(
        c,
        sql!("submit_finish"),
        params![
            key(batch.id),
            token.0,
            state.code(),
            hash,
            us(now),
            columns(batch)?
        ],
    )?;
    if changed != 1 {
        return Err(StoreError::SubmitLost(batch.id));
    }
    if let Some(external) = &batch.external_id {
        change(
            c,
            sql!("submit_external"),
            params![
                batch.key.app.as_str(),
                external,
                key(batch.id),
                hash,
                us(now)
            ],
        )?;
    }
    if !batch.hold {
        give(c, batch.id, now)?;
    }
    Ok(())
}

/// Answers a repeat: the batch that is there has the same op, context and rows, or it is another. Of a
/// purged one the context is gone; op and rows are compared.
fn repeat(
    c: &Connection,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
    what: String,
    existing: BatchId,
) -> Result<Submitted, StoreError> {
    let found = guard(c, existing)?;
    let op = one(
        c,
        sql!("op_find"),
        params![
            batch.key.app.as_str(),
            batch.key.op.as_str(),
            batch.key.kind.code()
        ],
        |r| r.get::<_, i64>(0),
    )?;
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
fn existing_external(
    c: &Connection,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
) -> Result<Option<Submitted>, StoreError> {
    let Some(external) = &batch.external_id else {
        return Ok(None);
    };
    one(
        c,
        sql!("external_find"),
        params![batch.key.app.as_str(), external],
        |r| Ok(batch_id(r.get(0)?)),
    )?
    .map(|id| repeat(c, batch, hash, format!("external id {external:?}"), id))
    .transpose()
}

/// Looks for the same id or external id; a load under the id has to go first, however long it was silent.
fn existing(
    c: &Connection,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
) -> Result<Option<Submitted>, StoreError> {
    if let Some(found) = guard(c, batch.id)? {
        if found.state != BatchState::Loading {
            return repeat(c, batch, hash, format!("id {}", batch.id), batch.id).map(Some);
        }
        return Err(StoreError::SubmitInProgress(batch.id));
    }
    existing_external(c, batch, hash)
}

pub(super) fn submit(
    c: &Connection,
    known: &mut Known,
    batch: &NewBatch,
    blocks: &[Block],
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    if let Some(there) = existing(c, batch, Some(hash))? {
        return Ok(there);
    }
    retry::guard(c, batch, now)?;
    if let [block] = blocks
        && block.rejected.is_empty()
    {
        single::submit(c, known, batch, block, hash, now)?;
        return Ok(Submitted::New(batch.id));
    }
    let token = Token(0);
    insert(c, batch, token, now)?;
    insert_blocks(c, batch.id, token, 0, blocks, now)?;
    finish(c, batch, token, hash, now)?;
    Ok(Submitted::New(batch.id))
}

pub(super) fn begin_load(
    c: &Connection,
    batch: &NewBatch,
    token: Token,
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    if let Some(there) = existing(c, batch, None)? {
        return Ok(there);
    }
    insert(c, batch, token, now)?;
    Ok(Submitted::New(batch.id))
}

pub(super) fn load(c: &Connection, piece: &LoadPiece, now: Timestamp) -> Result<(), StoreError> {
    insert_blocks(c, piece.id, piece.token, piece.first_no, &piece.blocks, now)
}

pub(super) fn finish_load(
    c: &Connection,
    batch: &NewBatch,
    token: Token,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<(Submitted, Option<Leftover>), StoreError> {
    let ours = guard(c, batch.id)?
        .is_some_and(|g| g.state == BatchState::Loading && g.load_token == Some(token.0));
    if ours {
        // The external id may have come in by another submit while this one was loading. Where it is
        // a duplicate, the load is removed by its loader, which hears of it.
        if let Some(there) = existing_external(c, batch, Some(hash))? {
            return Ok((there, take_load(c, batch.id, token.0)?));
        }
        retry::guard(c, batch, now)?;
        finish(c, batch, token, hash, now)?;
        return Ok((Submitted::New(batch.id), None));
    }
    // Another may have submitted the same meanwhile; one that still loads is no answer.
    let there = match guard(c, batch.id)? {
        Some(found) if found.state != BatchState::Loading => {
            let what = format!("id {}", batch.id);
            Some(repeat(c, batch, Some(hash), what, batch.id)?)
        }
        _ => existing_external(c, batch, Some(hash))?,
    };
    Ok((there.ok_or(StoreError::SubmitLost(batch.id))?, None))
}
