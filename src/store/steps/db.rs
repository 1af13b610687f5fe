//! What the steps ask of a database: named statements in a transaction, values in and records out.

use std::borrow::Cow;
use std::future::ready;

use jiff::Timestamp;

use crate::model::{BatchId, WorkerNo};
use crate::store::StoreError;

/// A statement in each dialect; the files have the same name.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Sql {
    /// The files' name without the ending.
    pub(in crate::store) name: &'static str,
    pub(in crate::store) sqlite: &'static str,
    pub(in crate::store) postgres: &'static str,
}

/// The statement of `sql/*/NAME.sql`.
macro_rules! sql {
    ($name:literal) => {
        $crate::store::steps::db::Sql {
            name: $name,
            sqlite: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/sql/sqlite/",
                $name,
                ".sql"
            )),
            postgres: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/sql/postgres/",
                $name,
                ".sql"
            )),
        }
    };
}
pub(in crate::store) use sql;

/// A statement that adds one record, and how PostgreSQL takes many.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Insert {
    pub(in crate::store) sql: Sql,
    /// A COPY of the same columns, in the order of the statement's parameters.
    pub(in crate::store) copy: &'static str,
}

/// The statement with the COPY of `sql/postgres_alone/COPY.sql`.
macro_rules! insert {
    ($sql:expr, $copy:literal) => {
        $crate::store::steps::db::Insert {
            sql: $sql,
            copy: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/sql/postgres_alone/",
                $copy,
                ".sql"
            )),
        }
    };
}
pub(in crate::store) use insert;

/// The parameters of a statement, in their order.
macro_rules! params {
    () => {
        [$crate::store::steps::db::Value::Null; 0]
    };
    ($($value:expr),* $(,)?) => {
        [$($crate::store::steps::db::Value::from($value)),*]
    };
}
pub(in crate::store) use params;

/// An open transaction, or a connection that reads.
///
/// SQLite's steps run on a thread of their own and never wait: their futures are ready when they are
/// first polled. PostgreSQL's wait for the server.
pub(in crate::store) trait Db {
    /// Runs a statement that changes something; returns how many records it changed.
    fn change(
        &self,
        sql: Sql,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, StoreError>>;

    /// Reads all records of a statement.
    fn all(
        &self,
        sql: Sql,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Record>, StoreError>>;

    /// Reads the first record of a statement, if there is one.
    fn one(
        &self,
        sql: Sql,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<Record>, StoreError>>;

    /// Adds many records by one statement, or in bulk where the database can.
    fn add(
        &self,
        insert: Insert,
        records: &Many<'_>,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Runs a statement once for each of these parameters, without a wait between them; returns the first
    /// record of each.
    fn each(
        &self,
        sql: Sql,
        asked: &Many<'_>,
    ) -> impl Future<Output = Result<Vec<Option<Record>>, StoreError>>;

    /// Locks what `lock` names until the transaction ends, and reads what it is then. Both have the
    /// same parameters.
    ///
    /// On SQLite whoever writes is alone.
    fn locked(
        &self,
        lock: Sql,
        sql: Sql,
        params: &[Value<'_>],
    ) -> impl Future<Output = Result<Option<Record>, StoreError>>;

    /// Begins, undoes or ends a part of the transaction that may be undone alone.
    fn savepoint(&self, what: Savepoint) -> impl Future<Output = Result<(), StoreError>>;

    /// Whether others write at the same moment.
    fn is_shared(&self) -> bool;

    /// Asks, after the commit and in a step of its own, whether a batch has ended: so that the later
    /// of two that end its last tasks sees both.
    fn settle_later(&self, id: BatchId);

    /// Whether this same step may have been committed before: the answer to its commit was lost. What it
    /// finds once it holds its locks says whether it was.
    fn is_again(&self) -> bool {
        false
    }

    /// How tasks of batches of one row come to stand together; none where each stands alone.
    fn bundles(&self) -> Option<Bundles> {
        None
    }

    /// Makes each of the tasks with which these batches' stand together one of its own; whether there were any.
    fn loosen(&self, _: &[BatchId]) -> impl Future<Output = Result<bool, StoreError>> {
        ready(Ok(false))
    }

    /// The same with all that a worker runs.
    fn loosen_of(&self, _: WorkerNo) -> impl Future<Output = Result<(), StoreError>> {
        ready(Ok(()))
    }
}

/// How batches come to be whose tasks stand together, and how those do.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Bundles {
    /// As a batch that is whole, and its bundle.
    pub(in crate::store) batches: Insert,
    /// A bundle, its op, priority, turn and age, how many, and which batches.
    pub(in crate::store) tasks: Sql,
}

/// What is done with the one savepoint of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Savepoint {
    Begin,
    Undo,
    End,
}

impl Savepoint {
    /// The statement, which is the same in both dialects.
    pub(in crate::store) fn sql(self) -> &'static str {
        match self {
            Self::Begin => "savepoint apart",
            Self::Undo => "rollback to savepoint apart",
            Self::End => "release savepoint apart",
        }
    }
}

/// Runs a statement that changes something; returns how many records it changed.
pub(in crate::store) async fn change(
    c: &impl Db,
    sql: Sql,
    params: impl AsRef<[Value<'_>]>,
) -> Result<u64, StoreError> {
    c.change(sql, params.as_ref()).await
}

/// Reads the first record of a statement, if there is one.
pub(in crate::store) async fn one<T>(
    c: &impl Db,
    sql: Sql,
    params: impl AsRef<[Value<'_>]>,
    read: impl FnOnce(&mut Record) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let found = c.one(sql, params.as_ref()).await?;
    found.map(|mut record| read(&mut record)).transpose()
}

/// Locks, and then reads the first record of a statement, if there is one.
pub(in crate::store) async fn locked<T>(
    c: &impl Db,
    lock: Sql,
    sql: Sql,
    params: impl AsRef<[Value<'_>]>,
    read: impl FnOnce(&mut Record) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let found = c.locked(lock, sql, params.as_ref()).await?;
    found.map(|mut record| read(&mut record)).transpose()
}

/// Reads all records of a statement.
pub(in crate::store) async fn all<T>(
    c: &impl Db,
    sql: Sql,
    params: impl AsRef<[Value<'_>]>,
    mut read: impl FnMut(&mut Record) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let found = c.all(sql, params.as_ref()).await?;
    found
        .into_iter()
        .map(|mut record| read(&mut record))
        .collect()
}

/// A parameter.
#[derive(Clone, Copy)]
pub(in crate::store) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Time(Us),
    Id(BatchId),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Rows of a block, or their lines.
    Rows(&'a [u32]),
    /// Numbers of records.
    Numbers(&'a [i64]),
    Ids(&'a [BatchId]),
}

/// The parameters of one statement for many records, a record after the other.
#[derive(Debug)]
pub(in crate::store) struct Many<'a> {
    width: usize,
    values: Vec<Value<'a>>,
}

impl<'a> Many<'a> {
    /// All of them have the same number of parameters.
    pub(in crate::store) fn of<const N: usize>(
        records: impl IntoIterator<Item = [Value<'a>; N]>,
    ) -> Self {
        Self {
            width: N,
            values: records.into_iter().flatten().collect(),
        }
    }

    /// How many records.
    pub(in crate::store) fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    pub(in crate::store) fn iter(&self) -> impl ExactSizeIterator<Item = &[Value<'a>]> {
        self.values.chunks_exact(self.width.max(1))
    }
}

/// What the driver logs of it: never a row's text.
impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Time(at) => at.0.fmt(f),
            Self::Id(id) => id.fmt(f),
            Self::Text(text) => write!(f, "a text of {} bytes", text.len()),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Rows(rows) => write!(f, "{} rows", rows.len()),
            Self::Numbers(numbers) => write!(f, "{} numbers", numbers.len()),
            Self::Ids(ids) => write!(f, "{} batches", ids.len()),
        }
    }
}

/// Microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) struct Us(pub(in crate::store) i64);

/// A time as it is stored.
pub(in crate::store) fn us(at: Timestamp) -> Us {
    Us(at.as_microsecond())
}

pub(in crate::store) fn us_opt(at: Option<Timestamp>) -> Option<Us> {
    at.map(us)
}

/// A stored time.
pub(in crate::store) fn time(at: Us) -> Timestamp {
    // Only what `us` wrote is read; out of range can only be damage, and the epoch shows it.
    Timestamp::from_microsecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl<'a, T> From<Option<T>> for Value<'a>
where
    Value<'a>: From<T>,
{
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::from)
    }
}

macro_rules! from {
    ($($type:ty => |$value:ident| $made:expr;)+) => {
        $(impl<'a> From<$type> for Value<'a> {
            fn from($value: $type) -> Self {
                $made
            }
        })+
    };
}

from! {
    bool => |value| Value::Bool(value);
    i64 => |value| Value::Int(value);
    i32 => |value| Value::Int(value.into());
    u32 => |value| Value::Int(value.into());
    u64 => |value| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
    usize => |value| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
    Us => |value| Value::Time(value);
    BatchId => |value| Value::Id(value);
    &'a str => |value| Value::Text(value);
    &'a String => |value| Value::Text(value);
    &'a [u8] => |value| Value::Bytes(value);
    &'a [u8; 32] => |value| Value::Bytes(value);
    &'a [u32] => |value| Value::Rows(value);
    &'a Vec<u32> => |value| Value::Rows(value);
    &'a Cow<'a, [u32]> => |value| Value::Rows(value);
    &'a [i64] => |value| Value::Numbers(value);
    &'a [BatchId] => |value| Value::Ids(value);
}

/// One column of a record that was read.
#[derive(Debug, Default)]
pub(in crate::store) enum Cell {
    #[default]
    Null,
    Int(i64),
    Id(BatchId),
    Text(String),
    Bytes(Vec<u8>),
    Rows(Vec<u32>),
}

/// A record that was read.
#[derive(Debug)]
pub(in crate::store) struct Record {
    /// The statement's name, for the operator.
    pub(in crate::store) of: &'static str,
    pub(in crate::store) cells: Vec<Cell>,
}

impl Record {
    /// Takes a column; a number may be taken again.
    pub(in crate::store) fn get<T: Column>(&mut self, at: usize) -> Result<T, StoreError> {
        let cell = self.cells.get_mut(at).map(|cell| match cell {
            Cell::Int(value) => Cell::Int(*value),
            Cell::Id(id) => Cell::Id(*id),
            cell => std::mem::take(cell),
        });
        let of = self.of;
        let wrong = || corrupt(format!("{}: column {at} of {of} is none", T::WHAT));
        T::of(cell.unwrap_or_default()).ok_or_else(wrong)
    }
}

/// What a column can be read as.
pub(in crate::store) trait Column: Sized {
    /// What it is, for the operator.
    const WHAT: &'static str;

    /// `None`: it is something else.
    fn of(cell: Cell) -> Option<Self>;
}

impl<T: Column> Column for Option<T> {
    const WHAT: &'static str = T::WHAT;

    fn of(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => T::of(cell).map(Some),
        }
    }
}

macro_rules! column {
    ($($type:ty, $what:literal => $($pattern:pat => $made:expr),+;)+) => {
        $(impl Column for $type {
            const WHAT: &'static str = $what;

            fn of(cell: Cell) -> Option<Self> {
                match cell {
                    $($pattern => $made,)+
                    _ => None,
                }
            }
        })+
    };
}

column! {
    i64, "a number" => Cell::Int(value) => Some(value);
    i32, "a number in its range" => Cell::Int(value) => value.try_into().ok();
    u32, "a number in its range" => Cell::Int(value) => value.try_into().ok();
    u64, "a number in its range" => Cell::Int(value) => value.try_into().ok();
    bool, "a flag" => Cell::Int(value) => Some(value != 0);
    Us, "a time" => Cell::Int(value) => Some(Us(value));
    String, "a text" => Cell::Text(value) => Some(value);
    [u8; 32], "a hash" => Cell::Bytes(value) => value.try_into().ok();
    BatchId, "a batch" => Cell::Id(id) => Some(id);
    Vec<u32>, "a list of rows" =>
        Cell::Rows(rows) => Some(rows),
        Cell::Text(text) => serde_json::from_str(&text).ok();
}

/// Rows that are looked at later: what is wrong with them is then found.
#[derive(Debug, Default)]
pub(in crate::store) struct Unread(Cell);

impl Column for Unread {
    const WHAT: &'static str = "anything";

    fn of(cell: Cell) -> Option<Self> {
        Some(Self(cell))
    }
}

impl Unread {
    /// The rows, where there are any.
    pub(in crate::store) fn rows(self) -> Result<Option<Vec<u32>>, StoreError> {
        Column::of(self.0).ok_or_else(|| corrupt("a list of rows is none"))
    }
}

/// Something stored is not as it must be.
pub(in crate::store) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}
