//! One turn: what has ended is taken in, what can be started is started.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;

use super::fill::By;
use super::ops::{Op, Turns};
use super::steps::{self, Step};
use super::work::{self, Outgoing, Seat};
use super::{
    App, BEAT, Due, Engine, KEEP, Parts, REST, Running, Tick, UNHEARD, WAITING, WAITING_BYTES, lost,
};
use crate::clock::between;
use crate::model::{AppName, BatchId, Delivery};
use crate::processor::{AnyBlock, CancelHandle, is_unit, unit_block};
use crate::store::Look;

/// With so many bytes a commit takes no further part.
const COMMIT: usize = 8 << 20;

/// How many of the parts that wait are recorded together.
fn together(waiting: &[Outgoing]) -> usize {
    let mut bytes = 0;
    let fits = |out: &&Outgoing| {
        let fits = bytes < COMMIT;
        bytes += out.part.body.len();
        fits
    };
    waiting.iter().take(WAITING).take_while(fits).count()
}

pub(super) fn bytes_of(parts: &[Outgoing]) -> usize {
    parts.iter().map(|out| out.part.body.len()).sum()
}

impl Engine {
    /// One turn: takes in what has ended, starts what can be started; waits for nothing.
    pub(super) fn turn(&mut self) -> Tick {
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
        while self.has_room()
            && let Ok(outgoing) = self.inbox.try_recv()
        {
            self.wait(outgoing);
        }
        self.record();
        self.copy();
        self.notice_changes();
        if self.beats() {
            self.beat();
        }
        if !self.stopping {
            self.keep();
            // What a worker that died has left comes first, and who is not heard of begins nothing.
            if self.kept && self.pulse.is_felt() {
                self.claim();
                self.work();
                self.finalise();
                self.tell();
                self.purge();
            }
        }
        self.offer();
        tick.next_due = self.next_due;
        tick
    }

    /// Whether another part may wait for a commit.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING && self.waiting_bytes < WAITING_BYTES
    }

    /// A part waits for a commit.
    pub(super) fn wait(&mut self, outgoing: Outgoing) {
        self.waiting_bytes += outgoing.part.body.len();
        self.waiting.push(outgoing);
    }

    /// The store has changed: everything that depends on it is looked at again.
    fn notice_changes(&mut self) {
        if self.signal.take() {
            self.look = Due::ALL;
        }
    }

    pub(super) fn keep(&mut self) {
        let now = self.parts.clock.now();
        let due = self.next_due.is_some_and(|at| at <= now);
        if self.keeping || !(due || Instant::now() >= self.keep_at) {
            return;
        }
        self.keeping = true;
        // It may be a notice that has become due.
        self.look.ends |= due;
        // A due time is acted on once; the next look says when the next one is.
        self.next_due = None;
        let shared = self.parts.store.heartbeat().is_some();
        let pause = if shared {
            between(KEEP, KEEP * 5 / 4)
        } else {
            KEEP
        };
        self.keep_at = Instant::now() + pause;
        let store = self.parts.store.clone();
        let loud = self.unkept.is_multiple_of(UNHEARD);
        self.steps.spawn(steps::keep(store, now, loud));
    }

    /// Purges some of what its op does not keep any longer: a little at a time, and seldom looked for.
    fn purge(&mut self) {
        let now = self.parts.clock.now();
        let due = now >= self.purge_at && Instant::now() >= self.purge_after;
        // Whoever works on one batch alone is soon gone.
        if self.purging || self.only.is_some() || !due {
            return;
        }
        self.purging = true;
        self.purge_after = Instant::now() + KEEP;
        self.steps.spawn(steps::purge(self.parts.clone(), now));
    }

    /// Whether it is to be compared what runs here; rows that may finish after a stop are not to be taken
    /// over for a silence.
    pub(super) fn beats(&self) -> bool {
        let listens = self.parts.store.heartbeat().is_some();
        !self.stopping || (listens && !self.running.is_empty())
    }

    fn beat(&mut self) {
        if self.beating || Instant::now() < self.beat_at {
            return;
        }
        self.beating = true;
        let pause = if self.running.is_empty() { KEEP } else { BEAT };
        self.beat_at = Instant::now() + pause;
        let (store, worker) = (self.parts.store.clone(), self.worker);
        let asked = self.running.keys().copied().collect();
        let at = Instant::now();
        self.steps.spawn(async move {
            let result = store.beat(worker).await;
            Step::Beaten { at, asked, result }
        });
    }

    /// The next beat waits for longer where this one, which began then, took long.
    pub(super) fn rest_after_beat(&mut self, began: Instant) {
        let rest = Instant::now() + (began.elapsed() * REST).min(KEEP);
        self.beat_at = self.beat_at.max(rest);
    }

    /// Looks for what may be there to do.
    fn look(&mut self) {
        if self.looking {
            return;
        }
        let due = std::mem::take(&mut self.look);
        // A head that was seen beside a claim is claimed next, whatever else has come.
        let unknown = |op: &&Op| due.work && !(op.more && (op.seen || !op.claiming));
        let tells = |op: &&Op| due.ends && op.processor().wants_ends() && self.block(op).is_some();
        let asked = Look {
            ops: self.ops.iter().filter(unknown).map(|op| op.id).collect(),
            only: self.only,
            closes: due.closes,
            receivers: self.ops.iter().filter(tells).map(|op| op.id).collect(),
        };
        if asked.ops.is_empty() && asked.receivers.is_empty() && !asked.closes {
            return;
        }
        self.looking = true;
        let (store, now) = (self.parts.store.clone(), self.parts.clock.now());
        self.steps.spawn(async move {
            let result = store.look(asked.clone(), now).await;
            Step::Looked { asked, result }
        });
    }

    fn claim(&mut self) {
        let now = Instant::now();
        for op in &mut self.ops {
            self.look.work |= op.is_to_be_looked_for(now);
        }
        self.look();
        if self.turns().is_held() {
            return;
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
            match op.ask(self.worker, self.only) {
                Ok(None) => {}
                Ok(Some(ask)) => {
                    let (store, now) = (self.parts.store.clone(), self.parts.clock.now());
                    self.steps.spawn(steps::claim(store, at, ask, now));
                }
                Err(error) => tracing::error!(%error, "no token could be made"),
            }
        }
    }

    /// Offers a slot of each op that has nothing to claim to whoever submits a query alone; takes it back where it has.
    fn offer(&mut self) {
        let begins = !self.stopping && self.kept && self.pulse.is_felt();
        // Turns by hand claim by themselves, and whoever works on one batch takes no other.
        let offers = self.offers && !self.by_hand && self.only.is_none();
        let may = begins && offers && !self.turns().is_held();
        for at in 0..self.ops.len() {
            let Some(op) = self.ops.get(at) else { break };
            let may = may && op.is_idle() && self.block(op).is_some();
            let Some(op) = self.ops.get_mut(at) else {
                break;
            };
            if !may {
                op.take_back();
                continue;
            }
            match op.offer(self.worker) {
                Ok(None) => {}
                Ok(Some((slot, asked))) => {
                    let Parts { store, clock, .. } = self.parts.clone();
                    let by = By {
                        store,
                        clock,
                        holder: slot.holder(),
                    };
                    self.offers = by.store.offer(&op.registered.key, slot);
                    self.steps.spawn(by.fills(at, asked));
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
            App::Suspended { from, until, .. } if (*from..*until).contains(&now) => return false,
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
            accused: self
                .running
                .values()
                .filter_map(|r| r.accused)
                .any(|since| since.elapsed() < work::SPREAD),
            overdue: self
                .accused_since
                .is_some_and(|since| since.elapsed() > work::SPREAD),
            waits,
        }
    }

    fn work(&mut self) {
        let mut turns = self.turns();
        for at in 0..self.ops.len() {
            let Some(block) = self.ops.get(at).and_then(|op| self.block(op)) else {
                continue;
            };
            while let Some(task) = self.ops.get_mut(at).and_then(|op| op.next(&turns)) {
                let Some(op) = self.ops.get(at) else { break };
                let claim = task.claim;
                let cancel = CancelHandle::new();
                let once = op.settings().delivery == Delivery::AtMostOnce;
                let mark = Running {
                    cancel: cancel.clone(),
                    suspect: task.suspect && !once,
                    accused: task.accused.then(Instant::now),
                };
                let accused = task.accused;
                // Kept as it goes: looking at all that runs for each that starts would take as long as there are many.
                turns.running += 1;
                turns.suspect |= mark.suspect;
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
                    store: self.parts.store.clone(),
                    worker: self.worker,
                    grace: self.parts.grace,
                    held: Arc::clone(op.held()),
                    capped: Arc::clone(op.capped()),
                    pulse: Arc::clone(&self.pulse),
                };
                self.steps.spawn(async move {
                    let run = AssertUnwindSafe(work::run(seat)).catch_unwind();
                    // The panic's text has gone to the log; the store's task is found by the beat.
                    let worked = run.await.unwrap_or_default();
                    Step::Worked { at, claim, worked }
                });
                if accused {
                    self.accused_since = None;
                    turns = self.turns();
                }
            }
        }
    }

    /// Notes of which batches more is claimed here and has not begun: their ends are asked for with that, which is committed
    /// after this. What of it is given back is somebody else's to end; where they do so before this is committed, a keeper
    /// sees it. By hand there may be no keeper, and what a piece ends is committed by itself.
    pub(super) fn note_more(&self, outgoing: &mut [Outgoing]) {
        // Queries are many, and each is a batch of its own.
        let long = !self.by_hand && outgoing.iter().any(|out| out.part.claim.no > 0);
        let ops = self.ops.iter();
        let in_turn = ops.filter(|op| op.processor().written_for().is_none());
        let queued = in_turn.flat_map(|op| &op.queue);
        let batches: HashSet<BatchId> = match long {
            true => queued.map(|task| task.batch.id).collect(),
            false => HashSet::new(),
        };
        for Outgoing { part, .. } in outgoing {
            part.more = batches.contains(&part.claim.batch);
        }
    }

    /// Commits what waits, together up to a bound; one commit at a time, and the next collects meanwhile.
    fn record(&mut self) {
        if self.recording || self.waiting.is_empty() {
            return;
        }
        if self.record_after.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.recording = true;
        let together = together(&self.waiting);
        let mut outgoing: Vec<Outgoing> = self.waiting.drain(..together).collect();
        self.note_more(&mut outgoing);
        self.waiting_bytes -= bytes_of(&outgoing);
        let (store, worker, now) = (
            self.parts.store.clone(),
            self.worker,
            self.parts.clock.now(),
        );
        self.steps
            .spawn(steps::record(store, worker, outgoing, now));
    }

    /// Lets those who ask for the status of what has ended know it at once.
    fn copy(&mut self) {
        if self.copying || self.may_have_ended.is_empty() {
            return;
        }
        self.copying = true;
        let ids = self.may_have_ended.drain().collect();
        let statuses = self.parts.statuses.clone();
        self.steps.spawn(steps::copy(statuses, ids));
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

    pub(super) fn tell(&mut self) {
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
        let (parts, worker, most) = (self.parts.clone(), self.worker, self.most_failures());
        self.steps
            .spawn(steps::tell(parts, worker, receivers, most));
    }
}
