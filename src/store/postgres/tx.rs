//! A transaction on a connection of the pool.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool_postgres::{Object, Pool};
use futures_util::FutureExt;
use tokio_postgres::Client;

use super::connect;
use super::errors::{is_unknown, is_without_begin, postgres_error};
use super::ready::Ready;
use crate::model::BatchId;
use crate::store::StoreError;
use crate::store::steps::db::Sql;

/// What is done where a transaction cannot begin.
const BEGINNING: &str = "beginning a transaction";

/// A connection with an open transaction, in which steps are made.
pub(super) trait Link {
    fn link(&self) -> Result<&Client, StoreError>;

    /// A statement of ours, prepared once where the connection keeps it.
    fn prepared(&self, sql: Sql) -> impl Future<Output = Result<Ready, StoreError>>;

    /// Whether something was changed.
    fn wrote(&self) -> &AtomicBool;

    /// Notes whether something was changed.
    fn wrote_some(&self, wrote: bool) {
        self.wrote().fetch_or(wrote, Ordering::Relaxed);
    }

    /// Batches that are to be looked at after the commit.
    fn later(&self) -> MutexGuard<'_, BTreeSet<BatchId>>;

    /// Whether the same step may have been committed before.
    fn is_again(&self) -> bool {
        false
    }

    /// A statement was answered.
    fn heard(&self) {}
}

/// An open transaction. Dropped before its end it takes its connection with it: the server undoes it.
pub(super) struct Tx {
    client: Option<Object>,
    /// Statements are prepared under names, and kept.
    named: bool,
    wrote: AtomicBool,
    later: Mutex<BTreeSet<BatchId>>,
    again: bool,
    heard: AtomicBool,
}

/// What a transaction did, once it is committed.
pub(super) struct Committed {
    /// It changed something.
    pub(super) wrote: bool,
    /// Batches that are to be looked at.
    pub(super) later: BTreeSet<BatchId>,
}

impl Tx {
    /// Begins with these settings: statements that hold until the transaction ends. They are sent without a wait:
    /// where it cannot begin, the first statement fails.
    pub(super) async fn begin(pool: &Pool, begin: &str, named: bool) -> Result<Self, StoreError> {
        let tx = Self::connected(pool, named).await?;
        // Sent when it is first polled. A connection that was lost before fails the first statement, too.
        drop(tx.client()?.batch_execute(begin).now_or_never());
        Ok(tx)
    }

    /// As [`Tx::begin`], and waits until it has begun: where something may be written outside of a transaction.
    pub(super) async fn begun(pool: &Pool, begin: &str, named: bool) -> Result<Self, StoreError> {
        let tx = Self::connected(pool, named).await?;
        let begun = tx.client()?.batch_execute(begin).await;
        match begun.map_err(postgres_error(BEGINNING)) {
            // The first statement fails, too, and is made on another.
            Err(error) if is_unknown(&error) => Ok(tx),
            begun => begun.map(|()| tx),
        }
    }

    async fn connected(pool: &Pool, named: bool) -> Result<Self, StoreError> {
        Ok(Self {
            client: Some(connect::get(pool).await?),
            named,
            again: false,
            heard: AtomicBool::new(false),
            wrote: AtomicBool::new(false),
            later: Mutex::default(),
        })
    }

    /// The same step may have been committed before: the answer to that was lost.
    pub(super) fn again(mut self, again: bool) -> Self {
        self.again = again;
        self
    }

    /// Whether anything was answered on it: if not, its connection may have been lost since it was last used.
    pub(super) fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn client(&self) -> Result<&Object, StoreError> {
        self.client
            .as_ref()
            .ok_or_else(|| StoreError::unavailable("using a transaction", "it has ended"))
    }

    /// Commits. An error says that nothing is known of it.
    pub(super) async fn commit(mut self) -> Result<Committed, StoreError> {
        let done = self.client()?.batch_execute("commit").await;
        done.map_err(postgres_error("committing"))?;
        // The connection is as it was, and goes back to the pool.
        drop(self.client.take());
        Ok(Committed {
            // Where it was made before, and nobody was told then, this is when others hear of it.
            wrote: self.again || self.wrote.load(Ordering::Relaxed),
            later: std::mem::take(&mut self.later()),
        })
    }

    /// Ends one that changed nothing: whoever has the connection next need not wait for it.
    pub(super) fn end_read(mut self) {
        if let Some(client) = self.client.take() {
            // Sent when it is first polled; a connection that is lost is seen by the next one.
            drop(client.batch_execute("end").now_or_never());
        }
    }

    /// Undoes all of it because of this; the cause is another where it could not begin.
    pub(super) async fn undo_for(self, begin: &str, error: StoreError) -> StoreError {
        let cause = if is_without_begin(&error)
            && let Some(client) = &self.client
            && client.batch_execute("rollback").await.is_ok()
        {
            client.batch_execute(begin).await.err()
        } else {
            None
        };
        self.rollback().await;
        cause.map_or(error, postgres_error(BEGINNING))
    }

    /// Undoes all of it.
    pub(super) async fn rollback(mut self) {
        if let Some(client) = &self.client
            && client.batch_execute("rollback").await.is_ok()
        {
            drop(self.client.take());
        }
    }
}

impl Link for Tx {
    fn link(&self) -> Result<&Client, StoreError> {
        let client: &Object = self.client()?;
        Ok(client)
    }

    async fn prepared(&self, sql: Sql) -> Result<Ready, StoreError> {
        if !self.named {
            return Ok(Ready::Unnamed(sql.postgres));
        }
        let statement = self.client()?.prepare_cached(sql.postgres).await;
        statement
            .map(Ready::Named)
            .map_err(postgres_error(sql.name))
    }

    fn wrote(&self) -> &AtomicBool {
        &self.wrote
    }

    fn later(&self) -> MutexGuard<'_, BTreeSet<BatchId>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_again(&self) -> bool {
        self.again
    }

    fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}
