//! Statements as they are sent: under the name that a session keeps, or without one, with their values as text of
//! types that the server finds out, as it does for named ones.

use std::error::Error;
use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row, Statement};

use super::errors::postgres_error;
use super::tx::Link;
use crate::model::Timestamp;
use crate::store::StoreError;
use crate::store::steps::db::{Sql, Us, Value, corrupt};

/// A statement that can be run.
pub(super) enum Ready {
    /// The session keeps it.
    Named(Statement),
    /// It is sent, planned and run at once, and leaves nothing behind.
    Unnamed(&'static str),
}

impl Ready {
    pub(super) async fn query(
        &self,
        client: &Client,
        params: &[Value<'_>],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        match self {
            Self::Named(statement) => client.query(statement, &refs(params)).await,
            Self::Unnamed(sql) => client.query_typed(sql, &typed(&plain(params))).await,
        }
    }

    /// How many records it changed.
    pub(super) async fn execute(
        &self,
        client: &Client,
        params: &[Value<'_>],
    ) -> Result<u64, tokio_postgres::Error> {
        match self {
            Self::Named(statement) => client.execute(statement, &refs(params)).await,
            Self::Unnamed(sql) => client.execute_typed(sql, &typed(&plain(params))).await,
        }
    }
}

/// What a statement finds that has no counterpart on SQLite: its values are the driver's own.
pub(super) async fn ask(
    link: &impl Link,
    sql: Sql,
    params: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, StoreError> {
    let found = match link.prepared(sql).await? {
        Ready::Named(statement) => {
            let values: Vec<&(dyn ToSql + Sync)> = params.iter().map(|(value, _)| *value).collect();
            link.link()?.query(&statement, &values).await
        }
        Ready::Unnamed(text) => link.link()?.query_typed(text, params).await,
    };
    let found = found.map_err(postgres_error(sql.name))?;
    link.heard();
    Ok(found)
}

/// Values as a named statement takes them.
pub(super) fn refs<'a>(params: &'a [Value<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|p| p as &(dyn ToSql + Sync)).collect()
}

/// A value as text.
#[derive(Debug)]
pub(super) struct Plain<'a>(&'a Value<'a>);

/// Values for a statement without a name: a type that is named `unknown` is found out from where it stands.
pub(super) fn plain<'a>(params: &'a [Value<'a>]) -> Vec<(Plain<'a>, Type)> {
    let plain = params.iter().map(|value| (Plain(value), Type::UNKNOWN));
    plain.collect()
}

/// Such parameters as the driver takes them.
pub(super) fn typed<'a>(params: &'a [(Plain<'a>, Type)]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let refs = params
        .iter()
        .map(|(value, of)| (value as &(dyn ToSql + Sync), of.clone()));
    refs.collect()
}

impl ToSql for Plain<'_> {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Value::Null => return Ok(IsNull::Yes),
            // It may stand for a number too.
            Value::Bool(value) => std::write!(out, "{}", u8::from(*value))?,
            Value::Int(value) => std::write!(out, "{value}")?,
            Value::Time(at) => out.put_slice(time(*at)?.as_bytes()),
            Value::Id(id) => std::write!(out, "{}", id.0)?,
            Value::Text(_) => return self.0.to_sql(of, out),
            Value::Bytes(bytes) => {
                out.put_slice(b"\\x");
                for byte in *bytes {
                    std::write!(out, "{byte:02x}")?;
                }
            }
            Value::Rows(rows) => list(rows.iter().map(|row| row.cast_signed()), out)?,
            Value::Numbers(numbers) => list(numbers.iter().copied(), out)?,
            Value::Ids(ids) => list(ids.iter().map(|id| id.0), out)?,
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

fn time(at: Us) -> Result<String, Box<dyn Error + Sync + Send>> {
    match at.0 {
        i64::MAX => return Ok("infinity".to_owned()),
        i64::MIN => return Ok("-infinity".to_owned()),
        _ => {}
    }
    let time = Timestamp::from_microsecond(at.0);
    let time = time.map_err(|e| Box::new(corrupt(format!("a time that there is not: {e}"))))?;
    Ok(time.to_string())
}

fn list<T: std::fmt::Display>(
    numbers: impl Iterator<Item = T>,
    out: &mut BytesMut,
) -> std::fmt::Result {
    let mut sign = '{';
    for number in numbers {
        std::write!(out, "{sign}{number}")?;
        sign = ',';
    }
    out.write_str(match sign {
        '{' => "{}",
        _ => "}",
    })
}
