//! What becomes of a slot that was offered: a query is stored in it, by a task that nobody else has to wait for.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::STRANGE;
use super::steps::Step;
use crate::clock::Clock;
use crate::probe;
use crate::store::{Candidate, ClaimRef, ClaimedTask, Holder, Store};

/// What may be claimed here and cannot be given back is tried to so often.
const TRIES: u32 = 12;

/// A task that was submitted and claimed at once, until the engine takes it.
///
/// The engine turns where somebody waits for its `run`. Where nobody does it beats no more, and knows of nothing that is
/// missing: what it has not taken by then is given back beside it.
pub(super) struct Filled {
    task: ClaimedTask,
    over: Arc<AtomicBool>,
    gives_back: AbortHandle,
}

impl Filled {
    pub(super) fn new(task: ClaimedTask, by: By) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (claim, seen) = (task.claim, Arc::clone(&over));
        let gives_back = tokio::spawn(async move {
            tokio::time::sleep(STRANGE).await;
            if !seen.swap(true, Ordering::AcqRel) {
                tracing::warn!(batch = %claim.batch, "a query was claimed here, and nobody turned to begin it: it is given back");
                if !by.gives_back(claim).await {
                    by.gives_back_later(claim).await;
                }
            }
        });
        Self {
            task,
            over,
            gives_back: gives_back.abort_handle(),
        }
    }

    /// The task, unless it was given back.
    pub(super) fn take(self) -> Option<ClaimedTask> {
        let is_mine = !self.over.swap(true, Ordering::AcqRel);
        if is_mine {
            self.gives_back.abort();
        }
        is_mine.then_some(self.task)
    }
}

/// Who fills a slot.
pub(super) struct By {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) holder: Holder,
}

impl By {
    /// Waits until somebody asks for the slot, or it is given up; stores the query that is to fill it.
    pub(super) async fn fills(self, at: usize, asked: oneshot::Receiver<Candidate>) -> Step {
        let token = self.holder.token;
        let filled = match asked.await {
            Ok(candidate) => self.fills_with(candidate).await,
            Err(_) => None,
        };
        Step::Filled { at, token, filled }
    }

    async fn fills_with(self, Candidate { query, stored }: Candidate) -> Option<Filled> {
        // Who waits no longer has it stored as any.
        if stored.is_closed() {
            return None;
        }
        let claim = self.holder.claim(query.0.0.id);
        let now = self.clock.now();
        let storing = async { self.store.submit_at_once(query, self.holder, now).await };
        let storing = AssertUnwindSafe(storing).catch_unwind();
        // The panic's text has gone to the log.
        match storing.await.unwrap_or(Ok(None)) {
            Ok(Some((submitted, task))) => {
                if task.is_some() {
                    probe::at("claimed");
                }
                // Nobody may wait for that any more; it is stored.
                stored.send(submitted).ok();
                task.map(|task| Filled::new(task, self))
            }
            // It may be stored and claimed, now or in a moment.
            Ok(None) => {
                drop(stored);
                // A stop waits for this.
                self.gives_back(claim).await;
                tokio::spawn(async move { self.gives_back_later(claim).await });
                None
            }
            Err(error) => {
                tracing::debug!(batch = %claim.batch, %error, "a query was not stored in a free slot; it is stored as any");
                None
            }
        }
    }

    /// Gives a claim back after a while, where it is there then. The beat would, where the engine turns.
    async fn gives_back_later(&self, claim: ClaimRef) {
        for _ in 0..TRIES {
            tokio::time::sleep(STRANGE).await;
            if self.gives_back(claim).await {
                return;
            }
        }
    }

    /// Gives a claim back, where it is there; false where that failed.
    async fn gives_back(&self, claim: ClaimRef) -> bool {
        let now = self.clock.now();
        let given = self
            .store
            .give_back(self.holder.worker, vec![claim], now)
            .await;
        if let Err(error) = &given {
            tracing::warn!(batch = %claim.batch, %error, "a query that may be claimed here could not be given back; trying again");
        }
        given.is_ok()
    }
}
