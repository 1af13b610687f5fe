//! Reads: what users see. They take no lock and page, so that the WAL can be reset.

use super::claim::{job_key, raw};
use super::db::{Db, Record, Us, all, corrupt, one, params, sql, time};
use super::rows;
use super::together::both;
use crate::model::{Batch, BatchId, BatchState, Counts, Kind, OutputFile, Status};
use crate::store::{Ended, OutcomePart, StoreError};

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
    let Some(mut batch) = found(c, id).await? else {
        return Ok(None);
    };
    let told = if batch.done && batch.purged_at.is_none() {
        told(c, id, Some(batch.kind)).await?
    } else {
        Told::default()
    };
    told.of(&mut batch)?;
    Ok(Some(batch))
}

/// What is told of a batch at its end.
#[derive(Default)]
struct Told {
    files: Vec<OutputFile>,
    /// What was recorded of a query.
    parts: Vec<OutcomePart>,
}

async fn told(c: &impl Db, id: BatchId, kind: Option<Kind>) -> Result<Told, StoreError> {
    let parts = async {
        match kind {
            Some(Kind::Batch) => Ok(Vec::new()),
            _ => all(c, sql!("query_parts"), params![id], rows::part_of).await,
        }
    };
    let (files, parts) = both(files(c, id), parts).await?;
    Ok(Told { files, parts })
}

impl Told {
    fn of(self, batch: &mut Batch) -> Result<(), StoreError> {
        batch.files = self.files;
        if batch.kind == Kind::Query {
            let [result, messages] = rows::said(self.parts)?;
            batch.result = Some(result);
            batch.messages = Some(messages);
        }
        Ok(())
    }
}

/// A batch without what is told of it at its end.
async fn found(c: &impl Db, id: BatchId) -> Result<Option<Batch>, StoreError> {
    let Some((mut batch, counts)) = recorded(c, id, BatchState::Loading).await? else {
        return Ok(None);
    };
    match counts {
        Some(counts) => batch.counts = counts,
        None => open_batch(c, &mut batch).await?,
    }
    Ok(Some(batch))
}

/// A batch as its record has it, if its state is beyond this one, and its counts where it has ended.
async fn recorded(
    c: &impl Db,
    id: BatchId,
    beyond: BatchState,
) -> Result<Option<(Batch, Option<Counts>)>, StoreError> {
    let nil = || crate::model::RawJson::NULL.to_owned();
    let found = one(c, sql!("batch_get"), params![id, beyond.code()], |r| {
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
    let batch = Batch {
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
    let ended = state.is_final().then(|| {
        let [success, failed, aborted, expired] = record.counts.map(Option::unwrap_or_default);
        Counts {
            rows,
            success,
            failed,
            aborted,
            expired,
            pending: 0,
        }
    });
    Ok(Some((batch, ended)))
}

/// What whoever waits for a batch asks again and again, with one wait.
pub(in crate::store) async fn ended(c: &impl Db, id: BatchId) -> Result<Ended, StoreError> {
    let open = one(c, sql!("batch_open"), params![id], |_| Ok(()));
    // Of one that has not ended nothing is read that may be long.
    let ended = both(recorded(c, id, BatchState::Inprog), told(c, id, None));
    let (open, (batch, told)) = both(open, ended).await?;
    let Some((mut batch, Some(counts))) = batch else {
        return Ok(open.map_or(Ended::Unknown, |()| Ended::NotYet));
    };
    batch.counts = counts;
    // A purge removes the files' records a piece at a time.
    let there = batch.purged_at.is_none().then_some(told);
    there.unwrap_or_default().of(&mut batch)?;
    Ok(Ended::Yes(Box::new(batch)))
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
