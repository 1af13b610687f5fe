//! The boundary to the database: every method is one atomic step as others see it.
//!
//! Only this module and those below it open transactions. What crosses the boundary are the
//! nouns of [`crate::model`]; no driver's type does. Whoever implements [`Backend`] proves it by
//! the conformance suite in `tests/it/conformance`.

mod appends;
mod error;
mod health;
mod piece;
pub mod postgres;
mod purges;
mod signal;
pub(crate) mod slots;
pub mod sqlite;
mod steps;
mod types;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};

use crate::clock::{Clock, SystemClock};
use crate::model::{
    Batch, BatchFilter, BatchId, BatchesPage, Block, Cursor, HistoryEntry, JobKey, NewBatch,
    OpEntry, OpId, OutputFile, Status, Timestamp, Token, WorkerEntry, WorkerNo,
};

pub(crate) use appends::more_columns;
pub use appends::{Added, AppendBlocks, AppendContent, AppendPiece, Begun, NewAppend};
pub use error::StoreError;
pub use health::{Check, Diagnosis, Schema};
pub use piece::{Piece, PostgresPiece, PostgresRun, SqlitePiece, Transacted};
pub use purges::{PurgePage, PurgeScan, Purgeable};
pub(crate) use signal::Eager;
pub use signal::Signal;
pub use slots::{Candidate, FreeSlot, Holder};
pub use types::{
    Again, BatchHead, BlockOutcomes, Child, Children, Claim, ClaimRef, ClaimedTask, CloseRef,
    CloseTask, Dialect, Ended, Found, Head, HistoryPage, Kept, LiveOp, LoadPiece, Look, NewWorker,
    Notice, NoticeRef, OpRegistration, OpState, OutcomePart, Part, QueryBlock, Recorded, RowsPage,
    Running, Serves, Submitted, TakenOver, Then,
};

/// What a step returns.
pub type Fut<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A handle to a store: cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let store = rowmill::Store::sqlite(dir.path().join("rowmill.db")).await?;
/// assert!(store.batch(rowmill::model::BatchId::new()).await?.is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Store(Arc<dyn Backend>);

impl Store {
    /// Opens a SQLite file, makes it where there is none, and brings an older schema up to date under a lock.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the file is newer than this program or not ours;
    /// [`StoreError::Unavailable`] where it cannot be opened, read or written.
    pub async fn sqlite(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let options = sqlite::Options::new(path);
        Ok(Self::new(sqlite::SqliteStore::open(options).await?))
    }

    /// A PostgreSQL database by a pool of the caller's, which is used as it is; makes its schema where there is
    /// none, and brings an older one up to date under a lock.
    ///
    /// What else there is to say, an address for the store's own connection first of all, is said to
    /// [`Store::postgres_by`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use deadpool_postgres::{Manager, Pool, Runtime};
    /// use tokio_postgres::NoTls;
    ///
    /// let config: tokio_postgres::Config = "postgres://app@localhost/app".parse()?;
    /// let pool = Pool::builder(Manager::new(config, NoTls)).runtime(Runtime::Tokio1).build()?;
    /// let store = rowmill::Store::postgres(pool).await?;
    /// # drop(store);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`PostgresStore::open`](postgres::PostgresStore::open).
    pub async fn postgres(pool: deadpool_postgres::Pool) -> Result<Self, StoreError> {
        Self::postgres_by(postgres::Options::pool(pool)).await
    }

    /// A PostgreSQL database by its URL, as [`postgres::Address::new`] takes it, with a pool of the store's own.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the address is none; else as [`PostgresStore::open`](postgres::PostgresStore::open).
    pub async fn postgres_url(url: &str) -> Result<Self, StoreError> {
        Self::postgres_by(postgres::Options::new(url)?).await
    }

    /// A PostgreSQL database, with what else there is to say.
    ///
    /// # Errors
    /// As [`PostgresStore::open`](postgres::PostgresStore::open).
    pub async fn postgres_by(options: postgres::Options) -> Result<Self, StoreError> {
        Ok(Self::new(postgres::PostgresStore::open(options).await?))
    }

    /// A store of any make.
    pub fn new(backend: impl Backend) -> Self {
        Self(Arc::new(backend))
    }
}

impl Deref for Store {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// The steps that a database must be able to make. Dropping a future does not undo its step.
///
/// For every step: [`StoreError::Unavailable`] means that nothing is known of it, every other
/// error that nothing was changed. A change names the state it leaves; where that state is not
/// found, the answer says so (`Fenced`, `WrongState`) and nothing is changed.
pub trait Backend: Send + Sync + 'static {
    /// What kind of database it is: the application's own statements are written for one.
    fn dialect(&self) -> Dialect;

    /// Registers a worker and takes the lock that is its life, until it leaves or its process ends.
    ///
    /// With it commits what it works on, and whether ends of those ops are stored to be told: from
    /// the entry of a worker that tells them, until one enters that does not while no live worker
    /// does. A receiver that is merely down therefore misses nothing.
    fn enter(&self, worker: NewWorker, now: Timestamp) -> Fut<'_, WorkerNo>;

    /// Ends a worker; one that still holds tasks or notices is dead from then on, and taken over.
    fn leave(&self, worker: WorkerNo, now: Timestamp) -> Fut<'_, ()>;

    /// Lets go of a worker's life at once, without a word to the database: it is dead, and is taken over.
    fn abandon(&self, worker: WorkerNo);

    /// Makes ops known; the numbers are in their order.
    fn register_ops(&self, ops: Vec<OpRegistration>, now: Timestamp) -> Fut<'_, Vec<OpId>>;

    /// All ops that are known, with their work (counted up to a bound) and who works on them.
    fn ops(&self) -> Fut<'_, Vec<OpEntry>>;

    /// One op, without its work; `None` where nobody has used it. With `batch`, a worker of that
    /// batch alone counts too.
    fn op(&self, key: JobKey, batch: Option<BatchId>) -> Fut<'_, Option<OpState>>;

    /// The ops that are paused or have settings set here: what workers look at twice a second.
    fn live_ops(&self) -> Fut<'_, Vec<LiveOp>>;

    /// Pauses an op: its tasks are claimed by nobody. False where it was paused.
    ///
    /// An op that nobody has used yet becomes known.
    fn pause_op(&self, key: JobKey, by: String, now: Timestamp) -> Fut<'_, bool>;

    /// Resumes an op. False where it was not paused; an op that nobody has used yet becomes known.
    fn resume_op(&self, key: JobKey, by: String, now: Timestamp) -> Fut<'_, bool>;

    /// Sets an op's settings (a JSON object, or none) where they still are `from`; fenced where they
    /// are not. An op that nobody has used yet becomes known.
    fn set_op(
        &self,
        key: JobKey,
        from: Option<String>,
        to: Option<String>,
        by: String,
        now: Timestamp,
    ) -> Fut<'_, Recorded>;

    /// Workers that have not ended, dead ones that nobody has taken over yet among them.
    fn workers(&self) -> Fut<'_, Vec<WorkerEntry>>;

    /// Stores a batch that fits one transaction; acknowledged when it returns.
    ///
    /// The same id or external id again with the same content returns the batch that is there. A retry
    /// counts only if its parent has as many retries as when its rows were chosen.
    fn submit(
        &self,
        batch: NewBatch,
        blocks: Vec<Block>,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Fut<'_, Submitted>;

    /// Stores many slow queries in one transaction: all of them, or none.
    fn submit_many(&self, queries: Vec<QueryBlock>, now: Timestamp) -> Fut<'_, Vec<Submitted>>;

    /// Begins the load of a larger batch, which nobody sees until [`Backend::finish_load`].
    fn begin_load(&self, batch: NewBatch, token: Token, now: Timestamp) -> Fut<'_, Submitted>;

    /// Stores blocks of a load; ≤ 8 MiB a call keeps every other writer's wait short.
    fn load(&self, piece: LoadPiece, now: Timestamp) -> Fut<'_, ()>;

    /// Makes a load a batch: acknowledged when it returns.
    fn finish_load(
        &self,
        batch: NewBatch,
        token: Token,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Fut<'_, Submitted>;

    /// Removes a load.
    fn discard_load(&self, id: BatchId, token: Token) -> Fut<'_, ()>;

    /// Adds rows that fit one transaction to a held batch, and releases it where that is asked; acknowledged when it returns.
    ///
    /// A repeat is answered and adds nothing: the same key with the same content, or without a key
    /// the content of the batch's latest append. It is answered whatever the batch's state is by then.
    fn append(
        &self,
        append: NewAppend,
        blocks: AppendBlocks,
        content: AppendContent,
        now: Timestamp,
    ) -> Fut<'_, Added>;

    /// Begins a larger append to a held batch; nobody sees its rows until [`Backend::finish_append`].
    ///
    /// One at a time for each batch. One whose loader was silent for 60 s makes place.
    fn begin_append(&self, append: NewAppend, token: Token, now: Timestamp) -> Fut<'_, Begun>;

    /// Stores blocks of an append whose batch is still held; ≤ 8 MiB a call keeps every other writer's wait short.
    fn append_piece(&self, piece: AppendPiece, now: Timestamp) -> Fut<'_, ()>;

    /// Makes all of an append count where its batch is still held, or answers a repeat as [`Backend::append`] does.
    fn finish_append(
        &self,
        append: NewAppend,
        token: Token,
        content: AppendContent,
        now: Timestamp,
    ) -> Fut<'_, Added>;

    /// Removes what was loaded of an append; one that counts, or another loader's, stays.
    fn discard_append(&self, id: BatchId, token: Token) -> Fut<'_, ()>;

    /// Releases a held batch; a released one is no error.
    fn release(&self, id: BatchId, by: String, now: Timestamp) -> Fut<'_, ()>;

    /// Asks for an abort and ends every task that is not running.
    fn abort(&self, id: BatchId, by: String, now: Timestamp) -> Fut<'_, ()>;

    /// What there is to do, as of one moment; takes no lock.
    fn look(&self, look: Look, now: Timestamp) -> Fut<'_, Found>;

    /// Claims tasks of one op under a token.
    ///
    /// Those of a batch whose time has passed, or of which something is damaged, are claimed by nobody:
    /// [`Backend::keep`] ends the one, `doctor` tells of the other. A claim for one damaged batch alone
    /// is an error.
    fn claim(&self, ask: Claim, now: Timestamp) -> Fut<'_, Vec<ClaimedTask>>;

    /// Offers a free slot to whoever submits a query of this op alone; false where this store has no use for it.
    ///
    /// Who is asked for it stores the query by [`Backend::submit_at_once`].
    fn offer(&self, key: &JobKey, slot: Arc<FreeSlot>) -> bool {
        let _ = (key, slot);
        false
    }

    /// Stores a query, and claims it for the slot's worker where that lives, the op is not paused and nothing of it waits to be
    /// claimed; one that is held, later, expires or repeats another is claimed by nobody.
    ///
    /// By one try; an error says that nothing is claimed. `None`: the answer to its commit was lost, so that it may be stored and
    /// claimed, now or in a moment.
    fn submit_at_once(
        &self,
        query: Arc<(QueryBlock, Timestamp)>,
        holder: Holder,
        now: Timestamp,
    ) -> Fut<'_, Option<(Submitted, Option<ClaimedTask>)>> {
        let _ = (holder, now);
        async move {
            let (asked, at) = &*query;
            let stored = self.submit_many(vec![asked.clone()], *at).await?;
            Ok(stored.into_iter().next().map(|stored| (stored, None)))
        }
        .boxed()
    }

    /// Records parts of attempts, each under its own token; the answers are in their order.
    fn record(&self, worker: WorkerNo, parts: Vec<Part>, now: Timestamp) -> Fut<'_, Vec<Recorded>>;

    /// Runs the application's work and records what it came to, in one transaction under the claim's token.
    ///
    /// An error means that nothing of it is there: a commit whose answer was lost is looked up here.
    /// A `soft` one need not survive a power failure, which takes the work and the outcome together.
    fn transact(
        &self,
        worker: WorkerNo,
        claim: ClaimRef,
        piece: Piece,
        soft: bool,
        now: Timestamp,
    ) -> Fut<'_, Transacted>;

    /// Gives tasks back that were claimed and not begun; their attempt is not counted as a failure.
    ///
    /// One of which something was recorded is lost, as if this worker had died with it.
    fn give_back(&self, worker: WorkerNo, tasks: Vec<ClaimRef>, now: Timestamp) -> Fut<'_, ()>;

    /// What the store believes this worker runs, and which of it is aborting; where others look for it,
    /// it notes that the worker lives. [`StoreError::Fenced`]: it was taken for dead.
    fn beat(&self, worker: WorkerNo) -> Fut<'_, Vec<Running>>;

    /// Workers that no longer live. After a worker has entered the first look is a whole one, which may
    /// wait for half a second where a worker seems to have died; no other waits.
    fn dead_workers(&self) -> Fut<'_, Vec<WorkerNo>>;

    /// Gives a dead worker's tasks back, one loss each. A task of which something is damaged stays as
    /// it is, and keeps no other from coming back.
    fn take_over(&self, dead: WorkerNo, now: Timestamp) -> Fut<'_, TakenOver>;

    /// Claims close tasks that are ready.
    fn claim_close(
        &self,
        worker: WorkerNo,
        token: Token,
        max: u32,
        now: Timestamp,
    ) -> Fut<'_, Vec<CloseTask>>;

    /// The outcomes of a batch, block after block, from block `from`, about `max_bytes` a call.
    fn outcomes(&self, id: BatchId, from: i64, max_bytes: usize) -> Fut<'_, Vec<BlockOutcomes>>;

    /// Ends a batch whose output files are published.
    fn close(
        &self,
        worker: WorkerNo,
        task: CloseRef,
        files: Vec<OutputFile>,
        now: Timestamp,
    ) -> Fut<'_, Recorded>;

    /// Puts a close task off after a failure that is not the batch's.
    fn close_later(
        &self,
        worker: WorkerNo,
        task: CloseRef,
        error: String,
        due: Timestamp,
    ) -> Fut<'_, Recorded>;

    /// Claims ends that are to be told to receivers of these ops.
    fn claim_notices(
        &self,
        worker: WorkerNo,
        token: Token,
        ops: Vec<OpId>,
        now: Timestamp,
    ) -> Fut<'_, Vec<Notice>>;

    /// Settles a notice: delivered, or again at `retry`.
    fn settle_notices(
        &self,
        worker: WorkerNo,
        settled: Vec<(NoticeRef, Option<Timestamp>)>,
    ) -> Fut<'_, ()>;

    /// Moves due tasks, expires, sweeps abandoned loads and appends. A batch of which something is
    /// damaged stays as it is, and holds up no other.
    fn keep(&self, now: Timestamp) -> Fut<'_, Kept>;

    /// One batch as it is seen; `None` where there is none or it is still being loaded.
    fn batch(&self, id: BatchId) -> Fut<'_, Option<Batch>>;

    /// A batch that has ended: what whoever waits asks again and again.
    fn ended(&self, id: BatchId) -> Fut<'_, Ended>;

    /// The batch that carries an external id in its app.
    fn find_external(&self, app: String, external_id: String) -> Fut<'_, Option<BatchId>>;

    /// Batches that fit, newest first, behind a place; at most `limit`, and fewer where there is much to look at.
    ///
    /// Loads and purged batches are in no list. Every page is a short transaction of its own.
    fn list(&self, filter: BatchFilter, after: Option<Cursor>, limit: u32) -> Fut<'_, BatchesPage>;

    /// The retries of a batch.
    fn children(&self, id: BatchId) -> Fut<'_, Children>;

    /// Rows after a line, in line order, at most a block's worth; with a status those in it alone.
    ///
    /// A page may have no row and more behind it.
    fn rows(&self, id: BatchId, after: u32, status: Option<Status>) -> Fut<'_, RowsPage>;

    /// Attempts of the blocks from one on, some blocks' worth.
    fn history(&self, id: BatchId, from: i64) -> Fut<'_, HistoryPage>;

    /// The attempts of one row, in their order; `None` where the batch has no such line.
    fn line_history(&self, id: BatchId, line: u32) -> Fut<'_, Option<Vec<HistoryEntry>>>;

    /// Takes a row's input, results, messages and texts away from an ended batch; false where it has no such line.
    ///
    /// The one step that may rewrite a body. Output files that were published are not touched.
    fn redact(&self, id: BatchId, line: u32, by: String, now: Timestamp) -> Fut<'_, bool>;

    /// Ended batches of an op that are old enough to be purged, a page at a time.
    ///
    /// One whose end waits to be told is not purged until it was told, for 30 days after its end at
    /// most; nor is one of which a retry is open, which may still read its rows.
    fn purgeable(&self, scan: PurgeScan, now: Timestamp) -> Fut<'_, PurgePage>;

    /// Marks ended batches as purged, before anything of them is removed: from then on nobody sees a
    /// row of theirs. Returns those that were marked; others have not ended, are purged, or wait.
    /// Who asked for it is in the audit; nobody did where their time was over.
    fn purge_mark(
        &self,
        ids: Vec<BatchId>,
        by: Option<String>,
        now: Timestamp,
    ) -> Fut<'_, Vec<BatchId>>;

    /// Batches that are marked and of which something is left: a purge goes on, or was cut off.
    fn purging(&self, limit: u32) -> Fut<'_, Vec<Purgeable>>;

    /// Removes at most `most` records of a batch that is marked; true when only its tombstone is left.
    ///
    /// Its output files go first, or nobody would know of them any more.
    fn purge_piece(&self, id: BatchId, most: u32) -> Fut<'_, bool>;

    /// Ops whose ended batches are kept for a while and then purged.
    fn keeps(&self) -> Fut<'_, Vec<(OpId, Duration)>>;

    /// Forgets tombstones of batches that were purged 400 days ago, with their external ids: at most
    /// `most`; returns how many.
    fn forget(&self, now: Timestamp, most: u32) -> Fut<'_, u64>;

    /// What tells this database from every other, and from itself before it was restored.
    fn epoch(&self) -> Fut<'_, String>;

    /// Wakes whoever waits for a change of the store.
    fn signal(&self) -> Signal;

    /// The clock by which times are compared here: this machine's, or that of the one where all is stored.
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    /// After what silence a worker is taken for dead, where silence counts.
    fn heartbeat(&self) -> Option<Duration> {
        None
    }
}
