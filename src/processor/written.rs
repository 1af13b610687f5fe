//! For which database a transactional processor is written.

use std::sync::Arc;

use super::per_piece::{PerPiece, Rows};
use super::per_tx::PerTx;
use super::{ErasedProcessor, PostgresProcessor, TransactionalProcessor};

/// A processor for SQLite.
#[derive(Debug)]
pub struct OnSqlite;

/// A processor for PostgreSQL.
#[derive(Debug)]
pub struct OnPostgres;

/// A transactional processor for one of the databases; it is implemented here alone.
pub trait Transactional<D>: sealed::Sealed<D> {}

impl<D, P: sealed::Sealed<D>> Transactional<D> for P {}

mod sealed {
    pub trait Sealed<D> {
        fn erased(self) -> super::Erased;
    }
}

/// What the registry keeps of one.
pub struct Erased(pub(super) Arc<dyn ErasedProcessor>);

impl<P: TransactionalProcessor> sealed::Sealed<OnSqlite> for P {
    fn erased(self) -> Erased {
        Erased(Arc::new(PerTx(Arc::new(self))))
    }
}

impl<P: PostgresProcessor> sealed::Sealed<OnPostgres> for P {
    fn erased(self) -> Erased {
        Erased(Arc::new(PerPiece::new(Rows(self))))
    }
}
