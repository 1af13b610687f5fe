//! Statements of an application's that its connection keeps, on PostgreSQL.

use tokio_postgres::{Error, Statement, Transaction};

use super::context::Shared;
use super::{ChunkCx, RowCx};

impl<B, C> Shared<'_, B, C> {
    async fn prepare(&self, tx: &Transaction<'_>, sql: &str) -> Result<Statement, Error> {
        match self.piece {
            Some(piece) => piece.prepare(sql).await,
            None => tx.prepare(sql).await,
        }
    }
}

impl<B, C> RowCx<'_, B, C> {
    /// Prepares a statement on PostgreSQL once a connection, and takes it from there each time after: a round trip less and
    /// nothing to parse, where a statement given as text costs both for each row.
    ///
    /// A connection keeps 1,000, and forgets them all before one more; behind a pooler each is prepared each time. So values belong into
    /// parameters. Where a table has changed so that a kept statement would give other columns, the rows run again, and it
    /// is prepared anew. **Cancellation:** safe.
    ///
    /// # Errors
    /// The server's, for example a table that is not there; the transaction keeps nothing after it.
    ///
    /// ```no_run
    /// # use rowmill::{RowCx, RowFailure};
    /// # use rowmill::postgres::tokio_postgres::Transaction;
    /// async fn credit(tx: &Transaction<'_>, cx: &RowCx<'_, (), ()>, cents: i64) -> Result<(), RowFailure> {
    ///     let update = cx.prepare(tx, "update account set cents = cents + $1").await?;
    ///     assert_eq!(tx.execute(&update, &[&cents]).await?, 1);
    ///     Ok(())
    /// }
    /// ```
    pub async fn prepare(&self, tx: &Transaction<'_>, sql: &str) -> Result<Statement, Error> {
        self.shared.prepare(tx, sql).await
    }
}

impl<B, C> ChunkCx<'_, B, C> {
    /// As [`RowCx::prepare`].
    ///
    /// # Errors
    /// As there.
    pub async fn prepare(&self, tx: &Transaction<'_>, sql: &str) -> Result<Statement, Error> {
        self.shared.prepare(tx, sql).await
    }
}
