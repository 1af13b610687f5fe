//! Reads of a look at a database, each a transaction of its own.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::super::STATEMENT;
use super::super::connect::Line;
use super::super::db::record;
use super::super::errors::postgres_error;
use super::super::ready::{plain, typed};
use crate::model::BatchId;
use crate::store::StoreError;
use crate::store::steps::db::{Db, Insert, Many, Record, Savepoint, Sql, Value};

/// Reads on one connection; nothing is changed by them.
pub(super) struct Pieces {
    client: Line,
    begin: String,
}

impl Pieces {
    pub(super) fn new(client: Line, schema: &str) -> Self {
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

fn changes(sql: Sql) -> StoreError {
    StoreError::unavailable(sql.name, "a look changes nothing")
}

impl Db for Pieces {
    async fn change(&self, sql: Sql, _: &[Value<'_>]) -> Result<u64, StoreError> {
        Err(changes(sql))
    }

    async fn add(&self, insert: Insert, _: &Many<'_>) -> Result<(), StoreError> {
        Err(changes(insert.sql))
    }

    async fn each(&self, sql: Sql, asked: &Many<'_>) -> Result<Vec<Option<Record>>, StoreError> {
        let mut found = Vec::with_capacity(asked.len());
        for params in asked.iter() {
            found.push(self.one(sql, params).await?);
        }
        Ok(found)
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
