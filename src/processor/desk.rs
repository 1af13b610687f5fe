//! Where a task's rows are taken and their outcomes put down: between a processor and the engine.
//!
//! The engine empties the desk every 200 ms or so, so that a crash re-runs only what was not recorded.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::IsolationLevel;

use super::CancelSignal;
use super::draft::{self, Draft};
use super::erased::AnyBlock;
use super::pulse::Pulse;
use crate::files::ObjectStore;
use crate::model::{Line, Message, OpSettings, OutcomeStatus, RowOutcome, codes, line_of};
use crate::store::postgres::PieceTx;
use crate::store::sqlite::Tx;
use crate::store::{ClaimedTask, StoreError, Transacted};

/// Outcomes wait on the desk for so long at most while rows go on.
pub(crate) const FLUSH: Duration = Duration::from_millis(200);
/// What a processor asks of the engine.
pub(crate) enum Request {
    /// To empty the desk and commit before anything goes on.
    Empty {
        /// The row that is to start.
        row_now: Option<u32>,
        /// Whether the task is still ours.
        reply: oneshot::Sender<bool>,
    },
    /// To run rows in the transaction that records what they came to.
    Transact {
        rows: TxRows,
        reply: oneshot::Sender<Result<Transacted, StoreError>>,
    },
}

/// Rows that run within a transaction; they come to nothing if what they wrote is to be undone.
pub(crate) enum TxRows {
    Sqlite(SqliteRows),
    Postgres {
        isolation: IsolationLevel,
        /// A statement of theirs may take so long.
        statement: Duration,
        run: PostgresRows,
    },
}

/// Rows that run within a transaction on SQLite.
pub(crate) type SqliteRows = Box<dyn for<'t> FnOnce(&mut Tx<'t>) -> Option<Ran> + Send>;

/// Rows that run within a transaction on PostgreSQL.
pub(crate) type PostgresRows =
    Box<dyn for<'t> FnOnce(&'t PieceTx<'t>) -> BoxFuture<'t, Option<Ran>> + Send>;

/// What rows came to that ran within a transaction.
#[derive(Default)]
pub(crate) struct Ran {
    pub(crate) draft: Draft,
    pub(crate) places: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Upcoming,
    Started,
    Done,
}

struct State {
    places: Vec<Place>,
    next: usize,
    /// Rows from here on were given back.
    end: usize,
    done: usize,
    /// Rows that started and were undone; they come before `next`.
    undone: VecDeque<usize>,
    /// What lies here, in the order in which it is taken; none is empty.
    drafts: VecDeque<Draft>,
}

impl State {
    /// Adds an outcome to what is taken last.
    fn add(&mut self, ordinal: u32, outcome: &RowOutcome) {
        // What an abort cut off is counted where the attempt ends, so its short lines are there too.
        let stays = outcome.status == OutcomeStatus::Aborted;
        match self
            .drafts
            .back_mut()
            .filter(|last| stays || !last.is_part())
        {
            Some(last) => last.add(ordinal, outcome),
            None => {
                let mut draft = Draft::default();
                draft.add(ordinal, outcome);
                self.drafts.push_back(draft);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.drafts.len() > 1 || self.drafts.front().is_some_and(Draft::is_full)
    }

    fn upcoming(&self) -> Option<usize> {
        let front = self.undone.front().copied();
        front.or((self.next < self.end).then_some(self.next))
    }
}

/// The desk of one claimed task; shared by its processor and the engine.
pub(crate) struct Desk {
    /// Ordinals by place; none = the same.
    pick: Option<Vec<u32>>,
    failures: u32,
    laters: u32,
    settings: Arc<OpSettings>,
    state: Mutex<State>,
}

impl Desk {
    pub(crate) fn new(task: &ClaimedTask, settings: Arc<OpSettings>) -> Arc<Self> {
        let rows = usize::try_from(task.rows).unwrap_or(0);
        Arc::new(Self {
            pick: task.pick.clone(),
            failures: task.failures,
            laters: task.laters,
            settings,
            state: Mutex::new(State {
                places: vec![Place::Upcoming; rows],
                next: 0,
                end: rows,
                done: 0,
                undone: VecDeque::new(),
                drafts: VecDeque::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a processor happens outside of this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ordinal(&self, place: usize) -> u32 {
        match &self.pick {
            Some(pick) => pick.get(place).copied().unwrap_or(u32::MAX),
            None => u32::try_from(place).unwrap_or(u32::MAX),
        }
    }

    /// Rows that have an outcome, and rows that are left to this task.
    pub(crate) fn progress(&self) -> (usize, usize) {
        let state = self.state();
        (state.done, state.end.saturating_sub(state.done))
    }

    /// Takes what lies on the desk, as much of it as one part may hold; an empty one where nothing does.
    pub(crate) fn take(&self) -> Draft {
        self.state().drafts.pop_front().unwrap_or_default()
    }

    /// Gives back every row that has not started but the next `keep`; returns their ordinals.
    pub(crate) fn give_back(&self, keep: usize) -> Vec<u32> {
        let mut state = self.state();
        let undone = state.undone.len();
        let from = state.next.saturating_add(keep.saturating_sub(undone));
        let from = from.min(state.end);
        let mut given: Vec<usize> = state.undone.drain(keep.min(undone)..).collect();
        given.extend(from..state.end);
        state.end = from;
        given.into_iter().map(|place| self.ordinal(place)).collect()
    }

    /// Rows that started have been undone: they are as if they had not.
    pub(crate) fn put_back(&self, places: &[usize]) {
        let mut state = self.state();
        for place in places {
            // Whoever is put back twice is there once.
            if let Some(p @ Place::Started) = state.places.get_mut(*place) {
                *p = Place::Upcoming;
                state.undone.push_back(*place);
            }
        }
        state.undone.make_contiguous().sort_unstable();
    }

    /// Rows whose outcomes were recorded with what they wrote.
    pub(crate) fn recorded(&self, places: &[usize]) {
        let mut state = self.state();
        for place in places {
            if let Some(p) = state.places.get_mut(*place) {
                *p = Place::Done;
            }
        }
        state.done += places.len();
    }

    /// Whether nothing lies on the desk.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().drafts.is_empty()
    }

    /// Rows that started and have no outcome.
    pub(crate) fn started(&self) -> Vec<usize> {
        let state = self.state();
        let places = state.places.iter().enumerate();
        places
            .filter(|(_, p)| **p == Place::Started)
            .map(|(i, _)| i)
            .collect()
    }

    /// The next row that has not started becomes started.
    pub(crate) fn start(&self) -> Option<usize> {
        let mut state = self.state();
        let place = state.upcoming()?;
        if state.undone.pop_front().is_none() {
            state.next += 1;
        }
        *state.places.get_mut(place)? = Place::Started;
        Some(place)
    }

    /// Puts an outcome down; a second one for the same row is dropped.
    pub(crate) fn put(&self, place: usize, outcome: &RowOutcome) {
        let outcome = self.judged(outcome);
        let ordinal = self.ordinal(place);
        let mut state = self.state();
        match state.places.get_mut(place) {
            Some(p) if *p != Place::Done => *p = Place::Done,
            _ => return,
        }
        state.done += 1;
        state.add(ordinal, &outcome);
    }

    /// The outcome that counts: a row that has had all its goes has failed, and so has one whose
    /// outcome is too large to be recorded.
    pub(crate) fn judged<'o>(&self, outcome: &'o RowOutcome) -> Cow<'o, RowOutcome> {
        let (status, extra) = self.verdict(outcome.status);
        if status == outcome.status && extra.is_none() {
            return draft::too_large(outcome).map_or(Cow::Borrowed(outcome), Cow::Owned);
        }
        let mut judged = outcome.clone();
        judged.status = status;
        judged.messages.extend(extra);
        Cow::Owned(draft::too_large(&judged).unwrap_or(judged))
    }

    /// A row that asked for another go and has had all of them has failed.
    fn verdict(&self, status: OutcomeStatus) -> (OutcomeStatus, Option<Message>) {
        match status {
            OutcomeStatus::Retry(_) if self.failures + 1 >= self.settings.max_attempts => {
                (OutcomeStatus::Failed, None)
            }
            OutcomeStatus::Later(_) if self.laters + 1 > self.settings.max_later => (
                OutcomeStatus::Failed,
                Some(
                    Message::own(codes::PROCESSING_ERROR, "asked to come later too often")
                        .val(self.settings.max_later.to_string()),
                ),
            ),
            status => (status, None),
        }
    }
}

/// A claimed task as its processor meets it.
pub(crate) struct Work {
    pub(crate) task: Arc<ClaimedTask>,
    pub(crate) block: AnyBlock,
    pub(crate) settings: Arc<OpSettings>,
    pub(crate) cancel: CancelSignal,
    pub(crate) objects: ObjectStore,
    pub(crate) desk: Arc<Desk>,
    pulse: Arc<Pulse>,
    /// How long a row may go on after a stop.
    pub(crate) grace: Duration,
    requests: mpsc::Sender<Request>,
    /// Byte range of each ordinal's input in the block's body.
    ranges: Arc<Vec<(usize, usize)>>,
    emptied: Instant,
    starts: u32,
}

impl Work {
    pub(crate) fn new(
        task: Arc<ClaimedTask>,
        block: AnyBlock,
        settings: Arc<OpSettings>,
        cancel: CancelSignal,
        objects: ObjectStore,
        desk: Arc<Desk>,
        pulse: Arc<Pulse>,
    ) -> (Self, mpsc::Receiver<Request>) {
        let (requests, inbox) = mpsc::channel(1);
        let mut ranges = Vec::with_capacity(usize::try_from(task.rows).unwrap_or(0));
        let mut from = 0;
        for to in memchr::memchr_iter(b'\n', task.body.as_bytes()) {
            ranges.push((from, to));
            from = to + 1;
        }
        let work = Self {
            task,
            block,
            settings,
            cancel,
            objects,
            desk,
            pulse,
            grace: Duration::ZERO,
            requests,
            ranges: Arc::new(ranges),
            emptied: Instant::now(),
            starts: 0,
        };
        (work, inbox)
    }

    /// A second hand that takes rows while others run.
    pub(crate) fn taker(&self) -> Self {
        Self {
            task: Arc::clone(&self.task),
            block: Arc::clone(&self.block),
            settings: Arc::clone(&self.settings),
            cancel: self.cancel.clone(),
            objects: self.objects.clone(),
            desk: Arc::clone(&self.desk),
            pulse: Arc::clone(&self.pulse),
            grace: self.grace,
            requests: self.requests.clone(),
            ranges: Arc::clone(&self.ranges),
            emptied: Instant::now(),
            starts: 0,
        }
    }

    /// The next row's place; none when there is no more, or when nothing more may start.
    ///
    /// A suspect task's row is committed before it is returned, with the outcome of the one before. Nothing
    /// starts while nobody hears of this worker: others may be about to take its tasks over.
    pub(crate) async fn next(&mut self) -> Option<usize> {
        if self.cancel.is_cancelled() {
            return None;
        }
        if self.task.suspect {
            // A row that waits is not to blame for what happens meanwhile.
            self.pulse.felt(&self.cancel).await;
            let row = {
                let place = self.desk.state().upcoming()?;
                self.desk.ordinal(place)
            };
            if !self.ask(Some(row)).await {
                return None;
            }
        } else {
            self.breathe().await;
        }
        self.pulse.felt(&self.cancel).await;
        if self.cancel.is_cancelled() {
            return None;
        }
        self.desk.start()
    }

    /// Lets the engine empty a desk that is full or has not been emptied for long.
    async fn breathe(&mut self) {
        // The clock is read now and then only: a trivial row is faster than a look at it.
        self.starts = self.starts.wrapping_add(1);
        let full = self.starts.is_multiple_of(16) && self.desk.state().is_full();
        if full || (self.starts.is_multiple_of(16) && self.emptied.elapsed() > FLUSH) {
            self.ask(None).await;
            self.emptied = Instant::now();
        }
    }

    async fn ask(&self, row_now: Option<u32>) -> bool {
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(Request::Empty { row_now, reply });
        if asked.await.is_err() {
            return false;
        }
        answer.await.unwrap_or(false)
    }

    /// Runs rows in the transaction that records what they came to. None: nobody is there to do it.
    pub(crate) async fn transact(&self, rows: TxRows) -> Option<Result<Transacted, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(Request::Transact { rows, reply });
        asked.await.ok()?;
        answer.await.ok()
    }

    /// Rows at once: one where each is committed before it starts.
    pub(crate) fn parallel(&self) -> usize {
        if self.task.suspect {
            1
        } else {
            usize::try_from(self.settings.parallel).unwrap_or(1).max(1)
        }
    }

    pub(crate) fn line(&self, place: usize) -> Line {
        let task = &self.task;
        line_of(
            task.first_line,
            task.lines.as_deref(),
            self.desk.ordinal(place),
        )
    }

    pub(crate) fn input(&self, place: usize) -> &str {
        let ordinal = usize::try_from(self.desk.ordinal(place)).unwrap_or(usize::MAX);
        self.ranges
            .get(ordinal)
            .and_then(|(from, to)| self.task.body.get(*from..*to))
            .unwrap_or("null")
    }

    /// The row's idempotency key: the same over attempts and over retries of the batch.
    pub(crate) fn key(&self, place: usize) -> String {
        format!("{}/{}", self.task.batch.root, self.line(place))
    }
}
