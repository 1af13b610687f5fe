//! A manager that works in this process until it is told to stop, and what it is given to do.

use std::time::{Duration, Instant};

use rowmill::{
    BatchId, CancellationToken, Client, JobKey, JobManager, Kind, NewBatch, NewQuery, NewRow,
    RawJson, Status,
};
use tokio::task::JoinHandle;

use crate::figures::Failed;
use crate::profile::Profiled;

/// Queries of one call.
const CALL: u64 = 1_000;
/// A look whether all have ended is made again after so many times as long as it took.
const REST: u32 = 9;

pub struct Works {
    stop: CancellationToken,
    running: JoinHandle<rowmill::Result<()>>,
}

impl Works {
    pub fn begin(manager: &JobManager) -> Self {
        let stop = CancellationToken::new();
        let (manager, until) = (manager.clone(), stop.clone());
        let running = tokio::spawn(async move { manager.run(until).await.map(drop) });
        Self { stop, running }
    }

    pub async fn end(self) -> Result<(), Failed> {
        self.stop.cancel();
        Ok(self.running.await??)
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

/// A batch from its first byte to its last outcome, by a manager that begins to work when it is submitted.
pub async fn end_to_end<T: serde::Serialize>(
    manager: &JobManager,
    op: &str,
    rows: u64,
    input: impl Fn(u64) -> T + Send + 'static,
) -> Result<Duration, Failed> {
    let client = manager.client();
    let profiled = Profiled::of(op)?;
    let began = Instant::now();
    let id = held(&client, op, (0..rows).map(input)).await?;
    let works = Works::begin(manager);
    released(&client, id, rows).await?;
    let took = began.elapsed();
    drop(profiled);
    works.end().await?;
    Ok(took)
}

/// Queries of the op `echo` from the first byte to the last outcome, a thousand a call, while they are worked off.
pub async fn queries(manager: &JobManager, number: u64) -> Result<Duration, Failed> {
    let key = JobKey::new("bench", "echo", Kind::Query)?;
    let works = Works::begin(manager);
    let began = Instant::now();
    let mut last = None;
    for from in (0..number).step_by(CALL as usize) {
        let call = (from..number.min(from + CALL)).map(|n| {
            let query = NewBatch::new(key.clone());
            Ok(NewQuery {
                query,
                input: input(n)?,
            })
        });
        let call = call.collect::<Result<Vec<_>, Failed>>()?;
        let submitted = manager.slow_query_submit_many(call).await?;
        last = submitted.last().map(|query| query.id);
    }
    all_ended(&manager.client()).await?;
    let took = began.elapsed();
    if let Some(id) = last {
        let query = manager.slow_query_done(id).await?;
        if query.status != Status::Success {
            return Err(format!("a query is {}", query.status).into());
        }
    }
    works.end().await?;
    Ok(took)
}

/// Waits until no op has work; to ask for each query would be what is measured.
pub async fn all_ended(client: &Client) -> Result<(), Failed> {
    loop {
        let began = Instant::now();
        let ops = client.ops().await?;
        if ops.iter().all(|op| op.queued.tasks + op.running.tasks == 0) {
            return Ok(());
        }
        tokio::time::sleep((began.elapsed() * REST).max(Duration::from_millis(2))).await;
    }
}

/// The input of a query of the op `echo`.
pub fn input(n: u64) -> Result<Box<RawJson>, Failed> {
    Ok(RawJson::from_string(n.to_string())?)
}
