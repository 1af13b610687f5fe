//! PostgreSQL's side of the steps: statements in a transaction, values and records.

use std::error::Error;
use std::sync::atomic::Ordering;

use bytes::{BufMut, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::errors::postgres_error;
use super::plain::{plain, typed};
use super::tx::Tx;
use crate::model::BatchId;
use crate::store::StoreError;
use crate::store::steps::db::{Cell, Db, Record, Savepoint, Sql, Us, Value, corrupt};

/// Microseconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH: i64 = 946_684_800_000_000;

impl Db for Tx {
    async fn change(&self, sql: Sql, params: &[Value<'_>]) -> Result<u64, StoreError> {
        let client = self.client()?;
        let failed = || postgres_error(sql.name);
        let changed = if self.named {
            let statement = client.prepare_cached(sql.postgres).await;
            let statement = statement.map_err(failed())?;
            client.execute(&statement, &refs(params)).await
        } else {
            client
                .execute_typed(sql.postgres, &typed(&plain(params)))
                .await
        };
        let changed = changed.map_err(failed())?;
        if changed > 0 {
            self.wrote.store(true, Ordering::Relaxed);
        }
        Ok(changed)
    }

    async fn all(&self, sql: Sql, params: &[Value<'_>]) -> Result<Vec<Record>, StoreError> {
        let client = self.client()?;
        let failed = || postgres_error(sql.name);
        let rows = if self.named {
            let statement = client.prepare_cached(sql.postgres).await;
            let statement = statement.map_err(failed())?;
            client.query(&statement, &refs(params)).await
        } else {
            client
                .query_typed(sql.postgres, &typed(&plain(params)))
                .await
        };
        let rows = rows.map_err(failed())?;
        rows.iter().map(|row| record(sql, row)).collect()
    }

    async fn one(&self, sql: Sql, params: &[Value<'_>]) -> Result<Option<Record>, StoreError> {
        let found = self.all(sql, params).await?;
        Ok(found.into_iter().next())
    }

    async fn locked(
        &self,
        lock: Sql,
        sql: Sql,
        params: &[Value<'_>],
    ) -> Result<Option<Record>, StoreError> {
        // Sent together; the second is a statement of its own, and sees what the first waited for.
        let (locked, found) =
            futures_util::future::join(self.all(lock, params), self.one(sql, params)).await;
        locked?;
        found
    }

    async fn savepoint(&self, what: Savepoint) -> Result<(), StoreError> {
        let done = self.client()?.batch_execute(what.sql()).await;
        done.map_err(postgres_error("a savepoint"))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn settle_later(&self, id: BatchId) {
        self.later().insert(id);
    }
}

pub(super) fn refs<'a>(params: &'a [Value<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|p| p as &(dyn ToSql + Sync)).collect()
}

pub(super) fn record(sql: Sql, row: &Row) -> Result<Record, StoreError> {
    let mut cells = Vec::with_capacity(row.len());
    for (at, column) in row.columns().iter().enumerate() {
        let cell = cell(row, at, column.type_());
        cells.push(cell.map_err(postgres_error(sql.name))?);
    }
    Ok(Record {
        of: sql.name,
        cells,
    })
}

fn cell(row: &Row, at: usize, of: &Type) -> Result<Cell, tokio_postgres::Error> {
    fn get<'a, T: FromSql<'a>>(
        row: &'a Row,
        at: usize,
        with: impl FnOnce(T) -> Cell,
    ) -> Result<Cell, tokio_postgres::Error> {
        Ok(row.try_get::<_, Option<T>>(at)?.map_or(Cell::Null, with))
    }
    match *of {
        Type::BOOL => get(row, at, |v: bool| Cell::Int(v.into())),
        Type::INT2 => get(row, at, |v: i16| Cell::Int(v.into())),
        Type::INT4 => get(row, at, |v: i32| Cell::Int(v.into())),
        Type::INT8 => get(row, at, Cell::Int),
        Type::TIMESTAMPTZ => get(row, at, |v: Us| Cell::Int(v.0)),
        Type::UUID => get(row, at, |v| Cell::Id(BatchId(v))),
        Type::BYTEA => get(row, at, Cell::Bytes),
        Type::INT4_ARRAY => get(row, at, |v: Vec<i32>| {
            let rows: Result<Vec<u32>, _> = v.into_iter().map(u32::try_from).collect();
            // What is no row is found by whoever looks at the list.
            rows.map_or_else(|_| Cell::Text("no rows".to_owned()), Cell::Rows)
        }),
        _ => get(row, at, Cell::Text),
    }
}

impl FromSql<'_> for Us {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let since_2000 = i64::from_be_bytes(raw.try_into()?);
        // `infinity` and `-infinity` are the ends of the range.
        Ok(Self(match since_2000 {
            i64::MAX | i64::MIN => since_2000,
            at => at.saturating_add(EPOCH),
        }))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::TIMESTAMPTZ
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Bool(value) => number(i64::from(*value), of, out)?,
            Self::Int(value) => number(*value, of, out)?,
            Self::Time(at) => out.put_i64(match at.0 {
                i64::MAX | i64::MIN => at.0,
                us => us.saturating_sub(EPOCH),
            }),
            Self::Id(id) => out.put_slice(id.0.as_bytes()),
            Self::Text(text) => {
                // What no row of ours has: the input and every outcome are JSON texts.
                if text.contains('\0') {
                    return Err("a text holds a NUL, which PostgreSQL cannot keep".into());
                }
                out.put_slice(text.as_bytes());
            }
            Self::Bytes(bytes) => out.put_slice(bytes),
            Self::Rows(rows) => {
                let rows: Vec<i32> = rows.iter().map(|row| row.cast_signed()).collect();
                return rows.to_sql(of, out);
            }
            Self::Numbers(numbers) => return numbers.to_sql(of, out),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A number in the width that the statement has for it.
fn number(value: i64, of: &Type, out: &mut BytesMut) -> Result<(), Box<dyn Error + Sync + Send>> {
    match *of {
        Type::BOOL => out.put_u8(u8::from(value != 0)),
        Type::INT2 => out.put_i16(value.try_into()?),
        Type::INT4 => out.put_i32(value.try_into()?),
        Type::INT8 => out.put_i64(value),
        _ => return Err(Box::new(corrupt(format!("a number where {of} is wanted")))),
    }
    Ok(())
}
