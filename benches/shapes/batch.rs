//! One batch: by its length, by the number of workers, and with rows that take their time.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rowmill::model::OpSettings;
use rowmill::{
    BatchId, BatchProcessor, CancellationToken, Client, JobKey, JobManager, Kind, NewBatch, NewRow,
    RowCx, RowFailure, Status,
};

use crate::Size;
use crate::figures::{Failed, Figures, per_second};
use crate::place::{Fresh, Place, objects, store};

/// Parses a row, and returns a small result.
struct Trivial;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Posting {
    account: String,
    amount: String,
    r#type: String,
    r#ref: String,
}

impl Posting {
    pub fn nth(n: u64) -> Self {
        let mixed = n.wrapping_mul(2_654_435_761) % (1 << 48);
        Self {
            account: format!("ACC{:06}", n % 1_000_000),
            amount: format!("{}.{:02}", n * 7919 % 10_000, n % 100),
            r#type: ["credit", "debit"][usize::from(n % 2 == 1)].into(),
            r#ref: format!("REF-{mixed:012x}"),
        }
    }
}

impl BatchProcessor for Trivial {
    type Block = ();
    type Context = ();
    type Input = Posting;
    type Output = String;

    async fn process(&self, _: &mut RowCx<'_, (), ()>, row: Posting) -> Result<String, RowFailure> {
        Ok(row.amount)
    }

    fn wants_ends(&self) -> bool {
        false
    }
}

/// Waits 5 ms for something else.
struct Waits;

impl BatchProcessor for Waits {
    type Block = ();
    type Context = ();
    type Input = u64;
    type Output = ();

    async fn process(&self, _: &mut RowCx<'_, (), ()>, _: u64) -> Result<(), RowFailure> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(())
    }

    fn wants_ends(&self) -> bool {
        false
    }
}

async fn manager(at: &str, folder: &Path) -> Result<JobManager, Failed> {
    let one = OpSettings {
        local_concurrency: Some(1),
        block_rows: 100,
        ..OpSettings::default()
    };
    Ok(JobManager::builder(store(at).await?)
        .objects(objects(folder))
        .batch("bench", "trivial", Trivial)
        .batch("bench", "waits", Waits)
        .settings("bench", "waits", Kind::Batch, one)
        .build()?)
}

/// What a worker's process does, until it is killed.
pub async fn work(at: &str, folder: &Path) -> Result<(), Failed> {
    let manager = manager(at, folder).await?;
    println!("ready");
    manager.run(CancellationToken::new()).await?;
    Ok(())
}

/// A worker's process; dropping it kills it.
struct Worker(Child);

impl Worker {
    fn start(fresh: &Fresh) -> Result<Self, Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("work").arg(fresh.at()).arg(fresh.folder());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let worker = Self(child);
        match BufReader::new(stdout).lines().next() {
            Some(Ok(line)) if line == "ready" => Ok(worker),
            _ => Err("a worker ended before it worked".into()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A held batch of an op.
pub async fn held<T: serde::Serialize>(
    client: &Client,
    op: &str,
    rows: impl Iterator<Item = T> + Send + 'static,
) -> Result<BatchId, Failed> {
    let new = NewBatch {
        hold: true,
        ..NewBatch::new(JobKey::new("bench", op, Kind::Batch)?)
    };
    // What cannot be written as JSON shows in the counts.
    let rows = rows.filter_map(|row| NewRow::json(&row).ok());
    Ok(client.batch_submit(new, rows).await?.id)
}

/// Releases a batch, and how long it takes to its end.
pub async fn released(client: &Client, id: BatchId, rows: u64) -> Result<Duration, Failed> {
    let began = Instant::now();
    client.wait_off(id).await?;
    let done = client.wait_done(id, None).await?;
    let took = began.elapsed();
    if (done.status, done.counts.success) != (Status::Success, rows) {
        return Err(format!("{} of {rows} rows succeeded", done.counts.success).into());
    }
    Ok(took)
}

/// Rows a second of batches of very different lengths.
pub async fn linear(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    let mut rows = 10_000;
    while rows <= size.rows * 10 {
        // A short one is over before anything can be said of it: it is made again and again.
        let times = (200_000 / rows).max(1);
        let mut took = Duration::ZERO;
        for _ in 0..times {
            let fresh = place.fresh()?;
            let manager = manager(&fresh.at(), fresh.folder()).await?;
            let client = manager.client();
            let began = Instant::now();
            let id = held(&client, "trivial", (0..rows).map(Posting::nth)).await?;
            let stop = CancellationToken::new();
            let works = tokio::spawn({
                let (manager, stop) = (manager.clone(), stop.clone());
                async move { manager.run(stop).await }
            });
            released(&client, id, rows).await?;
            took += began.elapsed();
            stop.cancel();
            works.await??;
        }
        figures.add(
            format!("{rows} rows, end to end"),
            "/s",
            per_second(rows * times, took),
        );
        rows *= 10;
    }
    Ok(())
}

/// Rows a second of one batch by several processes.
async fn crew(
    place: &Place,
    figures: &mut Figures,
    op: &str,
    inputs: u64,
    numbers: &[usize],
) -> Result<(), Failed> {
    let mut first = 0.0;
    for workers in numbers {
        let fresh = place.fresh()?;
        let client = Client::new(fresh.store().await?);
        let id = match op {
            "trivial" => held(&client, op, (0..inputs).map(Posting::nth)).await?,
            _ => held(&client, op, 0..inputs).await?,
        };
        let crew = (0..*workers).map(|_| Worker::start(&fresh));
        let crew = crew.collect::<Result<Vec<_>, _>>()?;
        let rate = per_second(inputs, released(&client, id, inputs).await?);
        drop(crew);
        if first == 0.0 {
            first = rate;
        }
        figures.add(format!("{workers} workers"), "/s", rate);
        figures.add(format!("{workers} workers, of one"), "times", rate / first);
    }
    Ok(())
}

pub async fn workers(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    crew(place, figures, "trivial", size.rows, &[1, 2, 4, 8]).await
}

/// Rows of 5 ms, one at a time in each process.
pub async fn slow(place: &Place, figures: &mut Figures) -> Result<(), Failed> {
    crew(place, figures, "waits", 4_000, &[1, 4]).await
}
