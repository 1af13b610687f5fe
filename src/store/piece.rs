//! The application's own writes, in the transaction that records what they came to.

use std::time::Duration;

use super::Part;

/// The application's work within the transaction that records what it came to.
///
/// It says what is to be recorded with its writes; `None` undoes them.
pub enum Piece {
    /// On SQLite.
    Sqlite(SqlitePiece),
    /// On PostgreSQL.
    Postgres(PostgresPiece),
}

/// Runs in the open transaction.
pub type PostgresRun = Box<
    dyn for<'t> FnOnce(
            &'t super::postgres::PieceTx<'t>,
        ) -> futures_util::future::BoxFuture<'t, Option<Part>>
        + Send,
>;

/// The application's work within a transaction on PostgreSQL, and how that transaction is.
pub struct PostgresPiece {
    /// What it sees of what others do meanwhile.
    pub isolation: tokio_postgres::IsolationLevel,
    /// A statement of the application's is ended by the server after this.
    pub statement: Duration,
    /// The work.
    pub run: PostgresRun,
}

impl PostgresPiece {
    /// At READ COMMITTED, with statements of 10 s at most.
    #[must_use]
    pub fn new(run: PostgresRun) -> Self {
        Self {
            isolation: tokio_postgres::IsolationLevel::ReadCommitted,
            statement: Duration::from_secs(10),
            run,
        }
    }
}

/// Runs on the thread that writes the file.
pub type SqlitePiece = Box<dyn for<'t> FnOnce(&mut super::sqlite::Tx<'t>) -> Option<Part> + Send>;

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transacted {
    /// Its writes and its part are committed.
    Done,
    /// Somebody else has the task, or it has ended: it was not begun.
    Fenced,
    /// It gave up, or its transaction was lost: nothing of it is there.
    Undone,
    /// Others were in its way: nothing of it is there, and it may be made again at once.
    InTheWay,
    /// The application ended the transaction itself: no outcome is recorded, and its task is still its holder's.
    Ended {
        /// What was written until then is there, by a commit; else it was undone.
        kept: bool,
    },
}
