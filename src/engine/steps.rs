//! The steps that the engine starts: each waits for the store, the disk or the application.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};

use super::fill::Filled;
use super::finalise::finalise;
use super::work::{Outgoing, Worked};
use super::{Parts, parts};
use crate::cache::Statuses;
use crate::files::guarded;
use crate::model::{AppName, Backoff, BatchId, OpId, Timestamp, Token, WorkerNo};
use crate::probe;
use crate::processor::{AnyBlock, BoxError, ErasedInitializer, ErasedProcessor};
use crate::store::{
    Claim, ClaimRef, ClaimedTask, CloseTask, Found, Kept, LiveOp, Look, Notice, Part, Recorded,
    Running, Store, StoreError, TakenOver,
};

/// A receiver of an end may take so long.
const TELL: Duration = Duration::from_secs(300);
/// Ends that are told at once.
const TELLING: usize = 32;

/// What a step came to.
pub(super) enum Step {
    Kept {
        result: Result<(Kept, TakenOver), StoreError>,
        /// What is set for ops, where it could be read.
        live: Option<Vec<LiveOp>>,
    },
    Beaten {
        /// When the store was asked.
        at: Instant,
        /// What ran when the store was asked.
        asked: Vec<ClaimRef>,
        result: Result<Vec<Running>, StoreError>,
    },
    Looked {
        asked: Look,
        result: Result<Found, StoreError>,
    },
    Claimed {
        at: usize,
        /// It took all that it asked for, so there may be more.
        full: bool,
        result: Result<Vec<ClaimedTask>, StoreError>,
    },
    /// An offered slot is offered no more.
    Filled {
        at: usize,
        token: Token,
        /// What was submitted and claimed at once.
        filled: Option<Filled>,
    },
    Opened {
        app: AppName,
        failures: u32,
        result: Result<AnyBlock, BoxError>,
    },
    Worked {
        at: usize,
        claim: ClaimRef,
        worked: Worked,
    },
    Recorded {
        outgoing: Vec<Outgoing>,
        result: Result<Vec<Recorded>, StoreError>,
    },
    Copied,
    Closed {
        closed: u64,
        /// Why no more could be claimed, if the store refused.
        refused: Option<StoreError>,
    },
    Told {
        told: u64,
        again: bool,
        /// Why ends could not be claimed or settled, and how often that was tried.
        refused: Option<(u32, StoreError)>,
    },
    Purged {
        purged: u64,
        /// Something was done, so there may be more.
        again: bool,
    },
    Waited,
}

/// Takes over what dead workers left, does what time alone asks for, and reads what is set for ops.
///
/// It is asked twice a second: what fails is told only where that is `loud`.
pub(super) async fn keep(store: Store, now: Timestamp, loud: bool) -> Step {
    let kept = async {
        let mut taken = TakenOver::default();
        let dead = store.dead_workers().await.unwrap_or_else(|error| {
            if loud {
                tracing::warn!(%error, "the dead could not be looked for; trying again");
            }
            Vec::new()
        });
        for dead in dead {
            probe::at("dead_found");
            let over = match store.take_over(dead, now).await {
                Ok(over) => over,
                Err(error) => {
                    tracing::error!(worker = dead.0, %error, "a dead worker's tasks could not be taken over; trying again");
                    continue;
                }
            };
            probe::at("taken_over");
            tracing::warn!(
                worker = dead.0,
                tasks = over.tasks,
                lost_rows = over.lost_rows,
                "took over from a dead worker"
            );
            taken.tasks += over.tasks;
            taken.lost_rows += over.lost_rows;
        }
        Ok((store.keep(now).await?, taken))
    };
    let result = kept.await;
    let live = match store.live_ops().await {
        Ok(live) => Some(live),
        Err(error) => {
            if loud {
                tracing::warn!(%error, "what is set for ops could not be read; trying again");
            }
            None
        }
    };
    Step::Kept { result, live }
}

/// Purges some of what ops do not keep any longer, what a purge that was cut off has left, and what
/// is staged for nobody.
pub(super) async fn purge(parts: Parts, now: Timestamp) -> Step {
    match super::purge::some(&parts, now).await {
        Ok((purged, true)) => Step::Purged {
            purged,
            again: true,
        },
        Ok((purged, false)) => {
            let swept = super::purge::sweep(&parts.store, &parts.objects);
            if let Err(error) = guarded(swept).await {
                tracing::warn!(%error, "staged files of ended batches could not be removed; trying again in a minute");
            }
            Step::Purged {
                purged,
                again: false,
            }
        }
        Err(error) => {
            tracing::warn!(%error, "ended batches could not be purged; trying again in a minute");
            Step::Purged {
                purged: 0,
                again: false,
            }
        }
    }
}

pub(super) async fn claim(store: Store, at: usize, ask: Claim, now: Timestamp) -> Step {
    let (tasks, rows, bytes) = (ask.max_tasks, ask.max_rows, ask.max_bytes);
    let result = store.claim(ask, now).await;
    let full = result.as_ref().is_ok_and(|claimed| {
        let has_rows: u64 = claimed.iter().map(|t| u64::from(t.rows)).sum();
        let has_bytes: usize = claimed.iter().map(|t| t.body.len()).sum();
        let has_tasks = u32::try_from(claimed.len()).unwrap_or(u32::MAX);
        !claimed.is_empty() && (has_tasks >= tasks || has_rows >= rows || has_bytes >= bytes)
    });
    if result.as_ref().is_ok_and(|claimed| !claimed.is_empty()) {
        probe::at("claimed");
    }
    Step::Claimed { at, full, result }
}

pub(super) async fn open(
    app: AppName,
    initializer: Arc<dyn ErasedInitializer>,
    failures: u32,
) -> Step {
    let opening = std::panic::AssertUnwindSafe(initializer.init(&app)).catch_unwind();
    // The panic's text has gone to the log.
    let result = opening.await.unwrap_or_else(|_| Err("it panicked".into()));
    Step::Opened {
        app,
        failures,
        result,
    }
}

pub(super) async fn record(
    store: Store,
    worker: WorkerNo,
    outgoing: Vec<Outgoing>,
    now: Timestamp,
) -> Step {
    probe::at("before_record");
    let parts: Vec<Part> = outgoing.iter().map(|o| o.part.clone()).collect();
    let mut result = store.record(worker, parts, now).await;
    if let Err(StoreError::Corrupt(cause)) = &result {
        // One part that cannot be stored must not hold up its neighbours.
        tracing::error!(cause, "recording parts one by one");
        result = one_by_one(&store, worker, &outgoing, now).await;
    }
    if result.is_ok() {
        probe::at("recorded");
    }
    Step::Recorded { outgoing, result }
}

/// Copies the ends of batches that have ended.
pub(super) async fn copy(statuses: Statuses, ids: Vec<BatchId>) -> Step {
    statuses.ended(&ids).await;
    Step::Copied
}

async fn one_by_one(
    store: &Store,
    worker: WorkerNo,
    outgoing: &[Outgoing],
    now: Timestamp,
) -> Result<Vec<Recorded>, StoreError> {
    let mut answers = Vec::with_capacity(outgoing.len());
    for out in outgoing {
        match store.record(worker, vec![out.part.clone()], now).await {
            Ok(answer) => answers.extend(answer),
            Err(StoreError::Corrupt(cause)) => {
                let claim = out.part.claim;
                tracing::error!(cause, batch = %claim.batch, "a part cannot be stored");
                answers.push(Recorded::Fenced);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answers)
}

/// Closes batches whose rows have all ended, until there is none.
pub(super) async fn close(parts: Parts, worker: WorkerNo) -> Step {
    let mut closed = 0;
    loop {
        let now = parts.clock.now();
        let claimed = async {
            let token =
                Token::random().map_err(|e| StoreError::unavailable("making a token", e))?;
            parts.store.claim_close(worker, token, 1, now).await
        };
        match claimed.await {
            Ok(tasks) if tasks.is_empty() => {
                return Step::Closed {
                    closed,
                    refused: None,
                };
            }
            Ok(tasks) => {
                for task in &tasks {
                    closed += u64::from(close_one(&parts, worker, task).await);
                }
            }
            Err(error) => {
                tokio::time::sleep(super::RETRY).await;
                return Step::Closed {
                    closed,
                    refused: Some(error),
                };
            }
        }
    }
}

async fn close_one(parts: &Parts, worker: WorkerNo, task: &CloseTask) -> bool {
    let (store, batch) = (&parts.store, task.claim.batch);
    probe::at("close_claimed");
    let files = match guarded(finalise(store, &parts.objects, task)).await {
        Ok(files) => files,
        Err(error) => {
            // An object store that is down delays the end; it fails nothing.
            let cap = Duration::from_secs(300);
            let backoff = Backoff {
                cap,
                ..Backoff::default()
            };
            let due = parts.clock.now() + parts::delay(&backoff, task.attempt);
            tracing::error!(%batch, %error, attempt = task.attempt, "output files could not be assembled; trying again");
            let later = store.close_later(worker, task.claim, error.to_string(), due);
            if let Err(error) = later.await {
                tracing::warn!(%batch, %error, "a close could not be put off; a later worker takes it over");
            }
            return false;
        }
    };
    let closed = store
        .close(worker, task.claim, files, parts.clock.now())
        .await;
    probe::at("closed");
    match closed {
        Ok(Recorded::Done) => {
            parts.statuses.ended(&[batch]).await;
            if let Err(error) = guarded(async { parts.objects.clear(batch).await }).await {
                tracing::warn!(%batch, %error, "staged files could not be cleared");
            }
            true
        }
        Ok(Recorded::Fenced) => {
            tracing::warn!(%batch, "fenced: somebody else closes the batch");
            false
        }
        Err(error) => {
            tracing::error!(%batch, %error, "a batch could not be closed; trying again");
            let later = store.close_later(
                worker,
                task.claim,
                error.to_string(),
                parts.clock.now() + super::RETRY,
            );
            drop(later.await);
            false
        }
    }
}

/// Tells receivers of ends, at least once each.
pub(super) async fn tell(
    parts: Parts,
    worker: WorkerNo,
    receivers: Vec<(OpId, Arc<dyn ErasedProcessor>, AnyBlock)>,
    most: Option<u32>,
) -> Step {
    let ops: Vec<OpId> = receivers.iter().map(|r| r.0).collect();
    let claimed = async {
        let token = Token::random().map_err(|e| StoreError::unavailable("making a token", e))?;
        let now = parts.clock.now();
        parts.store.claim_notices(worker, token, ops, now).await
    };
    let notices = match claimed.await {
        Ok(notices) => notices,
        Err(error) => {
            tokio::time::sleep(super::RETRY).await;
            return Step::Told {
                told: 0,
                again: true,
                refused: Some((1, error)),
            };
        }
    };
    let again = !notices.is_empty();
    let mut told = 0;
    // Side by side, so that one receiver that hangs holds up few others.
    let telling = futures_util::stream::iter(notices)
        .map(|notice| {
            let (parts, receivers) = (&parts, &receivers);
            async move {
                let retry = tell_one(parts, receivers, &notice).await;
                (notice.claim, retry)
            }
        })
        .buffer_unordered(TELLING)
        .ready_chunks(TELLING);
    let mut telling = std::pin::pin!(telling);
    while let Some(settled) = telling.next().await {
        told += settled
            .iter()
            .map(|(_, retry)| u64::from(retry.is_none()))
            .sum::<u64>();
        if let Err(error) = settle(&parts, worker, settled, most).await {
            return Step::Told {
                told,
                again: true,
                refused: Some(error),
            };
        }
    }
    Step::Told {
        told,
        again,
        refused: None,
    }
}

/// Settles what was told. Unsettled it would belong to this worker for as long as it lives, and be
/// told to nobody, so there is no end to trying; a worker that somebody waits for ends instead.
async fn settle(
    parts: &Parts,
    worker: WorkerNo,
    settled: Vec<(crate::store::NoticeRef, Option<Timestamp>)>,
    most: Option<u32>,
) -> Result<(), (u32, StoreError)> {
    let mut tries = 0_u32;
    while let Err(error) = parts.store.settle_notices(worker, settled.clone()).await {
        tries = tries.saturating_add(1);
        if most.is_some_and(|most| tries >= most) {
            return Err((tries, error));
        }
        tracing::warn!(%error, "told ends could not be settled; trying again");
        tokio::time::sleep(super::RETRY).await;
    }
    Ok(())
}

/// Tells one end; returns when to tell it again, if it was not told.
async fn tell_one(
    parts: &Parts,
    receivers: &[(OpId, Arc<dyn ErasedProcessor>, AnyBlock)],
    notice: &Notice,
) -> Option<Timestamp> {
    let (_, processor, block) = receivers.iter().find(|r| r.0 == notice.op)?;
    probe::at("before_notice");
    let told = processor.mark_done(Arc::clone(block), notice.claim.id, &notice.batch);
    let told = std::panic::AssertUnwindSafe(told).catch_unwind();
    let error: BoxError = match tokio::time::timeout(TELL, told).await {
        Ok(Ok(Ok(()))) => {
            probe::at("told");
            return None;
        }
        Ok(Ok(Err(error))) => error,
        Ok(Err(_)) => "it panicked".into(),
        Err(_) => "it took longer than 5 minutes".into(),
    };
    let attempt = notice.attempts + 1;
    tracing::warn!(batch = %notice.batch.id, op = %notice.batch.key(), error = %error, attempt, "mark_done failed");
    Some(parts.clock.now() + parts::delay(&Backoff::default(), notice.attempts))
}
