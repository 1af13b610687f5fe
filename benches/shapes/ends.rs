//! What comes at the ends: many clients that submit one by one, and a large output file.

use std::path::Path;
use std::time::{Duration, Instant};

use rowmill::{BatchProcessor, JobKey, JobManager, Kind, NewBatch, RowCx, RowFailure};

use crate::Size;
use crate::batch;
use crate::figures::{Failed, Figures, Target, per_second};
use crate::itself;
use crate::place::{self, Place};
use crate::profile::Profiled;
use crate::works::{Works, all_ended, held, input};

/// Clients that submit at the same time.
const CLIENTS: u64 = 64;

/// Bytes of a line in a file.
const LINE: u64 = 128;

/// Writes such a line.
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

/// Queries that 64 clients submit one by one, each when its last was acknowledged, while a worker answers them.
pub async fn clients(place: &Place, figures: &mut Figures) -> Result<(), Failed> {
    const EACH: u64 = 200;
    let fresh = place.fresh()?;
    let manager = batch::manager(&fresh.at(), fresh.folder()).await?;
    let works = Works::begin(&manager);
    let key = JobKey::new("bench", "echo", Kind::Query)?;
    let profiled = Profiled::of("clients")?;
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
    all_ended(&manager.client()).await?;
    let ended = began.elapsed();
    drop(profiled);
    let target = place.on.pick(Some(Target::AtLeast(3_000.0)), None);
    let (acknowledged, done) = (
        per_second(CLIENTS * EACH, submitted),
        per_second(CLIENTS * EACH, ended),
    );
    figures.aim("64 clients submit one by one", "/s", acknowledged, target);
    figures.aim("the same until all are done", "/s", done, target);
    works.end().await
}

/// An output file, from the last row's outcome to the batch's end. A process each: what others have held before is not its memory.
pub async fn files(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    let rows = size.rows * 8;
    let [assembled, whole, peak] = itself::alone("file", &place.fresh()?, rows).await?;
    let megabytes = (rows * LINE) as f64 / 1e6;
    figures.add("size", "MB", megabytes);
    let rate = megabytes / assembled.max(1e-3);
    let target = Target::AtLeast(200.0);
    figures.aim("assembled and stored", "MB/s", rate, target);
    figures.add("whole batch", "MB/s", megabytes / whole);
    figures.aim("peak memory", "MB", peak, Target::Below(150.0));
    Ok(())
}

/// What that process does: works off one batch whose rows write a file, and says how long the file took, how long all of it, in seconds,
/// and what memory.
pub async fn file(at: &str, folder: &Path, rows: u64) -> Result<(), Failed> {
    let manager = JobManager::builder(place::store(at).await?)
        .objects(place::objects(folder))
        .batch("bench", "writes", Writes)
        .build()?;
    let client = manager.client();
    let id = held(&client, "writes", 0..rows).await?;
    itself::forget_peak();
    let works = Works::begin(&manager);
    let began = Instant::now();
    client.wait_off(id).await?;
    let mut recorded = None;
    let mut profiled = None;
    loop {
        let batch = client.batch_done(id).await?;
        if recorded.is_none() && batch.counts.success == rows {
            recorded = Some(Instant::now());
            profiled = Some(Profiled::of("files")?);
        }
        if batch.done {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(profiled);
    let (ended, recorded) = (Instant::now(), recorded.ok_or("rows are missing")?);
    let bytes: u64 = client.files(id).await?.iter().map(|file| file.size).sum();
    if bytes != rows * LINE {
        return Err(format!("{bytes} bytes of {}", rows * LINE).into());
    }
    let (assembled, whole) = (ended - recorded, ended - began);
    println!(
        "{} {} {}",
        assembled.as_secs_f64(),
        whole.as_secs_f64(),
        itself::peak()?
    );
    works.end().await
}
