//! What comes at the ends: many clients that submit one by one, a large output file, and those who ask whether it is done.

use std::time::{Duration, Instant};

use rowmill::{
    BatchProcessor, CancellationToken, Client, JobKey, JobManager, Kind, NewBatch, QueryCx,
    RawJson, RowCx, RowFailure, SlowQueryProcessor, StatusCache,
};

use crate::Size;
use crate::batch::held;
use crate::figures::{Failed, Figures, per_second};
use crate::place::Place;

/// Clients that submit at the same time.
const CLIENTS: u64 = 64;

struct Echo;

impl SlowQueryProcessor for Echo {
    type Block = ();
    type Context = ();
    type Input = u64;
    type Output = u64;

    async fn query(&self, _: &mut QueryCx<'_, (), ()>, n: u64) -> Result<u64, RowFailure> {
        Ok(n)
    }

    fn wants_ends(&self) -> bool {
        false
    }
}

/// Writes a line of 128 bytes.
struct Writes;

impl BatchProcessor for Writes {
    type Block = ();
    type Context = ();
    type Input = u64;
    type Output = ();

    async fn process(&self, cx: &mut RowCx<'_, (), ()>, n: u64) -> Result<(), RowFailure> {
        cx.write_line("statement.csv", &format!("{n:0>127}"));
        Ok(())
    }
}

fn input(n: u64) -> Result<Box<RawJson>, Failed> {
    Ok(RawJson::from_string(n.to_string())?)
}

/// Queries that 64 clients submit one by one, each when its last was acknowledged, while a worker answers them.
pub async fn clients(place: &Place, figures: &mut Figures) -> Result<(), Failed> {
    const EACH: u64 = 200;
    let fresh = place.fresh()?;
    let manager = JobManager::builder(fresh.store().await?)
        .objects(fresh.objects())
        .slow_query("bench", "echo", Echo)
        .build()?;
    let stop = CancellationToken::new();
    let works = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
    let key = JobKey::new("bench", "echo", Kind::Query)?;
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, key) = (manager.client(), key.clone());
            tokio::spawn(async move {
                for n in 0..EACH {
                    let query = NewBatch::new(key.clone());
                    client.slow_query_submit(query, input(n)?).await?;
                }
                Ok::<_, Failed>(())
            })
        })
        .collect();
    for client in clients {
        client.await??;
    }
    let submitted = began.elapsed();
    // To ask for each of them would be what is measured.
    let client = manager.client();
    while let Some(op) = client.ops().await?.first()
        && op.queued.tasks + op.running.tasks > 0
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let ended = began.elapsed();
    figures.add(
        "64 clients submit one by one",
        "/s",
        per_second(CLIENTS * EACH, submitted),
    );
    figures.add(
        "the same until all are done",
        "/s",
        per_second(CLIENTS * EACH, ended),
    );
    stop.cancel();
    works.await??;
    Ok(())
}

/// An output file, from the last row's outcome to the batch's end.
pub async fn files(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    let rows = size.rows * 8;
    let fresh = place.fresh()?;
    let manager = JobManager::builder(fresh.store().await?)
        .objects(fresh.objects())
        .batch("bench", "writes", Writes)
        .build()?;
    let client = manager.client();
    let id = held(&client, "writes", 0..rows).await?;
    let stop = CancellationToken::new();
    let works = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
    let began = Instant::now();
    client.wait_off(id).await?;
    let mut recorded = None;
    loop {
        let batch = client.batch_done(id).await?;
        if recorded.is_none() && batch.counts.success == rows {
            recorded = Some(Instant::now());
        }
        if batch.done {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (ended, recorded) = (Instant::now(), recorded.ok_or("rows are missing")?);
    let bytes: u64 = client.files(id).await?.iter().map(|file| file.size).sum();
    if bytes != rows * 128 {
        return Err(format!("{bytes} bytes of {}", rows * 128).into());
    }
    let megabytes = bytes as f64 / 1e6;
    let assembled = (ended - recorded).as_secs_f64();
    figures.add("size", "MB", megabytes);
    figures.add(
        "assembled and stored",
        "MB/s",
        megabytes / assembled.max(1e-3),
    );
    figures.add(
        "whole batch",
        "MB/s",
        megabytes / (ended - began).as_secs_f64(),
    );
    stop.cancel();
    works.await??;
    Ok(())
}

/// A thousand ended batches, asked for again and again, with the cache of a process.
pub async fn polls(place: &Place, figures: &mut Figures) -> Result<(), Failed> {
    const BATCHES: u64 = 1_000;
    const TIMES: u64 = 200;
    let fresh = place.fresh()?;
    let store = fresh.store().await?;
    let manager = JobManager::builder(store.clone())
        .objects(fresh.objects())
        .slow_query("bench", "echo", Echo)
        .build()?;
    let key = JobKey::new("bench", "echo", Kind::Query)?;
    let mut ids = Vec::new();
    for n in 0..BATCHES {
        let query = manager.slow_query_submit(NewBatch::new(key.clone()), input(n)?);
        ids.push(query.await?.id);
    }
    manager.run_until_idle(&CancellationToken::new()).await?;
    let client = Client::new(store).cached(StatusCache::memory());
    for id in &ids {
        client.batch_done(*id).await?;
    }
    let (began, used) = (Instant::now(), cpu()?);
    for _ in 0..TIMES {
        for id in &ids {
            if !client.batch_done(*id).await?.done {
                return Err("a batch has not ended".into());
            }
        }
    }
    let (took, used) = (began.elapsed(), cpu()? - used);
    figures.add(
        "polls of ended batches",
        "/s",
        per_second(BATCHES * TIMES, took),
    );
    let each = used * 1e6 / (BATCHES * TIMES) as f64;
    figures.add("CPU of a poll", "µs", each);
    Ok(())
}

/// Seconds of processor time of this process.
fn cpu() -> Result<f64, Failed> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // proc(5): after the name in brackets, the 12th and 13th field, in hundredths of a second.
    let fields = stat.rsplit(')').next().ok_or("no stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64, Failed> { Ok(fields.get(at).ok_or("short")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
