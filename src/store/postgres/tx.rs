//! A transaction on a connection of the pool.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool_postgres::{Object, Pool};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::connect;
use super::errors::postgres_error;
use crate::model::BatchId;
use crate::store::StoreError;

/// An open transaction. Dropped before its end it takes its connection with it: the server undoes it.
pub(super) struct Tx {
    client: Option<Object>,
    /// Statements are prepared under names, and kept.
    pub(super) named: bool,
    pub(super) wrote: AtomicBool,
    later: Mutex<BTreeSet<BatchId>>,
}

/// What a transaction did, once it is committed.
pub(super) struct Committed {
    /// It changed something.
    pub(super) wrote: bool,
    /// Batches that are to be looked at.
    pub(super) later: BTreeSet<BatchId>,
}

impl Tx {
    /// Begins with these settings: statements that hold until the transaction ends.
    pub(super) async fn begin(pool: &Pool, begin: &str, named: bool) -> Result<Self, StoreError> {
        let client = connect::get(pool).await?;
        let tx = Self {
            client: Some(client),
            named,
            wrote: AtomicBool::new(false),
            later: Mutex::default(),
        };
        let begun = tx.client()?.batch_execute(begin).await;
        begun.map_err(postgres_error("beginning a transaction"))?;
        Ok(tx)
    }

    pub(super) fn client(&self) -> Result<&Object, StoreError> {
        self.client
            .as_ref()
            .ok_or_else(|| StoreError::unavailable("using a transaction", "it has ended"))
    }

    /// What a statement finds that has no counterpart on SQLite.
    pub(super) async fn ask(
        &self,
        sql: &'static str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Some(client) = &self.client else {
            return Ok(Vec::new());
        };
        if !self.named {
            return client.query_typed(sql, params).await;
        }
        let statement = client.prepare_cached(sql).await?;
        let values: Vec<&(dyn ToSql + Sync)> = params.iter().map(|(value, _)| *value).collect();
        client.query(&statement, &values).await
    }

    pub(super) fn later(&self) -> MutexGuard<'_, BTreeSet<BatchId>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits. An error says that nothing is known of it.
    pub(super) async fn commit(mut self) -> Result<Committed, StoreError> {
        let done = self.client()?.batch_execute("commit").await;
        done.map_err(postgres_error("committing"))?;
        // The connection is as it was, and goes back to the pool.
        drop(self.client.take());
        Ok(Committed {
            wrote: self.wrote.load(Ordering::Relaxed),
            later: std::mem::take(&mut self.later()),
        })
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

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}
