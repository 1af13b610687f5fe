//! discard: what an unfinished load or append left goes, a piece at a time.

use std::time::Duration;

use super::append;
use super::db::{Db, Us, change, params, sql, us};
use super::guard::guard;
use crate::model::{BatchId, BatchState, Timestamp, Token};
use crate::store::StoreError;

/// A load or append whose loader has been silent for so long may be replaced and is swept.
const SILENT: Duration = Duration::from_secs(60);
/// Blocks that one step removes, so that others' commits wait for none longer.
pub(in crate::store) const DISCARD: i64 = 64;

/// Whoever was heard last before this has been silent too long.
pub(in crate::store) fn silent_before(now: Timestamp) -> Us {
    Us(us(now).0 - i64::try_from(SILENT.as_micros()).unwrap_or(i64::MAX))
}

/// Blocks that never counted, under a token that no loader has.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Leftover {
    id: BatchId,
    token: i64,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Load,
    Append,
}

/// Takes a load from its loader, under its token; `None` = fenced.
pub(in crate::store) async fn take_load(
    c: &impl Db,
    id: BatchId,
    token: i64,
) -> Result<Option<Leftover>, StoreError> {
    // Under another token its loader can write no more.
    let abandoned = another_token()?;
    let marked = change(c, sql!("discard_mark"), params![id, token, abandoned]).await? == 1;
    Ok(marked.then_some(Leftover {
        id,
        token: abandoned,
        what: What::Load,
    }))
}

/// What became of a load that is in somebody's way.
pub(in crate::store) enum InTheWay {
    /// Its loader may go on.
    Stays,
    /// It is gone, or a batch by now.
    Gone,
    /// It was taken from its loader, and some of it is left.
    Left(Leftover),
}

/// Takes a load that has been silent too long, and removes some blocks of it: so that of several who
/// take it from each other each leaves less.
pub(in crate::store) async fn take_silent(
    c: &impl Db,
    id: BatchId,
    most: i64,
    now: Timestamp,
) -> Result<InTheWay, StoreError> {
    let Some(load) = guard(c, id)
        .await?
        .filter(|found| found.state == BatchState::Loading)
    else {
        return Ok(InTheWay::Gone);
    };
    if load.loaded_at.unwrap_or(Us(0)) > silent_before(now) {
        return Ok(InTheWay::Stays);
    }
    match take_load(c, id, load.load_token.unwrap_or(0)).await? {
        Some(left) if !left.remove(c, most).await? => Ok(InTheWay::Left(left)),
        _ => Ok(InTheWay::Gone),
    }
}

/// Takes an append from its loader, under its token; `None` = fenced.
pub(in crate::store) async fn take_append(
    c: &impl Db,
    id: BatchId,
    token: i64,
) -> Result<Option<Leftover>, StoreError> {
    let abandoned = another_token()?;
    let params = params![id, token, abandoned];
    let marked = change(c, sql!("discard_append_mark"), params).await? == 1;
    Ok(marked.then_some(Leftover {
        id,
        token: abandoned,
        what: What::Append,
    }))
}

fn another_token() -> Result<i64, StoreError> {
    let token = Token::random().map_err(|e| StoreError::unavailable("making a token", e))?;
    Ok(token.0)
}

impl Leftover {
    /// Removes some blocks, and with the last of them the record; true if all is gone.
    ///
    /// Another who removes the same, or loads anew under the same name, has another token by then.
    pub(in crate::store) async fn remove(self, c: &impl Db, most: i64) -> Result<bool, StoreError> {
        let id = self.id;
        let Some(first) = self.first_block(c).await? else {
            return Ok(true);
        };
        change(c, sql!("discard_attempts"), params![id, most, first]).await?;
        change(c, sql!("discard_blocks"), params![id, most, first]).await?;
        let gone = match self.what {
            What::Load => change(c, sql!("discard_batch"), params![id]).await?,
            What::Append => change(c, sql!("discard_append"), params![id, self.token]).await?,
        };
        Ok(gone == 1)
    }

    /// The first block that may go; `None` where the token is nobody's any more.
    async fn first_block(&self, c: &impl Db) -> Result<Option<i64>, StoreError> {
        match self.what {
            What::Load => {
                let load = guard(c, self.id)
                    .await?
                    .filter(|g| g.state == BatchState::Loading && g.load_token == Some(self.token));
                Ok(load.map(|_| 0))
            }
            What::Append => {
                // Under the same token again: its record is locked until these blocks are gone, for whoever takes the
                // place meanwhile stores blocks of the same numbers.
                let params = params![self.id, self.token, self.token];
                if change(c, sql!("discard_append_mark"), params).await? != 1 {
                    return Ok(None);
                }
                Ok(append::open(c, self.id).await?.map(|open| open.first_no))
            }
        }
    }
}
