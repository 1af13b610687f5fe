//! The traits of processors whose writes commit with their rows' outcomes, on PostgreSQL.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::{IsolationLevel, Transaction};

use super::{BoxError, ChunkCx, ChunkOut, DoneCx, InitBlock, InputRow, RowCx, RowFailure};
use crate::model::Batch;

/// Works on one row inside the transaction that records its outcome: effects that happen exactly once.
///
/// **Transaction:** what a row writes through the transaction that it is handed is there if and only if its recorded
/// outcome is `success`, and it is there once: across kill -9 at any moment, lost connections, failover to a
/// synchronous standby, retries and abort. Rows of a task share a transaction, a second of work at most; whatever a row
/// that did not succeed has written is undone, and its neighbours keep theirs. That holds for logged tables of the
/// database that rowmill is in, and for nothing else: not for sequences, `NOTIFY`, other servers, unlogged
/// tables, or calls to the outside.
///
/// It may be called more than once for a row, each time with what it wrote before undone. A deferred
/// constraint is checked with the row that violates it. A row that returns success after a statement
/// of its own failed has failed: PostgreSQL keeps nothing of it. A deadlock, a serialization failure
/// or a lock that was waited for too long is nobody's failure, and the rows run again; so return such errors as they
/// are (`?`), and make no message of them. What is set for the session (`set` without `local`, a
/// temporary table, an advisory lock of the session) outlives the transaction: leave it be. A processor that sends `COMMIT`
/// or `ROLLBACK` as text breaks all of this: its rows in flight fail with `transaction_ended`, and its op is paused.
///
/// **Cancellation:** a row is cut off after the op's `timeout` (10 s unless said otherwise), which fails it with
/// `timed_out`, and after the grace of an abort or a stop; neither has any effect.
///
/// **Speed:** a statement that is given as text is prepared for each row, and each is waited for. [`RowCx::prepare`] keeps what is
/// prepared, and rows that may [run beside each other](Self::any_order) wait for nobody.
///
/// ```no_run
/// # use rowmill::{JobManager, RowCx, RowFailure, Store};
/// use rowmill::postgres::{TransactionalProcessor, tokio_postgres::Transaction};
/// struct Credit;
/// impl TransactionalProcessor for Credit {
///     type Block = ();
///     type Context = ();
///     type Input = i64;
///     type Output = ();
///     async fn process(&self, tx: &Transaction<'_>, _: &mut RowCx<'_, (), ()>, cents: i64) -> Result<(), RowFailure> {
///         tx.execute("update account set cents = cents + $1", &[&cents]).await?;
///         Ok(())
///     }
/// }
/// # async fn manager() -> Result<JobManager, Box<dyn std::error::Error>> {
/// let store = Store::postgres_url("postgres://rowmill@db/bank").await?;
/// let manager = JobManager::builder(store).transactional("bank", "credit", Credit).build()?;
/// # Ok(manager) }
/// ```
pub trait TransactionalProcessor: Send + Sync + 'static {
    /// What the app's processors share; `()` for nothing.
    type Block: InitBlock;
    /// The batch's context, decoded once a task.
    type Context: DeserializeOwned + Send + Sync + 'static;
    /// A row's input; `Box<RawValue>` takes it as it is.
    type Input: DeserializeOwned + Send;
    /// A row's result.
    type Output: Serialize + Send;

    /// Works on one row.
    ///
    /// # Errors
    /// See [`RowFailure`]. Whatever it is, what the row wrote is undone.
    fn process(
        &self,
        tx: &Transaction<'_>,
        cx: &mut RowCx<'_, Self::Block, Self::Context>,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Output, RowFailure>> + Send;

    /// Whether its rows may run beside each other, in any order: as many of a task as the op's `parallel` says.
    ///
    /// Their statements are then on their way to the server together, in the one transaction, so that a row does not wait for
    /// the answers of the row before. What rows beside each other come to counts only if all of them succeed: if one does not,
    /// what they wrote is undone, it runs again alone, and those before and behind it without it. `false`, unless said
    /// otherwise: then rows run one after the other, in line order.
    ///
    /// Say `true` only if
    /// - *no row depends on what another writes*: rows are interleaved at every await. A lock of the transaction's (`FOR UPDATE`,
    ///   an advisory lock, SERIALIZABLE) keeps none of them out, for it is the same transaction's. A balance that is read and then
    ///   written is lost; `set cents = cents + $1` is not;
    /// - *no row sets what is the transaction's as a whole*: a savepoint as text, `set local`, a cursor of a fixed name. To go
    ///   back to a savepoint of its own undoes what others have written meanwhile, and nobody sees that.
    ///
    /// The op's time-out is that of a row, and what it waits for the statements of others is a part of it.
    fn any_order(&self) -> bool {
        false
    }

    /// What its transactions see of what others do meanwhile: READ COMMITTED unless said otherwise.
    fn isolation(&self) -> IsolationLevel {
        IsolationLevel::ReadCommitted
    }

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

/// Works on many rows at once inside the transaction that records their outcomes: one statement for all of them.
///
/// **Transaction:** as [`TransactionalProcessor`]. An error runs the rows again in halves, until a
/// bad row is alone; rows with an outcome that is not success, or with none (`no_outcome`), are left out, and the others
/// run again without them. So a row may be seen several times, and is kept once.
///
/// ```no_run
/// use rowmill::postgres::{SetProcessor, tokio_postgres::Transaction};
/// use rowmill::{ChunkCx, ChunkOut, InputRow, RowFailure};
/// struct Credit;
/// impl SetProcessor for Credit {
///     type Block = ();
///     type Context = ();
///     type Input = (i32, i64);
///     type Output = ();
///     async fn process(
///         &self,
///         tx: &Transaction<'_>,
///         _: &ChunkCx<'_, (), ()>,
///         rows: &[InputRow<(i32, i64)>],
///         out: &mut ChunkOut<()>,
///     ) -> Result<(), RowFailure> {
///         let (ids, cents): (Vec<i32>, Vec<i64>) = rows.iter().map(|row| row.input).unzip();
///         let all = "update account a set cents = a.cents + s.cents
///                      from (select id, sum(cents)::bigint cents from unnest($1::int[], $2::bigint[]) u (id, cents) group by id) s
///                     where a.id = s.id";
///         tx.execute(all, &[&ids, &cents]).await?;
///         (0..rows.len()).for_each(|index| out.success(index, &()));
///         Ok(())
///     }
/// }
/// ```
pub trait SetProcessor: Send + Sync + 'static {
    /// What the app's processors share; `()` for nothing.
    type Block: InitBlock;
    /// The batch's context, decoded once a task.
    type Context: DeserializeOwned + Send + Sync + 'static;
    /// A row's input.
    type Input: DeserializeOwned + Send + Sync;
    /// A row's result.
    type Output: Serialize + Send;

    /// Works on all rows; the op's time-out is that of one call.
    ///
    /// # Errors
    /// One of the rows is bad, or all of them are. Whatever it is, what they wrote is undone.
    fn process(
        &self,
        tx: &Transaction<'_>,
        cx: &ChunkCx<'_, Self::Block, Self::Context>,
        rows: &[InputRow<Self::Input>],
        out: &mut ChunkOut<Self::Output>,
    ) -> impl Future<Output = Result<(), RowFailure>> + Send;

    /// As [`TransactionalProcessor::isolation`].
    fn isolation(&self) -> IsolationLevel {
        IsolationLevel::ReadCommitted
    }

    /// As [`BatchProcessor::wants_ends`](super::BatchProcessor::wants_ends).
    fn wants_ends(&self) -> bool {
        true
    }

    /// As [`TransactionalProcessor::mark_done`].
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
