//! SQLite's side of the steps: statements on the connection of the thread that runs them.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, ToSql, params_from_iter};
use uuid::Uuid;

use super::errors::corrupt;
use super::sql::{hex, list};
use crate::model::BatchId;
use crate::store::StoreError;
use crate::store::steps::db::{Cell, Db, Insert, Many, Record, Savepoint, Sql, Value};

/// Runs a step to its end: nothing in it waits.
pub(super) fn now<T>(step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match pin!(step).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => Err(corrupt("a step on SQLite waited")),
    }
}

impl Db for Connection {
    async fn change(&self, sql: Sql, params: &[Value<'_>]) -> Result<u64, StoreError> {
        let changed = self
            .prepare_cached(sql.sqlite)?
            .execute(params_from_iter(params))?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    async fn all(&self, sql: Sql, params: &[Value<'_>]) -> Result<Vec<Record>, StoreError> {
        let mut statement = self.prepare_cached(sql.sqlite)?;
        let mut rows = statement.query(params_from_iter(params))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(record(sql, row)?);
        }
        Ok(found)
    }

    async fn one(&self, sql: Sql, params: &[Value<'_>]) -> Result<Option<Record>, StoreError> {
        let mut statement = self.prepare_cached(sql.sqlite)?;
        let mut rows = statement.query(params_from_iter(params))?;
        rows.next()?.map(|row| record(sql, row)).transpose()
    }

    async fn add(&self, insert: Insert, records: &Many<'_>) -> Result<(), StoreError> {
        let mut statement = self.prepare_cached(insert.sql.sqlite)?;
        for record in records.iter() {
            statement.execute(params_from_iter(record))?;
        }
        Ok(())
    }

    async fn each(&self, sql: Sql, asked: &Many<'_>) -> Result<Vec<Option<Record>>, StoreError> {
        let mut statement = self.prepare_cached(sql.sqlite)?;
        let mut found = Vec::with_capacity(asked.len());
        for params in asked.iter() {
            let mut rows = statement.query(params_from_iter(params))?;
            found.push(rows.next()?.map(|row| record(sql, row)).transpose()?);
        }
        Ok(found)
    }

    async fn locked(
        &self,
        _lock: Sql,
        sql: Sql,
        params: &[Value<'_>],
    ) -> Result<Option<Record>, StoreError> {
        self.one(sql, params).await
    }

    async fn savepoint(&self, what: Savepoint) -> Result<(), StoreError> {
        self.prepare_cached(what.sql())?.execute([])?;
        Ok(())
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn settle_later(&self, _id: BatchId) {}
}

fn record(sql: Sql, row: &Row<'_>) -> Result<Record, StoreError> {
    let count = row.as_ref().column_count();
    let mut cells = Vec::with_capacity(count);
    for at in 0..count {
        cells.push(match row.get_ref(at)? {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(value) => Cell::Int(value),
            ValueRef::Text(text) => Cell::Text(text_of(sql, text)?),
            // Of so many bytes nothing is kept but keys.
            ValueRef::Blob(bytes) => match Uuid::from_slice(bytes) {
                Ok(id) => Cell::Id(BatchId(id)),
                Err(_) => Cell::Bytes(bytes.to_vec()),
            },
            ValueRef::Real(_) => {
                let name = sql.name;
                return Err(corrupt(format!("column {at} of {name} is a fraction")));
            }
        });
    }
    Ok(Record {
        of: sql.name,
        cells,
    })
}

fn text_of(sql: Sql, text: &[u8]) -> Result<String, StoreError> {
    let text = std::str::from_utf8(text);
    let text = text.map_err(|e| corrupt(format!("a text of {}: {e}", sql.name)))?;
    Ok(text.to_owned())
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Bool(value) => ToSqlOutput::from(*value),
            Self::Int(value) => ToSqlOutput::from(*value),
            Self::Time(at) => ToSqlOutput::from(at.0),
            Self::Id(id) => ToSqlOutput::Borrowed(ValueRef::Blob(id.0.as_bytes())),
            Self::Text(text) => ToSqlOutput::from(*text),
            Self::Bytes(bytes) => ToSqlOutput::from(*bytes),
            Self::Rows(rows) => ToSqlOutput::from(list(rows)),
            Self::Numbers(numbers) => ToSqlOutput::from(list(numbers)),
            Self::Ids(ids) => ToSqlOutput::from(hex(ids)),
        })
    }
}
