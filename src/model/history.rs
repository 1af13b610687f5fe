//! What happened to rows, attempt by attempt: derived from what the attempts have left behind.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{EndedAs, Line, Status, Timestamp, WorkerNo, codes, decode_outcome};

/// One attempt: of one row, or of the rows of one block.
///
/// What worked on a block's rows under one attempt's number is one entry for each worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// Whose attempt.
    #[serde(flatten)]
    pub of: HistoryOf,
    /// Its number; 0 where the rows ended without one.
    pub attempt: u32,
    /// Who made it; none where nobody did.
    pub worker: Option<WorkerNo>,
    /// When it was claimed.
    pub started_at: Option<Timestamp>,
    /// When its outcome was recorded; none while it goes on.
    pub ended_at: Option<Timestamp>,
    /// The status that it found; none where a record was refused at intake.
    pub before: Option<Status>,
    /// The status that it left; of a block the worst: inprog, aborted, expired, failed, queued, success.
    pub after: Status,
    /// The code of the first message; of a block that of the first such row.
    pub errcode: Option<String>,
}

/// Whose attempt an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum HistoryOf {
    /// One row's.
    Line {
        /// Its line.
        line: Line,
    },
    /// That of rows of one block.
    Block {
        /// The line of the first of them.
        first_line: Line,
        /// How many there are.
        rows: u32,
    },
}

/// A part of an attempt, as the store keeps it.
#[derive(Debug)]
pub(crate) struct PartRecord {
    pub(crate) task: i64,
    pub(crate) attempt: u32,
    pub(crate) worker: Option<WorkerNo>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) at: Timestamp,
    pub(crate) ended_as: Option<EndedAs>,
    /// Rows that ended by `ended_as`: only then does no list in `rest` stand for all of them.
    pub(crate) ended: u64,
    pub(crate) ordinals: Option<Vec<u32>>,
    /// Rows without a line of their own: they ended by `ended_as`, or went back.
    pub(crate) rest: Option<Vec<u32>>,
    pub(crate) body: String,
}

/// A task that runs.
#[derive(Debug)]
pub(crate) struct RunningTask {
    pub(crate) task: i64,
    pub(crate) attempt: u32,
    pub(crate) worker: Option<WorkerNo>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) pick: Option<Vec<u32>>,
}

/// One row's attempt.
struct Event {
    ordinal: u32,
    task: i64,
    attempt: u32,
    worker: Option<WorkerNo>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    before: Option<Status>,
    after: Status,
    errcode: Option<String>,
}

/// The code that is read from a row's messages.
#[derive(Deserialize)]
struct Coded {
    errcode: String,
}

/// What happened to the rows of a block.
pub(crate) struct BlockHistory {
    events: Vec<Event>,
}

impl Event {
    fn entry(self, of: HistoryOf) -> HistoryEntry {
        HistoryEntry {
            of,
            attempt: self.attempt,
            worker: self.worker,
            started_at: self.started_at,
            ended_at: self.ended_at,
            before: self.before,
            after: self.after,
            errcode: self.errcode,
        }
    }
}

impl BlockHistory {
    /// Reads the parts of a block of `rows` rows, and the tasks of it that run.
    pub(crate) fn of(
        rows: u32,
        parts: &[PartRecord],
        running: &[RunningTask],
    ) -> Result<Self, serde_json::Error> {
        let mut events = Vec::new();
        for part in parts {
            part_events(rows, part, &mut events)?;
        }
        for task in running {
            let mut open = task.pick.clone().unwrap_or_else(|| (0..rows).collect());
            // What has an outcome already is in the task until its attempt ends.
            let mut told: Vec<u32> = events
                .iter()
                .filter(|e| (e.task, e.attempt) == (task.task, task.attempt))
                .map(|e| e.ordinal)
                .collect();
            told.sort_unstable();
            open.retain(|ordinal| told.binary_search(ordinal).is_err());
            events.extend(open.into_iter().map(|ordinal| Event {
                ordinal,
                task: task.task,
                attempt: task.attempt,
                worker: task.worker,
                started_at: task.started_at,
                ended_at: None,
                before: Some(Status::Queued),
                after: Status::Inprog,
                errcode: None,
            }));
        }
        Ok(Self { events })
    }

    /// One row's attempts, in their order.
    pub(crate) fn line(self, ordinal: u32, line: Line) -> Vec<HistoryEntry> {
        let mut events = self.events;
        events.retain(|e| e.ordinal == ordinal);
        // A row that went again and was stopped in the same moment has ended with the stop.
        events.sort_by_key(|e| {
            let open = e.ended_at.is_none();
            (e.attempt, open, e.ended_at, e.after.is_final())
        });
        events
            .into_iter()
            .map(|e| e.entry(HistoryOf::Line { line }))
            .collect()
    }

    /// The block's attempts, in their order; `line_of` tells the line of an ordinal.
    pub(crate) fn block(self, line_of: impl Fn(u32) -> Line) -> Vec<HistoryEntry> {
        let mut groups: BTreeMap<_, (u32, HistoryEntry)> = BTreeMap::new();
        for e in self.events {
            // A refused record and a row that ended without an attempt have the same number.
            let key = (e.attempt, e.before.is_some(), e.worker);
            let of = HistoryOf::Block {
                first_line: line_of(e.ordinal),
                rows: 1,
            };
            let (ordinal, entry) = (e.ordinal, e.entry(of));
            match groups.entry(key) {
                std::collections::btree_map::Entry::Vacant(slot) => {
                    slot.insert((ordinal, entry));
                }
                std::collections::btree_map::Entry::Occupied(mut slot) => {
                    let (first, sum) = slot.get_mut();
                    join(*first <= ordinal, sum, entry);
                    *first = (*first).min(ordinal);
                }
            }
        }
        groups.into_values().map(|(_, entry)| entry).collect()
    }
}

/// Adds a row's attempt to its block's; `behind` says that the row stands behind those there are.
fn join(behind: bool, sum: &mut HistoryEntry, row: HistoryEntry) {
    if let (
        HistoryOf::Block { first_line, rows },
        HistoryOf::Block {
            first_line: other, ..
        },
    ) = (&mut sum.of, row.of)
    {
        *first_line = other.min(*first_line);
        *rows += 1;
    }
    sum.started_at = match (sum.started_at, row.started_at) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    sum.ended_at = match (sum.ended_at, row.ended_at) {
        (Some(a), Some(b)) => Some(a.max(b)),
        _ => None,
    };
    match badness(row.after).cmp(&badness(sum.after)) {
        std::cmp::Ordering::Greater => (sum.after, sum.errcode) = (row.after, row.errcode),
        std::cmp::Ordering::Equal
            if sum.errcode.is_none() || (!behind && row.errcode.is_some()) =>
        {
            sum.errcode = row.errcode;
        }
        _ => {}
    }
}

/// How much an outcome weighs where a block has several.
fn badness(status: Status) -> u8 {
    match status {
        Status::Success => 0,
        Status::Wait | Status::Queued => 1,
        Status::Failed => 2,
        Status::Expired => 3,
        Status::Aborted => 4,
        Status::Inprog => 5,
    }
}

fn part_events(
    rows: u32,
    part: &PartRecord,
    events: &mut Vec<Event>,
) -> Result<(), serde_json::Error> {
    let from = events.len();
    let refused = part.ended_as == Some(EndedAs::Rejected);
    let event = |ordinal, after, errcode| Event {
        ordinal,
        task: part.task,
        attempt: part.attempt,
        worker: part.worker,
        started_at: part.started_at,
        ended_at: Some(part.at),
        before: (!refused).then_some(Status::Queued),
        after,
        errcode,
    };
    for (i, line) in (0_u32..).zip(part.body.lines()) {
        let at = usize::try_from(i).unwrap_or(usize::MAX);
        let ordinal = match &part.ordinals {
            Some(list) => list.get(at).copied(),
            None => Some(i),
        };
        let outcome = decode_outcome(line)?;
        let messages: Vec<Coded> = match outcome.messages {
            Some(messages) => serde_json::from_str(messages.get())?,
            None => Vec::new(),
        };
        let errcode = messages.into_iter().next().map(|m| m.errcode);
        let after = outcome.status().unwrap_or(Status::Queued);
        events.extend(ordinal.map(|ordinal| event(ordinal, after, errcode)));
    }
    let (after, errcode) = match part.ended_as {
        Some(EndedAs::Aborted) => (Status::Aborted, None),
        Some(EndedAs::Expired) => (Status::Expired, Some(codes::EXPIRED.0)),
        Some(EndedAs::Lost) => (Status::Queued, Some(codes::WORKER_LOST.0)),
        _ => (Status::Queued, None),
    };
    let rest = match &part.rest {
        Some(rest) => rest.clone(),
        None if part.ended > 0 => (0..rows).collect(),
        None => Vec::new(),
    };
    if rest.is_empty() {
        return Ok(());
    }
    // A row that was to go again, and ended with its batch instead, has a line as well.
    let lines = events.iter().enumerate().skip(from);
    let lines: HashMap<u32, usize> = lines.map(|(at, e)| (e.ordinal, at)).collect();
    for ordinal in rest {
        match lines.get(&ordinal).and_then(|at| events.get_mut(*at)) {
            Some(row) => row.after = after,
            None => events.push(event(ordinal, after, errcode.map(str::to_owned))),
        }
    }
    Ok(())
}
