//! The client: submit, ask, read, abort. It needs no worker in its process.

mod append;
mod history;
mod list;
mod ops;
mod pages;
mod purge;
mod query;
mod retry;
mod statuses;
mod submit_in;

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use serde::Serialize;

use crate::cache::{StatusCache, Statuses};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{ObjectStore, StageError};
use crate::intake::{self, Intake, Source};
use crate::model::{
    Batch, BatchId, BlockBuilder, JobKey, Kind, NewBatch, OutputFile, RawJson, RowView, Status,
};
use crate::processor::Registry;
use crate::store::{Store, StoreError};

pub use append::{AppendOptions, Appended};
pub use ops::Waits;
pub(crate) use ops::{in_force, unknown};
pub use purge::{Purge, Purged};
pub use query::{NewQuery, SubmittedQuery};
pub use retry::Retried;
pub use submit_in::{submit_in, submit_in_postgres};

/// A row to submit.
#[derive(Debug, Clone)]
pub struct NewRow {
    /// Its line, above that of the row before; the next number if none is given.
    pub line: Option<u32>,
    /// Its input: any JSON.
    pub input: Box<RawJson>,
}

impl NewRow {
    /// A row on the next line whose input is this value, written as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where it cannot be: a map whose keys are no strings.
    ///
    /// ```
    /// use rowmill::NewRow;
    /// let rows = [("ACC1", 250), ("ACC2", 400)].iter().map(NewRow::json).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(rows[1].input.get(), r#"["ACC2",400]"#);
    /// let named = NewRow { line: Some(7), ..NewRow::json("any text")? };
    /// assert_eq!((named.line, named.input.get()), (Some(7), r#""any text""#));
    /// # Ok::<_, rowmill::Error>(())
    /// ```
    pub fn json<T: Serialize + ?Sized>(input: &T) -> Result<Self> {
        let input = serde_json::value::to_raw_value(input).map_err(|e| {
            let text = format!("a row's input cannot be written as JSON: {e}");
            Error::with(ErrorKind::Invalid, "unusable_input", text, e)
        })?;
        Ok(Self { line: None, input })
    }
}

/// A batch that was submitted, and what was read for it.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The batch as it is now.
    pub batch: Batch,
    /// What the input held.
    pub intake: Intake,
}

/// Submits and asks; cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rowmill::model::{JobKey, Kind, NewBatch, Status};
/// use rowmill::{Client, NewRow, Store};
/// # let dir = tempfile::tempdir()?;
/// let client = Client::new(Store::sqlite(dir.path().join("rowmill.db")).await?);
/// let new = NewBatch::new(JobKey::new("bank", "post", Kind::Batch)?);
/// let rows = [NewRow::json(&1)?, NewRow::json(&2)?];
/// let batch = client.batch_submit(new, rows).await?;
/// assert_eq!((batch.status, batch.counts.pending), (Status::Queued, 2));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) store: Store,
    pub(crate) statuses: Statuses,
    pub(crate) objects: ObjectStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Arc<Registry>,
    /// Who makes the changes.
    pub(crate) by: Arc<str>,
}

impl Client {
    /// A client of a store, with the output files' folder `rowmill-files` and a cache in memory.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            statuses: Statuses::new(store.clone(), StatusCache::memory()),
            clock: store.clock(),
            store,
            objects: ObjectStore::folder("rowmill-files"),
            registry: Arc::default(),
            by: Arc::from(""),
        }
    }

    /// The same client on behalf of somebody: who submits, releases and aborts is kept.
    #[must_use]
    pub fn acting_as(&self, by: &str) -> Self {
        Self {
            by: Arc::from(by),
            ..self.clone()
        }
    }

    /// The same client with its statuses copied elsewhere.
    #[must_use]
    pub fn cached(&self, cache: StatusCache) -> Self {
        Self {
            statuses: Statuses::new(self.store.clone(), cache),
            ..self.clone()
        }
    }

    /// Submits a batch; acknowledged, and durable, when it returns.
    ///
    /// The same id or external id again with the same content returns the batch that is there.
    /// **Cancellation:** nothing of it is seen, or all of it; repeat it with the same id to know.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where there is no row or lines do not rise;
    /// [`ErrorKind::Conflict`] where the id was used with other content; [`ErrorKind::Unavailable`].
    pub async fn batch_submit<R>(&self, batch: NewBatch, rows: R) -> Result<Batch>
    where
        R: IntoIterator<Item = NewRow> + Send + 'static,
        R::IntoIter: Send,
    {
        let batch = self.signed(batch);
        check(&batch, Kind::Batch)?;
        let builder = self.builder(&batch.key).await?;
        let source = Source::rows(rows);
        let (id, _) = intake::submit(self, batch, builder, source).await?;
        self.submitted(id).await
    }

    /// Submits the records of a file or pipe, read as a stream: memory stays flat.
    ///
    /// A record that cannot be a row becomes a failed row with its code. A CSV's columns are kept
    /// with the batch.
    ///
    /// # Errors
    /// As [`Client::batch_submit`]; [`ErrorKind::Invalid`] also where the input cannot be read.
    pub async fn batch_submit_reader(
        &self,
        batch: NewBatch,
        reader: impl std::io::Read + Send + 'static,
        options: crate::ingest::Options,
    ) -> Result<Submission> {
        let batch = self.signed(batch);
        check(&batch, Kind::Batch)?;
        let builder = self.builder(&batch.key).await?;
        let source = Source::reader(reader, options);
        let (id, intake) = intake::submit(self, batch, builder, source).await?;
        let batch = self.submitted(id).await?;
        Ok(Submission { batch, intake })
    }

    /// The batch with who submits it, where it does not say so itself.
    fn signed(&self, mut batch: NewBatch) -> NewBatch {
        if batch.by.is_empty() {
            batch.by = self.by.to_string();
        }
        batch
    }

    async fn builder(&self, key: &JobKey) -> Result<BlockBuilder> {
        let settings = self.settings_in_force(key).await?;
        let bytes = usize::try_from(settings.block_bytes).unwrap_or(usize::MAX);
        Ok(BlockBuilder::new(settings.block_rows, bytes))
    }

    /// Releases a held batch; a released one is no error.
    ///
    /// **Cancellation:** it is released, or not; a repeat is no error until the batch has ended.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] where it has ended; [`ErrorKind::Unavailable`].
    pub async fn wait_off(&self, id: BatchId) -> Result<Batch> {
        let now = self.clock.now();
        self.store.release(id, self.by.to_string(), now).await?;
        self.changed(id).await
    }

    /// Asks for an abort and waits up to `wait` for rows that run; an ended batch returns as it is.
    ///
    /// Rows that were not running end with the call, in one transaction. **Cancellation:** the abort was
    /// asked for, or not; the wait alone changes nothing, and a repeat is no error.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Unavailable`].
    pub async fn batch_abort(&self, id: BatchId, wait: Duration) -> Result<Batch> {
        let now = self.clock.now();
        self.store.abort(id, self.by.to_string(), now).await?;
        let batch = self.changed(id).await?;
        if batch.done {
            return Ok(batch);
        }
        self.wait_done(id, Some(wait)).await
    }

    /// As [`Client::batch_abort`], for a slow query.
    ///
    /// # Errors
    /// As [`Client::batch_abort`]; a batch is none, and goes on.
    pub async fn slow_query_abort(&self, id: BatchId, wait: Duration) -> Result<Batch> {
        // Its kind never changes: between the look and the abort there is nothing to lose.
        self.slow_query_done(id).await?;
        self.batch_abort(id, wait).await
    }

    /// All rows in line order, read as a stream; with `status` those that are in it when they are read.
    ///
    /// Each row is as it was at one moment, and blocks are read one after the other: while the batch is
    /// worked off, later rows may be seen further on than earlier ones. **Cancellation:** safe.
    ///
    /// # Errors
    /// In the stream: [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] where it was purged;
    /// [`ErrorKind::Unavailable`].
    pub fn rows(
        &self,
        id: BatchId,
        status: Option<Status>,
    ) -> impl Stream<Item = Result<RowView>> + Send + use<> {
        let store = self.store.clone();
        pages::stream(0, move |after| {
            let store = store.clone();
            async move {
                let page = store.rows(id, after, status).await?;
                Ok((page.rows, page.next))
            }
        })
    }

    /// The output files, once the batch has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] until then, and when it was purged; [`ErrorKind::NotFound`].
    pub async fn files(&self, id: BatchId) -> Result<Vec<OutputFile>> {
        let batch = self.read(id).await?;
        if let Some(at) = batch.purged_at {
            return Err(StoreError::Purged { id, at }.into());
        }
        if batch.done {
            return Ok(batch.files);
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "wrong_state",
            format!(
                "batch {id} is {}; its files are there when it has ended",
                batch.status
            ),
        ))
    }

    /// Opens an output file to read it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the object store cannot be read.
    pub async fn open_file(
        &self,
        file: &OutputFile,
    ) -> Result<Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
        self.objects.open(&file.key).await.map_err(unreadable)
    }

    /// A link by which anybody can download an output file for a while; `None` where files are in a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where no link can be signed: for S3, one for more than 7 days.
    pub async fn file_url(&self, file: &OutputFile, valid_for: Duration) -> Result<Option<String>> {
        let url = self.objects.signed_url(&file.key, valid_for).await;
        url.map_err(unreadable)
    }

    /// Where an output file is, for people.
    #[must_use]
    pub fn file_place(&self, file: &OutputFile) -> String {
        self.objects.place(&file.key)
    }

    /// The batch that carries an external id in its app.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn find_external(&self, app: &str, external_id: &str) -> Result<Option<BatchId>> {
        Ok(self.statuses.named(app, external_id).await?)
    }
}

/// Whether a batch could be submitted, as far as it tells itself.
pub(crate) fn check(batch: &NewBatch, kind: Kind) -> Result<()> {
    if batch.key.kind != kind {
        return Err(Error::invalid(
            "wrong_kind",
            format!(
                "{} is a {}, not a {}",
                batch.key,
                batch.key.kind.as_str(),
                kind.as_str()
            ),
        ));
    }
    if !(-100..=100).contains(&batch.priority) {
        return Err(Error::invalid(
            "bad_priority",
            "priority must be from -100 to 100",
        ));
    }
    if batch
        .external_id
        .as_ref()
        .is_some_and(|id| id.is_empty() || id.len() > 500)
    {
        return Err(Error::invalid(
            "bad_external_id",
            "an external id has 1 to 500 bytes",
        ));
    }
    if let (Some(run_at), Some(expires_at)) = (batch.run_at, batch.expires_at)
        && expires_at <= run_at
    {
        return Err(Error::invalid(
            "bad_expires_at",
            "expires_at must be after run_at: nothing of it could run",
        ));
    }
    Ok(())
}

fn unreadable(error: StageError) -> Error {
    let text = error.to_string();
    Error::with(ErrorKind::Unavailable, "objects_unavailable", text, error)
}
