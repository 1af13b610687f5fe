//! Rows all at once.

use std::sync::Arc;

use tokio_postgres::IsolationLevel;

use super::super::context::Shared;
use super::super::draft;
use super::called::{Called, called};
use super::{Came, Runner, said_of, timed_out};
use crate::model::{Batch, Message, OutcomeStatus, RowOutcome, codes};
use crate::probe;
use crate::processor::whose::Whose;
use crate::processor::{BoxError, ChunkCx, ChunkOut, DoneCx, InputRow, SetProcessor};
use crate::store::postgres::{PieceTx, Said};

pub(crate) struct Set<P>(pub(crate) P);

/// A row that its processor said nothing about.
fn no_outcome() -> RowOutcome {
    RowOutcome::of(
        OutcomeStatus::Retry(None),
        Message::own(codes::NO_OUTCOME, "its processor gave no outcome for it"),
    )
}

impl<P: SetProcessor> Runner for Set<P> {
    type Block = P::Block;
    type Context = P::Context;

    fn isolation(&self) -> IsolationLevel {
        self.0.isolation()
    }

    fn together(&self, rows: usize) -> usize {
        rows
    }

    fn any_order(&self) -> bool {
        false
    }

    async fn run<'a>(
        &'a self,
        tx: &'a PieceTx<'a>,
        shared: Shared<'a, P::Block, P::Context>,
        places: &'a [usize],
        _: usize,
    ) -> Came {
        let work = shared.work;
        // What an outcome that needs no call is, by the row's index.
        let mut outcomes: Vec<Option<RowOutcome>> = Vec::with_capacity(places.len());
        let (mut fit, mut rows) = (Vec::new(), Vec::new());
        for place in places {
            match Whose::row(work, *place).decode("the input", work.input(*place)) {
                Ok(input) => {
                    let line = work.line(*place);
                    rows.push(InputRow { line, input });
                    fit.push(*place);
                    outcomes.push(None);
                }
                Err(outcome) => outcomes.push(Some(outcome)),
            }
        }
        if rows.is_empty() {
            return Came::Kept(outcomes.into_iter().flatten().collect());
        }
        let whose = Whose::chunk(work, &fit);
        let cx = ChunkCx {
            shared,
            places: &fit,
        };
        let lines = rows.iter().map(|row| row.line).collect();
        let mut out = ChunkOut::new(Arc::clone(&work.task), lines);
        probe::at("row_started");
        // What panics before its first await is caught with the others.
        let call = async { self.0.process(tx.transaction(), &cx, &rows, &mut out).await };
        match called(work, call).await {
            Called::Ended(Ok(())) => {}
            Called::Ended(Err(failure)) => {
                return match said_of(&failure) {
                    Some(Said::InTheWay) => Came::InTheWay,
                    Some(Said::Stale) => {
                        tx.forget();
                        Came::InTheWay
                    }
                    Some(Said::Lost) => Came::Lost,
                    Some(Said::Aborted) | None => Came::Unknown(places.len(), failure),
                };
            }
            Called::Panicked(panic) => return Came::All(whose.panicked(&*panic)),
            Called::TimedOut => {
                tx.interrupt().await;
                return Came::All(timed_out());
            }
            Called::Cut => {
                tx.interrupt().await;
                return Came::Cut;
            }
        }
        probe::at("row_done");
        let told = out.outcomes.into_iter().zip(out.lines);
        let mut told = told.map(|(outcome, lines)| {
            let outcome = lines.into_outcome(outcome.unwrap_or_else(no_outcome));
            draft::too_large(&outcome).unwrap_or(outcome)
        });
        let (mut bad, mut good, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (place, outcome) in places.iter().zip(outcomes) {
            let told = match outcome {
                // It was not in the call, and is recorded where the others are.
                Some(outcome) => {
                    good.push(*place);
                    kept.push(outcome);
                    continue;
                }
                None => told.next().unwrap_or_else(no_outcome),
            };
            if told.status == OutcomeStatus::Success {
                good.push(*place);
                kept.push(told);
            } else {
                bad.push((*place, told));
            }
        }
        if bad.is_empty() {
            return Came::Kept(kept);
        }
        let again = vec![good];
        Came::Bad { bad, again }
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
