//! Runs a task's rows in transactions of PostgreSQL that record what they came to.

mod called;
mod piece;
mod rows;
mod set;
mod unrest;
mod width;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::IsolationLevel;

use super::context::Shared;
use super::desk::{TxRows, Work};
use super::erased::{AnyBlock, ErasedProcessor, all_rows, ends, shared, type_of};
use super::whose::{Whose, log};
use super::{BoxError, DoneCx, InitBlock, RowFailure};
use crate::model::{Batch, Message, OutcomeStatus, RowOutcome, codes};
use crate::store::postgres::{PieceTx, Said, said};
use crate::store::{Dialect, Transacted};
use piece::{Bounds, End, Tried};
use unrest::{Calm, Unrest};
use width::Width;

pub(crate) use rows::Rows;
pub(crate) use set::Set;

/// A row, or a call for many, of an op without a time-out may take so long.
const ROW: Duration = Duration::from_secs(10);

/// What runs rows within a transaction: one after the other, or all at once.
pub(crate) trait Runner: Send + Sync + 'static {
    type Block: InitBlock;
    type Context: serde::de::DeserializeOwned + Send + Sync + 'static;

    fn isolation(&self) -> IsolationLevel;

    /// How many rows are kept or undone together, of a task of so many, where they run in turn.
    fn together(&self, rows: usize) -> usize;

    /// Whether rows may run beside each other.
    fn any_order(&self) -> bool;

    /// Runs rows, so many at once. What they wrote is not kept before the next run begins.
    fn run<'a>(
        &'a self,
        tx: &'a PieceTx<'a>,
        shared: Shared<'a, Self::Block, Self::Context>,
        places: &'a [usize],
        at_once: usize,
    ) -> impl Future<Output = Came> + Send + 'a;

    fn wants_ends(&self) -> bool;

    fn mark_done<'a>(
        &'a self,
        cx: &'a DoneCx<'a, Self::Block>,
        batch: &'a Batch,
    ) -> impl Future<Output = Result<(), BoxError>> + Send + 'a;
}

/// What a run came to.
pub(crate) enum Came {
    /// All that ran may stay; outcomes of the first so many rows, the others did not begin.
    Kept(Vec<RowOutcome>),
    /// What some wrote may not stay; in which runs the others run again.
    Bad {
        bad: Vec<(usize, RowOutcome)>,
        again: Vec<Vec<usize>>,
    },
    /// Likewise of rows beside each other, of which one did not succeed: in which runs all run again, and whether one
    /// after the other.
    Apart {
        again: Vec<Vec<usize>>,
        in_turn: bool,
    },
    /// What one of the first so many wrote may not stay, for this reason.
    Unknown(usize, RowFailure),
    /// As [`Came::Unknown`] of all rows, with what a row alone comes to.
    All(RowOutcome),
    /// Others were in their way.
    InTheWay,
    /// The connection is lost, maybe by one of them.
    Lost,
    /// They are to stop at once.
    Cut,
}

pub(crate) struct PerPiece<P>(Arc<P>, Calm, Arc<Width>);

impl<P: Runner> PerPiece<P> {
    pub(crate) fn new(runner: P) -> Self {
        Self(Arc::new(runner), Calm::default(), Arc::default())
    }

    async fn rows(&self, work: &mut Work) -> Result<(), RowOutcome> {
        let mut context = None;
        shared::<P::Block, P::Context>(work, &mut context)?;
        let Some(context) = context.map(Arc::new) else {
            return Ok(());
        };
        // A suspect row is committed before it starts, so each has a transaction of its own.
        let mut unrest = Unrest::new(&self.1, if work.task.suspect { 1 } else { usize::MAX });
        let mut beside = match self.0.any_order() {
            true => work.parallel(),
            false => 1,
        };
        while let Some(first) = work.next().await {
            let tried = Arc::new(Mutex::new(Tried::default()));
            let most = unrest.most();
            let bounds = Bounds {
                first,
                most,
                beside,
            };
            let rows = self.piece(work, &context, bounds, &tried);
            let began = Instant::now();
            let answer = work.transact(rows).await;
            let mut tried =
                std::mem::take(&mut *tried.lock().unwrap_or_else(PoisonError::into_inner));
            if !tried.has_begun {
                // `first` was taken for it.
                tried.places.push(first);
            }
            // Of rows beside each other nobody knows which one took too long, or which one cost the connection.
            if tried.in_turn || matches!(tried.end, Some(End::Lost)) {
                beside = 1;
            }
            match answer {
                Some(Ok(Transacted::Done)) => unrest.done(tried.ran, began.elapsed()),
                Some(Ok(Transacted::Fenced)) | None => return Ok(()),
                Some(Ok(Transacted::Ended { kept })) => {
                    ended(work, tried, kept);
                    return Ok(());
                }
                Some(Ok(Transacted::InTheWay)) => unrest.in_the_way(work, &tried.places).await,
                Some(Ok(Transacted::Undone)) => match tried.end {
                    Some(End::InTheWay) => unrest.in_the_way(work, &tried.places).await,
                    Some(End::Cut) => {
                        work.desk.put_back(&tried.places);
                        return Ok(());
                    }
                    Some(End::Lost) => unrest.lost(work, &tried.places).await,
                    // All of them were given back.
                    None if tried.places.is_empty() => unrest.took_too_long(tried.undone),
                    None => unrest.again(work, &tried.places).await,
                },
                Some(Err(error)) => {
                    log!(warn, Whose::row(work, first), %error, "a transaction failed; its rows run again");
                    unrest.again(work, &tried.places).await;
                }
            }
        }
        Ok(())
    }

    /// The rows of one transaction.
    fn piece(
        &self,
        work: &Work,
        context: &Arc<P::Context>,
        bounds: Bounds,
        tried: &Arc<Mutex<Tried>>,
    ) -> TxRows {
        let (runner, work) = (Arc::clone(&self.0), work.taker());
        let (context, tried) = (Arc::clone(context), Arc::clone(tried));
        let width = Arc::clone(&self.2);
        TxRows::Postgres {
            isolation: self.0.isolation(),
            statement: limit(&work),
            run: Box::new(move |tx| {
                async move { piece::run(&*runner, tx, &work, &context, bounds, &width, &tried).await }
                    .boxed()
            }),
        }
    }
}

/// How long a row, or a call for many, may take.
fn limit(work: &Work) -> Duration {
    work.settings.timeout.unwrap_or(ROW)
}

fn timed_out() -> RowOutcome {
    let text = "took too long; nothing of it was kept";
    RowOutcome::of(
        OutcomeStatus::Retry(None),
        Message::own(codes::TIMED_OUT, text),
    )
}

/// What the database said, where a failure is of its making and not of the row's.
fn said_of(failure: &RowFailure) -> Option<Said> {
    match failure {
        RowFailure::Error(error) | RowFailure::Retry(_, error) => said(&**error),
        RowFailure::Failed(_) | RowFailure::Later(_) => None,
    }
}

/// The application ended the transaction: what was kept by that is recorded as what it is; what was in
/// flight has failed, and does not run again by itself, for it may have taken effect.
fn ended(work: &Work, tried: Tried, kept: bool) {
    let Tried {
        places, done, run, ..
    } = tried;
    // Where nobody saw it happen, it may have been any of them.
    let run = run.filter(|run| !run.is_empty()).unwrap_or_else(|| {
        let is_done = |place: &usize| done.iter().any(|(p, _)| p == place);
        places.iter().copied().filter(|p| !is_done(p)).collect()
    });
    let text = "its processor ended the transaction that it was handed; may have taken effect";
    let message = Message::own(codes::TRANSACTION_ENDED, text);
    let outcome = RowOutcome::of(OutcomeStatus::Failed, message);
    let mut back = places;
    back.retain(|place| !run.contains(place));
    for place in run {
        work.desk.put(place, &outcome);
    }
    for (place, outcome) in done {
        if kept || outcome.status != OutcomeStatus::Success {
            back.retain(|p| *p != place);
            work.desk.put(place, &outcome);
        }
    }
    work.desk.put_back(&back);
}

impl<P: Runner> ErasedProcessor for PerPiece<P> {
    fn run<'a>(&'a self, mut work: Work) -> BoxFuture<'a, ()> {
        async move {
            if let Err(outcome) = self.rows(&mut work).await {
                all_rows(&mut work, &outcome).await;
            }
        }
        .boxed()
    }

    fn written_for(&self) -> Option<Dialect> {
        Some(Dialect::Postgres)
    }

    ends!();
}
