//! history: what happened to rows, read block after block.

use super::db::{Db, Us, all, corrupt, params, sql, time};
use super::pass;
use crate::model::{
    BatchId, BlockHistory, EndedAs, HistoryEntry, PartRecord, RunningTask, WorkerNo, line_of,
};
use crate::store::{HistoryPage, StoreError};

/// Blocks that one step reads, and the bytes of their parts after which it stops.
const BLOCKS: i64 = 64;
const BYTES: usize = 2 << 20;

pub(in crate::store) async fn history(
    c: &impl Db,
    id: BatchId,
    from: i64,
) -> Result<HistoryPage, StoreError> {
    pass::Found::of(c, id).await?;
    let blocks = all(c, sql!("history_blocks"), params![id, from, BLOCKS], |r| {
        Ok((
            r.get::<i64>(0)?,
            r.get::<u32>(1)?,
            r.get::<u32>(2)?,
            r.get::<Option<Vec<u32>>>(3)?,
        ))
    })
    .await?;
    let mut page = HistoryPage::default();
    let mut bytes = 0;
    for (no, first_line, rows, lines) in blocks {
        if bytes >= BYTES {
            break;
        }
        let history = of_block(c, id, no, rows, &mut bytes).await?;
        let line = |ordinal| line_of(first_line, lines.as_deref(), ordinal);
        page.entries.extend(history.block(line));
        page.next = Some(no + 1);
    }
    Ok(page)
}

/// One row's attempts; `None` where the batch has no such line.
pub(in crate::store) async fn line_history(
    c: &impl Db,
    id: BatchId,
    line: u32,
) -> Result<Option<Vec<HistoryEntry>>, StoreError> {
    pass::Found::of(c, id).await?;
    let Some((no, ordinal, rows)) = super::redact::find(c, id, line)
        .await?
        .map(|(no, ordinal, body)| (no, ordinal, body.lines().count()))
    else {
        return Ok(None);
    };
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let history = of_block(c, id, no, rows, &mut 0).await?;
    Ok(Some(history.line(ordinal, crate::model::Line(line))))
}

async fn of_block(
    c: &impl Db,
    id: BatchId,
    no: i64,
    rows: u32,
    bytes: &mut usize,
) -> Result<BlockHistory, StoreError> {
    type Lists = (Option<Vec<u32>>, Option<Vec<u32>>);
    let read = all(c, sql!("history_parts"), params![id, no], |r| {
        let part = PartRecord {
            task: r.get(0)?,
            attempt: r.get(1)?,
            worker: r.get::<Option<i64>>(2)?.map(WorkerNo),
            started_at: r.get::<Option<Us>>(3)?.map(time),
            at: time(r.get(4)?),
            ended_as: r.get::<Option<i64>>(5)?.and_then(EndedAs::from_code),
            ended: r.get(6)?,
            ordinals: None,
            rest: None,
            body: r.get(9)?,
        };
        Ok((part, (r.get(7)?, r.get(8)?)))
    })
    .await?;
    let list = |(part, (ordinals, rest)): (PartRecord, Lists)| -> Result<_, StoreError> {
        Ok(PartRecord {
            ordinals,
            rest,
            ..part
        })
    };
    let parts: Vec<PartRecord> = read.into_iter().map(list).collect::<Result<_, _>>()?;
    *bytes += parts.iter().map(|p| p.body.len()).sum::<usize>();
    let running = all(c, sql!("history_tasks"), params![id, no], |r| {
        Ok((
            RunningTask {
                task: r.get(0)?,
                attempt: r.get(1)?,
                worker: r.get::<Option<i64>>(2)?.map(WorkerNo),
                started_at: r.get::<Option<Us>>(3)?.map(time),
                pick: None,
            },
            r.get::<Option<Vec<u32>>>(4)?,
        ))
    })
    .await?;
    let pick = |(task, pick): (RunningTask, Option<Vec<u32>>)| -> Result<_, StoreError> {
        Ok(RunningTask { pick, ..task })
    };
    let running: Vec<RunningTask> = running.into_iter().map(pick).collect::<Result<_, _>>()?;
    BlockHistory::of(rows, &parts, &running).map_err(|e| corrupt(format!("an outcome's line: {e}")))
}
