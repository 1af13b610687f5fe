//! The trait of processors whose writes commit with their rows' outcomes, on SQLite.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BoxError, DoneCx, InitBlock, RowCx, RowFailure};
use crate::model::Batch;
use crate::store::sqlite::Tx;

/// Works on one row inside the transaction that records its outcome: effects that happen exactly once.
///
/// **Transaction:** what a row writes through [`Tx`] is there if and only if its recorded outcome is
/// `success`, and it is there once: across kill -9 at any moment, retries and abort. Rows of a task share
/// a transaction of at most 250 ms; whatever a row that did not succeed has written is undone, and its
/// neighbours keep theirs. That holds for tables of rowmill's own SQLite file and for nothing else: a
/// call to the outside, a file, another database is made again when the row runs again.
///
/// **Conversation.** A plain function, no `async`: it runs on the thread that writes the file, and
/// nobody else writes meanwhile. So it must not wait: not for the network, not for a lock, not for
/// another process. It may be called more than once for a row, each time with what it wrote before
/// undone. **Cancellation:** none in the middle of a row; a statement is interrupted after the op's
/// `timeout` (10 s unless said otherwise), which fails the row with `timed_out` and has no effect.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use rowmill::{JobManager, NewRow, RowCx, RowFailure, Store, model::{JobKey, Kind, NewBatch}};
/// use rowmill::sqlite::{TransactionalProcessor, Tx, rusqlite};
/// struct Credit;
/// impl TransactionalProcessor for Credit {
///     type Block = ();
///     type Context = ();
///     type Input = i64;
///     type Output = ();
///     fn process(&self, tx: &mut Tx<'_>, _: &mut RowCx<'_, (), ()>, cents: i64) -> Result<(), RowFailure> {
///         tx.execute("update account set cents = cents + ?1", [cents])?;
///         Ok(())
///     }
/// }
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("rowmill.db");
/// let store = Store::sqlite(&path).await?;
/// let mine = rusqlite::Connection::open(&path)?;
/// mine.execute_batch("create table account (cents integer); insert into account values (5)")?;
/// let manager = JobManager::builder(store).transactional("bank", "credit", Credit).build()?;
/// # let rows = [NewRow::json(&37)?];
/// # manager.batch_submit(NewBatch::new(JobKey::new("bank", "credit", Kind::Batch)?), rows).await?;
/// manager.tick().await?;
/// assert_eq!(mine.query_row("select cents from account", [], |r| r.get::<_, i64>(0))?, 42);
/// # Ok(()) }
/// ```
pub trait TransactionalProcessor: Send + Sync + 'static {
    /// What the app's processors share; `()` for nothing.
    type Block: InitBlock;
    /// The batch's context, decoded once a task.
    type Context: DeserializeOwned + Send + Sync + 'static;
    /// A row's input; `Box<RawValue>` takes it as it is.
    type Input: DeserializeOwned;
    /// A row's result.
    type Output: Serialize;

    /// Works on one row.
    ///
    /// # Errors
    /// See [`RowFailure`]. Whatever it is, what the row wrote is undone.
    fn process(
        &self,
        tx: &mut Tx<'_>,
        cx: &mut RowCx<'_, Self::Block, Self::Context>,
        input: Self::Input,
    ) -> Result<Self::Output, RowFailure>;

    /// As [`BatchProcessor::wants_ends`](super::BatchProcessor::wants_ends).
    fn wants_ends(&self) -> bool {
        true
    }

    /// As [`BatchProcessor::mark_done`](super::BatchProcessor::mark_done): outside of any transaction.
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
