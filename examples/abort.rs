//! Aborts a batch while it runs: what is done stays, the row that runs may finish, the rest never begins.
//!
//! Run with: `cargo run --example abort`

use std::time::Duration;

use rowmill::model::{JobKey, Kind, NewBatch};
use rowmill::{BatchProcessor, CancellationToken, JobManager, NewRow, RowCx, RowFailure};
use rowmill::{ObjectStore, Store};
use tokio::sync::mpsc;

/// Says when row 3 begins, and works on it until it hears of the abort.
struct Work(mpsc::Sender<u32>);

impl BatchProcessor for Work {
    type Block = ();
    type Context = ();
    type Input = u32;
    type Output = u32;

    async fn process(&self, cx: &mut RowCx<'_, (), ()>, n: u32) -> Result<u32, RowFailure> {
        if n == 3 {
            self.0.send(n).await?;
            let cause = cx.cancel().cancelled().await;
            println!("row {n} hears: {cause:?}, and finishes what it does");
        }
        Ok(n)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (began, mut begins) = mpsc::channel(1);
    let manager = JobManager::builder(Store::sqlite(folder.path().join("rowmill.db")).await?)
        .objects(ObjectStore::folder(folder.path().join("files")))
        .batch("demo", "work", Work(began))
        .build()?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });

    let rows = (1..=1000).map(|n: u32| NewRow::json(&n));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let new = NewBatch::new(JobKey::new("demo", "work", Kind::Batch)?);
    let id = manager.batch_submit(new, rows).await?.id;

    begins.recv().await;
    println!("row 3 runs; aborting");
    let batch = manager.batch_abort(id, Duration::from_secs(10)).await?;
    let counts = batch.counts;
    println!(
        "{}: {} success, {} aborted, {} pending",
        batch.status, counts.success, counts.aborted, counts.pending
    );
    let again = manager.batch_abort(id, Duration::ZERO).await?;
    println!("aborted again: {}, as it was", again.status);

    stop.cancel();
    worker.await??;
    Ok(())
}
