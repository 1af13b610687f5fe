//! The one private, object-safe twin of the public traits. One virtual call a task, never one a row.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::de::DeserializeOwned;

use super::context::{Lines, Shared};
use super::desk::Work;
use super::limit::within;
use super::whose::{Whose, timed_out};
use super::{BatchProcessor, BoxError, DoneCx, InitBlock, Initializer, RowCx, RowFailure};
use crate::model::{AppName, Batch, RowOutcome};
use crate::store::Dialect;

/// An init block whose type is known to its processors alone.
pub(crate) type AnyBlock = Arc<dyn Any + Send + Sync>;

/// What the engine knows of a processor.
pub(crate) trait ErasedProcessor: Send + Sync {
    /// Works on a task's rows until there is no more or nothing more may start.
    fn run<'a>(&'a self, work: Work) -> BoxFuture<'a, ()>;

    /// Tells of an end.
    fn mark_done<'a>(
        &'a self,
        block: AnyBlock,
        event: i64,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), BoxError>>;

    /// The type of its init block, and its name.
    fn block(&self) -> (std::any::TypeId, &'static str);

    /// Whether it wants to be told of ends.
    fn wants_ends(&self) -> bool;

    /// The database for which its statements are written, where its rows' writes commit with their outcomes.
    fn written_for(&self) -> Option<Dialect> {
        None
    }

    /// Up to so many tasks run at once from now on.
    fn resize(&self, _tasks: usize) {}
}

/// What the engine knows of an initializer.
pub(crate) trait ErasedInitializer: Send + Sync {
    fn init<'a>(&'a self, app: &'a AppName) -> BoxFuture<'a, Result<AnyBlock, BoxError>>;
    fn close<'a>(&'a self, block: AnyBlock) -> BoxFuture<'a, Result<(), BoxError>>;
    fn block(&self) -> (std::any::TypeId, &'static str);
}

pub(crate) struct InitializerOf<I>(pub(crate) I);

impl<I: Initializer> ErasedInitializer for InitializerOf<I> {
    fn init<'a>(&'a self, app: &'a AppName) -> BoxFuture<'a, Result<AnyBlock, BoxError>> {
        async move { Ok(Arc::new(self.0.init(app).await?) as AnyBlock) }.boxed()
    }

    fn close<'a>(&'a self, block: AnyBlock) -> BoxFuture<'a, Result<(), BoxError>> {
        async move {
            match block.downcast::<I::Block>() {
                Ok(block) => block.close().await,
                Err(_) => Err("the init block is of another type".into()),
            }
        }
        .boxed()
    }

    fn block(&self) -> (std::any::TypeId, &'static str) {
        type_of::<I::Block>()
    }
}

pub(super) fn type_of<T: 'static>() -> (std::any::TypeId, &'static str) {
    (std::any::TypeId::of::<T>(), std::any::type_name::<T>())
}

/// Runs the application's code: a panic and a time-out become outcomes.
pub(super) async fn guarded<T>(
    work: &Work,
    whose: Whose<'_>,
    run: impl Future<Output = Result<T, RowFailure>>,
) -> Result<T, RowOutcome> {
    let run = AssertUnwindSafe(run).catch_unwind();
    let ended = match work.settings.timeout {
        None => run.await,
        Some(limit) => match within(limit, run).await {
            Some(ended) => ended,
            None => return Err(timed_out()),
        },
    };
    match ended {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(whose.failure(error)),
        Err(panic) => Err(whose.panicked(&*panic)),
    }
}

/// Block and context of a task, or the outcome that all of its rows share.
pub(super) fn shared<'a, B: 'static, C: DeserializeOwned>(
    work: &'a Work,
    context: &'a mut Option<C>,
) -> Result<Shared<'a, B, C>, RowOutcome> {
    let block = block_of(work)?;
    let text = work.task.batch.context.get();
    let what = match text {
        "null" => "the batch's context, null where none is given,",
        _ => "the batch's context",
    };
    let decoded = Whose::task(work).decode(what, text)?;
    Ok(Shared {
        work,
        block,
        context: context.insert(decoded),
        piece: None,
    })
}

/// Gives every row of a task the same outcome.
pub(super) async fn all_rows(work: &mut Work, outcome: &RowOutcome) {
    while let Some(place) = work.next().await {
        work.desk.put(place, outcome);
    }
}

pub(crate) struct PerRow<P>(pub(crate) P);

impl<P: BatchProcessor> PerRow<P> {
    async fn row(&self, shared: Shared<'_, P::Block, P::Context>, place: usize) -> RowOutcome {
        let whose = Whose::row(shared.work, place);
        let input = match whose.decode("the input", shared.work.input(place)) {
            Ok(input) => input,
            Err(outcome) => return outcome,
        };
        let mut cx = RowCx {
            shared,
            place,
            lines: Lines::default(),
        };
        let ended = guarded(shared.work, whose, self.0.process(&mut cx, input)).await;
        let outcome = match ended {
            Ok(output) => whose.success(&output),
            Err(outcome) => outcome,
        };
        cx.lines.into_outcome(outcome)
    }

    async fn rows(&self, work: &mut Work) -> Result<(), RowOutcome> {
        let mut context = None;
        // Decoded before the loop, so that a bad context is found once.
        shared::<P::Block, P::Context>(work, &mut context)?;
        let Some(context) = context else {
            return Ok(());
        };
        let parallel = work.parallel();
        if parallel == 1 {
            while let Some(place) = work.next().await {
                crate::probe::at("row_started");
                let block = block_of::<P::Block>(work)?;
                let shared = Shared {
                    work,
                    block,
                    context: &context,
                    piece: None,
                };
                let outcome = self.row(shared, place).await;
                work.desk.put(place, &outcome);
                crate::probe::at("row_done");
            }
            return Ok(());
        }
        self.parallel_rows(work, &context, parallel).await
    }

    async fn parallel_rows(
        &self,
        work: &mut Work,
        context: &P::Context,
        parallel: usize,
    ) -> Result<(), RowOutcome> {
        // Rows are taken by one clone of the work while others run on the original.
        let mut taker = work.taker();
        let work: &Work = work;
        let block = block_of::<P::Block>(work)?;
        let shared = Shared {
            work,
            block,
            context,
            piece: None,
        };
        let mut running = FuturesUnordered::new();
        let mut more = true;
        while more || !running.is_empty() {
            if more && running.len() < parallel {
                match taker.next().await {
                    Some(place) => {
                        running.push(async move { (place, self.row(shared, place).await) })
                    }
                    None => more = false,
                }
                if more && running.len() < parallel {
                    continue;
                }
            }
            if let Some((place, outcome)) = running.next().await {
                work.desk.put(place, &outcome);
            }
        }
        Ok(())
    }
}

pub(super) fn block_of<B: 'static>(work: &Work) -> Result<&B, RowOutcome> {
    // `build` has compared the types; only a bug of ours gets here.
    work.block.downcast_ref::<B>().ok_or_else(|| {
        Whose::task(work).failure(RowFailure::Error(
            "the init block is of another type".into(),
        ))
    })
}

/// The part that all adaptors share: telling of ends, and the block's type.
macro_rules! ends {
    () => {
        fn mark_done<'a>(
            &'a self,
            block: AnyBlock,
            event: i64,
            batch: &'a Batch,
        ) -> BoxFuture<'a, Result<(), BoxError>> {
            async move {
                let block = block
                    .downcast_ref::<P::Block>()
                    .ok_or("the init block is of another type")?;
                self.0.mark_done(&DoneCx { block, event }, batch).await
            }
            .boxed()
        }

        fn wants_ends(&self) -> bool {
            self.0.wants_ends()
        }

        fn block(&self) -> (std::any::TypeId, &'static str) {
            type_of::<P::Block>()
        }
    };
}
pub(super) use ends;

impl<P: BatchProcessor> ErasedProcessor for PerRow<P> {
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

/// The init block of an app without an initializer.
pub(crate) fn unit_block() -> AnyBlock {
    Arc::new(())
}

/// Whether a block type is the one of apps that share nothing.
pub(crate) fn is_unit(block: std::any::TypeId) -> bool {
    block == std::any::TypeId::of::<()>()
}
