//! Rows whose processor writes in the transaction of their outcome, beside the same writes alone.
//!
//! `cargo bench --bench transact [-- ROWS [ROUNDS]]` [200000 3]: each row inserts one record. The
//! reference inserts the same records by one connection, 1,000 a transaction, each commit synced;
//! it stores no batch, no outcome and no progress. A round runs both, so that a ratio is of one time.

use std::path::Path;
use std::time::Instant;

use rowmill::sqlite::{TransactionalProcessor, Tx, rusqlite::Connection};
use rowmill::{CancellationToken, Client, JobKey, JobManager, Kind, NewBatch, NewRow, Status};
use rowmill::{ObjectStore, RowCx, RowFailure, Store};

type Failed = Box<dyn std::error::Error + Send + Sync>;

const TABLE: &str = "create table effects (n integer not null, text text not null)";
const INSERT: &str = "insert into effects values (?1, ?2)";
/// Records that the reference commits together.
const TOGETHER: usize = 1_000;

struct Insert;

impl TransactionalProcessor for Insert {
    type Block = ();
    type Context = ();
    type Input = (i64, String);
    type Output = ();

    fn process(
        &self,
        tx: &mut Tx<'_>,
        _: &mut RowCx<'_, (), ()>,
        row: (i64, String),
    ) -> Result<(), RowFailure> {
        tx.execute(INSERT, row)?;
        Ok(())
    }
}

fn text(n: usize) -> String {
    format!("payment {n} of the month")
}

/// Rows a second of an op that was submitted before.
async fn op(dir: &Path, rows: usize) -> Result<f64, Failed> {
    let file = dir.join("rowmill.db");
    let store = Store::sqlite(&file).await?;
    Connection::open(&file)?.execute_batch(TABLE)?;
    let client = Client::new(store.clone());
    let inputs = (0..rows).map(|n| NewRow::json(&(n, text(n))));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let new = NewBatch::new(JobKey::new("bench", "insert", Kind::Batch)?);
    let id = client.batch_submit(new, inputs).await?.id;
    let manager = JobManager::builder(store)
        .objects(ObjectStore::folder(dir.join("files")))
        .transactional("bench", "insert", Insert)
        .build()?;
    let began = Instant::now();
    manager.run_until_idle(&CancellationToken::new()).await?;
    let took = began.elapsed();
    let status = client.batch_status(id).await?.status;
    let there: usize =
        Connection::open(&file)?.query_row("select count(*) from effects", [], |r| r.get(0))?;
    if status != Status::Success || there != rows {
        return Err(format!(
            "{there} of {rows} rows took effect, and the batch is {}",
            status
        )
        .into());
    }
    Ok(rows as f64 / took.as_secs_f64())
}

/// Records a second of the reference.
fn reference(dir: &Path, rows: usize) -> Result<f64, Failed> {
    let mut db = Connection::open(dir.join("reference.db"))?;
    db.execute_batch("pragma journal_mode = wal; pragma synchronous = full")?;
    db.execute_batch(TABLE)?;
    let began = Instant::now();
    for first in (0..rows).step_by(TOGETHER) {
        let together = db.transaction()?;
        for n in first..rows.min(first + TOGETHER) {
            together.prepare_cached(INSERT)?.execute((n, text(n)))?;
        }
        together.commit()?;
    }
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let rows = args.next().map_or(Ok(200_000), |text| text.parse())?;
    let rounds = args.next().map_or(Ok(3), |text| text.parse())?;
    println!(
        "{:>5} {:>14} {:>14} {:>6}",
        "round", "op rows/s", "reference", "ratio"
    );
    for round in 1..=rounds {
        let dir = tempfile::tempdir_in(".")?;
        let (op, reference) = (op(dir.path(), rows).await?, reference(dir.path(), rows)?);
        println!(
            "{round:>5} {op:>14.0} {reference:>14.0} {:>6.2}",
            op / reference
        );
    }
    Ok(())
}
