//! What goes into the store's steps and comes out of them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::model::{
    Batch, BatchId, BatchState, Block, EndedAs, HistoryEntry, JobKey, NewBatch, OpId, RowView,
    TaskId, Timestamp, Token, WorkerNo,
};

/// A worker that begins.
#[derive(Debug, Clone)]
pub struct NewWorker {
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// rowmill's version.
    pub version: &'static str,
    /// What it works on.
    pub ops: Vec<Serves>,
    /// It works on this batch alone.
    pub only: Option<BatchId>,
}

/// An op that a worker works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serves {
    /// Which.
    pub op: OpId,
    /// It tells a receiver of the op's ends.
    pub notify: bool,
}

/// An op that a process works on.
#[derive(Debug, Clone)]
pub struct OpRegistration {
    /// Its names.
    pub key: JobKey,
    /// This process tells a receiver of its ends.
    pub notify: bool,
    /// A row that was running so many times when its worker died has failed.
    pub max_lost: u32,
    /// How long its ended batches are kept; none is until somebody purges them.
    pub keep: Option<Duration>,
}

/// What holds an op up, or lets it go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpState {
    /// Its number.
    pub id: OpId,
    /// Claimed by nobody until it is resumed.
    pub paused: bool,
    /// What is set here over the processes' own settings: a JSON object.
    pub settings: Option<String>,
    /// Live workers that work on it, or on the one batch that was asked about.
    pub workers: u32,
}

/// An op that is paused, or that has settings of its own here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOp {
    /// Which.
    pub id: OpId,
    /// Claimed by nobody until it is resumed.
    pub paused: bool,
    /// What is set here over the processes' own settings: a JSON object.
    pub settings: Option<String>,
}

/// Blocks of a load.
#[derive(Debug)]
pub struct LoadPiece {
    /// Whose.
    pub id: BatchId,
    /// The loader's token.
    pub token: Token,
    /// The first block's number.
    pub first_no: i64,
    /// The blocks.
    pub blocks: Vec<Block>,
}

/// A slow query to store: its block of one row, and the hash of its content.
pub type QueryBlock = (NewBatch, Block, [u8; 32]);

/// What became of a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It is stored, or being loaded, under this id.
    New(BatchId),
    /// The same content was there, under this id.
    Existing(BatchId),
}

impl Submitted {
    /// The batch.
    #[must_use]
    pub fn id(self) -> BatchId {
        match self {
            Self::New(id) | Self::Existing(id) => id,
        }
    }
}

/// The best ready task of an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which op.
    pub op: OpId,
    /// Its priority.
    pub priority: i32,
    /// When its batch was made.
    pub age: Timestamp,
}

/// Where a worker looks for something to do.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Ops whose best ready tasks are asked for.
    pub ops: Vec<OpId>,
    /// This batch's alone.
    pub only: Option<BatchId>,
    /// Whether batches wait for their output files is asked.
    pub closes: bool,
    /// Whether ends of these ops wait to be told is asked.
    pub receivers: Vec<OpId>,
}

/// What a worker found to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The best ready tasks, one an op at most.
    pub heads: Vec<Head>,
    /// Batches wait for their output files.
    pub closes: bool,
    /// Ends wait to be told.
    pub notices: bool,
}

/// What whoever waits for a batch finds.
#[derive(Debug, Clone)]
pub enum Ended {
    /// It is there, and has not ended.
    NotYet,
    /// It has ended.
    Yes(Box<Batch>),
    /// There is none, or it is still being loaded.
    Unknown,
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who asks.
    pub worker: WorkerNo,
    /// The one op.
    pub op: OpId,
    /// The fence of all that this claim takes.
    pub token: Token,
    /// At most so many tasks.
    pub max_tasks: u32,
    /// Tasks are taken until they have so many rows.
    pub max_rows: u64,
    /// Tasks are taken until their inputs have so many bytes.
    pub max_bytes: usize,
    /// A task of more rows is split and the rest left queued.
    pub split_over: Option<u32>,
    /// Rows in flight over all workers, and how many a running task takes.
    pub cap: Option<(u32, u32)>,
    /// Takes this batch's tasks alone.
    pub only: Option<BatchId>,
    /// Takes the oldest batch's tasks first, whatever their priority.
    pub oldest: bool,
    /// Each row may start at most once: the claim and every start must survive a power failure.
    pub once: bool,
}

/// What every later write about a claim names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimRef {
    /// The batch.
    pub batch: BatchId,
    /// The task in it.
    pub task: TaskId,
    /// The block whose rows it has.
    pub no: i64,
    /// The claim's number, for people and processors.
    pub attempt: u32,
    /// The fence.
    pub token: Token,
}

/// What a task's processor needs to know of its batch.
#[derive(Debug)]
pub struct BatchHead {
    /// Its key.
    pub id: BatchId,
    /// What works on it.
    pub key: JobKey,
    /// What it was submitted with.
    pub context: Box<RawValue>,
    /// The first of its line.
    pub root: BatchId,
    /// Retries between its root and it.
    pub generation: u32,
    /// Rows that have not begun by then expire.
    pub expires_at: Option<Timestamp>,
}

/// A task that was claimed, with its rows.
#[derive(Debug, Clone)]
pub struct ClaimedTask {
    /// Its batch.
    pub batch: Arc<BatchHead>,
    /// What every write names.
    pub claim: ClaimRef,
    /// Failures so far.
    pub failures: u32,
    /// Times that its rows asked to come later.
    pub laters: u32,
    /// Each row is committed before it starts: a worker died with it, or it may start only once.
    pub suspect: bool,
    /// Its one row was running when a worker died.
    pub accused: bool,
    /// A worker died that had it, and nobody knows whether it had begun: this time that is recorded before it does.
    pub believed: bool,
    /// Line of ordinal 0.
    pub first_line: u32,
    /// Every row's line where there are gaps.
    pub lines: Option<Vec<u32>>,
    /// The block's inputs, one a line.
    pub body: String,
    /// The rows that are the task's; `None` = all.
    pub pick: Option<Vec<u32>>,
    /// How many rows it has.
    pub rows: u32,
}

/// Outcomes of one attempt that are written together.
#[derive(Debug, Clone)]
pub struct Part {
    /// Whose.
    pub claim: ClaimRef,
    /// Its number within the attempt, from 0.
    pub part: u32,
    /// The rows of the body's lines; `None` = 0, 1, 2, ….
    pub ordinals: Option<Vec<u32>>,
    /// One outcome a line. Shared: whoever records it keeps it until that is done, and has it once.
    pub body: Arc<String>,
    /// Final successes in it.
    pub success: u32,
    /// Final failures in it.
    pub failed: u32,
    /// Has text for output files, or streamed files.
    pub files: bool,
    /// Rows that leave the task and go again, each group as a task of its own.
    pub again: Vec<Again>,
    /// What becomes of the task.
    pub then: Then,
    /// Its op has a cap, or had one when the task began: what the task frees by its end may be waited for.
    pub capped: bool,
    /// Its worker has claimed more of the batch, and records that later: whether the batch has ended need not be asked
    /// before.
    pub more: bool,
}

/// What becomes of a task with a part.
#[derive(Debug, Clone)]
pub enum Then {
    /// The attempt goes on.
    GoesOn {
        /// The row that is about to start, where each is committed before it starts.
        row_now: Option<u32>,
        /// It need not survive a power failure, only the death of any process.
        soft: bool,
    },
    /// The attempt ends: every row of the task has an outcome, goes again, or is in `rest`.
    Ends {
        /// Finished, released or aborted.
        ended_as: EndedAs,
        /// Rows that end by `ended_as` (aborted) without a line of their own.
        rest: Vec<u32>,
        /// Rows that have a line with status `aborted`.
        interrupted: u32,
    },
}

/// Rows of an attempt that go again as one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// Which rows.
    pub ordinals: Vec<u32>,
    /// When; at once if `None`.
    pub due_at: Option<Timestamp>,
    /// Failures so far, with this one.
    pub failures: u32,
    /// Times that they asked to come later, with this one.
    pub laters: u32,
    /// Their worker died with them.
    pub suspect: bool,
}

/// What kind of database a store is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
}

impl std::fmt::Display for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// Whether a guarded write found the state it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It was written.
    Done,
    /// Somebody else has the task, or it has ended: nothing was written.
    Fenced,
}

/// A task that the store believes a worker runs.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Which.
    pub claim: ClaimRef,
    /// Its batch is aborting.
    pub aborting: bool,
    /// A close task.
    pub close: bool,
}

/// What a take-over did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Tasks that were given back.
    pub tasks: u64,
    /// Rows that failed because they were running whenever their worker died.
    pub lost_rows: u64,
}

/// What every later write about a claimed close task names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseRef {
    /// The batch.
    pub batch: BatchId,
    /// The fence.
    pub token: Token,
}

/// A batch whose rows have all ended and whose output files are to be assembled.
#[derive(Debug, Clone)]
pub struct CloseTask {
    /// What every write names.
    pub claim: CloseRef,
    /// Its names, for the files' keys.
    pub key: JobKey,
    /// Attempts so far, with this one.
    pub attempt: u32,
}

/// The parts of one block, in the order in which they were made.
#[derive(Debug, Clone)]
pub struct BlockOutcomes {
    /// The block.
    pub no: i64,
    /// How many rows it has.
    pub rows: u32,
    /// Its parts.
    pub parts: Vec<OutcomePart>,
}

/// A part as it is read back.
#[derive(Debug, Clone)]
pub struct OutcomePart {
    /// The rows of the body's lines; `None` = 0, 1, 2, ….
    pub ordinals: Option<Vec<u32>>,
    /// One outcome a line.
    pub body: String,
    /// The attempt's number.
    pub attempt: u32,
    /// When it was recorded.
    pub at: Timestamp,
    /// How rows without a line ended, and which (`None` = all).
    pub rest: Option<(BatchState, Option<Vec<u32>>)>,
}

/// What every later write about a claimed notice names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticeRef {
    /// Which notice: also the event's id for its receiver.
    pub id: i64,
    /// The fence.
    pub token: Token,
}

/// An end that is to be told.
#[derive(Debug, Clone)]
pub struct Notice {
    /// What every write names.
    pub claim: NoticeRef,
    /// The op whose processor is told.
    pub op: OpId,
    /// Deliveries tried before this one.
    pub attempts: u32,
    /// The batch that has ended.
    pub batch: Batch,
}

/// What one round of keeping did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kept {
    /// Tasks that became due.
    pub woken: u64,
    /// Batches that expired.
    pub expired: u64,
    /// Loads and appends that were removed.
    pub swept: u64,
    /// When the next task is due or a batch expires, or a notice becomes due.
    pub next_due: Option<Timestamp>,
}

/// Some rows in line order.
#[derive(Debug, Clone, Default)]
pub struct RowsPage {
    /// The rows.
    pub rows: Vec<RowView>,
    /// Ask again after this line; `None` at the end.
    pub next: Option<u32>,
}

/// Attempts of some blocks, in the blocks' order.
#[derive(Debug, Clone, Default)]
pub struct HistoryPage {
    /// The attempts.
    pub entries: Vec<HistoryEntry>,
    /// Ask again from this block; `None` at the end.
    pub next: Option<i64>,
}

/// The retries of a batch.
#[derive(Debug, Clone, Default)]
pub struct Children {
    /// The batch's own rows were purged.
    pub purged: bool,
    /// Its retries that were acknowledged, oldest first.
    pub batches: Vec<Child>,
}

/// A retry of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Its key.
    pub id: BatchId,
    /// Its rows were purged: what became of each is not known any more.
    pub purged: bool,
    /// Rows of it that succeeded or failed, once it has ended.
    pub ran: u64,
}
