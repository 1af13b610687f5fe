//! The process under test: a worker of one op, whose rows have effects and whose files go to a bucket.
//!
//! It is this same test binary, started again for the one test [`run_as_worker`].

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rowmill::files::s3::Options as Bucket;
use rowmill::model::{AppName, Kind};
use rowmill::probe;
use rowmill::store::postgres::{Options, PostgresStore};
use rowmill::{
    Batch, BatchProcessor, BoxError, CancellationToken, DoneCx, InitBlock, Initializer, JobManager,
    Message, ObjectStore, OpSettings, RowCx, RowFailure, Store,
};
use tokio::sync::Mutex;

use crate::support::s3::{BUCKET, PREFIX, SECRET, client};

/// A wait that takes longer has failed.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// The line at which a process halts that halts within a row.
pub(super) const HALTS: u32 = 37;
/// Every so many lines a row fails.
pub(super) const FAILS: u32 = 25;
const VARIABLE: &str = "ROWMILL_TEST_WORKER";
/// The file that there is when something stands.
const STANDS: &str = "stands";
/// The file that lets it go.
const GO: &str = "go";

/// Where a process stops itself, once.
#[derive(Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) enum Halt {
    /// A row has begun and has done nothing.
    WithinRow,
    /// Likewise; it goes on when it has been told of the abort.
    WithinAbortedRow,
    /// A row's effect is there and nobody knows.
    AfterEffect,
    /// It does not stop, but a row waits until its worker is told to end.
    UntilTold,
    /// The receiver of an end has it and has not answered.
    WhileTold,
    /// It does not stop, but a row waits until it is let go.
    RowStands,
    /// Likewise the receiver of an end.
    ReceiverStands,
}

/// What a worker is to do; it travels as JSON in one environment variable.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Job {
    pub(super) dir: PathBuf,
    /// Of rowmill's connections and of those by which rows have their effect.
    pub(super) url: String,
    pub(super) s3: String,
    pub(super) halt: Option<Halt>,
    /// Who is silent for longer is dead; else it is as by default.
    pub(super) heartbeat: Option<Duration>,
    /// Bytes that are added to each line of the output file.
    pub(super) line: usize,
}

impl Job {
    /// Starts a worker; the probe says at which fault point it stops itself.
    pub(super) fn start(&self, probe: &str) -> Worker {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "fault::postgres::worker::run_as_worker"]);
        command.args(["--nocapture", "--test-threads=1"]);
        command.env(VARIABLE, serde_json::to_string(self).unwrap());
        command.env("ROWMILL_PROBE", probe).stdout(Stdio::null());
        // SAFETY: between fork and exec a system call is all that is made.
        unsafe {
            command.pre_exec(|| {
                // One that is stopped would outlive a test process that is killed.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Worker(command.spawn().unwrap())
    }

    /// The line that a row writes to the output file.
    pub(super) fn output(&self, line: u32) -> String {
        format!("{line}{}\n", "x".repeat(self.line))
    }

    /// How often each line's processor was started, over all workers.
    pub(super) fn starts(&self) -> BTreeMap<u32, u32> {
        let mut starts = BTreeMap::new();
        for line in lines(&self.dir.join("starts")) {
            *starts.entry(line.parse().unwrap()).or_default() += 1;
        }
        starts
    }

    /// Whether something stands that was to.
    pub(super) fn stands(&self) -> bool {
        self.dir.join(STANDS).exists()
    }

    /// Lets it go.
    pub(super) fn go(&self) {
        std::fs::write(self.dir.join(GO), "").unwrap();
    }

    /// The ends that were told, a status and an event's id each.
    pub(super) fn told(&self) -> Vec<String> {
        lines(&self.dir.join("told"))
    }
}

fn lines(path: &Path) -> Vec<String> {
    let file = std::fs::read(path).unwrap_or_default();
    file.lines().map(Result::unwrap).collect()
}

/// One write, so that a kill leaves whole lines.
fn note(path: &Path, line: impl std::fmt::Display) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// A worker's process; dropping it kills it.
pub(super) struct Worker(Child);

impl Worker {
    /// Sends it a signal.
    pub(super) fn signal(&self, signal: libc::c_int) {
        let pid = i32::try_from(self.0.id()).unwrap();
        // SAFETY: a signal to a child that was not waited for touches no memory.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits until it has stopped itself.
    pub(super) fn has_stopped(&self) {
        let began = Instant::now();
        loop {
            // SAFETY: the struct is plain numbers, and waitid fills it in; the child is left to be waited for.
            let (told, info) = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let how = libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
                (libc::waitid(libc::P_PID, self.0.id(), &mut info, how), info)
            };
            assert_eq!(told, 0, "{}", std::io::Error::last_os_error());
            match info.si_code {
                libc::CLD_STOPPED => return,
                0 => {}
                code => panic!("it ended before it came to where it was to stop: {code}"),
            }
            assert!(began.elapsed() < LONG, "it does not stop");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets it go on if it was stopped, tells it to end (SIGTERM), and waits for that.
    pub(super) fn ends(mut self) {
        self.signal(libc::SIGTERM);
        self.signal(libc::SIGCONT);
        let began = Instant::now();
        let status = loop {
            match self.0.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(began.elapsed() < LONG, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Effects {
    job: Job,
    halted: AtomicBool,
    connection: Mutex<Option<tokio_postgres::Client>>,
}

impl InitBlock for Effects {}

impl Effects {
    /// Stops the process if it is to be here; whether it was.
    fn may_halt(&self, at: Halt) -> bool {
        let halts = self.job.halt == Some(at) && !self.halted.swap(true, Ordering::SeqCst);
        let goes_on = [Halt::UntilTold, Halt::RowStands, Halt::ReceiverStands];
        if halts && !goes_on.contains(&at) {
            probe::stop();
        }
        halts
    }

    /// Waits if it is to be here, until it is let go.
    async fn may_stand(&self, at: Halt) -> std::io::Result<()> {
        if self.may_halt(at) {
            std::fs::write(self.job.dir.join(STANDS), "")?;
            let began = Instant::now();
            while !self.job.dir.join(GO).exists() && began.elapsed() < LONG {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    /// Has an effect, under the row's key; a server that is away is waited for, as an application would.
    async fn have(&self, key: &str, attempt: u32) -> Result<(), RowFailure> {
        let mut connection = self.connection.lock().await;
        let began = Instant::now();
        loop {
            match had(&mut connection, &self.job.url, key, attempt).await {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > LONG => return Err(error.into()),
                Err(_) => *connection = None,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn had(
    connection: &mut Option<tokio_postgres::Client>,
    url: &str,
    key: &str,
    attempt: u32,
) -> Result<(), tokio_postgres::Error> {
    let client = match connection {
        Some(client) => client,
        none => {
            let (client, driver) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::spawn(driver);
            none.insert(client)
        }
    };
    let insert = "insert into public.effects values ($1, $2) on conflict do nothing";
    let attempt = i32::try_from(attempt).unwrap();
    client.execute(insert, &[&key, &attempt]).await.map(drop)
}

struct Open(Job);

impl Initializer for Open {
    type Block = Effects;

    async fn init(&self, _: &AppName) -> Result<Effects, BoxError> {
        Ok(Effects {
            job: self.0.clone(),
            halted: AtomicBool::new(false),
            connection: Mutex::default(),
        })
    }
}

struct Work;

impl BatchProcessor for Work {
    type Block = Effects;
    type Context = ();
    type Input = u32;
    type Output = String;

    async fn process(&self, cx: &mut RowCx<'_, Effects, ()>, n: u32) -> Result<String, RowFailure> {
        let effects = cx.block();
        note(&effects.job.dir.join("starts"), n)?;
        if n == HALTS {
            effects.may_stand(Halt::RowStands).await?;
            effects.may_halt(Halt::WithinRow);
            if effects.may_halt(Halt::WithinAbortedRow) || effects.may_halt(Halt::UntilTold) {
                tokio::time::timeout(LONG, cx.cancel().cancelled()).await?;
            }
        }
        effects.have(&cx.key(), cx.attempt()).await?;
        if n == HALTS {
            effects.may_halt(Halt::AfterEffect);
        }
        let output = effects.job.output(n);
        cx.write_line("lines.txt", output.trim_end());
        if n.is_multiple_of(FAILS) {
            return Err(Message::new("divisible", 500).into());
        }
        Ok(result(n))
    }

    async fn mark_done(&self, cx: &DoneCx<'_, Effects>, batch: &Batch) -> Result<(), BoxError> {
        let told = format!("{} {}", batch.status, cx.event());
        note(&cx.block().job.dir.join("told"), told)?;
        cx.block().may_stand(Halt::ReceiverStands).await?;
        cx.block().may_halt(Halt::WhileTold);
        Ok(())
    }
}

/// What a row comes to.
pub(super) fn result(line: u32) -> String {
    format!("row {line}")
}

/// Not a test by itself: works when it was started for that.
#[test]
fn run_as_worker() {
    let Ok(job) = std::env::var(VARIABLE) else {
        return;
    };
    let job: Job = serde_json::from_str(&job).unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(job));
}

/// A worker's manager; it also submits, by the op's settings.
pub(super) fn manager(store: Store, job: Job) -> JobManager {
    let bucket = Bucket::new(BUCKET).prefix(PREFIX).part_bytes(5 << 20);
    let settings = OpSettings {
        block_rows: 20,
        local_concurrency: Some(2),
        ..OpSettings::default()
    };
    JobManager::builder(store)
        .objects(ObjectStore::s3(client(&job.s3, SECRET), bucket))
        .initializer("fault", Open(job))
        .batch("fault", "work", Work)
        .settings("fault", "work", Kind::Batch, settings)
        .build()
        .unwrap()
}

async fn work(job: Job) {
    let mut options = Options::new(&job.url).unwrap();
    options.connections = 4;
    options.heartbeat = job.heartbeat.unwrap_or(options.heartbeat);
    let store = Store::new(PostgresStore::open(options).await.unwrap());
    let manager = manager(store, job);
    let stop = CancellationToken::new();
    let told = tokio::signal::unix::SignalKind::terminate();
    let mut told = tokio::signal::unix::signal(told).unwrap();
    let stops = stop.clone();
    tokio::spawn(async move {
        told.recv().await;
        stops.cancel();
    });
    manager.run(stop).await.unwrap();
}
