//! Rows that write their results into the application's table in the transaction that records their outcomes: the table
//! that Spring Batch writes here.

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

pub async fn make_table(url: &str) -> Result<(), BoxError> {
    let (client, connection) = rowmill::postgres::tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(TABLE).await?;
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

/// An INSERT a row.
pub struct EachRow {
    pub any_order: bool,
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
        let insert = cx.prepare(tx, INSERT).await?;
        let line = i64::from(cx.line().0);
        tx.execute(&insert, &[&"b", &line, &result(&row)]).await?;
        Ok(())
    }

    fn any_order(&self) -> bool {
        self.any_order
    }
}

/// An INSERT for all rows of a task.
pub struct Block;

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
        let insert = cx.prepare(tx, INSERT_ALL).await?;
        let lines: Vec<i64> = rows.iter().map(|row| i64::from(row.line.0)).collect();
        let results: Vec<String> = rows.iter().map(|row| result(&row.input)).collect();
        tx.execute(&insert, &[&"b", &lines, &results]).await?;
        for at in 0..rows.len() {
            out.success(at, &());
        }
        Ok(())
    }
}
