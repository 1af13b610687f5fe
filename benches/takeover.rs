//! How soon the work of a worker that is killed runs elsewhere, on PostgreSQL.
//!
//! `cargo bench --bench takeover [-- --database URL] [--rounds N] [--seed N]` [a server of its own, 50 rounds].
//! Three processes work. In each round one of them is killed with -9 at a random moment while it runs a query;
//! what is measured is the time until another holds it, and until it runs again after the restart of the only
//! worker. It fails where the slowest of the first took 2 s.

// The server that the tests start; of what it can, little is used here.
#[allow(dead_code, unused_imports)]
#[path = "../tests/it/support/servers/mod.rs"]
mod servers;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rowmill::model::OpSettings;
use rowmill::{
    BatchId, CancellationToken, Client, JobKey, JobManager, Kind, NewBatch, QueryCx, RawJson,
    RowFailure, SlowQueryProcessor, Store,
};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What a running worker takes over later is a failure.
const MOST: Duration = Duration::from_secs(2);
/// Whoever waits longer for anything has found a bug.
const PATIENCE: Duration = Duration::from_secs(60);
/// Processes that work.
const WORKERS: usize = 3;

/// Runs until it is aborted.
struct Endless;

impl SlowQueryProcessor for Endless {
    type Block = ();
    type Context = ();
    type Input = u64;
    type Output = ();

    async fn query(&self, cx: &mut QueryCx<'_, (), ()>, _: u64) -> Result<(), RowFailure> {
        cx.cancel().cancelled().await;
        Ok(())
    }
}

async fn manager(url: &str) -> Result<JobManager, Failed> {
    let settings = OpSettings {
        max_lost: 1000,
        ..OpSettings::default()
    };
    let manager = JobManager::builder(Store::postgres_url(url).await?)
        .slow_query("bench", "endless", Endless)
        .settings("bench", "endless", Kind::Query, settings)
        .build()?;
    Ok(manager)
}

fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let (mut database, mut rounds, mut seed) = (None, 50, None);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_default();
        match arg.as_str() {
            "work" => return runtime.block_on(work(&value)),
            "--database" => database = Some(value),
            "--rounds" => rounds = value.parse()?,
            "--seed" => seed = Some(value.parse()?),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos();
    let seed: u64 = seed.unwrap_or(u64::from(now));
    let own = database.is_none().then(servers::Database::fresh);
    let url = database.or(own.as_ref().map(|own| own.url().to_owned()));
    let url = url.ok_or("no database")?;
    runtime
        .block_on(measure(&url, rounds, seed))
        .map_err(|error| format!("with seed {seed}: {error}").into())
}

async fn work(url: &str) -> Result<(), Failed> {
    let manager = manager(url).await?;
    println!("ready");
    manager.run(CancellationToken::new()).await?;
    Ok(())
}

/// A worker's process; dropping it kills it.
struct Worker(Child);

impl Worker {
    fn start(url: &str) -> Result<Self, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["work", url])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let worker = Self(child);
        BufReader::new(stdout).read_line(&mut String::new())?;
        Ok(worker)
    }

    fn pid(&self) -> i64 {
        self.0.id().into()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that was killed is waited for all the same.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What is asked of the database beside the workers.
struct Scene {
    db: tokio_postgres::Client,
    client: Client,
    dice: u64,
}

impl Scene {
    async fn begin(url: &str, seed: u64) -> Result<Self, Failed> {
        let client = manager(url).await?.client();
        let (db, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(Self {
            db,
            client,
            dice: seed.wrapping_mul(2).wrapping_add(1),
        })
    }

    /// Up to a second, at random: any moment between two beats and two looks.
    async fn some_time(&mut self) {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        tokio::time::sleep(Duration::from_micros(self.dice % 1_000_000)).await;
    }

    async fn query(&self) -> Result<BatchId, Failed> {
        let new = NewBatch::new(JobKey::new("bench", "endless", Kind::Query)?);
        let input = RawJson::from_string("1".to_owned())?;
        Ok(self.client.slow_query_submit(new, input).await?.id)
    }

    /// Waits until the query is held by a process that is not `but`; returns that one.
    async fn held(&self, id: BatchId, but: i64) -> Result<i64, Failed> {
        let holder = "select w.pid from rowmill.queue q join rowmill.workers w on w.no = q.worker where q.batch = $1 and q.state = 2 and w.pid <> $2";
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(row) = self.db.query_opt(holder, &[&id.0, &but]).await? {
                return Ok(row.try_get(0)?);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err("a query was held by nobody for a minute".into())
    }

    /// Waits until so many workers have entered and the dead are gone.
    async fn alive(&self, workers: usize) -> Result<(), Failed> {
        let alive = "select count(*) from rowmill.workers where ended_at is null";
        let began = Instant::now();
        let most = i64::try_from(workers)?;
        while self.db.query_one(alive, &[]).await?.try_get::<_, i64>(0)? != most {
            if began.elapsed() > PATIENCE {
                return Err(format!("{workers} workers are not there").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn print(what: &str, times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() - 1) * percent / 100);
    let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |t| t.as_secs_f64() * 1000.0);
    println!(
        "{what:<44} median {:7.1} ms   p95 {:7.1} ms   slowest {:7.1} ms   of {}",
        ms(at(50)),
        ms(at(95)),
        ms(at(100)),
        times.len()
    );
    times.last().copied().unwrap_or_default()
}

async fn measure(url: &str, rounds: usize, seed: u64) -> Result<(), Failed> {
    if rounds == 0 {
        return Err("no rounds".into());
    }
    println!("{rounds} kills with seed {seed}");
    let mut scene = Scene::begin(url, seed).await?;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Worker::start(url)?);
    }
    let mut by_others = Vec::new();
    for _ in 0..rounds {
        scene.alive(WORKERS).await?;
        let id = scene.query().await?;
        let holder = scene.held(id, 0).await?;
        scene.some_time().await;
        let at = workers.iter().position(|w| w.pid() == holder);
        let mut killed = workers.swap_remove(at.ok_or("a stranger works here")?);
        let began = Instant::now();
        killed.0.kill()?;
        scene.held(id, holder).await?;
        by_others.push(began.elapsed());
        drop(killed);
        scene.client.batch_abort(id, PATIENCE).await?;
        workers.push(Worker::start(url)?);
    }
    drop(workers);
    let mut by_restart = Vec::new();
    let mut only = Some(Worker::start(url)?);
    for _ in 0..rounds.div_ceil(5) {
        scene.alive(1).await?;
        let id = scene.query().await?;
        let holder = scene.held(id, 0).await?;
        scene.some_time().await;
        let began = Instant::now();
        drop(only.take());
        only = Some(Worker::start(url)?);
        scene.held(id, holder).await?;
        by_restart.push(began.elapsed());
        scene.client.batch_abort(id, PATIENCE).await?;
    }
    let slowest = print("by workers that run", &mut by_others);
    print("by its restart, with the process's start", &mut by_restart);
    if slowest >= MOST {
        return Err(format!("the slowest take-over took {slowest:?}").into());
    }
    Ok(())
}
