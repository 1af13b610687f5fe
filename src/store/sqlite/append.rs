//! append, as others see it: what is in the way goes first, in pieces of its own.

use std::sync::Arc;

use rusqlite::Connection;

use super::SqliteStore;
use super::db::now as run;
use crate::model::{BatchId, Timestamp, Token};
use crate::store::steps::append::{self, Way};
use crate::store::steps::discard::take_append;
use crate::store::{Added, AppendBlocks, AppendContent, AppendPiece, Begun, NewAppend, StoreError};

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
            let step =
                move |c: &Connection| run(append::append(c, &asked.0, &asked.1, &asked.2, now));
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
            let step = move |c: &Connection| run(append::begin(c, &append, token, now));
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
        let step =
            move |c: &Connection| run(append::piece(c, next.batch, next.token, &next.blocks, now));
        self.write(step).await
    }

    pub(super) async fn append_finish(
        &self,
        append: NewAppend,
        token: Token,
        content: AppendContent,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        let step = move |c: &Connection| run(append::finish(c, &append, token, &content, now));
        let (added, left) = self.write(step).await?;
        if let Some(left) = left {
            self.discard_rest(left).await?;
        }
        Ok(added)
    }

    pub(super) async fn append_discard(&self, id: BatchId, token: Token) -> Result<(), StoreError> {
        let mark = move |c: &Connection| run(take_append(c, id, token.0));
        match self.write_soft(mark).await? {
            Some(left) => self.discard_rest(left).await,
            None => Ok(()),
        }
    }
}
