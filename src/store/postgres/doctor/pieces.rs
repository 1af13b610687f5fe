//! Reads of a look at a database, each a transaction of its own.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::super::STATEMENT;
use super::super::connect::Link;
use super::super::db::record;
use super::super::errors::postgres_error;
use super::super::plain::{plain, typed};
use crate::model::BatchId;
use crate::store::StoreError;
use crate::store::steps::db::{Db, Record, Savepoint, Sql, Value};

/// Reads on one connection; nothing is changed by them.
pub(super) struct Pieces {
    client: Link,
    begin: String,
}

impl Pieces {
    pub(super) fn new(client: Link, schema: &str) -> Self {
        let begin = format!(
            "begin read only; set local search_path to \"{schema}\"; set local statement_timeout to '{STATEMENT}'; set local jit to off"
        );
        Self { client, begin }
    }

    /// What a statement finds that has no counterpart on SQLite.
    pub(super) async fn ask(
        &self,
        sql: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, StoreError> {
        let failed = || postgres_error("looking at the database");
        let begun = self.client.batch_execute(&self.begin).await;
        begun.map_err(failed())?;
        let found = self.client.query_typed(sql, params).await;
        let ended = self.client.batch_execute("rollback").await;
        let found = found.map_err(failed())?;
        ended.map_err(failed())?;
        Ok(found)
    }
}

impl Db for Pieces {
    async fn change(&self, sql: Sql, _: &[Value<'_>]) -> Result<u64, StoreError> {
        let text = "a look changes nothing";
        Err(StoreError::unavailable(sql.name, text))
    }

    async fn all(&self, sql: Sql, params: &[Value<'_>]) -> Result<Vec<Record>, StoreError> {
        let found = self.ask(sql.postgres, &typed(&plain(params))).await?;
        found.iter().map(|row| record(sql, row)).collect()
    }

    async fn one(&self, sql: Sql, params: &[Value<'_>]) -> Result<Option<Record>, StoreError> {
        Ok(self.all(sql, params).await?.into_iter().next())
    }

    async fn locked(
        &self,
        _: Sql,
        sql: Sql,
        params: &[Value<'_>],
    ) -> Result<Option<Record>, StoreError> {
        self.one(sql, params).await
    }

    async fn savepoint(&self, _: Savepoint) -> Result<(), StoreError> {
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn settle_later(&self, _: BatchId) {}
}
