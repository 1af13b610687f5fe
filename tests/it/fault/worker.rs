//! A worker on PostgreSQL in a process of its own: this test binary again, for the one test [`run_as_worker`].

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rowmill::ingest::Options as Format;
use rowmill::model::{Line, OpSettings};
use rowmill::store::postgres::{Options, PostgresStore};
use rowmill::{
    Batch, BatchId, BatchProcessor, CancellationToken, Client, JobKey, JobManager, Kind, NewBatch,
    NewQuery, ObjectStore, QueryCx, RawJson, RowCx, RowFailure, SlowQueryProcessor, Store,
};

use crate::support::servers::{Database, until};

const VARIABLE: &str = "ROWMILL_TEST_WORKER";

/// Workers of one database, and where they leave their words.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Crew {
    dir: PathBuf,
    url: String,
    /// In milliseconds.
    pub(super) heartbeat: u64,
    /// What a row takes, in milliseconds.
    pub(super) row: u64,
    /// A row lets nobody else run meanwhile.
    pub(super) computes: bool,
    name: String,
}

/// One of them; dropping it kills it.
pub(super) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    name: String,
    dir: PathBuf,
}

impl Crew {
    pub(super) fn new(dir: &Path, url: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            url: url.to_owned(),
            heartbeat: 30_000,
            row: 2,
            computes: false,
            name: String::new(),
        }
    }

    pub(super) async fn store(&self) -> Store {
        let mut options = Options::new(&self.url).expect("an address");
        options.heartbeat = Duration::from_millis(self.heartbeat);
        options.connections = 4;
        Store::new(PostgresStore::open(options).await.expect("a store"))
    }

    /// Submits rows, in blocks of 50.
    pub(super) async fn submit(&self, rows: u32) -> BatchId {
        let manager = self.manager().await;
        let new = NewBatch::new(JobKey::new("fault", "work", Kind::Batch).expect("names"));
        let records: String = (0..rows).map(|n| format!("{n}\n")).collect();
        let input = std::io::Cursor::new(format!("n\n{records}"));
        let submitted = manager.batch_submit_reader(new, input, Format::csv());
        submitted.await.expect("submitted").batch.id
    }

    /// Submits as many queries by one call; each is a number.
    pub(super) async fn submit_queries(&self, number: u32) {
        let key = JobKey::new("fault", "ask", Kind::Query).expect("names");
        let queries = (0..number).map(|n| NewQuery {
            query: NewBatch::new(key.clone()),
            input: RawJson::from_string(n.to_string()).expect("JSON"),
        });
        let manager = self.manager().await;
        let submitted = manager.slow_query_submit_many(queries.collect()).await;
        assert_eq!(submitted.expect("submitted").len(), number as usize);
    }

    async fn manager(&self) -> JobManager {
        let settings = OpSettings {
            block_rows: 50,
            ..OpSettings::default()
        };
        let begun = self.dir.join(format!("begun-{}", self.name));
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(begun);
        let work = Work {
            begun: Mutex::new(file.expect("a file")),
            row: Duration::from_millis(self.row),
            computes: self.computes,
        };
        JobManager::builder(self.store().await)
            .objects(ObjectStore::folder(self.dir.join("files")))
            .batch("fault", "work", work)
            .slow_query("fault", "ask", Ask)
            .settings("fault", "work", Kind::Batch, settings)
            .build()
            .expect("a manager")
    }

    /// Starts one under a name; `url` is its own way to the server, if it has one.
    pub(super) fn start(&self, name: &str, url: Option<&str>) -> Worker {
        let crew = Self {
            name: name.to_owned(),
            url: url.unwrap_or(&self.url).to_owned(),
            ..self.clone()
        };
        let log = File::create(self.dir.join(format!("log-{name}"))).expect("a log");
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "fault::worker::run_as_worker", "--nocapture"])
            .arg("--test-threads=1")
            .env(VARIABLE, serde_json::to_string(&crew).expect("JSON"))
            .env("ROWMILL_PROBE", "")
            .stdin(Stdio::piped())
            .stdout(log)
            .spawn()
            .expect("started");
        Worker {
            stdin: child.stdin.take(),
            child,
            name: name.to_owned(),
            dir: self.dir.clone(),
        }
    }

    /// Waits for the end of a batch, by whatever connection there is at the time.
    pub(super) async fn done(&self, id: BatchId) -> Batch {
        let client = Client::new(self.store().await);
        let done = tokio::time::timeout(Duration::from_secs(120), async {
            loop {
                match client.wait_done(id, None).await {
                    Ok(batch) => break batch,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        done.await.expect("in time")
    }

    /// As [`Crew::assert_done`], and nothing else is to be done.
    pub(super) async fn assert_whole(&self, id: BatchId, rows: u32) -> i64 {
        let lost = self.assert_done(id, rows).await;
        let left = self.rows("select 1 from queue");
        assert!(left.is_empty(), "tasks are left");
        lost
    }

    /// Every row has succeeded once, whatever happened; returns how many attempts were lost.
    pub(super) async fn assert_done(&self, id: BatchId, rows: u32) -> i64 {
        let batch = self.done(id).await;
        let counts = batch.counts;
        assert_eq!(
            (counts.success, counts.failed, counts.pending),
            (rows.into(), 0, 0)
        );
        let ordinals = format!("select a.no, coalesce(a.ordinals, array(select generate_series(0, b.rows - 1))) o
                          from attempts a join blocks b on b.batch = a.batch and b.no = a.no where a.body <> '' and a.batch = '{id}'");
        let twice = format!(
            "select no from ({ordinals}) x, unnest(o) n group by no, n having count(*) > 1"
        );
        assert!(self.rows(&twice).is_empty(), "a row has two outcomes");
        self.number(&format!(
            "select count(*) from attempts where ended_as = 3 and batch = '{id}'"
        ))
    }

    pub(super) fn rows(&self, sql: &str) -> Vec<tokio_postgres::Row> {
        Database::rows_at(&self.url, sql)
    }

    pub(super) fn number(&self, sql: &str) -> i64 {
        self.rows(sql)[0].get(0)
    }

    /// The numbers of the workers that have not ended, in the order in which they entered.
    pub(super) fn alive(&self) -> Vec<i64> {
        let rows = self.rows("select no from workers where ended_at is null order by no");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Whether the lock that is a worker's life is held.
    pub(super) fn holds(&self, worker: i64) -> bool {
        let held = format!(
            "select 1 from pg_locks where locktype = 'advisory' and classid = 1919907693 and objid = {worker} and granted
                and database = (select oid from pg_database where datname = current_database())"
        );
        !self.rows(&held).is_empty()
    }
}

impl Worker {
    /// How often it has begun each line.
    pub(super) fn begun(&self) -> BTreeMap<u32, u32> {
        let mut begun = BTreeMap::new();
        let file = File::open(self.dir.join(format!("begun-{}", self.name)));
        for line in file
            .into_iter()
            .flat_map(|file| BufReader::new(file).lines())
        {
            let line = line.expect("text").parse().expect("a line");
            *begun.entry(line).or_default() += 1;
        }
        begun
    }

    /// Waits until it has begun so many rows.
    pub(super) fn wait_begun(&self, rows: usize) {
        until("rows that began", || {
            (self.begun().len() >= rows).then_some(())
        });
    }

    /// What it has said, a line each.
    pub(super) fn said(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join(format!("log-{}", self.name)));
        text.expect("a log").lines().map(str::to_owned).collect()
    }

    /// How many lines of its log have this in them.
    pub(super) fn says(&self, what: &str) -> usize {
        self.said()
            .iter()
            .filter(|line| line.contains(what))
            .count()
    }

    pub(super) fn wait_says(&self, what: &str) {
        until(what, || (self.says(what) > 0).then_some(()));
    }

    pub(super) fn signal(&self, signal: libc::c_int) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: a signal to a child that was not waited for touches no memory.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    pub(super) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("a child");
    }

    /// Kills it at a moment at which it has tasks of which this is true.
    pub(super) fn kill_with_tasks(self, crew: &Crew, which: &str) {
        let held = format!(
            "select 1 from queue q join workers w on w.no = q.worker where w.pid = {} and q.state = 2 and {which}",
            self.child.id()
        );
        until("a worker that has tasks", || {
            // What it has does not change while it is looked at.
            self.signal(libc::SIGSTOP);
            let has = !crew.rows(&held).is_empty();
            if !has {
                self.signal(libc::SIGCONT);
            }
            has.then_some(())
        });
        self.kill();
    }

    /// Stops it in order, and sees that it had not ended before.
    pub(super) fn stop(mut self) {
        let ended = self.child.try_wait().expect("a child");
        assert_eq!(ended, None, "{:#?}", self.said());
        drop(self.stdin.take());
        let status = self.child.wait().expect("a child");
        assert!(status.success(), "{status}: {:#?}", self.said());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that was waited for is gone.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct Work {
    begun: Mutex<File>,
    row: Duration,
    computes: bool,
}

#[derive(serde::Deserialize)]
struct Row {
    n: String,
}

impl BatchProcessor for Work {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = u64;

    async fn process(&self, cx: &mut RowCx<'_, (), ()>, row: Row) -> Result<u64, RowFailure> {
        let Line(line) = cx.line();
        // One write, so that a kill leaves whole lines.
        let begun = format!("{line}\n");
        self.begun
            .lock()
            .expect("unpoisoned")
            .write_all(begun.as_bytes())?;
        if self.computes {
            std::thread::sleep(self.row);
        } else {
            tokio::time::sleep(self.row).await;
        }
        Ok(row.n.parse()?)
    }
}

/// Answers with what it was asked.
struct Ask;

impl SlowQueryProcessor for Ask {
    type Block = ();
    type Context = ();
    type Input = u32;
    type Output = u32;

    async fn query(&self, _: &mut QueryCx<'_, (), ()>, n: u32) -> Result<u32, RowFailure> {
        Ok(n)
    }
}

/// Not a test by itself: works when it was started for that, until its stdin is closed.
#[test]
fn run_as_worker() {
    let Ok(crew) = std::env::var(VARIABLE) else {
        return;
    };
    let crew: Crew = serde_json::from_str(&crew).expect("a crew");
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter("rowmill=info");
    log.init();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    std::thread::spawn(move || {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        stopped.cancel();
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let worked = runtime.expect("a runtime").block_on(async {
        let manager = crew.manager().await;
        manager.run(stop).await
    });
    worked.expect("it goes on whatever happens");
}
