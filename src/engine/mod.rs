//! The engine: one turn takes over what is lost, claims, works, records, closes and tells.
//!
//! `Engine::turn` starts whatever can be started and takes in whatever has ended; it never waits.
//! Each step runs beside the others, so that a slow task, a slow disk and a slow receiver delay
//! only what needs them. `run` waits between turns for the first thing that happens.

mod finalise;
mod ops;
mod parts;
mod steps;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::Clock;
use crate::files::ObjectStore;
use crate::model::{AppName, Timestamp, WorkerNo};
use crate::processor::{
    AnyBlock, AppEntry, CancelCause, CancelHandle, Registry, is_unit, unit_block,
};
use crate::store::{ClaimRef, NewWorker, OpRegistration, Recorded, Signal, Store, StoreError};
use ops::{Op, Turns};
use steps::Step;
use work::{Outgoing, Seat};

/// How often time alone is looked at: due tasks, expiry, the dead.
const KEEP: Duration = Duration::from_millis(500);
/// How often running tasks are compared with what the store believes, while it changes.
const BEAT: Duration = Duration::from_millis(50);
/// A step that failed because of the store is tried again after this.
const RETRY: Duration = Duration::from_millis(200);
/// Parts that wait for a commit; a task that has more waits itself.
const OUTBOX: usize = 256;

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
        self.next_due = other.next_due.or(self.next_due);
    }
}

/// What an engine is made of.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) store: Store,
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
    accused: bool,
}

/// An app's init block in this process.
enum App {
    Closed,
    Opening(AbortHandle),
    Open(AnyBlock),
    Suspended { until: Timestamp, failures: u32 },
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
    recording: bool,
    /// After a failed commit, not before this.
    record_after: Option<Instant>,
    running: HashMap<ClaimRef, Running>,
    /// Since when an accused row has waited for an empty process.
    accused_since: Option<Instant>,
    signal: Signal,
    looking: bool,
    look: bool,
    keeping: bool,
    keep_at: Instant,
    beating: bool,
    beat_at: Instant,
    closing: bool,
    close: bool,
    telling: bool,
    tell: bool,
    next_due: Option<Timestamp>,
    stopping: bool,
    /// One claim an op and turn, for a caller that turns by hand.
    by_hand: bool,
}

impl Engine {
    /// Enters as a worker.
    pub(crate) async fn start(parts: Parts) -> Result<Self, StoreError> {
        let now = parts.clock.now();
        let registrations = parts
            .registry
            .ops()
            .map(|op| OpRegistration {
                key: op.key.clone(),
                notify: op.processor.wants_ends(),
                max_lost: op.settings.max_lost,
            })
            .collect();
        let ids = parts.store.register_ops(registrations, now).await?;
        let worker = parts
            .store
            .enter(
                NewWorker {
                    host: host(),
                    pid: std::process::id(),
                    version: env!("CARGO_PKG_VERSION"),
                },
                now,
            )
            .await?;
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
        Ok(Self {
            worker,
            ops,
            apps: apps.collect(),
            steps: JoinSet::new(),
            ended: Vec::new(),
            outbox,
            inbox,
            waiting: Vec::new(),
            recording: false,
            record_after: None,
            running: HashMap::new(),
            accused_since: None,
            signal,
            looking: false,
            look: true,
            keeping: false,
            keep_at: now,
            beating: false,
            beat_at: now,
            closing: false,
            close: true,
            telling: false,
            tell: true,
            next_due: None,
            stopping: false,
            by_hand: false,
            parts,
        })
    }

    /// One turn: takes in what has ended, starts what can be started; waits for nothing.
    fn turn(&mut self) -> Tick {
        let mut tick = Tick::default();
        for step in std::mem::take(&mut self.ended) {
            self.take(step, &mut tick);
        }
        while let Some(ended) = self.steps.try_join_next() {
            match ended {
                Ok(step) => self.take(step, &mut tick),
                Err(error) => lost(&error),
            }
        }
        while let Ok(outgoing) = self.inbox.try_recv() {
            self.waiting.push(outgoing);
        }
        self.record();
        self.notice_changes();
        if !self.stopping {
            self.keep();
            self.beat();
            self.claim();
            self.work();
            self.finalise();
            self.tell();
        }
        tick.next_due = self.next_due;
        tick
    }

    /// The store has changed: everything that depends on it is looked at again.
    fn notice_changes(&mut self) {
        if self.signal.take() {
            self.look = true;
            self.close = true;
            self.tell = true;
        }
    }

    fn keep(&mut self) {
        let now = self.parts.clock.now();
        let due = self.next_due.is_some_and(|at| at <= now);
        if self.keeping || !(due || Instant::now() >= self.keep_at) {
            return;
        }
        self.keeping = true;
        // It may be a notice that has become due.
        self.tell |= due;
        // A due time is acted on once; the next look says when the next one is.
        self.next_due = None;
        self.keep_at = Instant::now() + KEEP;
        let store = self.parts.store.clone();
        self.steps.spawn(steps::keep(store, now));
    }

    fn beat(&mut self) {
        if self.beating || self.running.is_empty() || Instant::now() < self.beat_at {
            return;
        }
        self.beating = true;
        self.beat_at = Instant::now() + BEAT;
        let (store, worker) = (self.parts.store.clone(), self.worker);
        self.steps
            .spawn(async move { Step::Beaten(store.beat(worker).await) });
    }

    fn claim(&mut self) {
        if self.look && !self.looking {
            self.look = false;
            self.looking = true;
            let ops = self
                .ops
                .iter()
                .filter(|op| !op.more)
                .map(|op| op.id)
                .collect();
            let store = self.parts.store.clone();
            self.steps
                .spawn(async move { Step::Looked(store.heads(ops).await) });
        }
        for at in 0..self.ops.len() {
            let Some(op) = self.ops.get_mut(at) else {
                break;
            };
            if !op.more || op.claiming || (self.by_hand && op.asked) {
                continue;
            }
            let app = op.registered.key.app.clone();
            if !self.open(&app) {
                continue;
            }
            let Some(op) = self.ops.get_mut(at) else {
                break;
            };
            match op.ask(self.worker) {
                Ok(None) => {}
                Ok(Some(ask)) => {
                    let (store, now) = (self.parts.store.clone(), self.parts.clock.now());
                    self.steps.spawn(steps::claim(store, at, ask, now));
                }
                Err(error) => tracing::error!(%error, "no token could be made"),
            }
        }
    }

    /// Whether the app's init block is open; where it is closed, its opening begins.
    fn open(&mut self, name: &AppName) -> bool {
        let now = self.parts.clock.now();
        let Some((entry, app)) = self.apps.get_mut(name) else {
            return false;
        };
        let failures = match app {
            App::Open(_) => return true,
            App::Opening(_) => return false,
            App::Suspended { until, .. } if *until > now => return false,
            App::Suspended { failures, .. } => *failures,
            App::Closed => 0,
        };
        if let Some(initializer) = entry.1.clone() {
            let opening = steps::open(name.clone(), initializer, failures);
            *app = App::Opening(self.steps.spawn(opening));
        }
        false
    }

    fn block(&self, op: &Op) -> Option<AnyBlock> {
        if is_unit(op.processor().block().0) {
            return Some(unit_block());
        }
        match self.apps.get(&op.registered.key.app) {
            Some((_, App::Open(block))) => Some(Arc::clone(block)),
            _ => None,
        }
    }

    /// Whose turn it is to start.
    fn turns(&mut self) -> Turns {
        let waits = self.ops.iter().any(Op::has_accused);
        if !waits {
            self.accused_since = None;
        } else if self.accused_since.is_none() {
            self.accused_since = Some(Instant::now());
        }
        Turns {
            running: self.running.len(),
            suspect: self.running.values().any(|r| r.suspect),
            accused: self.running.values().any(|r| r.accused),
            overdue: self
                .accused_since
                .is_some_and(|since| since.elapsed() > work::SPREAD),
            waits,
        }
    }

    fn work(&mut self) {
        for at in 0..self.ops.len() {
            let Some(block) = self.ops.get(at).and_then(|op| self.block(op)) else {
                continue;
            };
            loop {
                let turns = self.turns();
                let Some(task) = self.ops.get_mut(at).and_then(|op| op.next(&turns)) else {
                    break;
                };
                let Some(op) = self.ops.get(at) else { break };
                let claim = task.claim;
                let cancel = CancelHandle::new();
                let once = op.settings().delivery == crate::model::Delivery::AtMostOnce;
                let mark = Running {
                    cancel: cancel.clone(),
                    suspect: task.suspect && !once,
                    accused: task.accused,
                };
                if task.accused {
                    self.accused_since = None;
                }
                self.running.insert(claim, mark);
                let seat = Seat {
                    processor: Arc::clone(op.processor()),
                    task: Arc::new(task),
                    block: Arc::clone(&block),
                    settings: Arc::clone(op.settings()),
                    cancel,
                    objects: self.parts.objects.clone(),
                    clock: Arc::clone(&self.parts.clock),
                    outbox: self.outbox.clone(),
                    grace: self.parts.grace,
                };
                self.steps.spawn(async move {
                    let began = Instant::now();
                    let rows = work::run(seat).await;
                    let took = began.elapsed();
                    Step::Worked {
                        at,
                        claim,
                        rows,
                        took,
                    }
                });
            }
        }
    }

    /// Commits whatever waits, together; one commit at a time, and the next collects meanwhile.
    fn record(&mut self) {
        if self.recording || self.waiting.is_empty() {
            return;
        }
        if self.record_after.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.recording = true;
        let outgoing = std::mem::take(&mut self.waiting);
        let (store, worker, now) = (
            self.parts.store.clone(),
            self.worker,
            self.parts.clock.now(),
        );
        self.steps
            .spawn(steps::record(store, worker, outgoing, now));
    }

    fn finalise(&mut self) {
        if self.closing || !self.close {
            return;
        }
        self.close = false;
        self.closing = true;
        let (parts, worker) = (self.parts.clone(), self.worker);
        self.steps.spawn(steps::close(parts, worker));
    }

    fn tell(&mut self) {
        if self.telling || !self.tell {
            return;
        }
        self.tell = false;
        let receivers: Vec<_> = self
            .ops
            .iter()
            .filter(|op| op.processor().wants_ends())
            .filter_map(|op| Some((op.id, Arc::clone(op.processor()), self.block(op)?)))
            .collect();
        if receivers.is_empty() {
            return;
        }
        self.telling = true;
        let (parts, worker) = (self.parts.clone(), self.worker);
        self.steps.spawn(steps::tell(parts, worker, receivers));
    }

    /// Takes in what a step came to.
    fn take(&mut self, step: Step, tick: &mut Tick) {
        match step {
            Step::Kept(result) => {
                self.keeping = false;
                match result {
                    Ok((kept, taken)) => {
                        tick.taken_over += taken.tasks;
                        self.next_due = kept.next_due;
                    }
                    Err(error) => tracing::warn!(%error, "keeping failed; trying again"),
                }
            }
            Step::Beaten(result) => {
                self.beating = false;
                match result {
                    Ok(believed) => self.compare(&believed),
                    Err(error) => tracing::warn!(%error, "the beat failed; trying again"),
                }
            }
            Step::Looked(result) => {
                self.looking = false;
                match result {
                    Ok(heads) => {
                        for head in heads {
                            if let Some(op) = self.ops.iter_mut().find(|op| op.id == head.op) {
                                op.more = true;
                            }
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "looking for work failed; trying again");
                        self.look_again_later();
                    }
                }
            }
            Step::Claimed { at, full, result } => self.take_claim(at, full, result, tick),
            Step::Opened {
                app,
                failures,
                result,
            } => self.take_open(&app, failures, result),
            Step::Worked {
                at,
                claim,
                rows,
                took,
            } => {
                self.running.remove(&claim);
                if let Some(op) = self.ops.get_mut(at) {
                    op.running -= 1;
                    op.measure(rows, took);
                    // A capped op's slot is free for whoever asks first.
                    op.more |= op.settings().concurrency.is_some();
                }
            }
            Step::Recorded { outgoing, result } => self.take_record(outgoing, result, tick),
            Step::Closed { closed, again } => {
                self.closing = false;
                self.close |= again;
                tick.closed += closed;
            }
            Step::Told { told, again } => {
                self.telling = false;
                self.tell |= again;
                tick.told += told;
            }
            Step::Waited => self.look = true,
        }
    }

    fn look_again_later(&mut self) {
        self.steps.spawn(async {
            tokio::time::sleep(RETRY).await;
            Step::Waited
        });
    }

    fn take_claim(
        &mut self,
        at: usize,
        full: bool,
        result: Result<Vec<crate::store::ClaimedTask>, StoreError>,
        tick: &mut Tick,
    ) {
        let Some(op) = self.ops.get_mut(at) else {
            return;
        };
        op.claiming = false;
        match result {
            Ok(tasks) => {
                op.more = full;
                // What was left is looked at again; an empty claim waits for the next change.
                self.look |= !tasks.is_empty();
                tick.claimed += u64::try_from(tasks.len()).unwrap_or(u64::MAX);
                op.claimed(tasks);
            }
            Err(StoreError::Fenced(worker)) => {
                op.more = false;
                tracing::error!(%worker, "this worker was declared dead; it claims nothing more");
                self.stopping = true;
            }
            Err(error) => {
                op.more = false;
                tracing::warn!(%error, op = %op.registered.key, "a claim failed; trying again");
                self.look_again_later();
            }
        }
    }

    fn take_open(
        &mut self,
        name: &AppName,
        failures: u32,
        result: Result<AnyBlock, crate::processor::BoxError>,
    ) {
        let Some((_, app)) = self.apps.get_mut(name) else {
            return;
        };
        *app = match result {
            Ok(block) => {
                self.tell = true;
                App::Open(block)
            }
            Err(error) => {
                let wait = parts::delay(&crate::model::Backoff::default(), failures);
                tracing::error!(app = %name, error = %error, again_in_ms = wait.as_millis(), "the app's initializer failed; nothing of it is claimed here");
                self.keep_at = self.keep_at.min(Instant::now() + wait);
                App::Suspended {
                    until: self.parts.clock.now() + wait,
                    failures: failures + 1,
                }
            }
        };
    }

    fn take_record(
        &mut self,
        outgoing: Vec<Outgoing>,
        result: Result<Vec<Recorded>, StoreError>,
        tick: &mut Tick,
    ) {
        self.recording = false;
        match result {
            Ok(answers) => {
                self.record_after = None;
                for (out, answer) in outgoing.into_iter().zip(answers) {
                    let ours = answer == Recorded::Done;
                    if ours {
                        tick.recorded += u64::from(out.part.success + out.part.failed);
                    } else {
                        tick.fenced += 1;
                        let claim = out.part.claim;
                        tracing::warn!(batch = %claim.batch, attempt = claim.attempt, "fenced: the task was somebody else's; its outcomes are dropped");
                        out.cancel.cancel(CancelCause::Fenced);
                    }
                    if let Some(reply) = out.reply {
                        let _ = reply.send(ours);
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, parts = outgoing.len(), "outcomes could not be recorded; trying again");
                let mut again = outgoing;
                again.append(&mut self.waiting);
                self.waiting = again;
                self.record_after = Some(Instant::now() + RETRY);
                self.look_again_later();
            }
        }
    }

    /// Compares what runs here with what the store believes.
    fn compare(&mut self, believed: &[crate::store::Running]) {
        for running in believed.iter().filter(|r| r.aborting && !r.close) {
            if let Some(here) = self.running.get(&running.claim) {
                here.cancel.cancel(CancelCause::Aborted);
            }
            let waiting = |t: &crate::store::ClaimedTask| t.claim == running.claim;
            if self.ops.iter().any(|op| op.queue.iter().any(waiting)) {
                self.give_back_waiting(|t| t.claim.batch == running.claim.batch);
            }
        }
    }

    /// Gives claimed tasks back that have not begun.
    fn give_back_waiting(&mut self, which: impl Fn(&crate::store::ClaimedTask) -> bool) {
        let mut given = Vec::new();
        for op in &mut self.ops {
            let (back, keep): (Vec<_>, Vec<_>) = op.drain().into_iter().partition(&which);
            op.claimed(keep);
            given.extend(back.into_iter().map(|t| t.claim));
        }
        if given.is_empty() {
            return;
        }
        let (store, worker, now) = (
            self.parts.store.clone(),
            self.worker,
            self.parts.clock.now(),
        );
        self.steps.spawn(async move {
            if let Err(error) = store.give_back(worker, given, now).await {
                tracing::error!(%error, "claimed tasks could not be given back; a later worker takes them over");
            }
            Step::Waited
        });
    }

    /// When a turn can act on time alone. What is under way, or what a stop has ended, is not waited
    /// for here: its moment may lie in the past, and waiting for the past would spin.
    fn next_moment(&self) -> Instant {
        let now = Instant::now();
        let mut until = now + KEEP;
        if !self.stopping && !self.keeping {
            until = until.min(self.keep_at);
            if let Some(due) = self.next_due {
                let wait = due.duration_since(self.parts.clock.now());
                until = until.min(now + Duration::try_from(wait).unwrap_or_default());
            }
        }
        if !self.stopping && !self.beating && !self.running.is_empty() {
            until = until.min(self.beat_at.max(now + BEAT));
        }
        if let Some(since) = self.accused_since.filter(|_| !self.stopping) {
            let overdue = since + work::SPREAD;
            until = if overdue > now {
                until.min(overdue)
            } else {
                until
            };
        }
        if let Some(at) = self.record_after.filter(|_| !self.recording) {
            until = until.min(at);
        }
        until
    }

    /// Waits until anything happens that a turn can act on.
    async fn rest(&mut self) {
        let until = self.next_moment();
        let has_steps = !self.steps.is_empty();
        tokio::select! {
            ended = self.steps.join_next(), if has_steps => match ended {
                Some(Ok(step)) => self.ended.push(step),
                Some(Err(error)) => lost(&error),
                None => {}
            },
            Some(outgoing) = self.inbox.recv() => self.waiting.push(outgoing),
            () = self.signal.changed_keep(), if !self.stopping => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }

    /// Nothing is under way and nothing waits to be taken in.
    fn is_quiet(&self) -> bool {
        self.steps.is_empty()
            && self.ended.is_empty()
            && self.waiting.is_empty()
            && self.inbox.is_empty()
    }

    /// One turn by hand: claims once for each op, and returns when all that it began has been recorded.
    pub(crate) async fn tick(&mut self) -> Tick {
        self.by_hand = true;
        self.keep_at = Instant::now();
        self.look = true;
        self.close = true;
        self.tell = true;
        for op in &mut self.ops {
            op.asked = false;
        }
        let mut tick = Tick::default();
        // What time has changed is there before the claim looks.
        self.keep();
        while self.keeping {
            match self.steps.join_next().await {
                Some(Ok(step)) => self.take(step, &mut tick),
                _ => break,
            }
        }
        loop {
            let turned = self.turn();
            tick.add(turned);
            if self.is_quiet() {
                break;
            }
            self.rest().await;
        }
        self.by_hand = false;
        tick
    }

    /// Turns until `shutdown`, then stops: nothing more starts, rows that run may finish.
    pub(crate) async fn run(&mut self, shutdown: &tokio_util::sync::CancellationToken) {
        while !shutdown.is_cancelled() && !self.stopping {
            self.turn();
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.rest() => {}
            }
        }
    }

    /// Stops: gives back what has not begun, lets running rows finish for a while, records, leaves.
    pub(crate) async fn stop(mut self) -> Result<(), StoreError> {
        self.stopping = true;
        self.give_back_waiting(|_| true);
        for running in self.running.values() {
            running.cancel.cancel(CancelCause::Shutdown);
        }
        for (_, app) in self.apps.values() {
            if let App::Opening(opening) = app {
                opening.abort();
            }
        }
        tracing::info!(
            worker = self.worker.0,
            tasks = self.running.len(),
            "worker stopping"
        );
        let last = Instant::now() + self.parts.grace + Duration::from_secs(30);
        self.settle(last).await;
        // A batch may have ended a moment before the stop: its end is told by who worked it off.
        self.tell = true;
        self.tell();
        self.settle(last).await;
        for (name, (entry, app)) in self.apps.drain() {
            if let (Some(initializer), App::Open(block)) = (entry.1, app)
                && let Err(error) = initializer.close(block).await
            {
                tracing::warn!(app = %name, error = %error, "the app's init block could not be closed");
            }
        }
        let now = self.parts.clock.now();
        self.parts.store.leave(self.worker, now).await
    }

    /// Waits until nothing is under way, until `last` at most.
    async fn settle(&mut self, last: Instant) {
        while !self.is_quiet() {
            if Instant::now() > last {
                tracing::error!("stopping took too long; a later worker takes over what is left");
                break;
            }
            self.turn();
            // A claim that was under way when the stop came.
            if self.ops.iter().any(|op| !op.queue.is_empty()) {
                self.give_back_waiting(|_| true);
            }
            if !self.is_quiet() {
                self.rest().await;
            }
        }
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
