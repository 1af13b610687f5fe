//! Answers a slow query by its processor.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::context::{Lines, Streamed};
use super::desk::Work;
use super::erased::{AnyBlock, ErasedProcessor, ends, guarded, shared, type_of};
use super::whose::Whose;
use super::{BoxError, DoneCx, QueryCx, SlowQueryProcessor};
use crate::model::{Batch, OutcomeStatus, RowOutcome};

pub(crate) struct PerQuery<P>(pub(crate) P);

impl<P: SlowQueryProcessor> PerQuery<P> {
    async fn query(&self, work: &Work, place: usize) -> RowOutcome {
        let whose = Whose::row(work, place);
        let mut context = None;
        let shared = match shared::<P::Block, P::Context>(work, &mut context) {
            Ok(shared) => shared,
            Err(outcome) => return outcome,
        };
        let input = match whose.decode("the input", work.input(place)) {
            Ok(input) => input,
            Err(outcome) => return outcome,
        };
        let mut cx = QueryCx {
            shared,
            lines: Lines::default(),
            streamed: Streamed::default(),
        };
        let ended = guarded(work, whose, self.0.query(&mut cx, input)).await;
        let (lines, mut streamed) = (cx.lines, cx.streamed);
        let mut outcome = match ended {
            Ok(output) => lines.into_outcome(whose.success(&output)),
            Err(outcome) => lines.into_outcome(outcome),
        };
        if outcome.status == OutcomeStatus::Success {
            outcome.staged = std::mem::take(&mut streamed.staged);
        }
        // A query that has such files is closed, which removes whatever else it staged.
        if outcome.staged.is_empty() {
            streamed.discard(&work.objects, work.task.batch.id).await;
        }
        outcome
    }
}

impl<P: SlowQueryProcessor> ErasedProcessor for PerQuery<P> {
    fn run<'a>(&'a self, mut work: Work) -> BoxFuture<'a, ()> {
        async move {
            while let Some(place) = work.next().await {
                crate::probe::at("row_started");
                let outcome = self.query(&work, place).await;
                work.desk.put(place, &outcome);
                crate::probe::at("row_done");
            }
        }
        .boxed()
    }

    ends!();
}
