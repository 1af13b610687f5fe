//! The nouns: ids, states, batches, rows, blocks and outcomes. No I/O and no async.

mod batch;
mod block;
mod history;
mod ids;
mod list;
mod op;
mod outcome;
mod settings;
mod states;
mod words;

pub use batch::{Batch, Counts, NewBatch, OutputFile, Progress, RetryOf, RowView};
pub(crate) use block::line_of;
pub use block::{Block, BlockBuilder, ContentHash, RejectedRow};
pub(crate) use history::{BlockHistory, PartRecord, RunningTask};
pub use history::{HistoryEntry, HistoryOf};
pub use ids::{
    AppName, BatchId, FileName, IdError, JobKey, Kind, Line, OpId, OpName, TaskId, Token, WorkerNo,
};
pub use list::{BatchFilter, BatchesPage, Cursor};
pub use op::{Amount, OpEntry, WorkerEntry};
pub use outcome::{
    EndedAs, Message, OutcomeLine, OutcomeStatus, RowOutcome, StagedFile, codes, decode_outcome,
    encode_outcome,
};
pub(crate) use outcome::{FilesOf, redact_outcome};
pub use settings::{Backoff, Delivery, OpSettings, format_duration, parse_duration};
pub use states::{
    BATCH_TRANSITIONS, BatchState, Status, TASK_TRANSITIONS, TaskState, Transition, states_page,
};

pub(crate) use words::counted;

/// A point in time, in UTC. Every time that a store compares is given to it.
pub use jiff::Timestamp;

/// JSON as it was written: no input, context or result ever becomes a tree of values.
pub use serde_json::value::RawValue as RawJson;
