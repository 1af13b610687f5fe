//! Reads: what users see. They take no lock and page, so that the WAL can be reset.

use rusqlite::{Connection, params};

use super::claim::{job_key, raw};
use super::close::part;
use super::errors::corrupt;
use super::pass;
use super::sql::{all, batch_id, key, one, sql, time, unlist};
use crate::model::{
    Batch, BatchId, BatchState, Counts, Kind, Line, OutputFile, RowView, Status, TaskState, codes,
    decode_outcome,
};
use crate::store::{OutcomePart, RowsPage, StoreError};

/// The batch as its record has it; names, JSON texts and files are read after it.
struct Record {
    names: (String, String, i64),
    state: i64,
    context: String,
    counts: [Option<u64>; 4],
    columns: Option<String>,
}

pub(super) fn epoch(c: &Connection) -> Result<String, StoreError> {
    one(c, sql!("epoch"), [], |r| r.get(0))?.ok_or_else(|| corrupt("there is no epoch"))
}

pub(super) fn batch(c: &Connection, id: BatchId) -> Result<Option<Batch>, StoreError> {
    let nil = || crate::model::RawJson::NULL.to_owned();
    let found = one(c, sql!("batch_get"), [key(id)], |r| {
        let record = Record {
            names: (r.get(0)?, r.get(1)?, r.get(2)?),
            state: r.get(3)?,
            context: r.get(4)?,
            counts: [r.get(18)?, r.get(19)?, r.get(20)?, r.get(21)?],
            columns: r.get(22)?,
        };
        let at = |i| r.get::<_, Option<i64>>(i).map(|us| us.map(time));
        // Names are checked below; a placeholder never leaves this function.
        Ok((
            record,
            (
                r.get::<_, i32>(5)?,
                batch_id(r.get(6)?),
                r.get::<_, Option<[u8; 16]>>(7)?.map(batch_id),
                r.get::<_, u32>(8)?,
                r.get::<_, Option<String>>(9)?,
                r.get::<_, String>(10)?,
            ),
            (
                time(r.get(11)?),
                at(12)?,
                at(13)?,
                at(14)?,
                at(15)?,
                at(16)?,
            ),
            (r.get::<_, u64>(17)?, at(23)?),
        ))
    })?;
    let Some((
        record,
        (priority, root, parent, generation, external_id, created_by),
        (created_at, run_at, expires_at, started_at, done_at, abort_at),
        (rows, purged_at),
    )) = found
    else {
        return Ok(None);
    };
    let (app, op, kind) = record.names;
    let names = job_key(&app, &op, kind)?;
    let state = BatchState::from_code(record.state)
        .ok_or_else(|| corrupt(format!("batch {id} has state {}", record.state)))?;
    let columns = record
        .columns
        .map(|text| serde_json::from_str(&text).map_err(|e| corrupt(format!("columns: {e}"))))
        .transpose()?;
    let mut batch = Batch {
        id,
        app: names.app,
        op: names.op,
        kind: names.kind,
        status: state.status().unwrap_or(Status::Wait),
        done: state.is_final(),
        counts: Counts {
            rows,
            ..Counts::default()
        },
        context: raw(record.context).unwrap_or_else(|_| nil()),
        priority,
        parent,
        root,
        generation,
        external_id,
        created_by,
        created_at,
        run_at,
        expires_at,
        started_at,
        done_at,
        aborting: abort_at.is_some() && !state.is_final(),
        progress: None,
        files: Vec::new(),
        result: None,
        messages: None,
        columns,
        purged_at,
    };
    if state.is_final() {
        let [success, failed, aborted, expired] = record.counts.map(Option::unwrap_or_default);
        batch.counts = Counts {
            rows,
            success,
            failed,
            aborted,
            expired,
            pending: 0,
        };
        if batch.purged_at.is_none() {
            batch.files = files(c, id)?;
        }
    } else {
        open_batch(c, &mut batch)?;
    }
    if batch.kind == Kind::Query && batch.purged_at.is_some() {
        (batch.result, batch.messages) = (Some(None), Some(None));
    } else if batch.kind == Kind::Query {
        let row = rows_after(c, id, 0, None)?.rows.into_iter().next();
        let (result, messages) = row.map_or((None, None), |r| (r.result, r.messages));
        batch.result = Some(result.filter(|_| batch.done));
        batch.messages = Some(messages.filter(|_| batch.done));
    }
    Ok(Some(batch))
}

/// Status and counts of a batch that has not ended.
fn open_batch(c: &Connection, batch: &mut Batch) -> Result<(), StoreError> {
    let id = key(batch.id);
    let progress = one(c, sql!("batch_progress"), [id], |r| {
        Ok((r.get::<_, u64>(0)?, r.get::<_, u64>(1)?))
    })?;
    // Rows that end without running are in no task's progress.
    let may_stop = batch.aborting || batch.expires_at.is_some();
    let counts = &mut batch.counts;
    match progress.filter(|_| !may_stop) {
        Some((success, failed)) => (counts.success, counts.failed) = (success, failed),
        None => {
            let sums = one(c, sql!("end_counts"), [id], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
            })?;
            if let Some(sums) = sums {
                (
                    counts.success,
                    counts.failed,
                    counts.aborted,
                    counts.expired,
                ) = sums;
            }
        }
    }
    let ended = counts.success + counts.failed + counts.aborted + counts.expired;
    counts.pending = counts.rows.saturating_sub(ended);
    let running = one(c, sql!("batch_running"), [id], |r| {
        r.get::<_, Option<i64>>(0)
    })?
    .flatten();
    let recorded = one(c, sql!("batch_started"), [id], |r| r.get::<_, i64>(0))?;
    batch.started_at = recorded.or(running).map(time);
    let begun = running.is_some()
        || batch.aborting
        || one(c, sql!("batch_begun"), [id], |_| Ok(()))?.is_some();
    if batch.status == Status::Queued && begun {
        batch.status = Status::Inprog;
    }
    Ok(())
}

fn files(c: &Connection, id: BatchId) -> Result<Vec<OutputFile>, StoreError> {
    all(c, sql!("batch_files"), [key(id)], |r| {
        Ok(OutputFile {
            name: r.get(0)?,
            key: r.get(1)?,
            size: r.get(2)?,
            sha256: r.get(3)?,
            content_type: r.get(4)?,
        })
    })
}

/// Rows after a line: those of one block, or those of them in one status.
///
/// Blocks that have none in that status are passed over, where what is known of them says so.
pub(super) fn rows_after(
    c: &Connection,
    id: BatchId,
    after: u32,
    status: Option<Status>,
) -> Result<RowsPage, StoreError> {
    let batch = pass::Found::of(c, id)?;
    let blocks = all(c, sql!("rows_block"), params![key(id), after], stored)?;
    for block in blocks {
        let block = Stored::of(block)?;
        if block.line(block.count.saturating_sub(1)).0 <= after {
            continue;
        }
        return match status {
            None => page(c, id, &block, batch.held, (after, None)),
            Some(status) => match batch.next(c, id, block.no, status)? {
                pass::Next::None => Ok(RowsPage::default()),
                pass::Next::Far(line) => Ok(RowsPage {
                    rows: Vec::new(),
                    next: Some(line.saturating_sub(1).max(after)),
                }),
                pass::Next::Block(no) if no == block.no => {
                    page(c, id, &block, batch.held, (after, Some(status)))
                }
                pass::Next::Block(no) => {
                    let found = one(c, sql!("rows_at"), params![key(id), no], stored)?;
                    let found = found.ok_or_else(|| corrupt(format!("block {no} is gone")))?;
                    page(
                        c,
                        id,
                        &Stored::of(found)?,
                        batch.held,
                        (after, Some(status)),
                    )
                }
            },
        };
    }
    Ok(RowsPage::default())
}

/// A block as it is stored.
struct Stored {
    no: i64,
    first_line: u32,
    count: u32,
    lines: Option<Vec<u32>>,
    body: String,
}

type StoredText = (i64, u32, u32, Option<String>, String);

fn stored(r: &rusqlite::Row<'_>) -> rusqlite::Result<StoredText> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
}

impl Stored {
    fn of((no, first_line, count, lines, body): StoredText) -> Result<Self, StoreError> {
        Ok(Self {
            no,
            first_line,
            count,
            lines: unlist(lines)?,
            body,
        })
    }

    fn line(&self, ordinal: u32) -> Line {
        crate::model::line_of(self.first_line, self.lines.as_deref(), ordinal)
    }
}

/// The rows of a block that stand after a line, in any status or in one.
fn page(
    c: &Connection,
    id: BatchId,
    block: &Stored,
    held: bool,
    (after, status): (u32, Option<Status>),
) -> Result<RowsPage, StoreError> {
    let states = row_states(c, id, block.no, block.count, held)?;
    let mut rows = Vec::new();
    for (ordinal, (input, state)) in (0..).zip(block.body.lines().zip(states)) {
        let line = block.line(ordinal);
        if line.0 > after && status.is_none_or(|s| s == state.status) {
            rows.push(state.view(line, input)?);
        }
    }
    let next = Some(block.line(block.count.saturating_sub(1)).0);
    Ok(RowsPage { rows, next })
}

#[derive(Clone)]
struct RowState {
    status: Status,
    result: Option<String>,
    messages: Option<String>,
    attempt: Option<u32>,
    done_at: Option<crate::model::Timestamp>,
    redacted: bool,
}

impl RowState {
    fn view(self, line: Line, input: &str) -> Result<RowView, StoreError> {
        Ok(RowView {
            line,
            status: self.status,
            input: raw(input.to_owned())?,
            result: self.result.map(raw).transpose()?,
            messages: self.messages.map(raw).transpose()?,
            attempt: self.attempt,
            done_at: self.done_at,
            redacted: self.redacted,
        })
    }
}

/// What became of each row of a block.
fn row_states(
    c: &Connection,
    id: BatchId,
    no: i64,
    count: u32,
    held: bool,
) -> Result<Vec<RowState>, StoreError> {
    let size = usize::try_from(count).unwrap_or(0);
    let open = RowState {
        status: if held { Status::Wait } else { Status::Queued },
        result: None,
        messages: None,
        attempt: None,
        done_at: None,
        redacted: false,
    };
    let mut states = vec![open; size];
    let tasks = all(c, sql!("rows_tasks"), params![key(id), no], |r| {
        Ok((
            r.get::<_, i64>(0)?,
            r.get::<_, Option<String>>(1)?,
            r.get::<_, u32>(2)?,
        ))
    })?;
    for (state, pick, attempt) in tasks {
        let runs = matches!(
            TaskState::from_code(state),
            Some(TaskState::Running | TaskState::Parked)
        );
        each(unlist(pick)?.as_deref(), count, |ordinal| {
            if let Some(row) = at(&mut states, ordinal) {
                if runs {
                    row.status = Status::Inprog;
                }
                row.attempt = Some(attempt).filter(|a| *a > 0);
            }
        });
    }
    let parts = all(c, sql!("rows_parts"), params![key(id), no], |r| {
        Ok((
            r.get(0)?,
            r.get(1)?,
            r.get(2)?,
            r.get(3)?,
            (r.get(4)?, r.get(5)?, r.get(6)?),
        ))
    })?;
    for (ordinals, body, attempt, time, end) in parts {
        apply(
            &mut states,
            count,
            &part(ordinals, body, attempt, time, end)?,
        )?;
    }
    Ok(states)
}

fn at(states: &mut [RowState], ordinal: u32) -> Option<&mut RowState> {
    states.get_mut(usize::try_from(ordinal).ok()?)
}

fn each(ordinals: Option<&[u32]>, count: u32, mut with: impl FnMut(u32)) {
    match ordinals {
        Some(list) => list.iter().copied().for_each(with),
        None => (0..count).for_each(&mut with),
    }
}

fn apply(states: &mut [RowState], count: u32, part: &OutcomePart) -> Result<(), StoreError> {
    let ordinal = |i: usize| match &part.ordinals {
        Some(list) => list.get(i).copied(),
        None => u32::try_from(i).ok(),
    };
    for (i, line) in part.body.lines().enumerate() {
        let outcome =
            decode_outcome(line).map_err(|e| corrupt(format!("an outcome's line: {e}")))?;
        let Some(row) = ordinal(i).and_then(|o| at(states, o)) else {
            return Err(corrupt("an outcome of a row that its block does not have"));
        };
        let (ends, ended) = (outcome.status(), row.status.is_final());
        // What a row said before it expired may come after it: its tasks are read one by one.
        if ends.is_some() || row.status != Status::Expired {
            row.messages = outcome.messages.map(|m| m.get().to_owned());
        }
        row.redacted |= outcome.redacted;
        if let Some(status) = ends {
            row.attempt = Some(part.attempt);
            row.status = status;
            row.result = outcome.result.map(|r| r.get().to_owned());
            row.done_at = Some(part.at);
        } else if !ended {
            // It may have been claimed since.
            row.attempt = row.attempt.max(Some(part.attempt));
        }
    }
    if let Some((how, rest)) = &part.rest {
        let status = how.status().unwrap_or(Status::Aborted);
        each(rest.as_deref(), count, |o| {
            if let Some(row) = at(states, o) {
                row.status = status;
                row.attempt = Some(part.attempt).filter(|a| *a > 0);
                row.done_at = Some(part.at);
                if status == Status::Expired {
                    row.messages = Some(codes::EXPIRED_MESSAGES.to_owned());
                }
            }
        });
    }
    Ok(())
}
