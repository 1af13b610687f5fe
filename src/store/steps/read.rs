//! Reads: what users see. They take no lock and page, so that the WAL can be reset.

use futures_util::future::try_join;

use super::claim::{job_key, raw};
use super::close::part;
use super::db::{Db, Record, Us, all, corrupt, one, params, sql, time};
use super::pass;
use crate::model::{
    Batch, BatchId, BatchState, Counts, Kind, Line, OutputFile, RowView, Status, TaskState, codes,
    decode_outcome,
};
use crate::store::{OutcomePart, RowsPage, StoreError};

/// The batch as its record has it; names, JSON texts and files are read after it.
struct Found {
    names: (String, String, i64),
    state: i64,
    context: String,
    counts: [Option<u64>; 4],
    columns: Option<String>,
}

/// What tells this store from one of the same name that was restored.
pub(in crate::store) async fn epoch(c: &impl Db) -> Result<String, StoreError> {
    let found = one(c, sql!("epoch"), params![], |r| r.get(0)).await?;
    found.ok_or_else(|| corrupt("there is no epoch"))
}

pub(in crate::store) async fn batch(c: &impl Db, id: BatchId) -> Result<Option<Batch>, StoreError> {
    let nil = || crate::model::RawJson::NULL.to_owned();
    let found = one(c, sql!("batch_get"), params![id], |r| {
        let record = Found {
            names: (r.get(0)?, r.get(1)?, r.get(2)?),
            state: r.get(3)?,
            context: r.get(4)?,
            counts: [r.get(18)?, r.get(19)?, r.get(20)?, r.get(21)?],
            columns: r.get(22)?,
        };
        // Names are checked below; a placeholder never leaves this function.
        Ok((
            record,
            (
                r.get::<i32>(5)?,
                r.get(6)?,
                r.get::<Option<BatchId>>(7)?,
                r.get::<u32>(8)?,
                r.get::<Option<String>>(9)?,
                r.get::<String>(10)?,
            ),
            (
                time(r.get(11)?),
                at(r, 12)?,
                at(r, 13)?,
                at(r, 14)?,
                at(r, 15)?,
                at(r, 16)?,
            ),
            (r.get::<u64>(17)?, at(r, 23)?),
        ))
    })
    .await?;
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
    } else {
        open_batch(c, &mut batch).await?;
    }
    let is_there = batch.purged_at.is_none();
    // One wait for both.
    let files = async {
        match batch.done && is_there {
            true => files(c, id).await,
            false => Ok(Vec::new()),
        }
    };
    let row = async {
        if batch.kind != Kind::Query || !is_there {
            return Ok(None);
        }
        let page = rows_after(c, id, 0, None).await?;
        Ok(page.rows.into_iter().next())
    };
    let (files, row) = try_join(files, row).await?;
    batch.files = files;
    if batch.kind == Kind::Query {
        let (result, messages) = row.map_or((None, None), |r| (r.result, r.messages));
        batch.result = Some(result.filter(|_| batch.done));
        batch.messages = Some(messages.filter(|_| batch.done));
    }
    Ok(Some(batch))
}

pub(in crate::store) async fn is_open(c: &impl Db, id: BatchId) -> Result<bool, StoreError> {
    let open = one(c, sql!("batch_open"), params![id], |_| Ok(())).await?;
    Ok(open.is_some())
}

/// The batch that carries an external id in its app.
pub(in crate::store) async fn external(
    c: &impl Db,
    app: &str,
    external_id: &str,
) -> Result<Option<BatchId>, StoreError> {
    let named = params![app, external_id];
    one(c, sql!("external_find"), named, |r| r.get(0)).await
}

/// A time that may not have come.
fn at(r: &mut Record, column: usize) -> Result<Option<crate::model::Timestamp>, StoreError> {
    Ok(r.get::<Option<Us>>(column)?.map(time))
}

/// Status and counts of a batch that has not ended.
async fn open_batch(c: &impl Db, batch: &mut Batch) -> Result<(), StoreError> {
    let id = batch.id;
    let progress = one(c, sql!("batch_progress"), params![id], |r| {
        Ok((r.get::<u64>(0)?, r.get::<u64>(1)?))
    })
    .await?;
    // Rows that end without running are in no task's progress.
    let may_stop = batch.aborting || batch.expires_at.is_some();
    let counts = &mut batch.counts;
    match progress.filter(|_| !may_stop && !c.is_shared()) {
        Some((success, failed)) => (counts.success, counts.failed) = (success, failed),
        None => {
            let sums = one(c, sql!("end_counts"), params![id], |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
            })
            .await?;
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
    let running = one(c, sql!("batch_running"), params![id], |r| {
        r.get::<Option<Us>>(0)
    })
    .await?
    .flatten();
    let recorded = one(c, sql!("batch_started"), params![id], |r| r.get::<Us>(0)).await?;
    batch.started_at = recorded.or(running).map(time);
    let begun = running.is_some()
        || batch.aborting
        || one(c, sql!("batch_begun"), params![id], |_| Ok(()))
            .await?
            .is_some();
    if batch.status == Status::Queued && begun {
        batch.status = Status::Inprog;
    }
    Ok(())
}

async fn files(c: &impl Db, id: BatchId) -> Result<Vec<OutputFile>, StoreError> {
    all(c, sql!("batch_files"), params![id], |r| {
        Ok(OutputFile {
            name: r.get(0)?,
            key: r.get(1)?,
            size: r.get(2)?,
            sha256: r.get(3)?,
            content_type: r.get(4)?,
        })
    })
    .await
}

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
    let (batch, blocks) = try_join(pass::Found::of(c, id), blocks).await?;
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
async fn row_states(
    c: &impl Db,
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
    let of = || params![id, no];
    let tasks = all(c, sql!("rows_tasks"), of(), |r| {
        Ok((
            r.get::<i64>(0)?,
            r.get::<Option<Vec<u32>>>(1)?,
            r.get::<u32>(2)?,
        ))
    });
    let parts = all(c, sql!("rows_parts"), of(), |r| {
        Ok((
            r.get(0)?,
            r.get(1)?,
            r.get(2)?,
            r.get(3)?,
            (r.get(4)?, r.get(5)?, r.get(6)?),
        ))
    });
    let (tasks, parts) = try_join(tasks, parts).await?;
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
    for (ordinals, body, attempt, time, end) in parts {
        apply(
            &mut states,
            count,
            &part(ordinals, body, attempt, time, end),
        )?;
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
