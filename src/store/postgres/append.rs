//! append, as others see it: what is in the way goes first, in pieces of its own.

use super::PostgresStore;
use crate::model::{BatchId, Timestamp, Token};
use crate::store::steps::append::{self, Way};
use crate::store::steps::discard::take_append;
use crate::store::{Added, AppendBlocks, AppendContent, Begun, NewAppend, StoreError};

impl PostgresStore {
    pub(super) async fn append_whole(
        &self,
        append: &NewAppend,
        blocks: &AppendBlocks,
        content: &AppendContent,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        loop {
            let made = write!(self, now, tx => append::append(&tx, append, blocks, content, now));
            match made.await? {
                Way::Made(added) => return Ok(added),
                Way::Blocked(left) => self.discard_rest(left, now).await?,
            }
        }
    }

    pub(super) async fn append_begin(
        &self,
        append: &NewAppend,
        token: Token,
        now: Timestamp,
    ) -> Result<Begun, StoreError> {
        loop {
            match write!(self, now, tx => append::begin(&tx, append, token, now)).await? {
                Way::Made(begun) => return Ok(begun),
                Way::Blocked(left) => self.discard_rest(left, now).await?,
            }
        }
    }

    pub(super) async fn append_finish(
        &self,
        append: &NewAppend,
        token: Token,
        content: &AppendContent,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        let made = write!(self, now, tx => append::finish(&tx, append, token, content, now));
        let (added, left) = made.await?;
        if let Some(left) = left {
            self.discard_rest(left, now).await?;
        }
        Ok(added)
    }

    pub(super) async fn append_discard(&self, id: BatchId, token: Token) -> Result<(), StoreError> {
        let now = self.now();
        match write!(self, now, tx => take_append(&tx, id, token.0)).await? {
            Some(left) => self.discard_rest(left, now).await,
            None => Ok(()),
        }
    }
}
