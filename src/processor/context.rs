//! What a processor is handed beside its input.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::RowFailure;
use super::desk::Work;
use super::whose::Whose;
use crate::files::{ObjectStore, StageError, Staged, Staging, guarded};
use crate::model::{
    BatchId, FileName, IdError, Line, Message, OutcomeStatus, RowOutcome, StagedFile, codes,
};
use crate::store::ClaimedTask;
use crate::store::postgres::PieceTx;

/// Why work is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelCause {
    /// The process is stopping; the rows go on elsewhere.
    Shutdown,
    /// The batch was aborted.
    Aborted,
    /// The task belongs to another worker; nothing that is returned will be recorded.
    Fenced,
}

/// Tells a processor that its outcome is no longer waited for.
#[derive(Debug, Clone)]
pub struct CancelSignal {
    token: CancellationToken,
    cause: Arc<AtomicU8>,
}

impl CancelSignal {
    /// Waits until work is to stop; for ever if it never is. **Cancellation:** safe.
    pub async fn cancelled(&self) -> CancelCause {
        self.token.cancelled().await;
        self.cause().unwrap_or(CancelCause::Shutdown)
    }

    /// Whether work is to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        // It is asked twice a row, and the token would take a lock for it.
        self.cause.load(Ordering::Acquire) != 0
    }

    /// Why, once it is to stop.
    #[must_use]
    pub fn cause(&self) -> Option<CancelCause> {
        match self.cause.load(Ordering::Acquire) {
            1 => Some(CancelCause::Shutdown),
            2 => Some(CancelCause::Aborted),
            3 => Some(CancelCause::Fenced),
            _ => None,
        }
    }

    /// For libraries that take a token; where they cancel it, the work goes on.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.child_token()
    }
}

/// The engine's end of a [`CancelSignal`].
#[derive(Debug, Clone)]
pub(crate) struct CancelHandle(CancelSignal);

impl CancelHandle {
    pub(crate) fn new() -> Self {
        Self(CancelSignal {
            token: CancellationToken::new(),
            cause: Arc::new(AtomicU8::new(0)),
        })
    }

    pub(crate) fn signal(&self) -> CancelSignal {
        self.0.clone()
    }

    /// Stops the work; the first cause stays, but for a fence, which beats them.
    pub(crate) fn cancel(&self, cause: CancelCause) {
        let code = match cause {
            CancelCause::Shutdown => 1,
            CancelCause::Aborted => 2,
            CancelCause::Fenced => 3,
        };
        let cell = &self.0.cause;
        if cause == CancelCause::Fenced {
            cell.store(code, Ordering::Release);
        } else {
            let _ = cell.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
        }
        self.0.token.cancel();
    }
}

/// What is the same for every row of a task.
pub(crate) struct Shared<'a, B, C> {
    pub(crate) work: &'a Work,
    pub(crate) block: &'a B,
    pub(crate) context: &'a C,
    /// The transaction on PostgreSQL that they are in.
    pub(crate) piece: Option<&'a PieceTx<'a>>,
}

impl<B, C> Clone for Shared<'_, B, C> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B, C> Copy for Shared<'_, B, C> {}

macro_rules! shared_methods {
    () => {
        /// What the app's processors share.
        #[must_use]
        pub fn block(&self) -> &B {
            self.shared.block
        }

        /// What the batch was submitted with.
        #[must_use]
        pub fn context(&self) -> &C {
            self.shared.context
        }

        /// The batch or query.
        #[must_use]
        pub fn batch(&self) -> BatchId {
            self.shared.work.task.batch.id
        }

        /// The claim's number, from 1; it only grows.
        #[must_use]
        pub fn attempt(&self) -> u32 {
            self.shared.work.task.claim.attempt
        }

        /// Retries of the batch between its root and it.
        #[must_use]
        pub fn generation(&self) -> u32 {
            self.shared.work.task.batch.generation
        }

        /// Tells when the outcome is no longer waited for.
        #[must_use]
        pub fn cancel(&self) -> &CancelSignal {
            &self.shared.work.cancel
        }
    };
}

/// Text of a row for output files: whole lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    files: Vec<(FileName, String)>,
    bad_name: Option<IdError>,
}

impl Lines {
    pub(crate) fn write(&mut self, file: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let at = match self.files.iter().position(|(n, _)| n.as_str() == file) {
            Some(at) => at,
            None => match file.parse() {
                Ok(name) => {
                    self.files.push((name, String::new()));
                    self.files.len() - 1
                }
                Err(error) => {
                    self.bad_name.get_or_insert(error);
                    return;
                }
            },
        };
        if let Some((_, lines)) = self.files.get_mut(at) {
            lines.push_str(text);
            if !text.ends_with('\n') {
                lines.push('\n');
            }
        }
    }

    /// Adds the text to an outcome; a bad name fails the row.
    pub(crate) fn into_outcome(self, mut outcome: RowOutcome) -> RowOutcome {
        match self.bad_name {
            Some(error) => RowOutcome::of(OutcomeStatus::Failed, bad_file_name(error)),
            None => {
                outcome.files = self.files;
                outcome
            }
        }
    }
}

fn bad_file_name(error: IdError) -> Message {
    Message::own(codes::BAD_FILE_NAME, error.to_string()).val(error.text)
}

/// The row that is being worked on.
pub struct RowCx<'a, B, C> {
    pub(crate) shared: Shared<'a, B, C>,
    pub(crate) place: usize,
    pub(crate) lines: Lines,
}

impl<B, C> RowCx<'_, B, C> {
    shared_methods!();

    /// The row's line in the input.
    #[must_use]
    pub fn line(&self) -> Line {
        self.shared.work.line(self.place)
    }

    /// The row's idempotency key, for calls to the outside: the same whenever this row runs.
    #[must_use]
    pub fn key(&self) -> String {
        self.shared.work.key(self.place)
    }

    /// Adds text to an output file: one or more lines, kept as they are; a line feed is added where
    /// the text does not end in one, and empty text adds nothing. It stands in the file in the order
    /// of the rows' lines. A name that cannot be fails the row with `bad_file_name`.
    pub fn write_line(&mut self, file: &str, text: &str) {
        self.lines.write(file, text);
    }
}

/// The rows that are being worked on together.
pub struct ChunkCx<'a, B, C> {
    pub(crate) shared: Shared<'a, B, C>,
    pub(crate) places: &'a [usize],
}

impl<B, C> ChunkCx<'_, B, C> {
    shared_methods!();

    /// The idempotency key of the row at `index` of the chunk.
    #[must_use]
    pub fn key(&self, index: usize) -> String {
        self.shared
            .work
            .key(self.places.get(index).copied().unwrap_or(usize::MAX))
    }
}

/// Where a chunk's outcomes go, by the row's index in the chunk.
pub struct ChunkOut<O> {
    task: Arc<ClaimedTask>,
    of: Vec<Line>,
    pub(crate) outcomes: Vec<Option<RowOutcome>>,
    pub(crate) lines: Vec<Lines>,
    pub(crate) output: std::marker::PhantomData<fn(O)>,
}

impl<O: Serialize> ChunkOut<O> {
    pub(crate) fn new(task: Arc<ClaimedTask>, of: Vec<Line>) -> Self {
        Self {
            outcomes: of.iter().map(|_| None).collect(),
            lines: of.iter().map(|_| Lines::default()).collect(),
            task,
            of,
            output: std::marker::PhantomData,
        }
    }

    /// The row succeeded. The first outcome of a row stays.
    pub fn success(&mut self, index: usize, output: &O) {
        let outcome = self.whose(index).success(output);
        self.put(index, outcome);
    }

    /// The row did not succeed.
    pub fn failure(&mut self, index: usize, failure: super::RowFailure) {
        let outcome = self.whose(index).failure(failure);
        self.put(index, outcome);
    }

    /// As [`RowCx::write_line`].
    pub fn write_line(&mut self, index: usize, file: &str, text: &str) {
        if let Some(lines) = self.lines.get_mut(index) {
            lines.write(file, text);
        }
    }

    fn whose(&self, index: usize) -> Whose<'_> {
        Whose {
            task: &self.task,
            line: self.of.get(index).copied(),
            rows: None,
        }
    }

    fn put(&mut self, index: usize, outcome: RowOutcome) {
        if let Some(slot) = self.outcomes.get_mut(index) {
            slot.get_or_insert(outcome);
        }
    }
}

/// The slow query that is being answered.
pub struct QueryCx<'a, B, C> {
    pub(crate) shared: Shared<'a, B, C>,
    pub(crate) lines: Lines,
    pub(crate) streamed: Streamed,
}

/// The files that a query streamed.
#[derive(Default)]
pub(crate) struct Streamed {
    /// Those that are whole and are published if it succeeds.
    pub(crate) staged: Vec<StagedFile>,
    /// Those of which a later one took the name.
    replaced: Vec<StagedFile>,
    begun: AtomicBool,
}

impl Streamed {
    /// Removes what nobody will publish; what cannot be removed now goes when the batch has ended.
    pub(crate) async fn discard(self, objects: &ObjectStore, batch: BatchId) {
        if !self.begun.into_inner() {
            return;
        }
        let files = self.staged.iter().chain(&self.replaced);
        let files: Vec<Staged> = files.map(Staged::from).collect();
        if let Err(error) = guarded(async { objects.unstage(batch, &files).await }).await {
            tracing::warn!(%batch, %error, "files of a query that did not succeed could not be removed; they go when it has ended");
        }
    }
}

impl<B, C> QueryCx<'_, B, C> {
    shared_methods!();

    /// The query's idempotency key, for calls to the outside.
    #[must_use]
    pub fn key(&self) -> String {
        self.shared.work.key(0)
    }

    /// Adds lines to an output file, as [`RowCx::write_line`].
    pub fn write_line(&mut self, file: &str, text: &str) {
        self.lines.write(file, text);
    }

    /// Begins an output file that is streamed; give it to [`QueryCx::finish_file`] when it is whole.
    ///
    /// # Errors
    /// `bad_file_name` where the name cannot be; an error where the object store cannot be written.
    pub async fn create_file(&self, name: &str) -> Result<FileWriter, RowFailure> {
        let name: FileName = name.parse().map_err(bad_file_name)?;
        self.streamed.begun.store(true, Ordering::Relaxed);
        let staging = self.shared.work.objects.stage(self.batch()).await?;
        Ok(FileWriter { name, staging })
    }

    /// Ends a streamed file; it is published if the query succeeds. A later file of the same name replaces it.
    ///
    /// # Errors
    /// The object store cannot be written.
    pub async fn finish_file(&mut self, file: FileWriter) -> Result<(), StageError> {
        let done = file.staging.finish().await?;
        let (staged, name) = (&mut self.streamed.staged, file.name.as_str());
        if let Some(at) = staged.iter().position(|f| f.name == name) {
            self.streamed.replaced.push(staged.remove(at));
        }
        staged.push(StagedFile {
            name: file.name.as_str().to_owned(),
            handle: done.handle,
            size: done.size,
            sha256: done.sha256,
        });
        Ok(())
    }
}

/// An output file that is being streamed.
pub struct FileWriter {
    name: FileName,
    staging: Box<dyn Staging>,
}

impl FileWriter {
    /// Writes bytes. **Cancellation:** the file is lost; nothing of it is published.
    ///
    /// # Errors
    /// The object store cannot be written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.staging.write(bytes).await
    }
}

/// What is handed to `mark_done`.
pub struct DoneCx<'a, B> {
    pub(crate) block: &'a B,
    pub(crate) event: i64,
}

impl<B> DoneCx<'_, B> {
    /// What the app's processors share.
    #[must_use]
    pub fn block(&self) -> &B {
        self.block
    }

    /// The event's id: the same whenever this end is told again.
    #[must_use]
    pub fn event(&self) -> i64 {
        self.event
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whoever_is_told_to_stop_sees_it_in_every_way_and_a_fence_beats_other_causes() {
        let handle = CancelHandle::new();
        let signal = handle.signal();
        let token = signal.token();
        assert!(!signal.is_cancelled() && !token.is_cancelled());
        assert!(signal.cancelled().now_or_never().is_none());
        handle.cancel(CancelCause::Aborted);
        assert!(signal.is_cancelled() && token.is_cancelled());
        let cause = signal.cancelled().now_or_never();
        assert_eq!(cause, Some(CancelCause::Aborted));
        handle.cancel(CancelCause::Shutdown);
        assert_eq!(signal.cause(), Some(CancelCause::Aborted), "the first");
        handle.cancel(CancelCause::Fenced);
        assert_eq!(signal.cause(), Some(CancelCause::Fenced));
    }

    #[test]
    fn a_library_that_cancels_its_token_stops_no_work() {
        let signal = CancelHandle::new().signal();
        signal.token().cancel();
        assert!(!signal.is_cancelled());
        assert!(signal.cancelled().now_or_never().is_none());
    }
}
