//! Rows one by one: one after the other, or beside each other.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_postgres::IsolationLevel;

use super::super::context::{Lines, Shared};
use super::super::desk::Work;
use super::super::draft::{self, FULL, weight};
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

pub(crate) struct Rows<P>(pub(crate) P);

/// What one row came to.
enum One {
    May(RowOutcome),
    MayNot(RowOutcome),
    /// Its statement is still to be interrupted.
    TimedOut,
    /// Likewise.
    Cut,
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
        // What panics before its first await, or when its output is dropped, is caught with the others.
        let call = async {
            let output = self.0.process(tx.transaction(), &mut cx, input).await?;
            Ok(whose.success(&output))
        };
        let outcome = match called(work, call).await {
            Called::Cut => return One::Cut,
            Called::TimedOut => return One::TimedOut,
            Called::Ended(Ok(outcome)) => outcome,
            Called::Ended(Err(failure)) => match said_of(&failure) {
                Some(Said::InTheWay) => return One::Came(Came::InTheWay),
                Some(Said::Stale) => {
                    tx.forget();
                    return One::Came(Came::InTheWay);
                }
                Some(Said::Lost) => return One::Came(Came::Lost),
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
            let outcome = match self.one(tx, shared, at, *place).await {
                One::May(outcome) => {
                    outcomes.push(outcome);
                    probe::at("row_done");
                    continue;
                }
                One::MayNot(outcome) => outcome,
                One::TimedOut => {
                    tx.interrupt().await;
                    timed_out()
                }
                One::Cut => {
                    tx.interrupt().await;
                    return Came::Cut;
                }
                One::Came(came) => return came,
            };
            let [before, _, behind] = around(places, at);
            return Came::Bad {
                bad: vec![(*place, outcome)],
                again: vec![before, behind],
            };
        }
        Came::Kept(outcomes)
    }

    /// So many rows at once. A row may have seen what others wrote and did not keep, so what they came to counts if all
    /// have succeeded; else the one that did not runs again alone. Those that have begun are waited for: nothing of theirs is
    /// left behind on the connection.
    async fn beside(
        &self,
        tx: &PieceTx<'_>,
        shared: Shared<'_, P::Block, P::Context>,
        places: &[usize],
        at_once: usize,
    ) -> Came {
        let began = Instant::now();
        let mut outcomes: Vec<_> = places.iter().map(|_| None).collect();
        let mut running = FuturesUnordered::new();
        let mut upcoming = places.iter().enumerate();
        let (mut bytes, mut trouble) = (0, None);
        loop {
            while trouble.is_none()
                && running.len() < at_once
                && (upcoming.len() == places.len() || bytes <= FULL && !is_over(shared.work, began))
                && let Some((at, place)) = upcoming.next()
            {
                probe::at("row_started");
                running.push(async move { (at, self.one(tx, shared, at, *place).await) });
            }
            let Some((at, one)) = running.next().await else {
                break;
            };
            let apart = |in_turn| Came::Apart {
                again: around(places, at).into(),
                in_turn,
            };
            match one {
                One::May(outcome) => {
                    bytes += weight(&outcome);
                    if let Some(slot) = outcomes.get_mut(at) {
                        *slot = Some(outcome);
                    }
                }
                // Which one it was is known better than by what a statement that failed left behind.
                One::MayNot(_) => match trouble {
                    None | Some(Came::Unknown(..)) => trouble = Some(apart(false)),
                    _ => {}
                },
                // It may be another's statement that failed.
                One::Came(Came::Unknown(_, failure)) => {
                    trouble.get_or_insert(Came::Unknown(places.len(), failure));
                }
                One::Came(Came::InTheWay) => trouble = Some(Came::InTheWay),
                One::Came(came) => {
                    drop(running);
                    // Where it is another server that was lost, what is on its way here is left behind.
                    tx.leave().await;
                    return came;
                }
                // One interrupt for all of them.
                One::TimedOut => {
                    drop(running);
                    tx.interrupt().await;
                    return apart(true);
                }
                One::Cut => {
                    drop(running);
                    tx.interrupt().await;
                    return Came::Cut;
                }
            }
            probe::at("row_done");
        }
        trouble.unwrap_or_else(|| Came::Kept(outcomes.into_iter().flatten().collect()))
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

    fn together(&self, rows: usize) -> usize {
        rows.div_ceil(RUNS)
    }

    fn any_order(&self) -> bool {
        self.0.any_order()
    }

    async fn run<'a>(
        &'a self,
        tx: &'a PieceTx<'a>,
        shared: Shared<'a, P::Block, P::Context>,
        places: &'a [usize],
        at_once: usize,
    ) -> Came {
        if at_once > 1 && places.len() > 1 {
            self.beside(tx, shared, places, at_once).await
        } else {
            self.in_turn(tx, shared, places).await
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
