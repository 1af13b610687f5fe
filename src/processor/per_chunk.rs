//! Runs a task's rows through a processor of chunks.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::context::Shared;
use super::desk::Work;
use super::erased::{
    AnyBlock, ErasedProcessor, all_rows, block_of, ends, guarded, shared, type_of,
};
use super::whose::Whose;
use super::{BoxError, ChunkCx, ChunkOut, ChunkProcessor, DoneCx, InputRow};
use crate::model::{Batch, Message, OutcomeStatus, RowOutcome, codes};

pub(crate) struct PerChunk<P>(pub(crate) P);

impl<P: ChunkProcessor> PerChunk<P> {
    async fn rows(&self, work: &mut Work) -> Result<(), RowOutcome> {
        let mut context = None;
        shared::<P::Block, P::Context>(work, &mut context)?;
        let Some(context) = context else {
            return Ok(());
        };
        let most = if work.task.suspect { 1 } else { usize::MAX };
        loop {
            let mut places = Vec::new();
            while places.len() < most
                && let Some(place) = work.next().await
            {
                places.push(place);
            }
            if places.is_empty() {
                return Ok(());
            }
            let block = block_of::<P::Block>(work)?;
            let shared = Shared {
                work: &*work,
                block,
                context: &context,
                piece: None,
            };
            self.chunk(shared, &places).await;
        }
    }

    /// Runs a chunk; if it fails as a whole, its rows without an outcome run again one by one.
    async fn chunk(&self, shared: Shared<'_, P::Block, P::Context>, places: &[usize]) {
        let left = self.once(shared, places).await;
        if let [place] = left.0.as_slice() {
            shared.work.desk.put(*place, &left.1);
            return;
        }
        for place in left.0 {
            let alone = self.once(shared, &[place]).await;
            for place in alone.0 {
                shared.work.desk.put(place, &alone.1);
            }
        }
    }

    /// Runs rows together; returns those that have no outcome because the call failed, and why.
    async fn once(
        &self,
        shared: Shared<'_, P::Block, P::Context>,
        places: &[usize],
    ) -> (Vec<usize>, RowOutcome) {
        let work = shared.work;
        let none = RowOutcome::of(
            OutcomeStatus::Retry(None),
            Message::own(codes::NO_OUTCOME, "its processor gave no outcome for it"),
        );
        let mut fit = Vec::with_capacity(places.len());
        let mut rows = Vec::with_capacity(places.len());
        for place in places {
            match Whose::row(work, *place).decode("the input", work.input(*place)) {
                Ok(input) => {
                    let line = work.line(*place);
                    rows.push(InputRow { line, input });
                    fit.push(*place);
                }
                Err(outcome) => work.desk.put(*place, &outcome),
            }
        }
        if fit.is_empty() {
            return (Vec::new(), none);
        }
        let cx = ChunkCx {
            shared,
            places: &fit,
        };
        let lines = rows.iter().map(|row| row.line).collect();
        let mut out = ChunkOut::new(Arc::clone(&work.task), lines);
        let whose = Whose::chunk(work, &fit);
        let ended = guarded(work, whose, self.0.process(&cx, rows, &mut out)).await;
        let mut left = Vec::new();
        for ((place, outcome), lines) in fit.iter().zip(out.outcomes).zip(out.lines) {
            match (outcome, &ended) {
                (Some(outcome), _) => work.desk.put(*place, &lines.into_outcome(outcome)),
                (None, Ok(())) => work.desk.put(*place, &none),
                (None, Err(_)) => left.push(*place),
            }
        }
        (left, ended.err().unwrap_or(none))
    }
}

impl<P: ChunkProcessor> ErasedProcessor for PerChunk<P> {
    fn run<'a>(&'a self, mut work: Work) -> BoxFuture<'a, ()> {
        async move {
            if let Err(outcome) = self.rows(&mut work).await {
                all_rows(&mut work, &outcome).await;
            }
        }
        .boxed()
    }

    ends!();
}
