//! The traits that an application implements.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BoxError, ChunkCx, ChunkOut, DoneCx, QueryCx, RowCx, RowFailure};
use crate::model::{AppName, Batch, Line};

/// What the processors of an app share: a pool, a price table.
///
/// Opened by an [`Initializer`] before the first claim of the app in a process, closed at its
/// shutdown. `()` is the block of an app that shares nothing and needs no initializer.
pub trait InitBlock: Send + Sync + 'static {
    /// Closes it; called once, when no row uses it any more. An error is logged.
    fn close(&self) -> impl Future<Output = Result<(), BoxError>> + Send {
        async { Ok(()) }
    }
}

impl InitBlock for () {}

/// Opens an app's [`InitBlock`], once in a process.
///
/// An error suspends the app in this process, with back-off, and touches no row.
pub trait Initializer: Send + Sync + 'static {
    /// What it opens.
    type Block: InitBlock;

    /// Opens the block. **Cancellation:** dropped at a stop.
    fn init(&self, app: &AppName) -> impl Future<Output = Result<Self::Block, BoxError>> + Send;
}

/// Works on one row at a time: the simplest processor.
///
/// **Conversation.** For each row of a claimed task, in line order, [`process`](Self::process) is
/// called; rows of one task run one after the other unless the op's `parallel` says otherwise, tasks
/// beside each other. What it returns is recorded once; the call itself may come more than once for a
/// row (crash, shutdown, retry), with the same [`RowCx::key`]. A panic, an error or an input that
/// does not fit [`Input`](Self::Input) is that row's failure. **Transaction:** none is open; the
/// outcome commits after the call. **Cancellation:** dropped at an await after the op's time-out, or
/// a grace period after an abort or a stop; [`RowCx::cancel`] tells it before.
pub trait BatchProcessor: Send + Sync + 'static {
    /// What the app's processors share; `()` for nothing.
    type Block: InitBlock;
    /// The batch's context, decoded once a task.
    type Context: DeserializeOwned + Send + Sync;
    /// A row's input; `Box<RawValue>` takes it as it is.
    type Input: DeserializeOwned + Send;
    /// A row's result.
    type Output: Serialize + Send;

    /// Works on one row.
    ///
    /// # Errors
    /// See [`RowFailure`]: the verdict on the row, another time, or an error.
    fn process(
        &self,
        cx: &mut RowCx<'_, Self::Block, Self::Context>,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, RowFailure>> + Send;

    /// Whether ends are told at all; `true` unless said otherwise. Where [`mark_done`](Self::mark_done) does nothing, `false` saves
    /// each end a notice, which is written, claimed and removed. It is asked once, when a worker begins; ends that come after
    /// the entry of a worker of `false` are told to nobody, also not later.
    fn wants_ends(&self) -> bool {
        true
    }

    /// Told of every end of a batch (success, failed, aborted, expired), at least once, after it is durable.
    ///
    /// # Errors
    /// Told again later, with back-off.
    fn mark_done(
        &self,
        cx: &DoneCx<'_, Self::Block>,
        batch: &Batch,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = (cx, batch);
        async { Ok(()) }
    }
}

/// One row of a chunk.
#[derive(Debug)]
pub struct InputRow<T> {
    /// Its line.
    pub line: Line,
    /// Its input.
    pub input: T,
}

/// Works on the rows of one task at once: for work that is cheaper together.
///
/// Each row's outcome goes to [`ChunkOut`]; a row without one fails with `no_outcome`. An error or
/// panic of a whole chunk runs its rows without an outcome again, one by one, so that a bad row costs
/// itself alone. Otherwise as [`BatchProcessor`]; the op's time-out is that of one call.
pub trait ChunkProcessor: Send + Sync + 'static {
    /// What the app's processors share; `()` for nothing.
    type Block: InitBlock;
    /// The batch's context, decoded once a task.
    type Context: DeserializeOwned + Send + Sync;
    /// A row's input.
    type Input: DeserializeOwned + Send;
    /// A row's result.
    type Output: Serialize + Send;

    /// Works on all rows.
    ///
    /// # Errors
    /// The chunk failed as a whole; outcomes that were given stay.
    fn process(
        &self,
        cx: &ChunkCx<'_, Self::Block, Self::Context>,
        rows: Vec<InputRow<Self::Input>>,
        out: &mut ChunkOut<Self::Output>,
    ) -> impl Future<Output = Result<(), RowFailure>> + Send;

    /// As [`BatchProcessor::wants_ends`].
    fn wants_ends(&self) -> bool {
        true
    }

    /// As [`BatchProcessor::mark_done`].
    ///
    /// # Errors
    /// Told again later, with back-off.
    fn mark_done(
        &self,
        cx: &DoneCx<'_, Self::Block>,
        batch: &Batch,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = (cx, batch);
        async { Ok(()) }
    }
}

/// Answers one slow query: a statement, a report.
///
/// As [`BatchProcessor`] with one row; output files can be streamed by [`QueryCx::create_file`] and
/// are published only if the query succeeds.
pub trait SlowQueryProcessor: Send + Sync + 'static {
    /// What the app's processors share; `()` for nothing.
    type Block: InitBlock;
    /// The query's context.
    type Context: DeserializeOwned + Send + Sync;
    /// Its input.
    type Input: DeserializeOwned + Send;
    /// Its result.
    type Output: Serialize + Send;

    /// Answers the query.
    ///
    /// # Errors
    /// See [`RowFailure`].
    fn query(
        &self,
        cx: &mut QueryCx<'_, Self::Block, Self::Context>,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, RowFailure>> + Send;

    /// As [`BatchProcessor::wants_ends`].
    fn wants_ends(&self) -> bool {
        true
    }

    /// As [`BatchProcessor::mark_done`].
    ///
    /// # Errors
    /// Told again later, with back-off.
    fn mark_done(
        &self,
        cx: &DoneCx<'_, Self::Block>,
        query: &Batch,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = (cx, query);
        async { Ok(()) }
    }
}
