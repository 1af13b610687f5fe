//! Rows as they are seen, each with what became of it. They take no lock and page, so that the WAL can be reset.

use super::claim::raw;
use super::close::part;
use super::db::{Db, Record, all, corrupt, one, params, sql};
use super::pass;
use super::together::both;
use crate::model::{
    BatchId, Line, RawJson, RowView, Status, TaskState, Timestamp, codes, decode_outcome,
};
use crate::store::{OutcomePart, RowsPage, StoreError};

/// Rows after a line: those of one block, or those of them in one status.
///
/// Blocks that have none in that status are passed over, where what is known of them says so.
pub(in crate::store) async fn rows_after(
    c: &impl Db,
    id: BatchId,
    after: u32,
    status: Option<Status>,
) -> Result<RowsPage, StoreError> {
    let of = params![id, after];
    let blocks = all(c, sql!("rows_block"), of, stored);
    let (batch, blocks) = both(pass::Found::of(c, id), blocks).await?;
    for block in blocks {
        let block = Stored::of(block)?;
        if block.line(block.count.saturating_sub(1)).0 <= after {
            continue;
        }
        return match status {
            None => page(c, id, &block, batch.held, (after, None)).await,
            Some(status) => match batch.next(c, id, block.no, status).await? {
                pass::Next::None => Ok(RowsPage::default()),
                pass::Next::Far(line) => Ok(RowsPage {
                    rows: Vec::new(),
                    next: Some(line.saturating_sub(1).max(after)),
                }),
                pass::Next::Block(no) if no == block.no => {
                    page(c, id, &block, batch.held, (after, Some(status))).await
                }
                pass::Next::Block(no) => {
                    let found = one(c, sql!("rows_at"), params![id, no], stored).await?;
                    let found = found.ok_or_else(|| corrupt(format!("block {no} is gone")))?;
                    page(
                        c,
                        id,
                        &Stored::of(found)?,
                        batch.held,
                        (after, Some(status)),
                    )
                    .await
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

type StoredText = (i64, u32, u32, Option<Vec<u32>>, String);

fn stored(r: &mut Record) -> Result<StoredText, StoreError> {
    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
}

impl Stored {
    fn of((no, first_line, count, lines, body): StoredText) -> Result<Self, StoreError> {
        Ok(Self {
            no,
            first_line,
            count,
            lines,
            body,
        })
    }

    fn line(&self, ordinal: u32) -> Line {
        crate::model::line_of(self.first_line, self.lines.as_deref(), ordinal)
    }
}

/// The rows of a block that stand after a line, in any status or in one.
async fn page(
    c: &impl Db,
    id: BatchId,
    block: &Stored,
    held: bool,
    (after, status): (u32, Option<Status>),
) -> Result<RowsPage, StoreError> {
    let states = row_states(c, id, block.no, block.count, held).await?;
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
    done_at: Option<Timestamp>,
    redacted: bool,
}

impl RowState {
    fn open(held: bool) -> Self {
        Self {
            status: if held { Status::Wait } else { Status::Queued },
            result: None,
            messages: None,
            attempt: None,
            done_at: None,
            redacted: false,
        }
    }

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

pub(super) fn part_of(r: &mut Record) -> Result<OutcomePart, StoreError> {
    part(r, 0)
}

/// Result and messages of a query, by what was recorded of each of its tasks.
pub(super) fn said(mut parts: Vec<OutcomePart>) -> Result<[Option<Box<RawJson>>; 2], StoreError> {
    // A row that goes again does so as another task, of any number.
    parts.sort_by_key(|part| part.attempt);
    let mut row = [RowState::open(false)];
    for part in &parts {
        apply(&mut row, 1, part)?;
    }
    let [row] = row;
    Ok([
        row.result.map(raw).transpose()?,
        row.messages.map(raw).transpose()?,
    ])
}

/// What became of each row of a block.
async fn row_states(
    c: &impl Db,
    id: BatchId,
    no: i64,
    count: u32,
    held: bool,
) -> Result<Vec<RowState>, StoreError> {
    let size = usize::try_from(count).unwrap_or(0);
    let mut states = vec![RowState::open(held); size];
    let of = || params![id, no];
    let tasks = all(c, sql!("rows_tasks"), of(), |r| {
        Ok((
            r.get::<i64>(0)?,
            r.get::<Option<Vec<u32>>>(1)?,
            r.get::<u32>(2)?,
        ))
    });
    let parts = all(c, sql!("rows_parts"), of(), part_of);
    let (tasks, parts) = both(tasks, parts).await?;
    for (state, pick, attempt) in tasks {
        let runs = matches!(
            TaskState::from_code(state),
            Some(TaskState::Running | TaskState::Parked)
        );
        each(pick.as_deref(), count, |ordinal| {
            if let Some(row) = row_at(&mut states, ordinal) {
                if runs {
                    row.status = Status::Inprog;
                }
                row.attempt = Some(attempt).filter(|a| *a > 0);
            }
        });
    }
    for part in &parts {
        apply(&mut states, count, part)?;
    }
    Ok(states)
}

fn row_at(states: &mut [RowState], ordinal: u32) -> Option<&mut RowState> {
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
        let Some(row) = ordinal(i).and_then(|o| row_at(states, o)) else {
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
            if let Some(row) = row_at(states, o) {
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
