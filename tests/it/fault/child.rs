//! The child: submits its batch under a fixed id, works until it is done, and says what it does on stdout.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rowmill::clock::Clock;
use rowmill::ingest::Options;
use rowmill::model::{Backoff, Delivery, Line, RawJson, Timestamp};
use rowmill::sqlite::{TransactionalProcessor, Tx};
use rowmill::store::postgres::{Options as Server, PostgresStore};
use rowmill::{
    AppendOptions, Batch, BatchId, BatchProcessor, BoxError, DoneCx, InitBlock, Initializer,
    JobKey, JobManager, Kind, Message, NewBatch, ObjectStore, OpSettings, Purge, QueryCx, RowCx,
    RowFailure, SlowQueryProcessor, Store,
};

use crate::support::s3;

/// What the child is to do; it travels as JSON in one environment variable.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Task {
    pub(super) dir: PathBuf,
    pub(super) id: BatchId,
    pub(super) rows: u32,
    /// Bytes of padding in each row.
    pub(super) padding: usize,
    /// Bytes that are added to each line of the output file.
    pub(super) line: usize,
    /// The line that kills its worker.
    pub(super) poison: Option<u32>,
    /// Every how many lines a row fails.
    pub(super) fails: u32,
    /// Seconds that the child's clock is ahead.
    pub(super) ahead: u64,
    pub(super) block_rows: u32,
    /// Rows of a task at once, in any order.
    pub(super) parallel: u32,
    /// Each row that succeeds moves money in the transaction of its outcome.
    pub(super) transactional: bool,
    /// The PostgreSQL database that it works on, in place of a file.
    pub(super) postgres: Option<String>,
    /// There, who is silent for longer is dead; else it is as by default.
    pub(super) heartbeat: Option<Duration>,
    /// No row begins twice.
    pub(super) once: bool,
    /// Rows that are submitted, held; the others are appended and release the batch.
    pub(super) held: Option<u32>,
    /// A query that streams files instead of a batch; it dies in it, or fails.
    pub(super) query: Option<Ends>,
    /// Purges whatever has ended, at its end.
    pub(super) purge: bool,
    /// The address of the S3 server that has the output files, in place of a folder.
    pub(super) s3: Option<String>,
}

/// How a query ends.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Ends {
    Killed,
    Failed,
}

const VARIABLE: &str = "ROWMILL_TEST_CHILD";

impl Task {
    pub(super) fn new(dir: &Path, rows: u32) -> Self {
        Self {
            dir: dir.to_owned(),
            id: BatchId::new(),
            rows,
            padding: 10,
            line: 0,
            poison: None,
            fails: 100,
            ahead: 0,
            block_rows: 1000,
            parallel: 1,
            transactional: false,
            postgres: None,
            heartbeat: None,
            once: false,
            held: None,
            query: None,
            purge: false,
            s3: None,
        }
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("rowmill.db")
    }

    fn effects(&self) -> PathBuf {
        self.dir.join("effects")
    }

    /// How often each line's processor was started, over all children.
    pub(super) fn starts(&self) -> BTreeMap<u32, u32> {
        let mut starts = BTreeMap::new();
        if let Ok(file) = File::open(self.effects()) {
            for line in BufReader::new(file).lines() {
                let line: u32 = line.unwrap().parse().unwrap();
                *starts.entry(line).or_default() += 1;
            }
        }
        starts
    }

    /// The ends that were told, a status each.
    pub(super) fn told(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("told")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The line that a row writes to the output file.
    pub(super) fn output(&self, n: u32) -> String {
        format!("{n}{}", "x".repeat(self.line))
    }

    fn records(&self, rows: std::ops::Range<u32>) -> String {
        let padding = "x".repeat(self.padding);
        rows.map(|n| format!("{n},{padding}\n")).collect()
    }

    /// Starts a child; `probe` says where it is killed.
    pub(super) fn start(&self, probe: &str) -> Running {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "fault::child::run_as_child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(VARIABLE, serde_json::to_string(self).unwrap())
            .env("ROWMILL_PROBE", probe)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }
}

pub(super) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    /// Waits until the child has said that `rows` more rows began, or has ended.
    pub(super) fn wait_rows(&mut self, rows: u32) {
        let mut line = String::new();
        let mut seen = 0;
        while seen < rows {
            line.clear();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return;
            }
            seen += u32::from(line.starts_with("row "));
        }
    }

    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: libc::c_int) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: a signal to a child that was not waited for touches no memory.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for its end; true if it ended well, false if it was killed.
    pub(super) fn wait(mut self) -> bool {
        self.wait_rows(u32::MAX);
        let status = self.child.wait().unwrap();
        use std::os::unix::process::ExitStatusExt as _;
        assert!(
            status.success() || status.signal() == Some(9),
            "the child ended with {status}"
        );
        status.success()
    }
}

struct Ahead(u64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp::now() + Duration::from_secs(self.0)
    }
}

struct Effects {
    task: Task,
    file: Mutex<File>,
}

impl InitBlock for Effects {}

struct Open(Task);

impl Initializer for Open {
    type Block = Effects;

    async fn init(&self, _: &rowmill::model::AppName) -> Result<Effects, BoxError> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(self.0.effects())?;
        Ok(Effects {
            task: self.0.clone(),
            file: Mutex::new(file),
        })
    }
}

#[derive(serde::Deserialize)]
struct Row {
    n: String,
}

struct Work;

impl BatchProcessor for Work {
    type Block = Effects;
    type Context = ();
    type Input = Row;
    type Output = u64;

    async fn process(&self, cx: &mut RowCx<'_, Effects, ()>, row: Row) -> Result<u64, RowFailure> {
        Self::row(cx, &row)
    }

    async fn mark_done(&self, cx: &DoneCx<'_, Effects>, batch: &Batch) -> Result<(), BoxError> {
        Self::done(cx, batch)
    }
}

impl Work {
    /// What every row does, in a transaction or outside of one.
    fn row(cx: &mut RowCx<'_, Effects, ()>, row: &Row) -> Result<u64, RowFailure> {
        let Line(line) = cx.line();
        let effects = cx.block();
        // Workers of one database work on each other's batches.
        if effects.task.postgres.is_none() {
            assert_eq!(cx.batch(), effects.task.id);
        }
        let key = format!("{}/{line}", cx.batch());
        assert_eq!(cx.key(), key, "the same however often it runs");
        // One write, so that a kill leaves whole lines.
        let begun = format!("{line}\n");
        effects.file.lock().unwrap().write_all(begun.as_bytes())?;
        println!("row {line}");
        if effects.task.poison == Some(line) {
            die();
        }
        let fails = line.is_multiple_of(effects.task.fails);
        let output = effects.task.output(row.n.parse()?);
        cx.write_line("lines.txt", &output);
        if fails {
            return Err(Message::new("divisible", 500).into());
        }
        Ok(u64::from(line))
    }

    fn done(cx: &DoneCx<'_, Effects>, batch: &Batch) -> Result<(), BoxError> {
        let mut options = OpenOptions::new();
        let path = cx.block().task.dir.join("told");
        let mut file = options.create(true).append(true).open(path)?;
        Ok(file.write_all(format!("{}\n", batch.status).as_bytes())?)
    }
}

/// Streams a file to its end and begins another.
struct Ask;

impl SlowQueryProcessor for Ask {
    type Block = Effects;
    type Context = ();
    type Input = u32;
    type Output = ();

    async fn query(&self, cx: &mut QueryCx<'_, Effects, ()>, _: u32) -> Result<(), RowFailure> {
        let mut whole = cx.create_file("whole.txt").await?;
        whole.write(b"whole").await?;
        cx.finish_file(whole).await?;
        let mut part = cx.create_file("part.txt").await?;
        part.write(b"part").await?;
        if cx.block().task.query == Some(Ends::Killed) {
            die();
        }
        Err(Message::new("failed", 500).into())
    }
}

fn die() {
    // SAFETY: kill and getpid touch no memory of ours.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// Moves a row's number of cents from one account to the other, and notes that it did.
struct Transfer;

/// What [`Transfer`] writes to.
pub(super) const ACCOUNTS: &str = "
    create table if not exists accounts (name text primary key, cents integer not null);
    create table if not exists moves (line integer not null, cents integer not null);
    insert or ignore into accounts values ('a', 1000000000), ('b', 0);";

impl TransactionalProcessor for Transfer {
    type Block = Effects;
    type Context = ();
    type Input = Row;
    type Output = u64;

    fn process(
        &self,
        tx: &mut Tx<'_>,
        cx: &mut RowCx<'_, Effects, ()>,
        row: Row,
    ) -> Result<u64, RowFailure> {
        let (Line(line), cents) = (cx.line(), row.n.parse::<i64>()?);
        let moves = "update accounts set cents = cents + ?2 where name = ?1";
        tx.execute(moves, ("a", -cents))?;
        tx.execute("insert into moves values (?1, ?2)", (line, cents))?;
        let done = Work::row(cx, &row)?;
        tx.execute(moves, ("b", cents))?;
        Ok(done)
    }

    async fn mark_done(&self, cx: &DoneCx<'_, Effects>, batch: &Batch) -> Result<(), BoxError> {
        Work::done(cx, batch)
    }
}

/// As [`Transfer`], on PostgreSQL.
struct ServerTransfer {
    any_order: bool,
}

impl rowmill::postgres::TransactionalProcessor for ServerTransfer {
    type Block = Effects;
    type Context = ();
    type Input = Row;
    type Output = u64;

    async fn process(
        &self,
        tx: &rowmill::postgres::tokio_postgres::Transaction<'_>,
        cx: &mut RowCx<'_, Effects, ()>,
        row: Row,
    ) -> Result<u64, RowFailure> {
        let (Line(line), cents) = (cx.line(), row.n.parse::<i64>()?);
        let moves = "update accounts set cents = cents + $2 where name = $1";
        tx.execute(moves, &[&"a", &-cents]).await?;
        let note = "insert into moves values ($1, $2)";
        tx.execute(note, &[&i64::from(line), &cents]).await?;
        let done = Work::row(cx, &row)?;
        tx.execute(moves, &[&"b", &cents]).await?;
        Ok(done)
    }

    fn any_order(&self) -> bool {
        self.any_order
    }

    async fn mark_done(&self, cx: &DoneCx<'_, Effects>, batch: &Batch) -> Result<(), BoxError> {
        Work::done(cx, batch)
    }
}

/// Not a test by itself: does a child's task when it was started for that.
#[test]
fn run_as_child() {
    let Ok(task) = std::env::var(VARIABLE) else {
        return;
    };
    let task: Task = serde_json::from_str(&task).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work(task));
}

async fn work(task: Task) {
    let store = match &task.postgres {
        Some(url) => {
            let mut options = Server::new(url).unwrap();
            options.heartbeat = task.heartbeat.unwrap_or(options.heartbeat);
            Store::new(PostgresStore::open(options).await.unwrap())
        }
        None => Store::sqlite(task.database()).await.unwrap(),
    };
    let delivery = if task.once {
        Delivery::AtMostOnce
    } else {
        Delivery::AtLeastOnce
    };
    let settings = OpSettings {
        block_rows: task.block_rows,
        parallel: task.parallel,
        delivery,
        backoff: Backoff {
            base: Duration::from_millis(1),
            ..Backoff::default()
        },
        ..OpSettings::default()
    };
    let objects = match &task.s3 {
        Some(endpoint) => s3::objects(endpoint),
        None => ObjectStore::folder(task.dir.join("files")),
    };
    let manager = JobManager::builder(store)
        .objects(objects)
        .clock(Ahead(task.ahead))
        .initializer("fault", Open(task.clone()));
    let manager = if task.postgres.is_some() {
        manager.transactional(
            "fault",
            "work",
            ServerTransfer {
                any_order: task.parallel > 1,
            },
        )
    } else if task.transactional {
        let accounts = rusqlite::Connection::open(task.database()).unwrap();
        accounts.busy_timeout(Duration::from_secs(60)).unwrap();
        accounts.execute_batch(ACCOUNTS).unwrap();
        manager.transactional("fault", "work", Transfer)
    } else {
        manager.batch("fault", "work", Work)
    };
    let manager = manager
        .settings("fault", "work", Kind::Batch, settings)
        .slow_query("fault", "ask", Ask)
        .build()
        .unwrap();
    if task.query.is_some() {
        ask(&manager, task.id).await;
    } else {
        submit(&manager, &task).await;
    }
    let parent = std::os::unix::process::parent_id();
    // Turned by hand until the end is there and has been told.
    loop {
        // Whose test has ended works for nobody.
        if std::os::unix::process::parent_id() != parent {
            std::process::exit(1);
        }
        let turned = async {
            let tick = manager.tick().await?;
            let batch = manager.batch_status(task.id).await?;
            Ok::<_, rowmill::Error>(batch.done && tick.is_idle())
        };
        match turned.await {
            Ok(true) => break,
            Ok(false) => {}
            // A server that is away comes back, and a worker that was taken for dead enters anew.
            Err(error) if task.postgres.is_some() => {
                eprintln!("{error}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                drop(manager.stop().await);
            }
            Err(error) => panic!("{error}"),
        }
    }
    if task.purge {
        manager.purge(&Purge::default()).await.unwrap();
    }
    manager.stop().await.unwrap();
}

async fn ask(manager: &JobManager, id: BatchId) {
    let new = NewBatch {
        id,
        ..NewBatch::new(JobKey::new("fault", "ask", Kind::Query).unwrap())
    };
    let input = RawJson::from_string("1".to_owned()).unwrap();
    manager.slow_query_submit(new, input).await.unwrap();
}

async fn submit(manager: &JobManager, task: &Task) {
    let first = task.held.unwrap_or(task.rows);
    let new = NewBatch {
        id: task.id,
        hold: task.held.is_some(),
        ..NewBatch::new(JobKey::new("fault", "work", Kind::Batch).unwrap())
    };
    let input = format!("n,padding\n{}", task.records(0..first));
    let input = std::io::Cursor::new(input);
    let submission = manager
        .batch_submit_reader(new, input, Options::csv())
        .await
        .unwrap();
    assert_eq!(submission.batch.id, task.id);
    if task.held.is_some() {
        let rest = std::io::Cursor::new(task.records(first..task.rows));
        let options = Options {
            header: false,
            ..Options::csv()
        };
        let release = AppendOptions {
            release: true,
            ..AppendOptions::default()
        };
        let appended = manager.batch_append_reader(task.id, rest, options, release);
        let appended = appended.await.unwrap();
        println!("appended {} repeated {}", appended.rows, appended.repeated);
    }
}
