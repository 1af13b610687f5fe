//! What an application writes: initializers and processors, and how the engine runs them.
//!
//! Typed outside, erased inside: `erased` turns each public trait into the one private,
//! object-safe shape that the engine knows: a task goes in, outcomes come out at its `desk`.

pub mod command;
mod context;
mod desk;
mod draft;
mod erased;
mod failure;
mod limit;
mod on_postgres;
mod per_chunk;
mod per_piece;
mod per_query;
mod per_tx;
mod pulse;
mod registry;
mod statements;
mod traits;
mod transactional;
mod whose;
mod written;

pub use context::{
    CancelCause, CancelSignal, ChunkCx, ChunkOut, DoneCx, FileWriter, QueryCx, RowCx,
};
pub use failure::RowFailure;
pub use registry::{Mistake, Registry};
pub use traits::{
    BatchProcessor, ChunkProcessor, InitBlock, Initializer, InputRow, SlowQueryProcessor,
};

pub use on_postgres::SetProcessor;
pub use on_postgres::TransactionalProcessor as PostgresProcessor;
pub use transactional::TransactionalProcessor;
pub use written::{OnPostgres, OnSqlite, Transactional};

pub(crate) use context::CancelHandle;
pub(crate) use desk::{Desk, FLUSH, Ran, Request, TxRows, Work};
pub(crate) use draft::Draft;
pub(crate) use erased::{AnyBlock, ErasedInitializer, ErasedProcessor, is_unit, unit_block};
pub(crate) use pulse::Pulse;
pub(crate) use registry::{AppEntry, OpRegistered};

/// Any error of the application's: for the operator's log, never for the row's owner.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
