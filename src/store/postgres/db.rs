//! PostgreSQL's side of the steps: statements in a transaction, values and records.

use std::error::Error;
use std::pin::pin;

use bytes::{BufMut, BytesMut};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row};

use super::bundle;
use super::errors::postgres_error;
use super::ready::{Ready, refs};
use super::tx::Link;
use crate::model::{BatchId, WorkerNo};
use crate::store::StoreError;
use crate::store::steps::db::{
    Bundles, Cell, Db, Insert, Many, Record, Savepoint, Sql, Us, Value, corrupt,
};
use crate::store::steps::together::together;

/// Microseconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH: i64 = 946_684_800_000_000;

/// The statement of `sql/postgres_alone/NAME.sql`, which has no counterpart on SQLite.
macro_rules! only {
    ($name:literal) => {
        $crate::store::steps::db::Sql {
            name: $name,
            sqlite: "",
            postgres: alone!($name),
        }
    };
}
pub(super) use only;

/// So many records are copied; of fewer each is a statement of its own, and all of them are sent together.
const COPY: usize = 4;
/// Statements that are sent before the first of them is answered.
const AHEAD: usize = 256;

impl<L: Link> Db for L {
    async fn change(&self, sql: Sql, params: &[Value<'_>]) -> Result<u64, StoreError> {
        let statement = self.prepared(sql).await?;
        let changed = statement.execute(self.link()?, params).await;
        let changed = changed.map_err(postgres_error(sql.name))?;
        self.heard();
        self.wrote_some(changed > 0);
        Ok(changed)
    }

    async fn all(&self, sql: Sql, params: &[Value<'_>]) -> Result<Vec<Record>, StoreError> {
        let statement = self.prepared(sql).await?;
        let rows = statement.query(self.link()?, params).await;
        let rows = rows.map_err(postgres_error(sql.name))?;
        self.heard();
        rows.iter().map(|row| record(sql, row)).collect()
    }

    async fn one(&self, sql: Sql, params: &[Value<'_>]) -> Result<Option<Record>, StoreError> {
        let found = self.all(sql, params).await?;
        Ok(found.into_iter().next())
    }

    async fn add(&self, insert: Insert, records: &Many<'_>) -> Result<(), StoreError> {
        let Insert { sql, copy } = insert;
        if records.len() == 0 {
            return Ok(());
        }
        self.wrote_some(true);
        let few = records.len() < COPY;
        // Its parameters have the columns' types. What has no name cannot be copied in: the driver names it.
        let statement = match self.prepared(sql).await? {
            Ready::Named(statement) if !few => statement,
            _ => {
                self.each(sql, records).await?;
                return Ok(());
            }
        };
        let failed = || postgres_error(sql.name);
        let copy = Sql {
            postgres: copy,
            ..sql
        };
        let Ready::Named(copy) = self.prepared(copy).await? else {
            return Err(corrupt("a statement to copy by has no name"));
        };
        let sink = self.link()?.copy_in(&copy).await.map_err(failed())?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, statement.params()));
        for record in records.iter() {
            // Waits until the server has taken what was written before: one record is in memory twice.
            let written = writer.as_mut().write(&refs(record)).await;
            written.map_err(failed())?;
        }
        writer.finish().await.map_err(failed())?;
        self.heard();
        Ok(())
    }

    async fn each(&self, sql: Sql, asked: &Many<'_>) -> Result<Vec<Option<Record>>, StoreError> {
        let statement = &self.prepared(sql).await?;
        let client = self.link()?;
        let mut found = Vec::with_capacity(asked.len());
        let asked: Vec<&[Value<'_>]> = asked.iter().collect();
        for some in asked.chunks(AHEAD) {
            let mut sent = Vec::with_capacity(some.len());
            for params in some {
                sent.push(first(client, statement, sql, params));
            }
            found.extend(together(sent).await?);
            self.heard();
        }
        Ok(found)
    }

    async fn locked(
        &self,
        lock: Sql,
        sql: Sql,
        params: &[Value<'_>],
    ) -> Result<Option<Record>, StoreError> {
        // What the connection has not prepared yet would let the second go first.
        self.prepared(lock).await?;
        self.prepared(sql).await?;
        // Sent together; the second is a statement of its own, and sees what the first waited for.
        let (locked, found) =
            futures_util::future::join(self.all(lock, params), self.one(sql, params)).await;
        locked?;
        found
    }

    async fn savepoint(&self, what: Savepoint) -> Result<(), StoreError> {
        let done = self.link()?.batch_execute(what.sql()).await;
        done.map_err(postgres_error("a savepoint"))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn settle_later(&self, id: BatchId) {
        self.later().insert(id);
    }

    fn is_again(&self) -> bool {
        Link::is_again(self)
    }

    fn bundles(&self) -> Option<Bundles> {
        Some(bundle::BUNDLES)
    }

    async fn loosen(&self, ids: &[BatchId]) -> Result<bool, StoreError> {
        bundle::loosen(self, ids).await
    }

    async fn loosen_of(&self, worker: WorkerNo) -> Result<(), StoreError> {
        bundle::loosen_of(self, worker).await
    }
}

/// The first record of a statement that is prepared.
async fn first(
    client: &Client,
    statement: &Ready,
    sql: Sql,
    params: &[Value<'_>],
) -> Result<Option<Record>, StoreError> {
    let rows = statement.query(client, params).await;
    let rows = rows.map_err(postgres_error(sql.name))?;
    rows.first().map(|row| record(sql, row)).transpose()
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
            Self::Ids(ids) => {
                let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
                return ids.to_sql(of, out);
            }
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
