//! Between turns: waiting for the first thing that happens, until a stop.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use tokio_util::sync::CancellationToken;

use super::ops::Op;
use super::{App, Due, Engine, KEEP, Tick, lost, work};
use crate::processor::CancelCause;
use crate::store::StoreError;

/// A stop that is to wait without end waits so long.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Engine {
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
        if self.beats() && !self.beating {
            until = until.min(self.beat_at);
        }
        if !self.stopping {
            let looks = self.ops.iter().filter_map(Op::looks_at);
            let asks = self.ops.iter().filter_map(|op| op.asks_at(now));
            let later = looks.filter(|at| *at > now).chain(asks);
            until = later.fold(until, Instant::min);
        }
        let running = self.running.values().filter_map(|r| r.accused);
        for since in running.chain(self.accused_since) {
            let over = since + work::SPREAD;
            if over > now && !self.stopping {
                until = until.min(over);
            }
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
            Some(outgoing) = self.inbox.recv(), if self.has_room() => self.wait(outgoing),
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
            && self.may_have_ended.is_empty()
    }

    /// One turn by hand: claims once for each op, and returns when all that it began has been recorded.
    ///
    /// Fails where the store refuses for too long, or has taken this worker for dead: then stop it.
    pub(crate) async fn tick(&mut self) -> Result<Tick, StoreError> {
        self.by_hand = true;
        self.keep_at = Instant::now();
        self.purge_after = self.keep_at;
        self.look = Due::ALL;
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
            // Who was not heard of for long begins with the next beat, or is told why there is none.
            let may_begin = self.stopping || self.pulse.is_felt();
            if (self.is_quiet() && may_begin) || self.patience.is_over() {
                break;
            }
            self.rest().await;
        }
        self.by_hand = false;
        if self.stopping {
            // It claims nothing more, and would be idle for ever.
            return Err(StoreError::Fenced(self.worker));
        }
        self.patience.over().map_or(Ok(tick), Err)
    }

    /// Turns until `shutdown`, or until the store refuses for too long, which the stop says; then stop.
    ///
    /// Fails where the store has taken this worker for dead.
    pub(crate) async fn run(&mut self, shutdown: &CancellationToken) -> Result<(), StoreError> {
        // A turn by hand that was dropped has left this behind.
        self.by_hand = false;
        while !shutdown.is_cancelled() && !self.stopping && !self.patience.is_over() {
            self.turn();
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.rest() => {}
            }
        }
        if self.stopping && !shutdown.is_cancelled() {
            return Err(StoreError::Fenced(self.worker));
        }
        Ok(())
    }

    /// Stops: gives back what has not begun, lets running rows finish for a while, records, leaves.
    pub(crate) async fn stop(mut self) -> Result<(), StoreError> {
        self.stopping = true;
        // A store that refuses takes nothing back: this worker ends as one that died.
        let refused = self.patience.over();
        if refused.is_none() {
            self.give_back_waiting(|_| true);
        }
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
        if refused.is_none() {
            self.settle_all().await;
        }
        self.close_apps().await;
        if let Some(error) = refused {
            return Err(error);
        }
        let now = self.parts.clock.now();
        let left = self.parts.store.leave(self.worker, now).await;
        // Whoever is dropped while it leaves is dead.
        self.left = true;
        left
    }

    /// Lets running rows finish for a while, records what they came to and tells what ended.
    async fn settle_all(&mut self) {
        let most = self.parts.grace.saturating_add(Duration::from_secs(30));
        let now = Instant::now();
        let last = now.checked_add(most).unwrap_or(now + CENTURY);
        self.settle(last).await;
        // A batch may have ended a moment before the stop: its end is told by who worked it off.
        self.tell = true;
        self.tell();
        self.settle(last).await;
    }

    async fn close_apps(&mut self) {
        for (name, (entry, app)) in self.apps.drain() {
            let (Some(initializer), App::Open(block)) = (entry.1, app) else {
                continue;
            };
            let closing = AssertUnwindSafe(initializer.close(block)).catch_unwind();
            let closed = closing.await.unwrap_or_else(|_| Err("it panicked".into()));
            if let Err(error) = closed {
                tracing::warn!(app = %name, error = %error, "the app's init block could not be closed");
            }
        }
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
