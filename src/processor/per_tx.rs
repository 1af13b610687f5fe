//! Runs a task's rows in the transactions that record what they came to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::context::{Lines, Shared};
use super::desk::{Ran, TxRows, Work};
use super::draft;
use super::erased::{AnyBlock, ErasedProcessor, all_rows, block_of, ends, shared, type_of};
use super::whose::{Whose, log};
use super::{BoxError, DoneCx, RowCx, RowFailure, TransactionalProcessor};
use crate::model::{Batch, Message, OutcomeStatus, RowOutcome, codes};
use crate::probe;
use crate::store::sqlite::Tx;
use crate::store::{Dialect, Transacted};

/// Nobody else writes while a transaction is open: after this no further row of it begins.
const PIECE: Duration = Duration::from_millis(250);
/// A row of an op without a time-out may take so long.
const ROW: Duration = Duration::from_secs(10);
/// After a transaction that could not be made because of the disk or the database.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct PerTx<P>(pub(crate) Arc<P>);

/// What happened in a transaction that may be undone.
#[derive(Default)]
struct Tried {
    /// Rows that began.
    places: Vec<usize>,
    /// The row that cost the transaction, and what it came to.
    culprit: Option<(usize, RowOutcome)>,
}

impl<P: TransactionalProcessor> PerTx<P> {
    async fn rows(&self, work: &mut Work) -> Result<(), RowOutcome> {
        let mut context = None;
        shared::<P::Block, P::Context>(work, &mut context)?;
        let Some(context) = context.map(Arc::new) else {
            return Ok(());
        };
        // A suspect row is committed before it starts, so each has a transaction of its own.
        let usual = if work.task.suspect { 1 } else { usize::MAX };
        let mut most = usual;
        while let Some(first) = work.next().await {
            let tried = Arc::new(Mutex::new(Tried::default()));
            let rows = self.piece(work, &context, first, most, &tried);
            let answer = work.transact(rows).await;
            let tried = std::mem::take(&mut *tried.lock().unwrap_or_else(PoisonError::into_inner));
            most = usual;
            match answer {
                Some(Ok(Transacted::Done)) => {}
                Some(Ok(Transacted::Fenced)) | None => return Ok(()),
                // Nobody is in SQLite's way while it writes, and it refuses a COMMIT in a text.
                Some(Ok(Transacted::InTheWay | Transacted::Ended { .. })) => {
                    undone(work, or_first(tried, first));
                    pause(work).await;
                }
                Some(Ok(Transacted::Undone)) => match undone(work, tried) {
                    // Those before the culprit come first, and commit without it.
                    Some(before) if before > 0 => most = most.min(before),
                    Some(_) => {}
                    None => pause(work).await,
                },
                Some(Err(error)) => {
                    log!(warn, Whose::row(work, first), %error, "a transaction failed; its rows run again");
                    // Whether or not it was begun, `first` was taken.
                    undone(work, or_first(tried, first));
                    pause(work).await;
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
        first: usize,
        most: usize,
        tried: &Arc<Mutex<Tried>>,
    ) -> TxRows {
        let (processor, work) = (Arc::clone(&self.0), work.taker());
        let (context, tried) = (Arc::clone(context), Arc::clone(tried));
        TxRows::Sqlite(Box::new(move |tx| {
            let mut tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
            let began = Instant::now();
            let mut ran = Ran::default();
            let mut next = Some(first);
            while let Some(place) = next {
                probe::at("row_started");
                tried.places.push(place);
                let outcome = one(&*processor, tx, &work, &context, place)?;
                if tx.is_lost() {
                    tried.culprit = Some((place, outcome));
                    return None;
                }
                let outcome = work.desk.judged(&outcome);
                ran.draft.add(work.desk.ordinal(place), &outcome);
                ran.places.push(place);
                probe::at("row_done");
                let over = ran.places.len() >= most
                    || ran.draft.is_full()
                    || work.cancel.is_cancelled()
                    || began.elapsed() >= PIECE;
                next = if over { None } else { work.desk.start() };
            }
            Some(ran)
        }))
    }
}

/// Runs one row; what it wrote stays only if it succeeded. None: the database is in trouble.
fn one<P: TransactionalProcessor>(
    processor: &P,
    tx: &mut Tx<'_>,
    work: &Work,
    context: &P::Context,
    place: usize,
) -> Option<RowOutcome> {
    let whose = Whose::row(work, place);
    let input = match whose.decode("the input", work.input(place)) {
        Ok(input) => input,
        Err(outcome) => return Some(outcome),
    };
    let block = match block_of::<P::Block>(work) {
        Ok(block) => block,
        Err(outcome) => return Some(outcome),
    };
    let mut cx = RowCx {
        shared: Shared {
            work,
            block,
            context,
            piece: None,
        },
        place,
        lines: Lines::default(),
    };
    let limit = work.settings.timeout.unwrap_or(ROW);
    let began = Instant::now();
    let ran = tx.row(limit, |tx| {
        // With what it returned: an error's text and the end of a result are the application's code too.
        let call = AssertUnwindSafe(|| match processor.process(tx, &mut cx, input) {
            Ok(output) => whose.success(&output),
            Err(error) => whose.failure(error),
        });
        let outcome = catch_unwind(call).unwrap_or_else(|panic| whose.panicked(&*panic));
        let outcome = cx.lines.into_outcome(outcome);
        // Judged before it is kept: what the row wrote goes with it.
        match draft::too_large(&outcome) {
            Some(failed) => (false, (failed, true)),
            None => (outcome.status == OutcomeStatus::Success, (outcome, false)),
        }
    });
    if let Some(trouble) = tx.trouble() {
        log!(
            warn,
            whose,
            trouble,
            "the database cannot be written; the rows run again"
        );
        return None;
    }
    let (kept, (outcome, too_large)) = match ran {
        Ok(ran) => ran,
        Err(error) => {
            log!(warn, whose, %error, "a row's transaction failed; it runs again");
            return None;
        }
    };
    if kept || too_large {
        return Some(outcome);
    }
    let broke = |why: &str| whose.failure(RowFailure::Error(why.into()));
    let (succeeded, late) = (
        outcome.status == OutcomeStatus::Success,
        began.elapsed() >= limit,
    );
    Some(match (succeeded, tx.is_lost()) {
        (_, true) | (false, _) if late => {
            let text = "took too long; nothing of it was kept";
            RowOutcome::of(
                OutcomeStatus::Retry(None),
                Message::own(codes::TIMED_OUT, text),
            )
        }
        (false, _) => outcome,
        (true, true) => broke("it returned success, and its transaction was rolled back"),
        (true, false) => broke("it returned success, and violates a deferred foreign key"),
    })
}

/// Rows that were undone go back to the desk, the culprit with what it came to; says how many
/// ran before it. None: there is no culprit.
fn undone(work: &Work, tried: Tried) -> Option<usize> {
    let Tried {
        mut places,
        culprit,
    } = tried;
    let culprit = culprit.map(|(place, outcome)| {
        places.retain(|p| *p != place);
        work.desk.put(place, &outcome);
    });
    work.desk.put_back(&places);
    culprit.map(|()| places.len())
}

fn or_first(mut tried: Tried, first: usize) -> Tried {
    if tried.places.is_empty() {
        tried.places.push(first);
    }
    tried
}

async fn pause(work: &Work) {
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => {}
        _ = work.cancel.cancelled() => {}
    }
}

impl<P: TransactionalProcessor> ErasedProcessor for PerTx<P> {
    fn run<'a>(&'a self, mut work: Work) -> BoxFuture<'a, ()> {
        async move {
            if let Err(outcome) = self.rows(&mut work).await {
                all_rows(&mut work, &outcome).await;
            }
        }
        .boxed()
    }

    fn written_for(&self) -> Option<Dialect> {
        Some(Dialect::Sqlite)
    }

    ends!();
}
