//! history: what happened to rows, read block after block.

use rusqlite::{Connection, params};

use super::errors::corrupt;
use super::pass;
use super::sql::{all, key, sql, time, unlist};
use crate::model::{
    BatchId, BlockHistory, EndedAs, HistoryEntry, PartRecord, RunningTask, WorkerNo, line_of,
};
use crate::store::{HistoryPage, StoreError};

/// Blocks that one step reads, and the bytes of their parts after which it stops.
const BLOCKS: i64 = 64;
const BYTES: usize = 2 << 20;

pub(super) fn history(c: &Connection, id: BatchId, from: i64) -> Result<HistoryPage, StoreError> {
    pass::Found::of(c, id)?;
    let blocks = all(
        c,
        sql!("history_blocks"),
        params![key(id), from, BLOCKS],
        |r| {
            Ok((
                r.get::<_, i64>(0)?,
                r.get::<_, u32>(1)?,
                r.get::<_, u32>(2)?,
                r.get::<_, Option<String>>(3)?,
            ))
        },
    )?;
    let mut page = HistoryPage::default();
    let mut bytes = 0;
    for (no, first_line, rows, lines) in blocks {
        if bytes >= BYTES {
            break;
        }
        let lines = unlist(lines)?;
        let history = of_block(c, id, no, rows, &mut bytes)?;
        let line = |ordinal| line_of(first_line, lines.as_deref(), ordinal);
        page.entries.extend(history.block(line));
        page.next = Some(no + 1);
    }
    Ok(page)
}

/// One row's attempts; `None` where the batch has no such line.
pub(super) fn line_history(
    c: &Connection,
    id: BatchId,
    line: u32,
) -> Result<Option<Vec<HistoryEntry>>, StoreError> {
    pass::Found::of(c, id)?;
    let Some((no, ordinal, rows)) = super::redact::find(c, id, line)?
        .map(|(no, ordinal, body)| (no, ordinal, body.lines().count()))
    else {
        return Ok(None);
    };
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let history = of_block(c, id, no, rows, &mut 0)?;
    Ok(Some(history.line(ordinal, crate::model::Line(line))))
}

fn of_block(
    c: &Connection,
    id: BatchId,
    no: i64,
    rows: u32,
    bytes: &mut usize,
) -> Result<BlockHistory, StoreError> {
    type Lists = (Option<String>, Option<String>);
    let read = all(c, sql!("history_parts"), params![key(id), no], |r| {
        let part = PartRecord {
            task: r.get(0)?,
            attempt: r.get(1)?,
            worker: r.get::<_, Option<i64>>(2)?.map(WorkerNo),
            started_at: r.get::<_, Option<i64>>(3)?.map(time),
            at: time(r.get(4)?),
            ended_as: r.get::<_, Option<i64>>(5)?.and_then(EndedAs::from_code),
            ended: r.get(6)?,
            ordinals: None,
            rest: None,
            body: r.get(9)?,
        };
        Ok((part, (r.get(7)?, r.get(8)?)))
    })?;
    let list = |(part, (ordinals, rest)): (PartRecord, Lists)| -> Result<_, StoreError> {
        Ok(PartRecord {
            ordinals: unlist(ordinals)?,
            rest: unlist(rest)?,
            ..part
        })
    };
    let parts: Vec<PartRecord> = read.into_iter().map(list).collect::<Result<_, _>>()?;
    *bytes += parts.iter().map(|p| p.body.len()).sum::<usize>();
    let running = all(c, sql!("history_tasks"), params![key(id), no], |r| {
        Ok((
            RunningTask {
                task: r.get(0)?,
                attempt: r.get(1)?,
                worker: r.get::<_, Option<i64>>(2)?.map(WorkerNo),
                started_at: r.get::<_, Option<i64>>(3)?.map(time),
                pick: None,
            },
            r.get::<_, Option<String>>(4)?,
        ))
    })?;
    let pick = |(task, pick): (RunningTask, Option<String>)| -> Result<_, StoreError> {
        Ok(RunningTask {
            pick: unlist(pick)?,
            ..task
        })
    };
    let running: Vec<RunningTask> = running.into_iter().map(pick).collect::<Result<_, _>>()?;
    BlockHistory::of(rows, &parts, &running).map_err(|e| corrupt(format!("an outcome's line: {e}")))
}
