//! The engine: one turn takes over what is lost, claims, works, records, closes and tells.
//!
//! `Engine::turn` starts whatever can be started and takes in whatever has ended; it never waits.
//! Each step runs beside the others, so that a slow task, a slow disk and a slow receiver delay
//! only what needs them. `run` waits between turns for the first thing that happens.

mod fill;
mod finalise;
mod ops;
mod parts;
mod patience;
pub(crate) mod purge;
mod run;
mod steps;
mod take;
mod turn;
mod work;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::cache::Statuses;
use crate::clock::{Clock, Seldom};
use crate::files::ObjectStore;
use crate::model::{AppName, BatchId, Timestamp, WorkerNo};
use crate::processor::{AnyBlock, AppEntry, CancelHandle, Pulse, Registry, unit_block};
use crate::store::{ClaimRef, NewWorker, OpRegistration, Serves, Signal, Store, StoreError};
use ops::Op;
use patience::Patience;
use steps::Step;
use work::Outgoing;

/// How often time alone is looked at: due tasks, expiry, the dead.
const KEEP: Duration = Duration::from_millis(500);
/// How often running tasks are compared with what the store believes, while it changes.
const BEAT: Duration = Duration::from_millis(50);
/// A comparison of very many takes long: it is made again after so many times as long, and after half a second at most.
const REST: u32 = 9;
/// A task that the store believes to run here, and of which nothing here knows, is given back after this.
const STRANGE: Duration = Duration::from_secs(5);
/// How often it is looked for batches whose time is over, while there are none.
const PURGE: Duration = Duration::from_secs(60);
/// A step that failed because of the store is tried again after this.
const RETRY: Duration = Duration::from_millis(200);
/// Parts that are on their way to those that wait for a commit; a task that has more waits itself.
const OUTBOX: usize = 256;
/// Parts that wait for a commit, as many as a claim takes, and no more than these bytes of them and the last one.
const WAITING: usize = 1000;
const WAITING_BYTES: usize = 4 << 20;
/// Batches whose ends wait to be copied; the copies of others grow old.
const COPIES: usize = 1024;
/// Of the beats, and of the looks at the time, that fail in a row so many are made for a word in the log.
const UNHEARD: u32 = 100;
/// Outcomes that are fenced are said at most so often.
const SAID: Duration = Duration::from_secs(5);

/// What one turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tick {
    /// Tasks of dead workers that were given back.
    pub taken_over: u64,
    /// Tasks that were claimed.
    pub claimed: u64,
    /// Rows whose final outcome was recorded.
    pub recorded: u64,
    /// Parts that were dropped because the task belonged to somebody else.
    pub fenced: u64,
    /// Batches whose output files were assembled and which then ended.
    pub closed: u64,
    /// Ends that were told to their receivers.
    pub told: u64,
    /// Batches that were purged because their time was over: no work, so an idle turn may have some.
    pub purged: u64,
    /// When time alone will change something.
    pub next_due: Option<Timestamp>,
}

impl Tick {
    /// Whether nothing was done.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let Self {
            taken_over,
            claimed,
            recorded,
            fenced,
            closed,
            told,
            purged: _,
            next_due: _,
        } = *self;
        taken_over + claimed + recorded + fenced + closed + told == 0
    }

    fn add(&mut self, other: Self) {
        self.taken_over += other.taken_over;
        self.claimed += other.claimed;
        self.recorded += other.recorded;
        self.fenced += other.fenced;
        self.closed += other.closed;
        self.told += other.told;
        self.purged += other.purged;
        self.next_due = other.next_due.or(self.next_due);
    }
}

/// What an engine is made of.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) statuses: Statuses,
    pub(crate) objects: ObjectStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Arc<Registry>,
    /// How long rows may go on after a stop.
    pub(crate) grace: Duration,
}

/// A task that runs here.
struct Running {
    cancel: CancelHandle,
    suspect: bool,
    /// Since when, if its one row was running when a worker died.
    accused: Option<Instant>,
}

/// What is to be looked for: it may be there.
#[derive(Clone, Copy, Default)]
struct Due {
    /// Tasks.
    work: bool,
    /// Batches whose rows have all ended, and which wait for their output files.
    closes: bool,
    /// Ends that wait to be told.
    ends: bool,
}

impl Due {
    const ALL: Self = Self {
        work: true,
        closes: true,
        ends: true,
    };
}

/// An app's init block in this process.
enum App {
    Closed,
    Opening(AbortHandle),
    Open(AnyBlock),
    /// Before `from`, too, it is over: the clock was set back since.
    Suspended {
        from: Timestamp,
        until: Timestamp,
        failures: u32,
    },
}

pub(crate) struct Engine {
    parts: Parts,
    worker: WorkerNo,
    ops: Vec<Op>,
    apps: HashMap<AppName, (AppEntry, App)>,
    steps: JoinSet<Step>,
    /// Steps that ended while the engine rested.
    ended: Vec<Step>,
    outbox: mpsc::Sender<Outgoing>,
    inbox: mpsc::Receiver<Outgoing>,
    /// Parts that wait for the commit that is under way.
    waiting: Vec<Outgoing>,
    waiting_bytes: usize,
    recording: bool,
    /// Batches that may have ended with what was recorded, until somebody else may know it.
    may_have_ended: HashSet<BatchId>,
    copying: bool,
    /// After a failed commit, not before this.
    record_after: Option<Instant>,
    /// When it was last said that outcomes were fenced.
    fenced: Seldom,
    running: HashMap<ClaimRef, Running>,
    /// Tasks that the store believes to run here and of which nothing here knows, since when.
    strangers: HashMap<ClaimRef, Instant>,
    /// Since when an accused row has waited for an empty process.
    accused_since: Option<Instant>,
    signal: Signal,
    looking: bool,
    /// What is to be looked for.
    look: Due,
    keeping: bool,
    keep_at: Instant,
    /// The dead were looked for since this worker entered: nothing is claimed before.
    kept: bool,
    /// Looks at the time in a row that failed.
    unkept: u32,
    beating: bool,
    beat_at: Instant,
    /// Whether others hear of this worker.
    pulse: Arc<Pulse>,
    /// Beats in a row that failed.
    unheard: u32,
    closing: bool,
    /// Batches were seen to wait for their output files.
    close: bool,
    telling: bool,
    /// Ends were seen to wait to be told.
    tell: bool,
    purging: bool,
    /// By the clock that batches' ends are compared with.
    purge_at: Timestamp,
    /// A purge that has more to do goes on then.
    purge_after: Instant,
    next_due: Option<Timestamp>,
    stopping: bool,
    left: bool,
    patience: Patience,
    /// Works on this batch alone.
    only: Option<BatchId>,
    /// One claim an op and turn, for a caller that turns by hand.
    by_hand: bool,
    /// The store has a use for slots that are free.
    offers: bool,
}

impl Engine {
    /// Enters as a worker.
    ///
    /// With `only` it works on that batch alone.
    pub(crate) async fn start(parts: Parts, only: Option<BatchId>) -> Result<Self, StoreError> {
        let now = parts.clock.now();
        let registrations: Vec<OpRegistration> = parts
            .registry
            .ops()
            .map(|op| OpRegistration {
                key: op.key.clone(),
                notify: op.processor.wants_ends(),
                max_lost: op.settings.max_lost,
                keep: op.settings.keep,
            })
            .collect();
        let notify: Vec<bool> = registrations.iter().map(|op| op.notify).collect();
        let ids = parts.store.register_ops(registrations, now).await?;
        let serves = ids.iter().zip(notify);
        let worker = parts
            .store
            .enter(
                NewWorker {
                    host: host(),
                    pid: std::process::id(),
                    version: env!("CARGO_PKG_VERSION"),
                    ops: serves
                        .map(|(op, notify)| Serves { op: *op, notify })
                        .collect(),
                    only,
                },
                now,
            )
            .await?;
        let live = parts.store.live_ops().await?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let ops = ids
            .into_iter()
            .zip(parts.registry.ops().cloned())
            .map(|(id, op)| Op::new(id, op, cores))
            .collect();
        let apps = parts.registry.apps().into_iter().map(|entry| {
            let app = match &entry.1 {
                None => App::Open(unit_block()),
                Some(_) => App::Closed,
            };
            (entry.0.clone(), (entry, app))
        });
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let signal = parts.store.signal();
        let now = Instant::now();
        tracing::info!(
            worker = worker.0,
            version = env!("CARGO_PKG_VERSION"),
            "worker started"
        );
        let mut engine = Self {
            worker,
            ops,
            apps: apps.collect(),
            steps: JoinSet::new(),
            ended: Vec::new(),
            outbox,
            inbox,
            waiting: Vec::new(),
            waiting_bytes: 0,
            recording: false,
            may_have_ended: HashSet::new(),
            copying: false,
            record_after: None,
            fenced: Seldom::default(),
            running: HashMap::new(),
            strangers: HashMap::new(),
            accused_since: None,
            signal,
            looking: false,
            look: Due::ALL,
            keeping: false,
            keep_at: now,
            kept: false,
            unkept: 0,
            beating: false,
            beat_at: now,
            pulse: Arc::new(Pulse::new(parts.store.heartbeat())),
            unheard: 0,
            closing: false,
            close: false,
            telling: false,
            tell: false,
            purging: false,
            purge_at: parts.clock.now(),
            purge_after: now,
            next_due: None,
            stopping: false,
            left: false,
            patience: Patience::default(),
            only,
            by_hand: false,
            offers: true,
            parts,
        };
        engine.take_live(&live);
        Ok(engine)
    }
}

/// A step ended without a word: one that a stop dropped is no news.
fn lost(error: &tokio::task::JoinError) {
    if !error.is_cancelled() {
        tracing::error!(%error, "a step of the engine panicked");
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

impl Drop for Engine {
    /// An engine that is dropped instead of stopped is dead: others take over what it held.
    fn drop(&mut self) {
        if !self.left {
            self.parts.store.abandon(self.worker);
        }
    }
}
