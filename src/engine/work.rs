//! work: one claimed task from its first row to its last outcome.

mod end;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::parts::part_of;
use crate::clock::Clock;
use crate::files::ObjectStore;
use crate::model::{Delivery, EndedAs, OpSettings, WorkerNo};
use crate::probe;
use crate::processor::{
    AnyBlock, CancelCause, CancelHandle, Desk, Draft, ErasedProcessor, FLUSH, Pulse, Ran, Request,
    TxRows, Work,
};
use crate::store::{
    Again, ClaimedTask, Part, Piece, PostgresPiece, Store, StoreError, Then, Transacted,
};

/// A task that would take longer than this gives its end back, so that a slow op spreads.
pub(super) const SPREAD: Duration = Duration::from_secs(5);

/// Who pauses an op whose processor ended the transaction that it was handed.
const ENDED_BY: &str = "rowmill: its processor ended its transaction";

/// A part on its way to the store.
pub(super) struct Outgoing {
    pub(super) part: Part,
    pub(super) cancel: CancelHandle,
    /// Told whether the task is still ours, after the commit.
    pub(super) reply: Option<oneshot::Sender<bool>>,
}

/// Everything that a task needs to run.
pub(super) struct Seat {
    pub(super) processor: Arc<dyn ErasedProcessor>,
    pub(super) task: Arc<ClaimedTask>,
    pub(super) block: AnyBlock,
    pub(super) settings: Arc<OpSettings>,
    pub(super) cancel: CancelHandle,
    pub(super) objects: ObjectStore,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) outbox: mpsc::Sender<Outgoing>,
    pub(super) store: Store,
    pub(super) worker: WorkerNo,
    /// How long rows may go on after a stop.
    pub(super) grace: Duration,
    /// The op is paused: rows that run may finish, the others go back.
    pub(super) held: Arc<AtomicBool>,
    /// The op has a cap now: who waits for a slot is told of each end.
    pub(super) capped: Arc<AtomicBool>,
    pub(super) pulse: Arc<Pulse>,
}

/// How an attempt ended whose rows all have an outcome or go again.
fn ended_as(all_final: bool) -> EndedAs {
    if all_final {
        EndedAs::Finished
    } else {
        EndedAs::Released
    }
}

struct Table {
    desk: Arc<Desk>,
    seat: Seat,
    /// The number of the next part.
    parts: u32,
    /// A part was sent by the outbox: whatever ends the task has to follow it there.
    sent: bool,
    /// A transaction has ended the task.
    ended: bool,
    recorded: u64,
    began: Instant,
}

/// What a task came to.
#[derive(Default)]
pub(super) struct Worked {
    /// Rows that got an outcome.
    pub(super) rows: usize,
    /// Those that were recorded with what they wrote.
    pub(super) recorded: u64,
    /// How long they took, from the first start.
    pub(super) took: Duration,
}

/// Runs the task.
pub(super) async fn run(seat: Seat) -> Worked {
    let desk = Desk::new(&seat.task, Arc::clone(&seat.settings));
    let (mut work, mut requests) = Work::new(
        Arc::clone(&seat.task),
        Arc::clone(&seat.block),
        Arc::clone(&seat.settings),
        seat.cancel.signal(),
        seat.objects.clone(),
        Arc::clone(&desk),
        Arc::clone(&seat.pulse),
    );
    work.grace = seat.grace;
    let processor = Arc::clone(&seat.processor);
    let cancel = seat.cancel.signal();
    let mut table = Table {
        desk,
        seat,
        parts: 0,
        sent: false,
        ended: false,
        recorded: 0,
        began: Instant::now(),
    };
    if table.seat.task.believed && !table.begin().await {
        // Nothing of it has started.
        drop(work);
        return table.end(false).await;
    }
    table.began = Instant::now();
    let mut run = AssertUnwindSafe(processor.run(work)).catch_unwind();
    let panicked = {
        let grace = table.grace_over(cancel);
        tokio::pin!(grace);
        let mut flush_at = tokio::time::Instant::now() + FLUSH;
        loop {
            tokio::select! {
                biased;
                ended = &mut run => break ended.is_err(),
                Some(request) = requests.recv() => table.answer(request).await,
                () = tokio::time::sleep_until(flush_at) => {
                    table.flush().await;
                    flush_at = tokio::time::Instant::now() + FLUSH;
                }
                () = &mut grace => break false,
            }
        }
    };
    // Rows that are cut off here have their word below, whatever their destructors do.
    drop(catch_unwind(AssertUnwindSafe(|| drop(run))));
    table.end(panicked).await
}

impl Table {
    /// Ends when rows that still run are to be dropped.
    fn grace_over(
        &self,
        cancel: crate::processor::CancelSignal,
    ) -> impl Future<Output = ()> + use<> {
        let (stop, abort) = (self.seat.grace, self.seat.settings.abort_grace);
        async move {
            match cancel.cancelled().await {
                CancelCause::Shutdown => tokio::time::sleep(stop).await,
                CancelCause::Aborted => tokio::time::sleep(abort).await,
                CancelCause::Fenced => {}
            }
        }
    }

    /// Records that the task begins; whether it is still ours.
    async fn begin(&mut self) -> bool {
        let then = Then::GoesOn {
            row_now: None,
            soft: false,
        };
        let part = self.part(Draft::default(), Vec::new(), then);
        let (reply, recorded) = oneshot::channel();
        self.send(part, Some(reply)).await;
        recorded.await.unwrap_or(false)
    }

    /// A suspect task's rows are committed one by one, which tells whom to blame if the worker dies;
    /// a power failure blames nobody. What may start only once has to be on the disk before.
    fn is_soft(&self) -> bool {
        self.seat.task.suspect && self.seat.settings.delivery != Delivery::AtMostOnce
    }

    async fn answer(&mut self, request: Request) {
        match request {
            Request::Empty { row_now, reply } => self.empty(row_now, reply).await,
            // Waited for here, and not beside the grace period: what commits is known to have.
            Request::Transact { rows, reply } => {
                let answer = self.transact(rows).await;
                let _ = reply.send(answer);
            }
        }
    }

    async fn empty(&mut self, row_now: Option<u32>, reply: oneshot::Sender<bool>) {
        let soft = self.is_soft();
        let draft = self.all_but_the_last(None, soft).await;
        if row_now.is_none() && draft.is_empty() {
            let _ = reply.send(true);
            return;
        }
        let part = self.part(draft, Vec::new(), Then::GoesOn { row_now, soft });
        if row_now.is_none() {
            // Only the desk's room is waited for, not the disk.
            self.send(part, None).await;
            let _ = reply.send(true);
        } else {
            self.send(part, Some(reply)).await;
        }
    }

    /// Runs rows in the transaction that records what they came to.
    async fn transact(&mut self, rows: TxRows) -> Result<Transacted, StoreError> {
        let places = Arc::new(Mutex::new((Vec::new(), false)));
        let number = self.parts;
        self.parts += 1;
        let may_end = !self.sent && self.desk.is_empty();
        let soft = self.is_soft() && !(may_end && self.desk.progress().1 <= 1);
        let into_part = {
            let (desk, seat, places) = (Arc::clone(&self.desk), &self.seat, Arc::clone(&places));
            let (task, settings, clock, capped) = (
                Arc::clone(&seat.task),
                Arc::clone(&seat.settings),
                Arc::clone(&seat.clock),
                Arc::clone(&seat.capped),
            );
            move |ran: Ran| {
                let (_, left) = desk.progress();
                let ends = may_end && left == ran.places.len();
                let then = if ends {
                    Then::Ends {
                        ended_as: ended_as(ran.draft.again.is_empty()),
                        rest: Vec::new(),
                        interrupted: 0,
                    }
                } else {
                    Then::GoesOn {
                        row_now: None,
                        soft: false,
                    }
                };
                let mut part = part_of(ran.draft, &task, &settings, clock.now(), then);
                part.part = number;
                part.capped |= capped.load(Ordering::Relaxed);
                *places.lock().unwrap_or_else(PoisonError::into_inner) = (ran.places, ends);
                part
            }
        };
        let piece = match rows {
            TxRows::Sqlite(rows) => Piece::Sqlite(Box::new(move |tx| rows(tx).map(into_part))),
            TxRows::Postgres {
                isolation,
                statement,
                run,
            } => Piece::Postgres(PostgresPiece {
                isolation,
                statement,
                run: Box::new(move |tx| async move { run(tx).await.map(into_part) }.boxed()),
            }),
        };
        let (store, worker, claim) = (&self.seat.store, self.seat.worker, self.seat.task.claim);
        let now = self.seat.clock.now();
        let answer = store.transact(worker, claim, piece, soft, now).await;
        match &answer {
            Ok(Transacted::Done) => {
                probe::at("piece_committed");
                let (places, ends) =
                    std::mem::take(&mut *places.lock().unwrap_or_else(PoisonError::into_inner));
                self.desk.recorded(&places);
                self.recorded += u64::try_from(places.len()).unwrap_or(u64::MAX);
                self.ended = ends;
            }
            Ok(Transacted::Fenced) => {
                tracing::warn!(batch = %claim.batch, "fenced: the task belongs to another worker");
                self.seat.cancel.cancel(CancelCause::Fenced);
            }
            Ok(Transacted::Ended { .. }) => self.hold_op().await,
            Ok(Transacted::Undone | Transacted::InTheWay) | Err(_) => {}
        }
        answer
    }

    /// An op whose processor ends the transaction that it is handed would do so again with every row: nobody
    /// claims its tasks until somebody has looked at it.
    async fn hold_op(&self) {
        let key = self.seat.task.batch.key.clone();
        tracing::error!(
            op = %key, batch = %self.seat.task.batch.id,
            "a processor ended the transaction that it was handed (a COMMIT or ROLLBACK of its own): its op is paused; \
             mend it, look at the rows that failed with transaction_ended, then resume it"
        );
        self.seat.held.store(true, Ordering::Relaxed);
        let (by, now) = (ENDED_BY.to_owned(), self.seat.clock.now());
        if let Err(error) = self.seat.store.pause_op(key, by, now).await {
            tracing::error!(%error, "the op could not be paused");
        }
    }

    /// Sends what lies on the desk, and gives back what would take too long.
    async fn flush(&mut self) {
        let spread = self.spread();
        let row_now = self.row_now();
        let draft = self.all_but_the_last(row_now, false).await;
        if draft.is_empty() && spread.is_empty() {
            return;
        }
        let then = Then::GoesOn {
            row_now,
            soft: false,
        };
        let again = self.same_again(spread);
        let part = self.part(draft, again, then);
        self.send(part, None).await;
    }

    /// The row of a suspect task that has started: it stays to blame while others leave.
    fn row_now(&self) -> Option<u32> {
        let started = self.seat.task.suspect.then(|| self.desk.started());
        Some(self.desk.ordinal(*started?.first()?))
    }

    /// Rows that others can begin before this task gets to them.
    fn spread(&self) -> Vec<u32> {
        let (done, left) = self.desk.progress();
        let elapsed = self.began.elapsed();
        if self.seat.held.load(Ordering::Relaxed) {
            return self.desk.give_back(0);
        }
        if self.seat.task.suspect || left < 2 {
            return Vec::new();
        }
        let keep = match u32::try_from(done) {
            Ok(0) if elapsed < SPREAD => return Vec::new(),
            Ok(0) => 0,
            Ok(done) => {
                let each = elapsed / done;
                let keep = SPREAD.as_nanos() / each.as_nanos().max(1);
                usize::try_from(keep).unwrap_or(usize::MAX)
            }
            Err(_) => return Vec::new(),
        };
        if left <= keep.saturating_add(1) {
            return Vec::new();
        }
        self.desk.give_back(keep)
    }

    /// A group of rows that go again as if nothing had happened.
    fn same_again(&self, ordinals: Vec<u32>) -> Vec<Again> {
        if ordinals.is_empty() {
            return Vec::new();
        }
        vec![Again {
            ordinals,
            due_at: None,
            failures: self.seat.task.failures,
            laters: self.seat.task.laters,
            suspect: self.seat.task.suspect,
        }]
    }

    fn part(&mut self, draft: Draft, mut more: Vec<Again>, then: Then) -> Part {
        let seat = &self.seat;
        let mut part = part_of(draft, &seat.task, &seat.settings, seat.clock.now(), then);
        part.part = self.parts;
        part.capped |= seat.capped.load(Ordering::Relaxed);
        part.again.append(&mut more);
        self.parts += 1;
        part
    }

    /// Sends what lies on the desk beyond one part, in parts that go on; returns what is left for the last.
    async fn all_but_the_last(&mut self, row_now: Option<u32>, soft: bool) -> Draft {
        let mut draft = self.desk.take();
        while !self.desk.is_empty() {
            let part = self.part(draft, Vec::new(), Then::GoesOn { row_now, soft });
            self.send(part, None).await;
            draft = self.desk.take();
        }
        draft
    }

    async fn send(&mut self, part: Part, reply: Option<oneshot::Sender<bool>>) {
        self.sent = true;
        let outgoing = Outgoing {
            part,
            cancel: self.seat.cancel.clone(),
            reply,
        };
        // The engine outlives its tasks; where it does not, nobody is left to record anything.
        drop(self.seat.outbox.send(outgoing).await);
    }
}
