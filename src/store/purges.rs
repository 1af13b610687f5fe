//! What a purge looks for and finds.

use crate::model::{BatchId, JobKey, OpId, Timestamp};

/// Which ended batches are looked at, a page at a time.
#[derive(Debug, Clone, Copy)]
pub struct PurgeScan {
    /// Those of this op.
    pub op: OpId,
    /// Those that ended before this time.
    pub before: Timestamp,
    /// Those behind this end and batch: [`PurgePage::next`] of the page before.
    pub after: Option<(Timestamp, BatchId)>,
    /// At most so many.
    pub limit: u32,
}

/// Ended batches, oldest end first.
#[derive(Debug, Clone, Default)]
pub struct PurgePage {
    /// Those that may be purged.
    pub batches: Vec<Purgeable>,
    /// Those that are old enough and wait: for their end to be told, for a retry of them to end, or for the time until which they are kept.
    pub waiting: u64,
    /// Go on from here; `None` at the end.
    pub next: Option<(Timestamp, BatchId)>,
}

/// A batch that may be purged, or is being purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purgeable {
    /// Which.
    pub id: BatchId,
    /// Its names, for its output files' folder.
    pub key: JobKey,
    /// How many rows it has.
    pub rows: u64,
    /// Bytes of its inputs and its output files.
    pub bytes: u64,
    /// How many output files it has.
    pub files: u64,
}
