//! Schemas of its own on a PostgreSQL server, and the reference there.
//!
//! The reference is a plain, tuned queue of rows: one record a row, copied in, a primary key and a
//! partial index on the open ones; then a claim that skips what others hold and one update from arrays a
//! thousand rows, each commit on the disk. It keeps no attempts, fences nothing, retries nothing.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::reference::{CHUNK, Failure, post};
use super::report::Rates;
use super::{failed, per_second, work};
use crate::error::Result;
use crate::store::Store;
use crate::store::postgres::{Line, Options, PostgresStore};

/// One benchmark at a time in a database.
const LOCK: i64 = 0x0072_6F77_6265_6E63;
/// How often it is looked whether all tasks have ended.
const LOOK: Duration = Duration::from_millis(2);
/// A look that took long is made again after so many times as long.
const REST: u32 = 9;

pub(super) struct Server {
    options: Options,
    client: Line,
}

impl Server {
    /// What a run that was cut off has left goes first.
    pub(super) async fn open(options: &Options) -> Result<Self> {
        let client = options.client().await?;
        let alone = client
            .query_one("select pg_try_advisory_lock($1)", &[&LOCK])
            .await;
        let alone: bool = alone
            .and_then(|row| row.try_get(0))
            .map_err(|e| failed("locking the database", e))?;
        if !alone {
            return Err(failed(
                "locking the database",
                "another benchmark is measuring it",
            ));
        }
        let mut options = options.clone();
        options.schema = "rowmill_bench".to_owned();
        let server = Self { options, client };
        server.drop_schemas().await?;
        Ok(server)
    }

    async fn drop_schemas(&self) -> Result<()> {
        let sql = "set client_min_messages to warning; drop schema if exists rowmill_bench cascade";
        let dropped = self.client.batch_execute(sql).await;
        dropped.map_err(|e| failed("removing the schema rowmill_bench", e))
    }

    /// A store in an empty schema.
    pub(super) async fn store(&self) -> Result<Store> {
        self.drop_schemas().await?;
        let store = PostgresStore::open(self.options.clone()).await?;
        // The numbers are those of locks, which all schemas of a database share.
        let first = 1_000_000_000 + std::process::id();
        let sql = format!("alter table rowmill_bench.workers alter column no restart with {first}");
        let begun = self.client.batch_execute(&sql).await;
        begun.map_err(|e| failed("numbering workers", e))?;
        Ok(Store::new(store))
    }

    pub(super) async fn all_ended(&self) -> Result<()> {
        let sql = "select exists (select 1 from rowmill_bench.queue)";
        let wrong = |e| failed("waiting", e);
        let left = self.client.prepare(sql).await.map_err(wrong)?;
        loop {
            let began = Instant::now();
            let row = self.client.query_one(&left, &[]).await.map_err(wrong)?;
            if !row.try_get::<_, bool>(0).map_err(wrong)? {
                return Ok(());
            }
            // It passes over all that has ended: what is measured is not to be the measure.
            tokio::time::sleep(LOOK.max(began.elapsed() * REST)).await;
        }
    }

    pub(super) async fn reference(&self, rows: u64) -> Result<Rates, Failure> {
        // Made beforehand, in the reference's favour.
        let inputs: Vec<String> = (0..rows).map(work::json).collect();
        self.drop_schemas().await?;
        let c = &self.client;
        c.batch_execute(
            "create schema rowmill_bench;
             create table rowmill_bench.q (batch bigint not null, line integer not null, status smallint not null default 0,
                                           input text not null, res text, primary key (batch, line));
             create index qp on rowmill_bench.q (batch, line) where status = 0;
             set enable_seqscan to off; set enable_hashjoin to off; set enable_mergejoin to off; set jit to off",
        )
        .await?;
        let began = Instant::now();
        submit(c, &inputs).await?;
        let submitted = Instant::now();
        let done = work_off(c).await?;
        let ended = Instant::now();
        if done != rows {
            return Err(format!("{done} of {rows} rows were processed").into());
        }
        Ok(Rates {
            submit_rows_per_s: per_second(rows, submitted - began),
            process_rows_per_s: per_second(rows, ended - submitted),
            end_to_end_rows_per_s: per_second(rows, ended - began),
        })
    }

    pub(super) async fn remove(self) -> Result<()> {
        self.drop_schemas().await
    }
}

async fn submit(c: &Client, inputs: &[String]) -> Result<(), Failure> {
    c.batch_execute("begin").await?;
    let copy = "copy rowmill_bench.q (batch, line, input) from stdin (format binary)";
    let sink = c.copy_in(copy).await?;
    let types = [Type::INT8, Type::INT4, Type::TEXT];
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for (line, input) in (1_i32..).zip(inputs) {
        writer.as_mut().write(&[&1_i64, &line, input]).await?;
    }
    writer.finish().await?;
    c.batch_execute("commit").await?;
    Ok(())
}

async fn work_off(c: &Client) -> Result<u64, Failure> {
    let claim = "select line, input from rowmill_bench.q where batch = 1 and status = 0 order by line limit $1 for update skip locked";
    let claim = c.prepare(claim).await?;
    let record = "update rowmill_bench.q set status = 1, res = u.res from unnest($1::integer[], $2::text[]) u (line, res) where batch = 1 and q.line = u.line";
    let record = c.prepare(record).await?;
    let mut done = 0;
    loop {
        c.batch_execute("begin").await?;
        let rows: Vec<Row> = c.query(&claim, &[&CHUNK]).await?;
        let mut lines: Vec<i32> = Vec::with_capacity(rows.len());
        let mut results: Vec<String> = Vec::with_capacity(rows.len());
        for row in &rows {
            lines.push(row.try_get(0)?);
            results.push(post(row.try_get(1)?)?);
        }
        c.execute(&record, &[&lines, &results]).await?;
        c.batch_execute("commit").await?;
        if lines.is_empty() {
            return Ok(done);
        }
        done += u64::try_from(lines.len())?;
    }
}
