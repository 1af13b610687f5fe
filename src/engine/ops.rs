//! What the engine knows of each op: its slots, what it has claimed, how long its rows take.

mod offered;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::config::LiveSettings;
use crate::model::{BatchId, Delivery, OpId, OpSettings, Token, WorkerNo};
use crate::processor::{ErasedProcessor, OpRegistered};
use crate::store::{Claim, ClaimRef, ClaimedTask, LiveOp};

use super::RETRY;
use super::work::SPREAD;
use offered::Offer;

/// How much measured work one claim takes.
const CLAIM: Duration = Duration::from_millis(250);
/// Bytes of inputs that one claim takes, and that may wait while the next one is made.
const CLAIM_BYTES: usize = 4 << 20;
/// Tasks that one claim takes: ten bundles fill it, and nothing more is looked for.
const CLAIM_TASKS: u32 = 1000;
/// Where so many of an op wait no more are claimed ahead: those that take microseconds wait for commits, of which no row's time tells.
const AHEAD_TASKS: usize = 2000;
/// A claim that got nothing of what was seen is followed by a look after 1, 2 and then 4 times the pause.
const LATER: u32 = 2;
/// Where a cap may be why, of whose slots everybody is told, that pause grows to 32 times as much.
const LATER_CAPPED: u32 = 5;
/// Less is not waited for before it is asked again whether to claim ahead.
const PEEK: Duration = Duration::from_millis(10);

/// Whose turn it is while there are tasks that a worker died with.
///
/// Such tasks run one at a time, so that a death blames one row; a row that is accused runs alone in
/// its process, so that nobody else's death blames it. It waits for that only so long.
pub(super) struct Turns {
    /// Tasks that run.
    pub(super) running: usize,
    /// A suspect task runs.
    pub(super) suspect: bool,
    /// An accused row runs, and not yet for long.
    pub(super) accused: bool,
    /// An accused row has waited for an empty process long enough.
    pub(super) overdue: bool,
    /// An accused row waits for an empty process.
    pub(super) waits: bool,
}

impl Turns {
    fn may_start(&self, task: &ClaimedTask, once: bool) -> bool {
        if self.accused {
            false
        } else if task.accused {
            !self.suspect && (self.running == 0 || self.overdue)
        } else if task.suspect && !once {
            !self.suspect && !self.waits
        } else {
            !self.waits || self.overdue
        }
    }

    /// Whether nothing starts here for a moment, so that nothing more is to be claimed.
    pub(super) fn is_held(&self) -> bool {
        self.accused || (self.waits && !self.overdue)
    }
}

pub(super) struct Op {
    pub(super) id: OpId,
    /// Its settings are those in force.
    pub(super) registered: OpRegistered,
    /// What this process says itself.
    base: Arc<OpSettings>,
    cores: usize,
    paused: bool,
    /// What was last set in the database.
    set: Option<String>,
    /// Nothing starts: it is paused. Its running tasks see this too.
    held: Arc<AtomicBool>,
    /// Others may wait for the slots of its running tasks, whatever was set when these began.
    capped: Arc<AtomicBool>,
    /// How often what is in force has changed, and that number when the last claim was asked for.
    changes: u64,
    asked_at: u64,
    /// Claimed and not begun.
    pub(super) queue: VecDeque<ClaimedTask>,
    queued_rows: u64,
    queued_bytes: usize,
    queued_accused: usize,
    queued_suspect: usize,
    /// Tasks that run, and when each will be through by what its rows take.
    running: HashMap<ClaimRef, Option<Instant>>,
    slots: usize,
    /// There may be ready tasks: a head was seen, or the last claim took all it asked for.
    pub(super) more: bool,
    pub(super) claiming: bool,
    /// A head was seen while the claim that is under way was.
    pub(super) seen: bool,
    /// A free slot that whoever submits a query may fill.
    offered: Option<Offer>,
    /// Something was claimed, or looked for, in this turn by hand.
    pub(super) asked: bool,
    /// How often in turn a claim got nothing of what was seen, and when it is looked for again.
    had_nothing: u32,
    look_at: Option<Instant>,
    /// Claims that took something.
    claims: u64,
    row_time: Option<Duration>,
}

/// Tasks that may run here at once: the limit is one of rows, and a task takes `parallel` of them.
fn slots(settings: &OpSettings, cores: usize) -> usize {
    let local = settings
        .local_concurrency
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(cores);
    let parallel = usize::try_from(settings.parallel).unwrap_or(1).max(1);
    (local / parallel).max(1)
}

impl Op {
    pub(super) fn new(id: OpId, registered: OpRegistered, cores: usize) -> Self {
        let slots = slots(&registered.settings, cores);
        let capped = registered.settings.concurrency.is_some();
        Self {
            id,
            base: Arc::clone(&registered.settings),
            registered,
            cores,
            paused: false,
            set: None,
            held: Arc::default(),
            capped: Arc::new(AtomicBool::new(capped)),
            changes: 0,
            asked_at: 0,
            queue: VecDeque::new(),
            queued_rows: 0,
            queued_bytes: 0,
            queued_accused: 0,
            queued_suspect: 0,
            running: HashMap::new(),
            slots,
            more: true,
            claiming: false,
            seen: false,
            offered: None,
            asked: false,
            had_nothing: 0,
            look_at: None,
            claims: 0,
            row_time: None,
        }
    }

    pub(super) fn settings(&self) -> &Arc<OpSettings> {
        &self.registered.settings
    }

    pub(super) fn processor(&self) -> &Arc<dyn ErasedProcessor> {
        &self.registered.processor
    }

    /// Whether it is paused, by a word or by a concurrency of nothing.
    fn is_held(&self) -> bool {
        self.paused || self.settings().concurrency == Some(0)
    }

    /// What the op's running tasks look at to see that it is paused.
    pub(super) fn held(&self) -> &Arc<AtomicBool> {
        &self.held
    }

    /// What its running tasks look at to see whether others may wait for their slots.
    pub(super) fn capped(&self) -> &Arc<AtomicBool> {
        &self.capped
    }

    /// A claim got nothing of what was seen: others held it, and tell nobody of what they left of it.
    pub(super) fn look_later(&mut self, now: Instant) {
        let most = match self.settings().concurrency {
            None => LATER,
            Some(_) => LATER_CAPPED,
        };
        let wait = RETRY * (1 << self.had_nothing.min(most));
        self.had_nothing = self.had_nothing.saturating_add(1);
        self.look_at = now.checked_add(wait);
    }

    /// A claim got something, or there is nothing that others could hold.
    pub(super) fn forget_misses(&mut self) {
        self.had_nothing = 0;
        self.look_at = None;
    }

    /// When what others held is looked for again.
    pub(super) fn looks_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Whether it is time for that.
    pub(super) fn is_to_be_looked_for(&mut self, now: Instant) -> bool {
        self.look_at.take_if(|at| *at <= now).is_some()
    }

    /// Takes in what is set in the database; whether anything has changed.
    ///
    /// Tasks that run keep what they began with. What waits here was claimed under the old settings,
    /// and is to be given back.
    pub(super) fn take_live(&mut self, live: Option<&LiveOp>) -> bool {
        let paused = live.is_some_and(|live| live.paused);
        let set = live.and_then(|live| live.settings.as_deref());
        if paused == self.paused && set == self.set.as_deref() {
            return false;
        }
        if set != self.set.as_deref() {
            self.registered.settings = self.in_force(set);
            self.set = set.map(str::to_owned);
            self.slots = slots(&self.registered.settings, self.cores);
            self.processor().resize(self.slots);
        }
        self.paused = paused;
        self.held.store(self.is_held(), Ordering::Relaxed);
        let capped = self.settings().concurrency.is_some();
        self.capped.store(capped, Ordering::Relaxed);
        self.changes += 1;
        // There may be work for slots that are new, or after a pause.
        self.more = true;
        let op = &self.registered.key;
        tracing::info!(%op, paused, settings = set.unwrap_or("{}"), "what is set for the op has changed");
        true
    }

    /// This process's settings under those of the database; its own alone where they do not fit.
    fn in_force(&self, set: Option<&str>) -> Arc<OpSettings> {
        let live = match set.map(LiveSettings::parse) {
            None => return Arc::clone(&self.base),
            Some(Ok(live)) => live,
            Some(Err(why)) => return self.refuse(&why),
        };
        let settings = live.over(&self.base);
        // It would fail rows that certainly had no effect; `build` refuses it too.
        if self.processor().written_for().is_some() && settings.delivery == Delivery::AtMostOnce {
            return self
                .refuse("delivery: the op is transactional: its effects are there exactly once");
        }
        match settings.check().first() {
            None => Arc::new(settings),
            Some((key, why)) => self.refuse(&format!("{key}: {why}")),
        }
    }

    fn refuse(&self, why: &str) -> Arc<OpSettings> {
        let op = &self.registered.key;
        tracing::warn!(%op, why, "what is set for the op in the database cannot be used here; this process's own settings are");
        Arc::clone(&self.base)
    }

    /// Whether the claim that has come back was asked for under other settings.
    pub(super) fn is_outdated(&self) -> bool {
        self.asked_at != self.changes
    }

    /// Slots for which nothing is claimed. One that is offered counts as long as it cannot be taken back.
    fn free(&self) -> usize {
        let offered = usize::from(self.offered.is_some());
        self.slots
            .saturating_sub(self.running.len() + self.queue.len() + offered)
    }

    /// How long there is work here for each slot, in what runs and what waits.
    fn busy(&self, now: Instant) -> Option<Duration> {
        let rows = u32::try_from(self.queued_rows).unwrap_or(u32::MAX);
        let all = self.row_time?.saturating_mul(rows);
        let all = all.saturating_add(self.left(now));
        Some(all / u32::try_from(self.slots).unwrap_or(1))
    }

    /// How long what runs will go on, over all of it. A long task keeps no slot but its own busy.
    fn left(&self, now: Instant) -> Duration {
        let ends = self.running.values().flatten();
        ends.map(|end| end.saturating_duration_since(now).min(CLAIM))
            .sum()
    }

    /// When more is to be claimed ahead of need, where that is later.
    pub(super) fn asks_at(&self, now: Instant) -> Option<Instant> {
        if self.claiming || !self.more || self.is_held() || self.settings().concurrency.is_some() {
            return None;
        }
        let rest = self.busy(now)?.checked_sub(CLAIM / 2)?;
        // What waits grows no shorter by time alone: the next end of a task is when it is asked again.
        let left = self.left(now);
        (!left.is_zero())
            .then(|| now.checked_add(rest.max(PEEK)))
            .flatten()
    }

    /// What to claim next, if anything.
    pub(super) fn ask(
        &mut self,
        worker: WorkerNo,
        only: Option<BatchId>,
    ) -> std::io::Result<Option<Claim>> {
        if self.claiming || !self.more || self.is_held() {
            return Ok(None);
        }
        let capped = self.settings().concurrency.is_some();
        self.take_back();
        let free = self.free();
        // Ahead of need only what is short: a task that waits here cannot be taken by another worker.
        let ahead = !capped
            && self.offered.is_none()
            && self.queued_bytes < CLAIM_BYTES
            // Those that start one by one keep no others from being claimed.
            && self.queue.len() - self.queued_suspect < AHEAD_TASKS
            && self
                .busy(Instant::now())
                .is_some_and(|busy| busy < CLAIM / 2);
        if free == 0 && !ahead {
            return Ok(None);
        }
        let tasks = u32::try_from(free.max(1)).unwrap_or(u32::MAX);
        let rows = match self.row_time.filter(|_| !capped) {
            None => u64::from(tasks) * u64::from(self.settings().block_rows),
            Some(each) => {
                let slots = u128::try_from(self.slots).unwrap_or(1);
                let rows = CLAIM.as_nanos() * slots / each.as_nanos().max(1);
                u64::try_from(rows)
                    .unwrap_or(u64::MAX)
                    .max(u64::from(tasks))
            }
        };
        let max_tasks = if ahead { CLAIM_TASKS } else { tasks };
        self.claiming = true;
        self.asked_at = self.changes;
        self.asked = true;
        Ok(Some(Claim {
            worker,
            op: self.id,
            token: Token::random()?,
            max_tasks,
            max_rows: rows,
            max_bytes: CLAIM_BYTES,
            split_over: self.row_time.and_then(|each| {
                u32::try_from(SPREAD.as_nanos() / each.as_nanos().max(1))
                    .ok()
                    .map(|rows| rows.max(1))
            }),
            cap: self
                .settings()
                .concurrency
                .map(|cap| (cap, self.settings().parallel.min(cap))),
            only,
            oldest: (self.claims + 1).is_multiple_of(4),
            once: self.settings().delivery == Delivery::AtMostOnce,
        }))
    }

    /// Counts a claim that took something: of these every fourth takes the oldest. A claim that met a
    /// full cap counts for nothing, or the oldest's turn would come whenever there is nothing to take.
    pub(super) fn count_claim(&mut self, tasks: &[ClaimedTask]) {
        self.claims += u64::from(!tasks.is_empty());
    }

    pub(super) fn claimed(&mut self, tasks: Vec<ClaimedTask>) {
        for task in tasks {
            self.queued_rows += u64::from(task.rows);
            self.queued_bytes += task.body.len();
            self.queued_accused += usize::from(task.accused);
            self.queued_suspect += usize::from(task.suspect);
            self.queue.push_back(task);
        }
    }

    /// What fills a slot that was offered runs before what was claimed meanwhile.
    pub(super) fn fills(&mut self, task: ClaimedTask) {
        self.claimed(vec![task]);
        self.queue.rotate_right(1);
    }

    /// The next task to run, if a slot is free and it is its turn.
    pub(super) fn next(&mut self, turns: &Turns) -> Option<ClaimedTask> {
        if self.running.len() >= self.slots || self.is_held() {
            return None;
        }
        let once = self.settings().delivery == Delivery::AtMostOnce;
        let mut queue = self.queue.iter();
        let at = queue.position(|task| turns.may_start(task, once))?;
        let task = self.queue.remove(at)?;
        self.queued_rows = self.queued_rows.saturating_sub(u64::from(task.rows));
        self.queued_bytes = self.queued_bytes.saturating_sub(task.body.len());
        self.queued_accused -= usize::from(task.accused);
        self.queued_suspect -= usize::from(task.suspect);
        let end = self
            .row_time
            .and_then(|each| Instant::now().checked_add(each.saturating_mul(task.rows)));
        self.running.insert(task.claim, end);
        Some(task)
    }

    /// A task runs no longer.
    pub(super) fn ended(&mut self, claim: &ClaimRef) {
        self.running.remove(claim);
    }

    /// Whether a row waits that was running when a worker died.
    pub(super) fn has_accused(&self) -> bool {
        self.queued_accused > 0
    }

    /// Everything that was claimed and not begun.
    pub(super) fn drain(&mut self) -> Vec<ClaimedTask> {
        self.queued_rows = 0;
        self.queued_bytes = 0;
        self.queued_accused = 0;
        self.queued_suspect = 0;
        self.queue.drain(..).collect()
    }

    /// Learns from a task how long a row takes: half the new figure, half what was known.
    pub(super) fn measure(&mut self, rows: usize, took: Duration) {
        let Ok(rows @ 1..) = u32::try_from(rows) else {
            return;
        };
        let each = (took / rows).max(Duration::from_nanos(100));
        self.row_time = Some(self.row_time.map_or(each, |before| (before + each) / 2));
    }
}

#[cfg(test)]
pub(super) mod tests;
