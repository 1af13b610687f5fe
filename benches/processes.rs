//! Three processes on one file: how soon a submit is picked up, and what a large load does to others.
//!
//! `cargo bench --bench processes [-- MEGABYTES]` [2048]. Two processes work; a third submits slow
//! queries, and streams a CSV through a slow pipe, once to its end and once until it is killed.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rowmill::ingest::Options;
use rowmill::model::Timestamp;
use rowmill::{
    BatchId, CancellationToken, Client, JobKey, JobManager, Kind, NewBatch, QueryCx, RawJson,
    RowFailure, SlowQueryProcessor, Store,
};

/// Answers with the moment at which it was done.
struct Now;

impl SlowQueryProcessor for Now {
    type Block = ();
    type Context = ();
    type Input = u64;
    type Output = i64;

    async fn query(&self, _: &mut QueryCx<'_, (), ()>, _: u64) -> Result<i64, RowFailure> {
        Ok(Timestamp::now().as_microsecond())
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match args.next().as_deref() {
        Some("work") => runtime.block_on(work(Path::new(&args.next().unwrap_or_default()))),
        Some("load") => {
            let dir = args.next().unwrap_or_default();
            let id = args.next().unwrap_or_default().parse()?;
            let megabytes = args.next().unwrap_or_default().parse()?;
            runtime.block_on(load(Path::new(&dir), id, megabytes))
        }
        megabytes => {
            let megabytes = megabytes.map_or(Ok(2048), str::parse)?;
            runtime.block_on(measure(megabytes))
        }
    }
}

fn database(dir: &Path) -> PathBuf {
    dir.join("rowmill.db")
}

async fn work(dir: &Path) -> Result<(), Failed> {
    let store = Store::sqlite(database(dir)).await?;
    let manager = JobManager::builder(store)
        .slow_query("bench", "now", Now)
        .build()?;
    println!("ready");
    manager.run(CancellationToken::new()).await?;
    Ok(())
}

/// A CSV that comes at about 150 MB/s.
struct SlowPipe {
    left: u64,
    line: Vec<u8>,
    told: u64,
    began: Instant,
    given: u64,
}

impl Read for SlowPipe {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        const RATE: f64 = 150e6;
        #[allow(clippy::cast_precision_loss)]
        let due = Duration::from_secs_f64(self.given as f64 / RATE);
        if let Some(wait) = due.checked_sub(self.began.elapsed()) {
            std::thread::sleep(wait);
        }
        let mut len = 0;
        while len + self.line.len() <= out.len() && self.left > 0 {
            out[len..len + self.line.len()].copy_from_slice(&self.line);
            len += self.line.len();
            self.left -= 1;
        }
        self.given += len as u64;
        if self.given >> 24 > self.told {
            self.told = self.given >> 24;
            println!("{}", self.given);
        }
        Ok(len)
    }
}

async fn load(dir: &Path, id: BatchId, megabytes: u64) -> Result<(), Failed> {
    let client = Client::new(Store::sqlite(database(dir)).await?);
    let line = format!("ACC000017,{},credit,{}\n", "1234.56", "x".repeat(970)).into_bytes();
    let pipe = SlowPipe {
        left: (megabytes << 20) / line.len() as u64,
        line,
        told: 0,
        began: Instant::now(),
        given: 0,
    };
    let new = NewBatch {
        id,
        ..NewBatch::new(JobKey::new("bench", "load", Kind::Batch)?)
    };
    let mut options = Options::csv();
    options.header = false;
    let submission = client.batch_submit_reader(new, pipe, options).await?;
    let batch = submission.batch;
    println!("done {}", batch.counts.rows);
    Ok(())
}

fn child(args: &[&str]) -> Result<(Child, BufReader<std::process::ChildStdout>), Failed> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(args)
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    Ok((child, BufReader::new(stdout)))
}

/// A submit of one process is picked up by another within this.
const PICKUP_MS: f64 = 200.0;
/// An outcome is seen by another process within this, whatever is being loaded.
const OUTCOME_MS: f64 = 100.0;

struct Delays {
    /// From the acknowledgement of the submit to the claim.
    pickup: Vec<f64>,
    /// From the processor's end until a third process sees the recorded outcome.
    outcome: Vec<f64>,
}

impl Delays {
    /// Prints them; an error where the slowest is over its limit.
    fn print(&mut self, what: &str) -> Result<(), Failed> {
        for (name, all) in [("pickup", &mut self.pickup), ("outcome", &mut self.outcome)] {
            all.sort_by(f64::total_cmp);
            let at = |p: f64| {
                #[allow(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss
                )]
                let i = ((all.len() - 1) as f64 * p) as usize;
                all.get(i).copied().unwrap_or(f64::NAN)
            };
            println!(
                "{what:<28} {name:<8} p50 {:7.1} ms   p99 {:7.1} ms   max {:7.1} ms   of {}",
                at(0.5),
                at(0.99),
                at(1.0),
                all.len()
            );
        }
        let most = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
        let (pickup, outcome) = (most(&self.pickup), most(&self.outcome));
        if pickup > PICKUP_MS || outcome > OUTCOME_MS {
            return Err(format!("{what}: over {PICKUP_MS} ms or {OUTCOME_MS} ms").into());
        }
        Ok(())
    }
}

/// Submits one query after the other while `goes_on`, with pauses that let the workers fall idle.
async fn queries(
    client: &Client,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Result<Delays, Failed> {
    let mut delays = Delays {
        pickup: Vec::new(),
        outcome: Vec::new(),
    };
    let mut n = 0;
    while goes_on(n) {
        let new = NewBatch::new(JobKey::new("bench", "now", Kind::Query)?);
        let input = RawJson::from_string(n.to_string())?;
        let query = client.slow_query_submit(new, input).await?;
        let acknowledged = Timestamp::now();
        let done = client
            .wait_done(query.id, Some(Duration::from_secs(60)))
            .await?;
        let seen = Timestamp::now();
        let ms = |later: Timestamp, earlier: Timestamp| {
            later.duration_since(earlier).as_secs_f64() * 1000.0
        };
        let result = done.result.flatten().ok_or("a query without a result")?;
        let ended = Timestamp::from_microsecond(result.get().parse()?)?;
        let started = done.started_at.ok_or("not started")?;
        delays.pickup.push(ms(started, acknowledged).max(0.0));
        delays.outcome.push(ms(seen, ended));
        n += 1;
        tokio::time::sleep(Duration::from_millis(20 + (n as u64 * 37) % 80)).await;
    }
    Ok(delays)
}

async fn measure(megabytes: u64) -> Result<(), Failed> {
    let dir = tempfile::tempdir_in(".")?;
    let path = dir.path().to_string_lossy().into_owned();
    let client = Client::new(Store::sqlite(database(dir.path())).await?);
    let mut workers = Vec::new();
    for _ in 0..2 {
        let (worker, mut lines) = child(&["work", &path])?;
        lines.read_line(&mut String::new())?;
        workers.push(worker);
    }
    queries(&client, |n| n < 100).await?.print("alone")?;

    let id = BatchId::new();
    let (mut loader, mut lines) = child(&["load", &path, &id.to_string(), &megabytes.to_string()])?;
    let told = std::thread::spawn(move || {
        let mut last = String::new();
        for line in lines.by_ref().lines().map_while(Result::ok) {
            last = line;
        }
        last
    });
    let mut delays = queries(&client, |_| !told.is_finished()).await?;
    let within = delays.print(&format!("beside a load of {megabytes} MB"));
    loader.wait()?;
    println!("the loader said: {}", told.join().unwrap_or_default());
    let batch = client.batch_status(id).await?;
    println!(
        "the batch is {} with {} rows",
        batch.status, batch.counts.rows
    );

    let id = BatchId::new();
    let (mut loader, mut lines) = child(&["load", &path, &id.to_string(), &megabytes.to_string()])?;
    let half = (megabytes << 20) / 2;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        if line.trim().parse::<u64>().unwrap_or(u64::MAX) >= half {
            break;
        }
    }
    loader.kill()?;
    loader.wait()?;
    match client.batch_status(id).await {
        Err(error) => println!("killed half-way: {error}"),
        Ok(batch) => return Err(format!("killed half-way, and seen: {batch:?}").into()),
    }
    for mut worker in workers {
        worker.kill()?;
        worker.wait()?;
    }
    within
}
