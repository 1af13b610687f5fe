//! What is stored, in the design's words, and the invariants that hold of it at every moment.

use std::collections::{BTreeMap, BTreeSet};

use rowmill::Status;
use rowmill::model::{BatchId, BatchState, EndedAs, TaskState, decode_outcome};

/// A batch's record.
#[derive(Debug, Clone)]
pub struct BatchFact {
    pub id: BatchId,
    pub state: BatchState,
    pub rows: u64,
    pub blocks: i64,
    pub given: i64,
    /// Its rows are gone, or going.
    pub purged: bool,
    pub purging: bool,
    /// success, failed, aborted, expired
    pub counts: Option<[u64; 4]>,
}

impl BatchFact {
    pub fn loading(&self) -> bool {
        self.state == BatchState::Loading
    }

    pub fn ended(&self) -> bool {
        self.state.is_final()
    }
}

/// A block's record.
#[derive(Debug, Clone)]
pub struct BlockFact {
    pub batch: BatchId,
    pub no: i64,
    pub rows: u32,
}

/// An append's record.
#[derive(Debug, Clone)]
pub struct AppendFact {
    pub batch: BatchId,
    pub first_no: i64,
    pub blocks: i64,
    pub rows: u64,
    /// Being loaded: it does not count.
    pub open: bool,
    pub by: String,
}

impl AppendFact {
    fn has(&self, block: &BlockFact) -> bool {
        let blocks = self.first_no..self.first_no + self.blocks;
        self.batch == block.batch && blocks.contains(&block.no)
    }
}

/// A task that has not ended.
#[derive(Debug, Clone)]
pub struct TaskFact {
    pub batch: BatchId,
    pub id: i64,
    pub no: i64,
    pub close: bool,
    pub state: TaskState,
    pub rows: u32,
    pub pick: Option<Vec<u32>>,
    pub attempt: u32,
    pub failures: u32,
    pub losses: u32,
    pub suspect: u32,
    pub due_at: Option<i64>,
    pub worker: Option<i64>,
    pub row_now: Option<u32>,
    /// A close task's progress.
    pub progress: (u64, u64),
}

/// A part, in the order in which it was written.
#[derive(Debug, Clone)]
pub struct PartFact {
    pub batch: BatchId,
    pub no: i64,
    pub task: i64,
    pub attempt: u32,
    pub ended_as: Option<EndedAs>,
    pub success: u64,
    pub failed: u64,
    pub ended: u64,
    pub ordinals: Option<Vec<u32>>,
    pub rest: Option<Vec<u32>>,
    pub body: String,
}

impl PartFact {
    /// Each line's row and final status, if it is one.
    fn lines(&self) -> Vec<(u32, Option<Status>)> {
        let lines = (0..).zip(self.body.lines());
        lines
            .map(|(i, line)| {
                let at = usize::try_from(i).unwrap();
                let row = self.ordinals.as_ref().map_or(i, |o| o[at]);
                (row, decode_outcome(line).expect("an outcome").status())
            })
            .collect()
    }

    /// Rows that end by how the part ends.
    fn rest(&self, rows: u32) -> Vec<(u32, Status)> {
        let status = match self.ended_as {
            Some(EndedAs::Expired) => Status::Expired,
            _ => Status::Aborted,
        };
        // Of an attempt that was lost or given back, it is the rows that went back.
        let rows = match &self.rest {
            _ if self.ended == 0 => Vec::new(),
            Some(rest) => rest.clone(),
            None => (0..rows).collect(),
        };
        rows.into_iter().map(|row| (row, status)).collect()
    }
}

/// Everything that is stored.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub batches: Vec<BatchFact>,
    pub blocks: Vec<BlockFact>,
    pub appends: Vec<AppendFact>,
    pub tasks: Vec<TaskFact>,
    pub parts: Vec<PartFact>,
    /// Workers that have ended.
    pub left: BTreeSet<i64>,
    /// Batches of notices that were not delivered, and who has them.
    pub notices: Vec<(BatchId, Option<i64>)>,
    /// Who did what to which batch.
    pub audit: Vec<(String, String, Option<BatchId>)>,
    /// Who did what to which op, with what.
    pub audit_ops: Vec<(String, String, i64, Option<String>)>,
}

type Row = (BatchId, i64, u32);

impl Facts {
    pub fn of(&self, id: BatchId) -> &BatchFact {
        self.batches.iter().find(|b| b.id == id).expect("a batch")
    }

    /// Tasks of rows of a batch that have not ended.
    pub fn rows_tasks(&self, id: BatchId) -> Vec<&TaskFact> {
        let mut tasks: Vec<_> = self
            .tasks
            .iter()
            .filter(|t| t.batch == id && !t.close)
            .collect();
        tasks.sort_by_key(|t| (t.no, t.id));
        tasks
    }

    pub fn close_task(&self, id: BatchId) -> Option<&TaskFact> {
        self.tasks.iter().find(|t| t.batch == id && t.close)
    }

    pub fn appends_of(&self, id: BatchId) -> Vec<&AppendFact> {
        self.appends.iter().filter(|a| a.batch == id).collect()
    }

    fn rows_of(&self, batch: BatchId, no: i64) -> u32 {
        let found = self
            .blocks
            .binary_search_by_key(&(batch, no), |b| (b.batch, b.no));
        self.blocks[found.expect("a part's block")].rows
    }

    /// Every final outcome of every row.
    fn finals(&self) -> BTreeMap<Row, Vec<Status>> {
        let mut finals: BTreeMap<Row, Vec<Status>> = BTreeMap::new();
        for part in &self.parts {
            let lines = part.lines().into_iter().filter_map(|(r, s)| Some((r, s?)));
            for (row, status) in lines.chain(part.rest(self.rows_of(part.batch, part.no))) {
                let key = (part.batch, part.no, row);
                finals.entry(key).or_default().push(status);
            }
        }
        finals
    }

    /// How many rows of a batch ended as success, failed, aborted, expired.
    pub fn ended(&self, id: BatchId) -> [u64; 4] {
        let mut counts = [0; 4];
        let blocks = self.of(id).blocks;
        let counts_for = |b: &BatchId, no: &i64| *b == id && *no < blocks;
        let finals = self.finals();
        for (_, statuses) in finals.iter().filter(|((b, no, _), _)| counts_for(b, no)) {
            let at = match statuses[0] {
                Status::Success => 0,
                Status::Failed => 1,
                Status::Aborted => 2,
                Status::Expired => 3,
                other => panic!("{other} is not final"),
            };
            counts[at] += 1;
        }
        counts
    }

    /// Rows that a task still has to bring to an end.
    fn open_rows(&self, task: &TaskFact) -> Vec<u32> {
        let all = task
            .pick
            .clone()
            .unwrap_or_else(|| (0..self.rows_of(task.batch, task.no)).collect());
        assert_eq!(
            all.len(),
            usize::try_from(task.rows).unwrap(),
            "a task knows how many rows it has: {task:?}"
        );
        let done: BTreeSet<u32> = self
            .parts
            .iter()
            .filter(|p| {
                (p.batch, p.no, p.task, p.attempt) == (task.batch, task.no, task.id, task.attempt)
            })
            .flat_map(|p| p.lines())
            .map(|(row, _)| row)
            .collect();
        all.into_iter().filter(|row| !done.contains(row)).collect()
    }
}

/// Checks every invariant that can be read off the tables.
pub fn check(facts: &Facts) {
    let finals = facts.finals();
    let mut open: BTreeMap<Row, Vec<&TaskFact>> = BTreeMap::new();
    for task in facts.tasks.iter().filter(|t| !t.close) {
        for row in facts.open_rows(task) {
            open.entry((task.batch, task.no, row))
                .or_default()
                .push(task);
        }
    }
    for task in &facts.tasks {
        let batch = facts.of(task.batch);
        assert!(!batch.ended(), "a task of an ended batch: {task:?}");
        assert!(!batch.loading(), "a task of a load: {task:?}");
        let due = task.due_at.is_some();
        assert_eq!(due, task.state == TaskState::Later, "{task:?}");
        if let Some(worker) = task.worker {
            assert!(
                !facts.left.contains(&worker),
                "a task of a worker that has left: {task:?}"
            );
        }
    }
    for (_, worker) in &facts.notices {
        let held = worker.is_some_and(|w| facts.left.contains(&w));
        assert!(!held, "a notice of a worker that has left");
    }
    for block in &facts.blocks {
        let batch = facts.of(block.batch);
        for row in 0..block.rows {
            let key = (block.batch, block.no, row);
            let ends = finals.get(&key).map_or(0, Vec::len);
            let opens = open.get(&key).map_or(0, Vec::len);
            if batch.purging {
                // Its outcomes go before its blocks.
                continue;
            }
            assert!(ends <= 1, "{key:?} is final twice: {:?}", finals[&key]);
            if block.no >= batch.blocks {
                assert_eq!(opens, 0, "{key:?} does not count and runs");
                let of_one = |a: &&AppendFact| a.open && a.has(block);
                let appends = facts.appends.iter().filter(of_one).count();
                assert_eq!(appends, 1, "{key:?} is of no append that is being loaded");
            } else if batch.loading() || (block.no >= batch.given && !batch.ended()) {
                assert_eq!(opens, 0, "{key:?} runs before its block was given");
            } else {
                assert_eq!(ends + opens, 1, "{key:?} is in exactly one place");
            }
        }
    }
    for batch in &facts.batches {
        if batch.purged {
            check_purged(facts, batch);
            continue;
        }
        check_batch(facts, batch);
    }
    for part in &facts.parts {
        sums_of(part, facts.rows_of(part.batch, part.no));
    }
    attempts_grow(facts, &open);
}

/// A part's sums are those of its lines.
fn sums_of(part: &PartFact, rows: u32) {
    let lines = part.lines();
    let count = |status| {
        let found = lines.iter().filter(|(_, s)| *s == Some(status)).count();
        u64::try_from(found).unwrap()
    };
    assert_eq!(part.success, count(Status::Success), "{part:?}");
    assert_eq!(part.failed, count(Status::Failed), "{part:?}");
    let rest = u64::try_from(part.rest(rows).len()).unwrap();
    assert_eq!(part.ended, count(Status::Aborted) + rest, "{part:?}");
}

/// Of a purged batch nothing is left but its record; of one that is being purged, what fits together.
fn check_purged(facts: &Facts, batch: &BatchFact) {
    assert!(batch.ended(), "{batch:?}");
    assert!(batch.counts.is_some());
    let blocks = facts.blocks.iter().any(|b| b.batch == batch.id);
    let parts = facts.parts.iter().any(|p| p.batch == batch.id);
    let notices = facts.notices.iter().any(|(b, _)| *b == batch.id);
    assert!(batch.purging || !(blocks || parts || notices), "{batch:?}");
    assert!(blocks || !parts, "outcomes without their blocks: {batch:?}");
}

fn check_batch(facts: &Facts, batch: &BatchFact) {
    let rows: u64 = facts
        .blocks
        .iter()
        .filter(|b| b.batch == batch.id && b.no < batch.blocks)
        .map(|b| u64::from(b.rows))
        .sum();
    assert_eq!(rows, batch.rows, "rows are those of the blocks: {batch:?}");
    check_appends(facts, batch);
    let ended = facts.ended(batch.id);
    let tasks = facts.rows_tasks(batch.id);
    let close = facts.close_task(batch.id);
    if batch.ended() {
        assert_eq!(batch.counts, Some(ended), "exact counts: {batch:?}");
        assert_eq!(ended.iter().sum::<u64>(), batch.rows);
        let [_, failed, aborted, expired] = ended;
        assert_eq!(batch.state, BatchState::of_counts(failed, expired, aborted));
        return;
    }
    assert_eq!(batch.counts, None);
    if batch.state == BatchState::Queued && batch.given == batch.blocks {
        assert!(
            !tasks.is_empty() || close.is_some(),
            "nothing would ever end {batch:?}"
        );
    }
    if let Some(close) = close {
        let (success, failed) = close.progress;
        assert!(
            success <= ended[0] && failed <= ended[1],
            "{close:?} counts {ended:?}"
        );
        let waits = !tasks.is_empty() || batch.given < batch.blocks;
        assert_eq!(
            close.state == TaskState::Waiting,
            waits,
            "{close:?} of {tasks:?}"
        );
    }
}

/// Appends that count lie one behind the other and end where the batch does; one that does not is behind them.
fn check_appends(facts: &Facts, batch: &BatchFact) {
    let mut next = None;
    for append in facts.appends_of(batch.id) {
        assert!(!batch.loading() && append.first_no > 0, "{append:?}");
        assert_eq!(
            next.unwrap_or(append.first_no),
            append.first_no,
            "{append:?} has a gap before it"
        );
        next = Some(append.first_no + if append.open { 0 } else { append.blocks });
        let there = facts.blocks.iter().filter(|b| append.has(b));
        let rows: u64 = there.map(|b| u64::from(b.rows)).sum();
        // Blocks of one that is taken away go before its record does.
        assert!(
            rows == append.rows || (append.open && rows < append.rows),
            "{append:?}"
        );
    }
    if let Some(next) = next {
        assert_eq!(next, batch.blocks, "appends end where {batch:?} does");
    }
}

/// A row's attempt only grows, and never has two outcomes of one attempt.
fn attempts_grow(facts: &Facts, open: &BTreeMap<Row, Vec<&TaskFact>>) {
    let mut last: BTreeMap<Row, u32> = BTreeMap::new();
    for part in &facts.parts {
        for (row, _) in part.lines() {
            let key = (part.batch, part.no, row);
            if let Some(before) = last.insert(key, part.attempt) {
                assert!(
                    before < part.attempt,
                    "{key:?}: {before} then {}",
                    part.attempt
                );
            }
        }
        for (row, _) in part.rest(facts.rows_of(part.batch, part.no)) {
            let before = last.get(&(part.batch, part.no, row)).copied();
            assert!(before <= Some(part.attempt));
        }
    }
    for (key, tasks) in open {
        let before = last.get(key).copied().unwrap_or(0);
        assert!(
            before <= tasks[0].attempt,
            "{key:?} goes on from {before}: {tasks:?}"
        );
    }
}

/// A row of the view `batchrows`.
#[derive(Debug)]
pub struct SqlRow {
    pub line: u32,
    pub status: String,
    pub input: String,
    pub result: Option<String>,
    pub messages: Option<String>,
    pub attempt: Option<u32>,
    pub done_at: Option<rowmill::model::Timestamp>,
}
