//! append: rows are added to a held batch, and count all at once.
//!
//! Blocks of an append lie beyond `batches.blocks`, where no reader looks, until one statement
//! raises that mark past them. Their numbers are used by no other append before they are gone.

use super::db::{Db, Record, Us, change, corrupt, one, params, sql, us};
use super::discard::{Leftover, silent_before, take_append};
use super::guard::visible;
use super::release;
use super::submit::{Placed, insert_blocks};
use crate::model::{BatchId, BatchState, Block, Line, Timestamp, Token};
use crate::store::{
    Added, AppendBlocks, AppendContent, Begun, NewAppend, StoreError, more_columns,
};

/// The token of an append that is begun and finished in one transaction.
const WHOLE: Token = Token(0);

/// What a step came to, or what is to be removed before it can be made.
pub(in crate::store) enum Way<T> {
    Made(T),
    Blocked(Leftover),
}

/// An append that is being loaded.
pub(in crate::store) struct Open {
    pub(in crate::store) token: i64,
    at: Us,
    pub(in crate::store) first_no: i64,
    after_line: i64,
    added: Added,
    bytes: i64,
    blocks: i64,
}

/// The append of a batch that is being loaded, if there is one.
pub(in crate::store) async fn open(c: &impl Db, id: BatchId) -> Result<Option<Open>, StoreError> {
    one(c, sql!("append_open"), params![id], |r| {
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
    .await
}

/// The loader's own append; one that lost its place to silence hears of it.
async fn ours(c: &impl Db, id: BatchId, token: Token) -> Result<Open, StoreError> {
    let open = open(c, id).await?.filter(|open| open.token == token.0);
    open.ok_or(StoreError::AppendLost(id))
}

/// Only a held batch takes an append.
async fn held(c: &impl Db, id: BatchId) -> Result<(), StoreError> {
    let found = visible(c, id).await?.state;
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
async fn there(c: &impl Db, append: &NewAppend) -> Result<Option<([u8; 32], Added)>, StoreError> {
    let read = |r: &mut Record| {
        let added = Added {
            rows: r.get(1)?,
            first_line: r.get(2)?,
            last_line: r.get(3)?,
            repeated: true,
        };
        Ok((r.get(0)?, added))
    };
    let id = append.batch;
    match &append.key {
        Some(name) => one(c, sql!("append_known"), params![id, name], read).await,
        None => one(c, sql!("append_latest"), params![id], read).await,
    }
}

/// Answers a repeat. It may come when the batch has been released, by itself or by others.
async fn repeat(
    c: &impl Db,
    append: &NewAppend,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Option<Added>, StoreError> {
    let found = visible(c, append.batch).await?.state;
    let Some((known, added)) = there(c, append).await? else {
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
        release::release(c, append.batch, append.by.as_str(), now).await?;
    }
    Ok(Some(added))
}

/// Takes the one place of a batch's appends.
async fn enter(
    c: &impl Db,
    append: &NewAppend,
    token: Token,
    now: Timestamp,
) -> Result<Way<()>, StoreError> {
    let id = append.batch;
    held(c, id).await?;
    while let Some(other) = open(c, id).await? {
        if c.is_again() && other.token == token.0 {
            return Ok(Way::Made(()));
        }
        if other.at > silent_before(now) {
            return Err(StoreError::AppendInProgress(id));
        }
        if let Some(left) = take_append(c, id, other.token).await? {
            return Ok(Way::Blocked(left));
        }
        // Whoever sweeps it was first, and may have removed the last of it: nobody begins another meanwhile.
    }
    let place = one(c, sql!("append_batch"), params![id], |r| {
        Ok((r.get::<i64>(0)?, r.get::<i64>(1)?))
    })
    .await?;
    let (last_line, blocks) = place.ok_or(StoreError::NotFound(id))?;
    change(
        c,
        sql!("append_begin"),
        params![
            id,
            blocks,
            append.key.as_deref(),
            last_line,
            append.by.as_str(),
            us(now),
            token.0
        ],
    )
    .await?;
    Ok(Way::Made(()))
}

pub(in crate::store) async fn begin(
    c: &impl Db,
    append: &NewAppend,
    token: Token,
    now: Timestamp,
) -> Result<Way<Begun>, StoreError> {
    let found = visible(c, append.batch).await?.state;
    // Without a key, a repeat into a held batch is told when its content is known.
    let may_be_there = append.key.is_some() || found != BatchState::Wait;
    if may_be_there && there(c, append).await?.is_some() {
        return Ok(Way::Made(Begun::Known));
    }
    Ok(match enter(c, append, token, now).await? {
        Way::Made(()) => Way::Made(Begun::New),
        Way::Blocked(left) => Way::Blocked(left),
    })
}

pub(in crate::store) async fn piece(
    c: &impl Db,
    id: BatchId,
    token: Token,
    blocks: &AppendBlocks,
    now: Timestamp,
) -> Result<(), StoreError> {
    held(c, id).await?;
    let open = ours(c, id, token).await?;
    // Lines rise: where the last one is this piece's, it has been added before.
    if c.is_again() && last_of(blocks, open.after_line) == Some(open.added.last_line.into()) {
        return Ok(());
    }
    let (mut rows, mut bytes, mut count) = (0_i64, 0_i64, 0_i64);
    let (mut first, mut last) = (None, i64::from(open.added.last_line));
    let following = blocks.following.iter().map(|b| (open.after_line, b));
    let mut placed = Vec::new();
    for (after, block) in following.chain(blocks.given.iter().map(|b| (0, b))) {
        let (from, to) = lines(after, block, last)?;
        let no = open.first_no + open.blocks + count;
        let after = after_as_line(after)?;
        placed.push(Placed { no, after, block });
        first = first.or(Some(from));
        last = to;
        rows += i64::from(block.rows);
        bytes += i64::try_from(block.body.len()).unwrap_or(i64::MAX);
        count += 1;
    }
    insert_blocks(c, id, &placed, now).await?;
    let first = first.unwrap_or(i64::from(open.added.first_line));
    let params = params![id, token.0, rows, bytes, count, first, last, us(now)];
    if change(c, sql!("append_piece"), params).await? == 1 {
        Ok(())
    } else {
        Err(StoreError::AppendLost(id))
    }
}

/// The last line of a piece in its batch.
fn last_of(blocks: &AppendBlocks, after_line: i64) -> Option<i64> {
    let given = blocks.given.last().map(|b| i64::from(b.last_line()));
    let following = blocks.following.last();
    given.or(following.map(|b| after_line + i64::from(b.last_line())))
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
async fn count(
    c: &impl Db,
    append: &NewAppend,
    token: Token,
    content: &AppendContent,
    now: Timestamp,
) -> Result<Added, StoreError> {
    let id = append.batch;
    held(c, id).await?;
    let open = ours(c, id, token).await?;
    let columns = one(c, sql!("append_batch"), params![id], |r| {
        r.get::<Option<String>>(2)
    })
    .await?;
    let columns = columns_of(columns.flatten(), content)?;
    let (added, first_no) = (open.added, open.first_no);
    let (rows, last) = (added.rows, added.last_line);
    let params = params![
        id,
        first_no,
        rows,
        open.bytes,
        open.blocks,
        last,
        columns.as_deref()
    ];
    if change(c, sql!("append_count"), params).await? != 1 {
        return Err(corrupt(format!(
            "an append to batch {id} does not begin where the batch ends"
        )));
    }
    let params = params![id, token.0, &content.hash, us(now)];
    if change(c, sql!("append_done"), params).await? != 1 {
        return Err(StoreError::AppendLost(id));
    }
    let params = params![us(now), append.by.as_str(), "append", id];
    change(c, sql!("audit_add"), params).await?;
    if append.release {
        release::release(c, id, append.by.as_str(), now).await?;
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

pub(in crate::store) async fn append(
    c: &impl Db,
    append: &NewAppend,
    blocks: &AppendBlocks,
    content: &AppendContent,
    now: Timestamp,
) -> Result<Way<Added>, StoreError> {
    if let Some(there) = repeat(c, append, content.hash, now).await? {
        return Ok(Way::Made(there));
    }
    if let Way::Blocked(left) = enter(c, append, WHOLE, now).await? {
        return Ok(Way::Blocked(left));
    }
    piece(c, append.batch, WHOLE, blocks, now).await?;
    Ok(Way::Made(count(c, append, WHOLE, content, now).await?))
}

pub(in crate::store) async fn finish(
    c: &impl Db,
    append: &NewAppend,
    token: Token,
    content: &AppendContent,
    now: Timestamp,
) -> Result<(Added, Option<Leftover>), StoreError> {
    if let Some(there) = repeat(c, append, content.hash, now).await? {
        return Ok((there, take_append(c, append.batch, token.0).await?));
    }
    Ok((count(c, append, token, content, now).await?, None))
}
