//! The reference: a plain, tuned queue of rows in the same database engine on the same disk.
//!
//! One record a row in one table, a partial index on the open ones, one transaction in, a thousand
//! rows a transaction out, every commit on the disk. It claims nothing, fences nothing, retries
//! nothing: what a careful engineer writes in an afternoon.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior, params};

use super::per_second;
use super::report::Rates;
use super::work::{self, Input, Output};

/// Rows of one transaction.
pub(super) const CHUNK: i64 = 1000;

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn measure(file: &Path, rows: u64) -> Result<Rates, Failure> {
    // Made beforehand, in the reference's favour.
    let inputs: Vec<String> = (0..rows).map(work::json).collect();
    let mut db = Connection::open(file)?;
    db.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -65536;
         create table q (batch int not null, line int not null, status int not null default 0,
                         input text not null, res text, primary key (batch, line)) without rowid;
         create index qp on q (batch, line) where status = 0;",
    )?;
    let began = Instant::now();
    submit(&mut db, &inputs)?;
    let submitted = Instant::now();
    let done = work_off(&mut db)?;
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

fn submit(db: &mut Connection, inputs: &[String]) -> Result<(), Failure> {
    let transaction = db.transaction()?;
    {
        let mut insert =
            transaction.prepare("insert into q (batch, line, input) values (1, ?1, ?2)")?;
        for (line, input) in (1_i64..).zip(inputs) {
            insert.execute(params![line, input])?;
        }
    }
    Ok(transaction.commit()?)
}

fn work_off(db: &mut Connection) -> Result<u64, Failure> {
    let mut done = 0;
    loop {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut results: Vec<(i64, String)> = Vec::new();
        {
            let mut open = transaction.prepare_cached(
                "select line, input from q indexed by qp where batch = 1 and status = 0 order by line limit ?1",
            )?;
            let mut rows = open.query([CHUNK])?;
            while let Some(row) = rows.next()? {
                results.push((row.get(0)?, post(row.get_ref(1)?.as_str()?)?));
            }
            let mut record = transaction.prepare_cached(
                "update q set status = 1, res = ?2 where batch = 1 and line = ?1",
            )?;
            for (line, result) in &results {
                record.execute(params![line, result])?;
            }
        }
        transaction.commit()?;
        if results.is_empty() {
            return Ok(done);
        }
        done += u64::try_from(results.len())?;
    }
}

/// The same work as the processor's.
pub(super) fn post(input: &str) -> Result<String, Failure> {
    let input: Input<'_> = serde_json::from_str(input)?;
    if input.account.is_empty() || input.kind.is_empty() || input.reference.is_empty() {
        return Err("a field is empty".into());
    }
    Ok(serde_json::to_string(&Output {
        balance: input.amount,
    })?)
}
