//! Rows one by one: one after the other, or beside each other.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_postgres::IsolationLevel;

use super::super::context::{Lines, Shared};
use super::super::desk::Work;
use super::super::draft;
use super::called::{Called, called};
use super::piece::PIECE;
use super::{Came, Runner, said_of, timed_out};
use crate::model::{Batch, OutcomeStatus, RowOutcome};
use crate::probe;
use crate::processor::whose::Whose;
use crate::processor::{BoxError, DoneCx, PostgresProcessor, RowCx};
use crate::store::postgres::{PieceTx, Said};

/// The server keeps 64 parts of a transaction at hand, of which a savepoint is one.
const RUNS: usize = 60;
/// Of rows that run beside each other, a run has so many times as many as run at once.
const WAVES: usize = 4;

pub(crate) struct Rows<P>(pub(crate) P);

/// What one row came to.
enum One {
    May(RowOutcome),
    MayNot(RowOutcome),
    Came(Came),
}

impl<P: PostgresProcessor> Rows<P> {
    fn at_once(&self, beside: usize) -> usize {
        if self.0.any_order() { beside } else { 1 }
    }

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
        let call = self.0.process(tx.transaction(), &mut cx, input);
        let outcome = match called(work, tx, call).await {
            Called::Cut => return One::Came(Came::Cut),
            Called::TimedOut => return One::MayNot(timed_out()),
            Called::Ended(Ok(output)) => whose.success(&output),
            Called::Ended(Err(failure)) => match said_of(&failure) {
                Some(Said::InTheWay) => return One::Came(Came::InTheWay),
                Some(Said::Stale) => {
                    tx.forget();
                    return One::Came(Came::InTheWay);
                }
                Some(Said::Lost) => return One::Came(Came::Lost(Some(place))),
                Some(Said::Aborted) => return One::Came(Came::Unknown(at + 1, failure)),
                None => whose.failure(failure),
            },
            Called::Panicked(panic) => whose.panicked(&*panic),
        };
        let outcome = cx.lines.into_outcome(outcome);
        match draft::too_large(&outcome) {
            Some(failed) => One::MayNot(failed),
            None if outcome.status == OutcomeStatus::Success => One::May(outcome),
            None => One::MayNot(outcome),
        }
    }

    /// Rows one after the other.
    async fn in_turn(
        &self,
        tx: &PieceTx<'_>,
        shared: Shared<'_, P::Block, P::Context>,
        places: &[usize],
    ) -> Came {
        let began = Instant::now();
        let mut outcomes = Vec::with_capacity(places.len());
        for (at, place) in places.iter().enumerate() {
            if at > 0 && is_over(shared.work, began) {
                break;
            }
            probe::at("row_started");
            match self.one(tx, shared, at, *place).await {
                One::May(outcome) => outcomes.push(outcome),
                One::MayNot(outcome) => {
                    let [before, _, behind] = around(places, at);
                    return Came::Bad {
                        bad: vec![(*place, outcome)],
                        again: vec![before, behind],
                    };
                }
                One::Came(came) => return came,
            }
            probe::at("row_done");
        }
        Came::Kept(outcomes)
    }

    /// So many rows at once. A row may have seen what others wrote and did not keep, so what they came to counts if all
    /// have succeeded; else the one that did not runs again alone.
    async fn beside(
        &self,
        tx: &PieceTx<'_>,
        shared: Shared<'_, P::Block, P::Context>,
        places: &[usize],
        most: usize,
    ) -> Came {
        let began = Instant::now();
        let mut outcomes: Vec<_> = places.iter().map(|_| None).collect();
        let mut running = FuturesUnordered::new();
        let mut upcoming = places.iter().enumerate();
        loop {
            while running.len() < most
                && (upcoming.len() == places.len() || !is_over(shared.work, began))
                && let Some((at, place)) = upcoming.next()
            {
                probe::at("row_started");
                running.push(async move { (at, self.one(tx, shared, at, *place).await) });
            }
            match running.next().await {
                None => return Came::Kept(outcomes.into_iter().flatten().collect()),
                Some((at, One::May(outcome))) => outcomes[at] = Some(outcome),
                Some((at, One::MayNot(_))) => {
                    return Came::Bad {
                        bad: Vec::new(),
                        again: around(places, at).into(),
                    };
                }
                // It may be another's statement that failed, or another that cost the connection.
                Some((_, One::Came(Came::Unknown(_, failure)))) => {
                    return Came::Unknown(places.len(), failure);
                }
                Some((_, One::Came(Came::Lost(_)))) => return Came::Lost(None),
                Some((_, One::Came(came))) => return came,
            }
            probe::at("row_done");
        }
    }
}

/// Whether no further row of a run that began then is to start.
fn is_over(work: &Work, began: Instant) -> bool {
    work.cancel.is_cancelled() || began.elapsed() >= PIECE
}

/// The rows before one of a run, it alone, and those behind it.
fn around(places: &[usize], at: usize) -> [Vec<usize>; 3] {
    let (before, rest) = places.split_at(at);
    let (it, behind) = rest.split_at(1.min(rest.len()));
    [before, it, behind].map(<[usize]>::to_vec)
}

impl<P: PostgresProcessor> Runner for Rows<P> {
    type Block = P::Block;
    type Context = P::Context;

    fn isolation(&self) -> IsolationLevel {
        self.0.isolation()
    }

    fn together(&self, rows: usize, beside: usize) -> usize {
        let together = rows.div_ceil(RUNS);
        if self.at_once(beside) > 1 {
            // At the end of a run its last rows are waited for while none begins.
            return together.max(beside.saturating_mul(WAVES));
        }
        together
    }

    async fn run<'a>(
        &'a self,
        tx: &'a PieceTx<'a>,
        shared: Shared<'a, P::Block, P::Context>,
        places: &'a [usize],
        beside: usize,
    ) -> Came {
        match self.at_once(beside) {
            most if most > 1 && places.len() > 1 => self.beside(tx, shared, places, most).await,
            _ => self.in_turn(tx, shared, places).await,
        }
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
