//! Batches as they are submitted and as they are seen.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{AppName, BatchId, JobKey, Kind, Line, OpName, Status, Timestamp};

/// A batch or slow query to submit; its rows come apart.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Its key, made by whoever submits so that a repeat is recognised.
    pub id: BatchId,
    /// What is to work on it.
    pub key: JobKey,
    /// Any JSON, handed to the processor with every row.
    pub context: Box<RawValue>,
    /// Held in `wait` until it is released.
    pub hold: bool,
    /// Higher first, −100 to 100.
    pub priority: i32,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
    /// Rows that have not begun by then expire.
    pub expires_at: Option<Timestamp>,
    /// The submitter's own name for it, unique in its app.
    pub external_id: Option<String>,
    /// Who submits.
    pub by: String,
    /// A CSV's column names, so that rows can be written back as they came.
    pub columns: Option<Vec<String>>,
    /// The batch whose failed rows it repeats.
    pub retry_of: Option<RetryOf>,
}

/// What a retry knows of the batch whose failed rows it repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOf {
    /// That batch.
    pub parent: BatchId,
    /// The first of its line.
    pub root: BatchId,
    /// Retries between the root and this one.
    pub generation: u32,
    /// The retries that the batch had when the rows were chosen: with one more, they were chosen wrongly.
    pub before: u32,
}

impl NewBatch {
    /// A batch without context, to run at once.
    #[must_use]
    pub fn new(key: JobKey) -> Self {
        Self {
            id: BatchId::new(),
            key,
            context: RawValue::NULL.to_owned(),
            hold: false,
            priority: 0,
            run_at: None,
            expires_at: None,
            external_id: None,
            by: String::new(),
            columns: None,
            retry_of: None,
        }
    }
}

/// How many rows there are and what they came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All rows.
    pub rows: u64,
    /// Rows that succeeded.
    pub success: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Rows that were aborted.
    pub aborted: u64,
    /// Rows that expired.
    pub expired: u64,
    /// Rows that have not ended.
    pub pending: u64,
}

/// An assembled output file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Its logical name.
    pub name: String,
    /// Where it is: `{app}/{op}/{batch}/{name}`.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Its media type, by its name's extension.
    pub content_type: String,
}

/// How fast a batch goes, measured since it started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Rows ended a second.
    pub rows_per_second: f64,
    /// Seconds until it is done, at that rate.
    pub eta_seconds: Option<f64>,
}

/// A batch or slow query as it is seen: the JSON shape of every answer that names one.
#[derive(Debug, Clone, Serialize)]
pub struct Batch {
    /// Its key.
    pub id: BatchId,
    /// The application, as written.
    pub app: AppName,
    /// The operation, in lower case.
    pub op: OpName,
    /// A batch or a slow query.
    pub kind: Kind,
    /// Where it stands.
    pub status: Status,
    /// Nothing of it can change any more.
    pub done: bool,
    /// Exact once it is done; up to a second old before.
    pub counts: Counts,
    /// What it was submitted with.
    pub context: Box<RawValue>,
    /// Higher first.
    pub priority: i32,
    /// The batch whose failed rows it repeats.
    pub parent: Option<BatchId>,
    /// The first of its line: what idempotency keys name.
    pub root: BatchId,
    /// How many retries lie between its root and it.
    pub generation: u32,
    /// The submitter's own name for it.
    pub external_id: Option<String>,
    /// Who submitted it.
    pub created_by: String,
    /// When it was acknowledged.
    pub created_at: Timestamp,
    /// Not before this time.
    pub run_at: Option<Timestamp>,
    /// Rows that have not begun by then expire.
    pub expires_at: Option<Timestamp>,
    /// When its first task was claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub done_at: Option<Timestamp>,
    /// An abort was asked for and rows are still running.
    pub aborting: bool,
    /// How fast it goes; none before it starts and after it ends.
    pub progress: Option<Progress>,
    /// Its output files, once it has ended.
    pub files: Vec<OutputFile>,
    /// A slow query's result; a batch has none, and `Some(None)` is a query that has not ended or has ended
    /// without one. [`Batch::answer`] tells no difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Option<Box<RawValue>>>,
    /// A slow query's messages, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Option<Box<RawValue>>>,
    /// A CSV's column names; not on the wire.
    #[serde(skip)]
    pub columns: Option<Vec<String>>,
    /// Since when its rows, files and history are gone; not on the wire.
    #[serde(skip)]
    pub purged_at: Option<Timestamp>,
}

impl Batch {
    /// A batch of so many rows in the moment in which it was stored.
    pub(crate) fn submitted(new: NewBatch, rows: u64, now: Timestamp) -> Self {
        let status = if new.hold {
            Status::Wait
        } else {
            Status::Queued
        };
        let none = (new.key.kind == Kind::Query).then_some(None);
        // As times are stored.
        let stored = |at: Timestamp| Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
        Self {
            id: new.id,
            app: new.key.app,
            op: new.key.op,
            kind: new.key.kind,
            status,
            done: false,
            counts: Counts {
                rows,
                pending: rows,
                ..Counts::default()
            },
            context: new.context,
            priority: new.priority,
            parent: new.retry_of.map(|of| of.parent),
            root: new.retry_of.map_or(new.id, |of| of.root),
            generation: new.retry_of.map_or(0, |of| of.generation),
            external_id: new.external_id,
            created_by: new.by,
            created_at: stored(now),
            run_at: new.run_at.map(stored),
            expires_at: new.expires_at.map(stored),
            started_at: None,
            done_at: None,
            aborting: false,
            progress: None,
            files: Vec::new(),
            result: none.clone(),
            messages: none,
            columns: new.columns,
            purged_at: None,
        }
    }

    /// What works on it.
    #[must_use]
    pub fn key(&self) -> JobKey {
        JobKey {
            app: self.app.clone(),
            op: self.op.clone(),
            kind: self.kind,
        }
    }

    /// A slow query's result, once it has ended with one.
    #[must_use]
    pub fn answer(&self) -> Option<&RawValue> {
        self.result.as_ref()?.as_deref()
    }
}

/// A row as it is seen.
#[derive(Debug, Clone, Serialize)]
pub struct RowView {
    /// Its line.
    pub line: Line,
    /// Where it stands.
    pub status: Status,
    /// Its input as it was given.
    pub input: Box<RawValue>,
    /// Its result, once it has one.
    pub result: Option<Box<RawValue>>,
    /// What its owner reads.
    pub messages: Option<Box<RawValue>>,
    /// The attempt that decided it, or the latest so far.
    pub attempt: Option<u32>,
    /// When its outcome was recorded.
    pub done_at: Option<Timestamp>,
    /// What it held was taken away; not on the wire.
    #[serde(skip)]
    pub redacted: bool,
}
