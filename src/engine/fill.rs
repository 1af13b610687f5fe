//! What becomes of a slot that was offered: a query is stored in it, by a task that nobody else has to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::STRANGE;
use super::steps::Step;
use crate::clock::Clock;
use crate::model::TaskId;
use crate::probe;
use crate::store::{Candidate, ClaimRef, ClaimedTask, Holder, Store};

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
    fn new(task: ClaimedTask, holder: Holder, store: Store, clock: Arc<dyn Clock>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (claim, seen) = (task.claim, Arc::clone(&over));
        let gives_back = tokio::spawn(async move {
            tokio::time::sleep(STRANGE).await;
            if !seen.swap(true, Ordering::AcqRel) {
                tracing::warn!(batch = %claim.batch, "a query was claimed here, and nobody turned to begin it: it is given back");
                give_back(&store, holder, claim, &*clock).await;
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

/// Waits until somebody asks for a slot, or it is given up; stores the query that is to fill it.
pub(super) async fn fill(
    store: Store,
    clock: Arc<dyn Clock>,
    at: usize,
    holder: Holder,
    asked: oneshot::Receiver<Candidate>,
) -> Step {
    let filled = match asked.await {
        Ok(candidate) => stores(store, clock, holder, candidate).await,
        Err(_) => None,
    };
    Step::Filled {
        at,
        token: holder.token,
        filled,
    }
}

async fn stores(
    store: Store,
    clock: Arc<dyn Clock>,
    holder: Holder,
    Candidate { query, stored }: Candidate,
) -> Option<Filled> {
    // Who waits no longer has it stored as any.
    if stored.is_closed() {
        return None;
    }
    let claim = ClaimRef {
        batch: query.0.0.id,
        task: TaskId(0),
        no: 0,
        attempt: 1,
        token: holder.token,
    };
    match store.submit_at_once(query, holder, clock.now()).await {
        Ok((submitted, task)) => {
            if task.is_some() {
                probe::at("claimed");
            }
            // Nobody may wait for that any more; it is stored.
            stored.send(submitted).ok();
            task.map(|task| Filled::new(task, holder, store, clock))
        }
        Err(error) => {
            tracing::debug!(batch = %claim.batch, %error, "a query was not stored in a free slot; it is stored as any");
            drop(stored);
            // Its commit may have been made.
            give_back(&store, holder, claim, &*clock).await;
            None
        }
    }
}

async fn give_back(store: &Store, holder: Holder, claim: ClaimRef, clock: &dyn Clock) {
    let given = store.give_back(holder.worker, vec![claim], clock.now());
    if let Err(error) = given.await {
        // The beat lists it, and it is given back then.
        tracing::warn!(batch = %claim.batch, %error, "a query that may be claimed here could not be given back; trying again");
    }
}
