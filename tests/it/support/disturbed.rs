//! Four processes work off one batch; then others do it again while two are killed and the server restarts.
//!
//! A test and `benches/disturbed.rs` share it: the one looks at what came out, the other also at the time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rowmill::ingest::Options as Csv;
use rowmill::store::postgres::{Options, PostgresStore};
use rowmill::{
    BatchProcessor, CancellationToken, JobKey, JobManager, Kind, Message, NewBatch, ObjectStore,
    RowCx, RowFailure, Status, Store,
};

use super::servers::{Database, Postgres as Server};

pub type Failed = Box<dyn std::error::Error + Send + Sync>;

pub const WORKERS: usize = 4;
/// What a row computes.
const COMPUTES: Duration = Duration::from_micros(20);
/// Every so many lines a row fails.
const FAILS: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(120);

/// Computes for a while, and writes a line to one of two files.
struct Post;

impl BatchProcessor for Post {
    type Block = ();
    type Context = ();
    type Input = serde_json::Value;
    type Output = u64;

    async fn process(
        &self,
        cx: &mut RowCx<'_, (), ()>,
        row: serde_json::Value,
    ) -> Result<u64, RowFailure> {
        let n: u64 = row["n"].as_str().unwrap_or_default().parse()?;
        let began = Instant::now();
        while began.elapsed() < COMPUTES {
            std::hint::spin_loop();
        }
        let file = ["credit.csv", "debit.csv"][usize::from(n % 2 == 1)];
        cx.write_line(file, &format!("ACC{:06},{n}.00", n % 977));
        if n.is_multiple_of(FAILS) {
            return Err(Message::new("divisible", 500).into());
        }
        Ok(n)
    }
}

async fn manager(url: &str, folder: &Path) -> Result<JobManager, Failed> {
    let mut options = Options::new(url)?;
    options.connections = 4;
    let store = Store::new(PostgresStore::open(options).await?);
    let manager = JobManager::builder(store)
        .objects(ObjectStore::folder(folder))
        .batch("bank", "post", Post)
        .build()?;
    Ok(manager)
}

/// What a worker's process does, until it is killed.
pub async fn work(url: &str, folder: &Path) -> Result<(), Failed> {
    let manager = manager(url, folder).await?;
    println!("\nready");
    manager.run(CancellationToken::new()).await?;
    Ok(())
}

/// A worker's process; dropping it kills it.
struct Worker(Child);

impl Worker {
    fn start(mut command: Command) -> Result<Self, Failed> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let worker = Self(child);
        for line in BufReader::new(stdout).lines() {
            if line? == "ready" {
                return Ok(worker);
            }
        }
        Err("a worker ended before it worked".into())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a run came to.
pub struct Came {
    pub took: Duration,
    /// Bytes by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What happened, and when.
    pub events: Vec<String>,
    /// Bytes of the tables that grow, with their indexes.
    pub stored: i64,
}

/// Runs a batch of so many rows with four workers, whose commands are made for a database and a folder. With a
/// number for the dice two of them are killed and the server restarts, at random moments of the first two thirds.
pub async fn run(
    server: &mut Server,
    rows: u64,
    command: impl Fn(&str, &Path) -> Command,
    dice: Option<u64>,
) -> Result<Came, Failed> {
    let database = Database::on(server);
    let folder = tempfile::tempdir()?;
    let url = database.url().to_owned();
    let manager = manager(&url, folder.path()).await?;
    let new = NewBatch {
        hold: true,
        ..NewBatch::new(JobKey::new("bank", "post", Kind::Batch)?)
    };
    let input: String = (0..rows).map(|n| format!("{n}\n")).collect();
    let input = Cursor::new(format!("n\n{input}"));
    let submitted = manager.batch_submit_reader(new, input, Csv::csv()).await?;
    let id = submitted.batch.id;
    let workers = (0..WORKERS).map(|_| Worker::start(command(&url, folder.path())));
    let mut workers = workers.collect::<Result<Vec<_>, _>>()?;

    let began = Instant::now();
    manager.wait_off(id).await?;
    let mut events = Vec::new();
    if let Some(dice) = dice {
        let mut dice = Dice(dice);
        // Which comes first is a matter of chance, too.
        let mut plan = [(); 3].map(|()| rows / 20 + dice.roll(rows * 6 / 10));
        plan.sort_unstable();
        let restart = dice.roll(3);
        for (no, at) in (0_u64..).zip(plan) {
            let recorded = recorded(&url, at)?;
            let at = format!("at {recorded} rows, after {:.2?}", began.elapsed());
            if no == restart {
                server.restart();
                events.push(format!("the server restarted {at}"));
            } else {
                workers.pop();
                events.push(format!("a worker was killed {at}"));
            }
        }
    }
    let done = async {
        loop {
            match manager.batch_status(id).await {
                Ok(batch) if batch.done => break batch,
                // The server may have been away.
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let batch = tokio::time::timeout(PATIENCE, done).await?;
    let took = began.elapsed();
    drop(workers);

    if dice.is_some() {
        let lost = "select count(*), (select count(*) from rowmill.attempts) from rowmill.attempts where ended_as = 3";
        for found in Database::rows_at(&url, lost) {
            let (lost, parts): (i64, i64) = (found.get(0), found.get(1));
            events.push(format!("tasks lost: {lost}; parts recorded: {parts}"));
        }
    }
    let failed = rows.div_ceil(FAILS);
    let counts = (batch.counts.rows, batch.counts.success, batch.counts.failed);
    if counts != (rows, rows - failed, failed) || batch.status != Status::Failed {
        return Err(format!("the counts are not exact: {batch:?}").into());
    }
    let stored = "select pg_total_relation_size('rowmill.blocks') + pg_total_relation_size('rowmill.attempts')";
    let stored = Database::rows_at(&url, stored);
    let stored = stored.first().ok_or("sizes")?.get(0);
    let mut files = BTreeMap::new();
    for file in &batch.files {
        let bytes = std::fs::read(folder.path().join(&file.key))?;
        files.insert(file.name.clone(), bytes);
    }
    Ok(Came {
        took,
        files,
        events,
        stored,
    })
}

/// Waits until outcomes of so many rows are recorded; returns of how many there are.
fn recorded(url: &str, at_least: u64) -> Result<u64, Failed> {
    let began = Instant::now();
    let sum = "select coalesce(sum(success + failed), 0)::bigint from rowmill.attempts";
    loop {
        let found = Database::rows_at(url, sum);
        let recorded: i64 = found.first().ok_or("a sum")?.get(0);
        let recorded = u64::try_from(recorded)?;
        if recorded >= at_least {
            return Ok(recorded);
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("only {recorded} rows are recorded").into());
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

struct Dice(u64);

impl Dice {
    /// A number below another.
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}
