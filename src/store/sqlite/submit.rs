//! submit, load and release: how a batch comes to be and its tasks with it.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::errors::corrupt;
use super::guard::{guard, op_id};
use super::release::give;
use super::single::{self, Known};
use super::sql::{batch_id, change, key, list, list_opt, one, sql, us, us_opt};
use crate::model::{BatchId, BatchState, Block, NewBatch, Timestamp, Token};
use crate::store::{LoadPiece, StoreError, Submitted};

/// A load whose loader has been silent for so long may be replaced and is swept.
pub(super) const SILENT: Duration = Duration::from_secs(60);
/// Blocks of an abandoned load that one step removes, so that others' commits wait for none longer.
pub(super) const DISCARD: i64 = 64;

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
            key(batch.id),
            None::<Vec<u8>>,
            0,
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

fn insert_blocks(
    c: &Connection,
    id: BatchId,
    token: Token,
    first_no: i64,
    blocks: &[Block],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (mut rows, mut bytes, mut last_line) = (0_i64, 0_i64, 0_i64);
    for (no, block) in (first_no..).zip(blocks) {
        change(
            c,
            sql!("submit_block"),
            params![
                key(id),
                no,
                block.first_line,
                block.rows,
                block.rejected.len(),
                list_opt(block.lines.as_deref()),
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
        rows += i64::from(block.rows);
        bytes += i64::try_from(block.body.len()).unwrap_or(i64::MAX);
        last_line = last_line.max(i64::from(block.last_line()));
    }
    let count = i64::try_from(blocks.len()).unwrap_or(i64::MAX);
    let changed = change(
        c,
        sql!("submit_loaded"),
        params![key(id), token.0, rows, bytes, count, last_line, us(now)],
    )?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::NotFound(id))
    }
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
        return Err(StoreError::NotFound(batch.id));
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

/// Looks for the same id or external id; an abandoned load under the id is removed.
fn existing(
    c: &Connection,
    batch: &NewBatch,
    hash: Option<[u8; 32]>,
    now: Timestamp,
) -> Result<Option<Submitted>, StoreError> {
    if let Some(found) = guard(c, batch.id)? {
        if found.state != BatchState::Loading {
            return repeat(c, batch, hash, format!("id {}", batch.id), batch.id).map(Some);
        }
        let silent_since = found.loaded_at.unwrap_or(0);
        if us(now) - silent_since < i64::try_from(SILENT.as_micros()).unwrap_or(i64::MAX) {
            return Err(StoreError::SubmitInProgress(batch.id));
        }
        // Whoever takes its id has to wait until the last block of it is gone.
        discard_piece(c, batch.id, i64::MAX)?;
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
    if let Some(there) = existing(c, batch, Some(hash), now)? {
        return Ok(there);
    }
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
    if let Some(there) = existing(c, batch, None, now)? {
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
) -> Result<Submitted, StoreError> {
    let ours = guard(c, batch.id)?
        .is_some_and(|g| g.state == BatchState::Loading && g.load_token == Some(token.0));
    if ours {
        // The external id may have come in by another submit while this one was loading. Where it is
        // a duplicate, the load is removed by its loader, which hears of it.
        if let Some(there) = existing_external(c, batch, Some(hash))? {
            discard(c, batch.id, token.0)?;
            return Ok(there);
        }
        finish(c, batch, token, hash, now)?;
        return Ok(Submitted::New(batch.id));
    }
    existing(c, batch, Some(hash), now)?.ok_or(StoreError::NotFound(batch.id))
}

/// Takes a load from its loader, under its token; its blocks are removed in pieces. False = fenced.
pub(super) fn discard(c: &Connection, id: BatchId, token: i64) -> Result<bool, StoreError> {
    // Under another token its loader can write no more.
    let abandoned = Token::random().map_err(|e| StoreError::unavailable("making a token", e))?;
    let params = params![key(id), token, abandoned.0];
    Ok(change(c, sql!("discard_mark"), params)? == 1)
}

/// Removes some blocks of an abandoned load, and with the last of them its record; true if all is gone.
pub(super) fn discard_piece(c: &Connection, id: BatchId, most: i64) -> Result<bool, StoreError> {
    if guard(c, id)?.is_none_or(|g| g.state != BatchState::Loading) {
        return Ok(true);
    }
    change(c, sql!("discard_attempts"), params![key(id), most])?;
    change(c, sql!("discard_blocks"), params![key(id), most])?;
    Ok(change(c, sql!("discard_batch"), [key(id)])? == 1)
}
