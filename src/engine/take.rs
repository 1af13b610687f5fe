//! What a step came to, and what follows from it.

use std::collections::HashSet;
use std::time::Instant;

use super::fill::Filled;
use super::ops::Op;
use super::parts;
use super::patience::Asked;
use super::steps::Step;
use super::turn::bytes_of;
use super::work::Outgoing;
use super::{App, COPIES, Due, Engine, PURGE, RETRY, SAID, STRANGE, Tick, UNHEARD};
use crate::model::{AppName, Backoff, Token};
use crate::processor::{AnyBlock, BoxError, CancelCause};
use crate::store::{ClaimRef, ClaimedTask, LiveOp, Recorded, Running, StoreError, Then};

impl Engine {
    /// Takes in what a step came to.
    pub(super) fn take(&mut self, step: Step, tick: &mut Tick) {
        match step {
            Step::Kept { result, live } => {
                self.keeping = false;
                self.kept = true;
                if let Some(live) = live {
                    self.take_live(&live);
                }
                match result {
                    Ok((kept, taken)) => {
                        self.unkept = 0;
                        tick.taken_over += taken.tasks;
                        self.next_due = kept.next_due;
                    }
                    Err(error) => {
                        if self.unkept.is_multiple_of(UNHEARD) {
                            tracing::warn!(%error, "keeping failed; trying again");
                        }
                        self.unkept = self.unkept.saturating_add(1);
                    }
                }
                // The backstop of every wake-up: what was missed is found now.
                self.look = Due::ALL;
            }
            Step::Beaten { at, asked, result } => {
                self.beating = false;
                match result {
                    Ok(believed) => {
                        self.unheard = 0;
                        self.pulse.beaten(at);
                        self.rest_after_beat(at);
                        self.compare(&asked, &believed);
                    }
                    Err(StoreError::Fenced(_)) => self.declared_dead(),
                    Err(error) => {
                        if self.unheard.is_multiple_of(UNHEARD) {
                            tracing::warn!(%error, "the beat failed; trying again");
                        }
                        self.unheard = self.unheard.saturating_add(1);
                        if !self.pulse.is_felt() {
                            // Nothing is claimed any more that could be refused.
                            self.refused(Asked::Claim, &error);
                        }
                    }
                }
            }
            Step::Looked { asked, result } => {
                self.looking = false;
                match result {
                    Ok(found) => {
                        self.close |= found.closes;
                        self.tell |= found.notices;
                        let asked = |op: &&mut Op| asked.ops.contains(&op.id);
                        for op in self.ops.iter_mut().filter(asked) {
                            if found.heads.iter().any(|head| head.op == op.id) {
                                op.more = true;
                                op.seen = op.claiming;
                            } else {
                                op.forget_misses();
                            }
                        }
                    }
                    Err(error) => {
                        // They look for themselves: tasks are looked for alone the next time.
                        self.close |= asked.closes;
                        self.tell |= !asked.receivers.is_empty();
                        if self.refused(Asked::Claim, &error) {
                            tracing::warn!(%error, "looking for work failed; trying again");
                        }
                        self.look_again_later();
                    }
                }
            }
            Step::Claimed { at, full, result } => self.take_claim(at, full, result, tick),
            Step::Filled { at, token, filled } => self.take_filled(at, token, filled, tick),
            Step::Opened {
                app,
                failures,
                result,
            } => self.take_open(&app, failures, result),
            Step::Worked { at, claim, worked } => {
                tick.recorded += worked.recorded;
                self.running.remove(&claim);
                // Recorded with what it wrote: no other record will tell.
                if worked.recorded > 0 {
                    self.may_have_ended(&claim);
                }
                if let Some(op) = self.ops.get_mut(at) {
                    op.ended(&claim);
                    op.measure(worked.rows, worked.took);
                    // A capped op's slot is free for whoever asks first.
                    op.more |= op.settings().concurrency.is_some();
                }
            }
            Step::Recorded { outgoing, result } => self.take_record(outgoing, result, tick),
            Step::Copied => self.copying = false,
            Step::Closed { closed, refused } => {
                self.closing = false;
                self.close |= refused.is_some();
                tick.closed += closed;
                self.take_refusal(Asked::Close, refused.map(|error| (1, error)));
            }
            Step::Told {
                told,
                again,
                refused,
            } => {
                self.telling = false;
                self.tell |= again;
                tick.told += told;
                self.take_refusal(Asked::Tell, refused);
            }
            Step::Purged { purged, again } => {
                self.purging = false;
                tick.purged += purged;
                if !again {
                    self.purge_at = self.parts.clock.now() + PURGE;
                }
            }
            Step::Waited => self.look.work = true,
        }
    }

    /// Takes in what is set for the ops: what waits here was claimed under other settings.
    pub(super) fn take_live(&mut self, live: &[LiveOp]) {
        let mut changed = HashSet::new();
        for op in &mut self.ops {
            let live = live.iter().find(|live| live.id == op.id);
            if op.take_live(live) {
                changed.insert(op.registered.key.clone());
            }
        }
        if !changed.is_empty() {
            self.look.work = true;
            self.give_back_waiting(|task| changed.contains(&task.batch.key));
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
        result: Result<Vec<ClaimedTask>, StoreError>,
        tick: &mut Tick,
    ) {
        let Some(op) = self.ops.get_mut(at) else {
            return;
        };
        op.claiming = false;
        let seen = std::mem::take(&mut op.seen);
        match result {
            Ok(tasks) => {
                self.patience.answered(Asked::Claim);
                // A head that was seen while the claim was under way may have come after it.
                op.more = full || seen;
                // Whether something was left is looked at, unless that is known; an empty claim waits for the next change.
                self.look.work |= !full && !tasks.is_empty();
                if op.is_outdated() {
                    op.more = true;
                    return self.give_back(tasks.into_iter().map(|t| t.claim).collect());
                }
                if !tasks.is_empty() {
                    op.forget_misses();
                } else if !self.by_hand {
                    op.look_later(Instant::now());
                }
                tick.claimed += u64::try_from(tasks.len()).unwrap_or(u64::MAX);
                op.count_claim(&tasks);
                op.claimed(tasks);
            }
            Err(StoreError::Fenced(_)) => {
                op.more = false;
                self.declared_dead();
            }
            Err(error) => {
                op.more = false;
                let key = op.registered.key.clone();
                if self.refused(Asked::Claim, &error) {
                    tracing::warn!(%error, op = %key, "a claim failed; trying again");
                }
                self.look_again_later();
            }
        }
    }

    /// A query that was submitted as claimed here begins with the next turn.
    fn take_filled(&mut self, at: usize, token: Token, filled: Option<Filled>, tick: &mut Tick) {
        let Some(op) = self.ops.get_mut(at) else {
            return;
        };
        let is_current = op.filled(token);
        let Some(task) = filled.and_then(Filled::take) else {
            return;
        };
        if is_current {
            tick.claimed += 1;
            op.fills(task);
        } else {
            self.give_back(vec![task.claim]);
        }
    }

    /// Takes in whether closes or ends could be claimed and settled.
    fn take_refusal(&mut self, asked: Asked, refused: Option<(u32, StoreError)>) {
        match refused {
            None => self.patience.answered(asked),
            Some((_, StoreError::Fenced(_))) => self.declared_dead(),
            Some((times, error)) => {
                if self.refused_times(asked, times, &error) {
                    let what = match asked {
                        Asked::Close => "closes could not be claimed; trying again",
                        _ => "ends could not be told; trying again",
                    };
                    tracing::warn!(%error, what);
                }
            }
        }
    }

    /// This worker was taken for dead: what it had belongs to others, who are not to be disturbed.
    fn declared_dead(&mut self) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        let worker = self.worker;
        tracing::error!(%worker, tasks = self.running.len(), "this worker was declared dead; it claims nothing more, and what it had is others'");
        for running in self.running.values() {
            running.cancel.cancel(CancelCause::Fenced);
        }
    }

    fn take_open(&mut self, name: &AppName, failures: u32, result: Result<AnyBlock, BoxError>) {
        let Some((_, app)) = self.apps.get_mut(name) else {
            return;
        };
        *app = match result {
            Ok(block) => {
                self.look.ends = true;
                App::Open(block)
            }
            Err(error) => {
                let wait = parts::delay(&Backoff::default(), failures);
                tracing::error!(app = %name, error = %error, again_in_ms = wait.as_millis(), "the app's initializer failed; nothing of it is claimed here");
                self.keep_at = self.keep_at.min(Instant::now() + wait);
                let from = self.parts.clock.now();
                App::Suspended {
                    from,
                    until: from + wait,
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
                self.patience.answered(Asked::Record);
                let mut fenced = 0_u64;
                for (out, answer) in outgoing.into_iter().zip(answers) {
                    let ours = answer == Recorded::Done;
                    if ours {
                        if matches!(out.part.then, Then::Ends { .. }) {
                            self.may_have_ended(&out.part.claim);
                        }
                        tick.recorded += u64::from(out.part.success + out.part.failed);
                    } else {
                        fenced += 1;
                        if fenced == 1 && !self.stopping && self.fenced.is_due(SAID) {
                            let claim = out.part.claim;
                            tracing::warn!(batch = %claim.batch, attempt = claim.attempt, "fenced: the task was somebody else's; its outcomes are dropped");
                        }
                        out.cancel.cancel(CancelCause::Fenced);
                    }
                    if let Some(reply) = out.reply {
                        let _ = reply.send(ours);
                    }
                }
                tick.fenced += fenced;
            }
            Err(error) => {
                if self.refused(Asked::Record, &error) {
                    tracing::error!(%error, parts = outgoing.len(), "outcomes could not be recorded; trying again");
                }
                let mut again = outgoing;
                again.append(&mut self.waiting);
                self.waiting_bytes = bytes_of(&again);
                self.waiting = again;
                self.record_after = Some(Instant::now() + RETRY);
                self.look_again_later();
            }
        }
    }

    /// A batch of one task ends with its record, and that task is its first block's.
    fn may_have_ended(&mut self, claim: &ClaimRef) {
        let is_seen = claim.no == 0 && self.parts.statuses.is_shared();
        if is_seen && self.may_have_ended.len() < COPIES {
            self.may_have_ended.insert(claim.batch);
        }
    }

    /// Compares what runs here with what the store believes.
    ///
    /// What was running when the store was asked, and is not listed, is somebody else's. What is
    /// listed for long and is not known here was lost on its way, and is given back.
    fn compare(&mut self, asked: &[ClaimRef], believed: &[Running]) {
        for running in believed.iter().filter(|r| r.aborting && !r.close) {
            if let Some(here) = self.running.get(&running.claim) {
                here.cancel.cancel(CancelCause::Aborted);
            }
            let waiting = |t: &ClaimedTask| t.claim == running.claim;
            if self.ops.iter().any(|op| op.queue.iter().any(waiting)) {
                self.give_back_waiting(|t| t.claim.batch == running.claim.batch);
            }
        }
        let listed: HashSet<ClaimRef> = believed.iter().map(|r| r.claim).collect();
        for claim in asked.iter().filter(|claim| !listed.contains(claim)) {
            if let Some(here) = self.running.get(claim) {
                here.cancel.cancel(CancelCause::Fenced);
            }
        }
        self.strangers.retain(|claim, _| listed.contains(claim));
        // A part on its way to the store still speaks for its task, and a claim on its way from it
        // may be the task's own. Who was a stranger before stays one, or a busy worker would never
        // give anything back.
        let busy = self.recording || !self.waiting.is_empty() || !self.inbox.is_empty();
        if busy || self.ops.iter().any(|op| op.claiming) {
            return;
        }
        let now = Instant::now();
        let unknown = believed.iter().filter(|running| !self.knows(running));
        let strangers = unknown.map(|running| {
            let since = self.strangers.get(&running.claim);
            (running.claim, since.copied().unwrap_or(now))
        });
        self.strangers = strangers.collect();
        let lost = |since: &Instant| now.duration_since(*since) > STRANGE;
        let lost: Vec<ClaimRef> = self
            .strangers
            .iter()
            .filter(|(_, since)| lost(since))
            .map(|(claim, _)| *claim)
            .collect();
        if !lost.is_empty() {
            tracing::warn!(
                tasks = lost.len(),
                "claimed tasks that nothing here knows of are given back"
            );
            self.strangers.retain(|claim, _| !lost.contains(claim));
            self.give_back(lost);
        }
    }

    /// Whether something here answers for a task that the store believes this worker runs.
    fn knows(&self, task: &Running) -> bool {
        if task.close {
            return self.closing;
        }
        let waits = |op: &Op| {
            op.expects(&task.claim) || op.queue.iter().any(|waiting| waiting.claim == task.claim)
        };
        self.running.contains_key(&task.claim) || self.ops.iter().any(waits)
    }

    /// Gives claimed tasks back that have not begun.
    pub(super) fn give_back_waiting(&mut self, which: impl Fn(&ClaimedTask) -> bool) {
        let mut given = Vec::new();
        for op in &mut self.ops {
            let (back, keep): (Vec<_>, Vec<_>) = op.drain().into_iter().partition(&which);
            op.claimed(keep);
            given.extend(back.into_iter().map(|t| t.claim));
        }
        self.give_back(given);
    }

    fn give_back(&mut self, given: Vec<ClaimRef>) {
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
                tracing::error!(%error, "claimed tasks could not be given back; trying again");
            }
            Step::Waited
        });
    }
}

#[cfg(test)]
mod tests;
