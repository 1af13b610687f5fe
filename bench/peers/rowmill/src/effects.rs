//! Rows that write their results into the application's table in the transaction that records their outcomes, or update
//! what is there already: the table that Spring Batch writes here.

use std::io::{BufRead, BufReader};

use rowmill::model::OpSettings;
use rowmill::postgres::tokio_postgres::{NoTls, Transaction};
use rowmill::postgres::{SetProcessor, TransactionalProcessor};
use rowmill::{BoxError, ChunkCx, ChunkOut, InputRow, RowCx, RowFailure};

use crate::Posting;

const TABLE: &str = "create table results (batch text, line bigint, status smallint, res jsonb, primary key (batch, line))";
const INSERT: &str =
    "insert into results (batch, line, status, res) values ($1, $2, 1, cast($3::text as jsonb))";
const INSERT_ALL: &str = "insert into results (batch, line, status, res)
    select $1, line, 1, cast(res as jsonb) from unnest($2::bigint[], $3::text[]) u (line, res)";
const FILL: &str = "insert into results select 'b', line, 0, null from generate_series(1::bigint, $1) line";
const UPDATE: &str =
    "update results set status = 1, res = cast($3::text as jsonb) where batch = $1 and line = $2";
const UPDATE_ALL: &str = "update results r set status = 1, res = cast(u.res as jsonb)
    from unnest($2::bigint[], $3::text[]) u (line, res) where r.batch = $1 and r.line = u.line";

/// Makes the table; with a record for each line of a file that is there before.
pub async fn make_table(url: &str, filled: Option<&str>) -> Result<(), BoxError> {
    let (client, connection) = rowmill::postgres::tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(TABLE).await?;
    if let Some(file) = filled {
        let lines = BufReader::new(std::fs::File::open(file)?).lines();
        client.execute(FILL, &[&i64::try_from(lines.count())?]).await?;
        client.batch_execute("vacuum analyze results").await?;
    }
    Ok(())
}

/// Rows of a task at once, and of two tasks.
pub fn beside() -> OpSettings {
    OpSettings {
        parallel: 64,
        local_concurrency: Some(128),
        ..OpSettings::default()
    }
}

fn result(row: &Posting) -> String {
    format!("{{\"balance\":\"{}\"}}", row.amount)
}

/// A statement a row.
pub struct EachRow {
    sql: &'static str,
    any_order: bool,
}

impl EachRow {
    pub fn inserts(any_order: bool) -> Self {
        Self {
            sql: INSERT,
            any_order,
        }
    }

    pub fn updates() -> Self {
        Self {
            sql: UPDATE,
            any_order: true,
        }
    }
}

impl TransactionalProcessor for EachRow {
    type Block = ();
    type Context = ();
    type Input = Posting;
    type Output = ();

    async fn process(
        &self,
        tx: &Transaction<'_>,
        cx: &mut RowCx<'_, (), ()>,
        row: Posting,
    ) -> Result<(), RowFailure> {
        let write = cx.prepare(tx, self.sql).await?;
        let line = i64::from(cx.line().0);
        match tx.execute(&write, &[&"b", &line, &result(&row)]).await? {
            1 => Ok(()),
            _ => Err(RowFailure::Error("it is not in the table".into())),
        }
    }

    fn any_order(&self) -> bool {
        self.any_order
    }
}

/// A statement for all rows of a task.
pub struct Block {
    sql: &'static str,
}

impl Block {
    pub fn inserts() -> Self {
        Self { sql: INSERT_ALL }
    }

    pub fn updates() -> Self {
        Self { sql: UPDATE_ALL }
    }
}

impl SetProcessor for Block {
    type Block = ();
    type Context = ();
    type Input = Posting;
    type Output = ();

    async fn process(
        &self,
        tx: &Transaction<'_>,
        cx: &ChunkCx<'_, (), ()>,
        rows: &[InputRow<Posting>],
        out: &mut ChunkOut<()>,
    ) -> Result<(), RowFailure> {
        let write = cx.prepare(tx, self.sql).await?;
        let lines: Vec<i64> = rows.iter().map(|row| i64::from(row.line.0)).collect();
        let results: Vec<String> = rows.iter().map(|row| result(&row.input)).collect();
        let written = tx.execute(&write, &[&"b", &lines, &results]).await?;
        if written != rows.len() as u64 {
            return Err(RowFailure::Error("some are not in the table".into()));
        }
        for at in 0..rows.len() {
            out.success(at, &());
        }
        Ok(())
    }
}
