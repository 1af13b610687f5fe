//! rowmill is a batch and slow-query job manager.
//!
//! An application submits a batch of rows or one slow query. rowmill stores it durably, runs the
//! application's registered processors over it on any number of workers, keeps every row's outcome,
//! assembles output files in the order of the input's lines, and answers "is it done?" cheaply.
//!
//! How a row travels, one room an arrow: [`ingest`] → [`Client::batch_submit_reader`] →
//! [`store`] (blocks) → a claim → the engine's work → a [`processor`] → the store's record → when the
//! last row has ended, [`files`] are assembled → the batch ends → [`Client::batch_done`].

#![warn(missing_docs, unreachable_pub)]

pub mod bench;
pub mod cache;
pub mod cli;
mod client;
pub mod clock;
pub mod config;
pub mod engine;
mod error;
pub mod files;
pub mod ingest;
mod intake;
mod manager;
pub mod model;
pub mod probe;
pub mod processor;
pub mod store;

pub use cache::{RedisOptions, StatusCache};
pub use client::{
    AppendOptions, Appended, Client, NewQuery, NewRow, Purge, Purged, Retried, Submission,
    SubmittedQuery, Waits,
};
pub use error::{Error, ErrorKind, Result};
pub use files::ObjectStore;
pub use intake::Intake;
pub use manager::{Builder, JobManager};
pub use model::{
    Batch, BatchId, JobKey, Kind, Message, NewBatch, OpSettings, RawJson, RowView, Status,
};
pub use processor::{
    BatchProcessor, BoxError, CancelCause, CancelSignal, ChunkCx, ChunkOut, ChunkProcessor, DoneCx,
    FileWriter, InitBlock, Initializer, InputRow, QueryCx, Registry, RowCx, RowFailure,
    SlowQueryProcessor,
};
pub use store::Store;

/// What is particular to a store in a SQLite file.
pub mod sqlite {
    pub use crate::client::submit_in;
    pub use crate::processor::TransactionalProcessor;
    pub use crate::store::sqlite::{Joined, Tx};
    pub use rusqlite;
}

/// What is particular to a store in a PostgreSQL database.
pub mod postgres {
    pub use crate::client::submit_in_postgres as submit_in;
    pub use crate::processor::PostgresProcessor as TransactionalProcessor;
    pub use crate::processor::SetProcessor;
    pub use tokio_postgres;
}
pub use tokio_util::sync::CancellationToken;

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// The guide's programs are tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
pub struct Guide;
