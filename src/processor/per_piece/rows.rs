//! Rows one after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use futures_util::FutureExt;
use tokio_postgres::IsolationLevel;

use super::super::context::{Lines, Shared};
use super::super::draft;
use super::super::limit::passed;
use super::piece::PIECE;
use super::{Came, Runner, cut, limit, said_of, timed_out};
use crate::model::{Batch, OutcomeStatus, RowOutcome};
use crate::probe;
use crate::processor::whose::Whose;
use crate::processor::{BoxError, DoneCx, PostgresProcessor, RowCx};
use crate::store::postgres::{PieceTx, Said};

/// The server keeps 64 parts of a transaction at hand, of which a savepoint is one.
const RUNS: usize = 60;

pub(crate) struct Rows<P>(pub(crate) P);

/// What one row came to.
enum One {
    May(RowOutcome),
    MayNot(RowOutcome),
    Came(Came),
}

impl<P: PostgresProcessor> Rows<P> {
    async fn one(
        &self,
        tx: &PieceTx<'_>,
        shared: Shared<'_, P::Block, P::Context>,
        at: usize,
        place: usize,
    ) -> One {
        let work = shared.work;
        let whose = Whose::row(work, place);
        let input = match whose.decode("the input", work.input(place)) {
            Ok(input) => input,
            // It has written nothing.
            Err(outcome) => return One::May(outcome),
        };
        let mut cx = RowCx {
            shared,
            place,
            lines: Lines::default(),
        };
        let ended = {
            let call = self.0.process(tx.transaction(), &mut cx, input);
            let mut call = Box::pin(AssertUnwindSafe(call).catch_unwind());
            let ended = tokio::select! {
                biased;
                ended = &mut call => Some(ended),
                () = passed(limit(work)) => None,
                () = cut(work) => {
                    // Whatever its destructors do, it is over.
                    drop(catch_unwind(AssertUnwindSafe(|| drop(call))));
                    tx.interrupt().await;
                    return One::Came(Came::Cut);
                }
            };
            drop(catch_unwind(AssertUnwindSafe(|| drop(call))));
            ended
        };
        let outcome = match ended {
            None => {
                tx.interrupt().await;
                return One::MayNot(timed_out());
            }
            Some(Ok(Ok(output))) => whose.success(&output),
            Some(Ok(Err(failure))) => match said_of(&failure) {
                Some(Said::InTheWay) => return One::Came(Came::InTheWay),
                Some(Said::Lost) => return One::Came(Came::Lost(Some(place))),
                Some(Said::Aborted) => return One::Came(Came::Unknown(at + 1, failure)),
                None => whose.failure(failure),
            },
            Some(Err(panic)) => whose.panicked(&*panic),
        };
        let outcome = cx.lines.into_outcome(outcome);
        match draft::too_large(&outcome) {
            Some(failed) => One::MayNot(failed),
            None if outcome.status == OutcomeStatus::Success => One::May(outcome),
            None => One::MayNot(outcome),
        }
    }
}

impl<P: PostgresProcessor> Runner for Rows<P> {
    type Block = P::Block;
    type Context = P::Context;

    fn isolation(&self) -> IsolationLevel {
        self.0.isolation()
    }

    fn together(&self, rows: usize) -> usize {
        rows.div_ceil(RUNS)
    }

    async fn run<'a>(
        &'a self,
        tx: &'a PieceTx<'a>,
        shared: Shared<'a, P::Block, P::Context>,
        places: &'a [usize],
    ) -> Came {
        let began = Instant::now();
        let mut outcomes = Vec::with_capacity(places.len());
        for (at, place) in places.iter().enumerate() {
            if at > 0 && (shared.work.cancel.is_cancelled() || began.elapsed() >= PIECE) {
                break;
            }
            probe::at("row_started");
            match self.one(tx, shared, at, *place).await {
                One::May(outcome) => outcomes.push(outcome),
                One::MayNot(outcome) => {
                    let (before, rest) = places.split_at(at);
                    let rest = rest.get(1..).unwrap_or_default();
                    return Came::Bad {
                        bad: vec![(*place, outcome)],
                        again: vec![before.to_vec(), rest.to_vec()],
                    };
                }
                One::Came(came) => return came,
            }
            probe::at("row_done");
        }
        Came::Kept(outcomes)
    }

    fn wants_ends(&self) -> bool {
        self.0.wants_ends()
    }

    async fn mark_done<'a>(
        &'a self,
        cx: &'a DoneCx<'a, P::Block>,
        batch: &'a Batch,
    ) -> Result<(), BoxError> {
        self.0.mark_done(cx, batch).await
    }
}
