//! append: rows are added to a held batch, and count all at once.
//!
//! Blocks of an append lie beyond `batches.blocks`, where no reader looks, until one statement
//! raises that mark past them. Their numbers are used by no other append before they are gone.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::SqliteStore;
use super::discard::{Leftover, silent_before, take_append};
use super::errors::corrupt;
use super::guard::visible;
use super::release;
use super::sql::{change, key, one, sql, us};
use super::submit::insert_block;
use crate::model::{BatchId, BatchState, Block, Line, Timestamp, Token};
use crate::store::{
    Added, AppendBlocks, AppendContent, AppendPiece, Begun, NewAppend, StoreError, more_columns,
};

/// The token of an append that is begun and finished in one transaction.
const WHOLE: Token = Token(0);

/// What a step came to, or what is to be removed before it can be made.
enum Way<T> {
    Made(T),
    Blocked(Leftover),
}

/// An append that is being loaded.
pub(super) struct Open {
    pub(super) token: i64,
    at: i64,
    pub(super) first_no: i64,
    after_line: i64,
    added: Added,
    bytes: i64,
    blocks: i64,
}

/// The append of a batch that is being loaded, if there is one.
pub(super) fn open(c: &Connection, id: BatchId) -> Result<Option<Open>, StoreError> {
    one(c, sql!("append_open"), [key(id)], |r| {
        Ok(Open {
            token: r.get(0)?,
            at: r.get(1)?,
            first_no: r.get(2)?,
            after_line: r.get(3)?,
            added: Added {
                first_line: r.get(4)?,
                last_line: r.get(5)?,
                rows: r.get(6)?,
                repeated: false,
            },
            bytes: r.get(7)?,
            blocks: r.get(8)?,
        })
    })
}

/// The loader's own append; one that lost its place to silence hears of it.
fn ours(c: &Connection, id: BatchId, token: Token) -> Result<Open, StoreError> {
    let open = open(c, id)?.filter(|open| open.token == token.0);
    open.ok_or(StoreError::AppendLost(id))
}

/// Only a held batch takes an append.
fn held(c: &Connection, id: BatchId) -> Result<(), StoreError> {
    let found = visible(c, id)?.state;
    if found == BatchState::Wait {
        return Ok(());
    }
    Err(StoreError::WrongState {
        id,
        found: found.as_str(),
        needs: BatchState::Wait.as_str(),
    })
}

/// The append that a repeat would be of: that of its key, or without one the latest.
fn there(c: &Connection, append: &NewAppend) -> Result<Option<([u8; 32], Added)>, StoreError> {
    let read = |r: &Row<'_>| {
        let added = Added {
            rows: r.get(1)?,
            first_line: r.get(2)?,
            last_line: r.get(3)?,
            repeated: true,
        };
        Ok((r.get(0)?, added))
    };
    let id = key(append.batch);
    match &append.key {
        Some(name) => one(c, sql!("append_known"), params![id, name], read),
        None => one(c, sql!("append_latest"), [id], read),
    }
}

/// Answers a repeat. It may come when the batch has been released, by itself or by others.
fn repeat(
    c: &Connection,
    append: &NewAppend,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Option<Added>, StoreError> {
    let found = visible(c, append.batch)?.state;
    let Some((known, added)) = there(c, append)? else {
        return Ok(None);
    };
    if known != hash {
        return match &append.key {
            None => Ok(None),
            Some(key) => Err(StoreError::AppendDuplicate {
                id: append.batch,
                key: key.clone(),
            }),
        };
    }
    if append.release && found == BatchState::Wait {
        release::release(c, append.batch, &append.by, now)?;
    }
    Ok(Some(added))
}

/// Takes the one place of a batch's appends.
fn enter(
    c: &Connection,
    append: &NewAppend,
    token: Token,
    now: Timestamp,
) -> Result<Way<()>, StoreError> {
    let id = append.batch;
    held(c, id)?;
    if let Some(other) = open(c, id)? {
        if other.at > silent_before(now) {
            return Err(StoreError::AppendInProgress(id));
        }
        let left = take_append(c, id, other.token)?;
        return Ok(Way::Blocked(left.ok_or_else(|| {
            corrupt("an open append is under another token")
        })?));
    }
    let place = one(c, sql!("append_batch"), [key(id)], |r| {
        Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?))
    })?;
    let (last_line, blocks) = place.ok_or(StoreError::NotFound(id))?;
    change(
        c,
        sql!("append_begin"),
        params![
            key(id),
            blocks,
            append.key,
            last_line,
            append.by,
            us(now),
            token.0
        ],
    )?;
    Ok(Way::Made(()))
}

fn begin(
    c: &Connection,
    append: &NewAppend,
    token: Token,
    now: Timestamp,
) -> Result<Way<Begun>, StoreError> {
    let found = visible(c, append.batch)?.state;
    // Without a key, a repeat into a held batch is told when its content is known.
    let may_be_there = append.key.is_some() || found != BatchState::Wait;
    if may_be_there && there(c, append)?.is_some() {
        return Ok(Way::Made(Begun::Known));
    }
    Ok(match enter(c, append, token, now)? {
        Way::Made(()) => Way::Made(Begun::New),
        Way::Blocked(left) => Way::Blocked(left),
    })
}

fn piece(
    c: &Connection,
    id: BatchId,
    token: Token,
    blocks: &AppendBlocks,
    now: Timestamp,
) -> Result<(), StoreError> {
    held(c, id)?;
    let open = ours(c, id, token)?;
    let (mut rows, mut bytes, mut count) = (0_i64, 0_i64, 0_i64);
    let (mut first, mut last) = (None, i64::from(open.added.last_line));
    let following = blocks.following.iter().map(|b| (open.after_line, b));
    for (after, block) in following.chain(blocks.given.iter().map(|b| (0, b))) {
        let (from, to) = lines(after, block, last)?;
        let no = open.first_no + open.blocks + count;
        insert_block(c, id, no, block, after_as_line(after)?, now)?;
        first = first.or(Some(from));
        last = to;
        rows += i64::from(block.rows);
        bytes += i64::try_from(block.body.len()).unwrap_or(i64::MAX);
        count += 1;
    }
    let first = first.unwrap_or(i64::from(open.added.first_line));
    let params = params![key(id), token.0, rows, bytes, count, first, last, us(now)];
    if change(c, sql!("append_piece"), params)? == 1 {
        Ok(())
    } else {
        Err(StoreError::AppendLost(id))
    }
}

/// The lines of a block in its batch, which rise above the last one.
fn lines(after: i64, block: &Block, last: i64) -> Result<(i64, i64), StoreError> {
    let from = after + i64::from(block.first_line);
    let to = after + i64::from(block.last_line());
    if from <= last {
        return Err(StoreError::BadLine { line: from, last });
    }
    if to > i64::from(Line::MAX.0) {
        return Err(StoreError::BadLine { line: to, last });
    }
    Ok((from, to))
}

fn after_as_line(after: i64) -> Result<u32, StoreError> {
    u32::try_from(after).map_err(|_| corrupt(format!("a batch's last line is {after}")))
}

/// Makes the loader's append count, with the batch's release where that is asked.
fn count(
    c: &Connection,
    append: &NewAppend,
    token: Token,
    content: &AppendContent,
    now: Timestamp,
) -> Result<Added, StoreError> {
    let id = append.batch;
    held(c, id)?;
    let open = ours(c, id, token)?;
    let columns = one(c, sql!("append_batch"), [key(id)], |r| {
        r.get::<_, Option<String>>(2)
    })?;
    let columns = columns_of(columns.flatten(), content)?;
    let (added, first_no) = (open.added, open.first_no);
    let (rows, last) = (added.rows, added.last_line);
    let params = params![
        key(id),
        first_no,
        rows,
        open.bytes,
        open.blocks,
        last,
        columns
    ];
    if change(c, sql!("append_count"), params)? != 1 {
        return Err(corrupt(format!(
            "an append to batch {id} does not begin where the batch ends"
        )));
    }
    let params = params![key(id), token.0, content.hash, us(now)];
    if change(c, sql!("append_done"), params)? != 1 {
        return Err(StoreError::AppendLost(id));
    }
    let params = params![us(now), append.by, "append", key(id)];
    change(c, sql!("audit_add"), params)?;
    if append.release {
        release::release(c, id, &append.by, now)?;
    }
    Ok(added)
}

/// The batch's columns, with those that only the append has.
fn columns_of(
    columns: Option<String>,
    content: &AppendContent,
) -> Result<Option<String>, StoreError> {
    let (Some(there), Some(appended)) = (&columns, &content.columns) else {
        return Ok(columns);
    };
    let names: Vec<String> =
        serde_json::from_str(there).map_err(|e| corrupt(format!("columns: {e}")))?;
    match more_columns(&names, appended) {
        None => Ok(columns),
        Some(names) => {
            let text = serde_json::to_string(&names).map_err(|e| corrupt(e.to_string()))?;
            Ok(Some(text))
        }
    }
}

fn append(
    c: &Connection,
    append: &NewAppend,
    blocks: &AppendBlocks,
    content: &AppendContent,
    now: Timestamp,
) -> Result<Way<Added>, StoreError> {
    if let Some(there) = repeat(c, append, content.hash, now)? {
        return Ok(Way::Made(there));
    }
    if let Way::Blocked(left) = enter(c, append, WHOLE, now)? {
        return Ok(Way::Blocked(left));
    }
    piece(c, append.batch, WHOLE, blocks, now)?;
    Ok(Way::Made(count(c, append, WHOLE, content, now)?))
}

fn finish(
    c: &Connection,
    append: &NewAppend,
    token: Token,
    content: &AppendContent,
    now: Timestamp,
) -> Result<(Added, Option<Leftover>), StoreError> {
    if let Some(there) = repeat(c, append, content.hash, now)? {
        return Ok((there, take_append(c, append.batch, token.0)?));
    }
    Ok((count(c, append, token, content, now)?, None))
}

/// The steps as others see them: what is in the way goes first, in pieces of its own.
impl SqliteStore {
    pub(super) async fn append_whole(
        &self,
        append: NewAppend,
        blocks: AppendBlocks,
        content: AppendContent,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        let asked = Arc::new((append, blocks, content));
        loop {
            let asked = Arc::clone(&asked);
            let step = move |c: &Connection| self::append(c, &asked.0, &asked.1, &asked.2, now);
            match self.write(step).await? {
                Way::Made(added) => return Ok(added),
                Way::Blocked(left) => self.discard_rest(left).await?,
            }
        }
    }

    pub(super) async fn append_begin(
        &self,
        append: NewAppend,
        token: Token,
        now: Timestamp,
    ) -> Result<Begun, StoreError> {
        loop {
            let append = append.clone();
            let step = move |c: &Connection| begin(c, &append, token, now);
            match self.write_soft(step).await? {
                Way::Made(begun) => return Ok(begun),
                Way::Blocked(left) => self.discard_rest(left).await?,
            }
        }
    }

    pub(super) async fn append_next(
        &self,
        next: AppendPiece,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // Synced as the pieces of a load are: nobody else is to wait for all of it.
        let step = move |c: &Connection| piece(c, next.batch, next.token, &next.blocks, now);
        self.write(step).await
    }

    pub(super) async fn append_finish(
        &self,
        append: NewAppend,
        token: Token,
        content: AppendContent,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        let step = move |c: &Connection| finish(c, &append, token, &content, now);
        let (added, left) = self.write(step).await?;
        if let Some(left) = left {
            self.discard_rest(left).await?;
        }
        Ok(added)
    }

    pub(super) async fn append_discard(&self, id: BatchId, token: Token) -> Result<(), StoreError> {
        let mark = move |c: &Connection| take_append(c, id, token.0);
        match self.write_soft(mark).await? {
            Some(left) => self.discard_rest(left).await,
            None => Ok(()),
        }
    }
}
