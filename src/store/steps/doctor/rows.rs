//! The named invariants of what is stored, batch by batch and block by block.

use uuid::Uuid;

use super::super::close;
use super::super::db::{Db, Record, Value, all, one, params, sql};
use super::Words;
use super::behind;
use crate::model::{BatchId, BatchState, FilesOf, counted, decode_outcome};
use crate::store::health::Wrong;
use crate::store::{BlockOutcomes, Check, StoreError};

/// Batches that are read at once.
const BATCHES: i64 = 200;
/// Outcomes that are read at once.
const OUTCOMES: usize = 4 << 20;

/// A look at what is stored of each batch.
#[derive(Clone, Copy)]
enum Look {
    Blocks,
    Outcomes,
}

/// Looks at what is stored.
pub(super) async fn looks(c: &impl Db, words: &Words, checks: &mut Vec<Check>) {
    for (name, look) in [("blocks", Look::Blocks), ("outcomes", Look::Outcomes)] {
        let looked = each(c, name, look, words).await;
        checks.push(looked.unwrap_or_else(|e| words.unread(name, &e)));
    }
    let looked = orphans(c, words).await;
    checks.push(looked.unwrap_or_else(|e| words.unread("orphans", &e)));
}

/// A batch's record, as far as it is compared.
struct Stored {
    id: BatchId,
    state: i64,
    rows: u64,
    blocks: u64,
    purged: bool,
    /// success, failed, aborted, expired
    counts: Option<[u64; 4]>,
    looked_at: bool,
    context: bool,
}

impl Stored {
    fn ended(&self) -> bool {
        BatchState::from_code(self.state).is_some_and(BatchState::is_final)
    }
}

/// Looks at every batch; one that changed meanwhile is looked at by the next doctor.
async fn each(
    c: &impl Db,
    name: &'static str,
    look: Look,
    words: &Words,
) -> Result<Check, StoreError> {
    let (mut wrong, mut looked, mut after) = (Wrong::default(), 0_u64, None);
    loop {
        let sql = sql!("doctor_batches");
        let after_this = behind(c, after);
        let page = all(c, sql, [after_this, Value::from(BATCHES)], stored).await?;
        let Some(last) = page.last() else {
            let well = counted(
                looked,
                "batch is as it must be",
                "batches are as they must be",
            );
            return Ok(wrong.check(name, well, words.report));
        };
        after = Some(last.id);
        for record in page {
            if !record.looked_at {
                continue;
            }
            looked += 1;
            let looked = match look {
                Look::Blocks => blocks(c, &record).await,
                Look::Outcomes => outcomes(c, &record).await,
            };
            let what = match looked {
                // It cannot be read; the others can.
                Err(StoreError::Corrupt(what)) => Some(what),
                looked => looked?,
            };
            let Some(what) = what else { continue };
            let Stored {
                id, state, rows, ..
            } = record;
            let same = params![id, state, rows, record.purged];
            if one(c, sql!("doctor_same"), same, |_| Ok(()))
                .await?
                .is_some()
            {
                wrong.add(|| format!("batch {id}: {what}"));
            }
        }
    }
}

fn stored(r: &mut Record) -> Result<Stored, StoreError> {
    let counts = [r.get(5)?, r.get(6)?, r.get(7)?, r.get(8)?];
    Ok(Stored {
        id: r.get(0)?,
        state: r.get(1)?,
        rows: r.get(2)?,
        blocks: r.get(3)?,
        purged: r.get(4)?,
        counts: match counts {
            [Some(success), Some(failed), Some(aborted), Some(expired)] => {
                Some([success, failed, aborted, expired])
            }
            _ => None,
        },
        looked_at: r.get(9)?,
        context: r.get(10)?,
    })
}

/// A batch has the blocks that it counts and their rows, and its counts are those of its outcomes.
async fn blocks(c: &impl Db, batch: &Stored) -> Result<Option<String>, StoreError> {
    if BatchState::from_code(batch.state).is_none() {
        let state = batch.state;
        return Ok(Some(format!("it is in state {state}, which there is not")));
    }
    if !batch.context {
        return Ok(Some("its context is no JSON".to_owned()));
    }
    if batch.purged {
        let left = one(c, sql!("doctor_left"), params![batch.id], |_| Ok(())).await?;
        return Ok(left.map(|()| "it was purged, and something of it is left".to_owned()));
    }
    let params = params![batch.id, batch.blocks];
    let found = one(c, sql!("doctor_blocks"), params, |r| {
        Ok((
            r.get::<u64>(0)?,
            r.get::<u64>(1)?,
            r.get::<i64>(2)?,
            r.get::<u64>(3)?,
        ))
    });
    let (count, rows, last, beyond) = found.await?.unwrap_or_default();
    if beyond > 0 {
        return Ok(Some(counted(
            beyond,
            "block that nobody acknowledged",
            "blocks that nobody acknowledged",
        )));
    }
    let next = u64::try_from(last + 1).unwrap_or(0);
    if count != batch.blocks || next != count {
        let counts = batch.blocks;
        return Ok(Some(format!(
            "it has {} and counts {counts}",
            counted(count, "block", "blocks")
        )));
    }
    if rows != batch.rows {
        let counts = batch.rows;
        return Ok(Some(format!(
            "its blocks have {} and it counts {counts}",
            counted(rows, "row", "rows")
        )));
    }
    let sums = one(c, sql!("end_counts"), params![batch.id], |r| {
        Ok([r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?])
    });
    let sums: Option<[u64; 4]> = sums.await?;
    Ok(match (batch.counts, sums) {
        (Some(counts), Some(sums)) if counts != sums => Some(format!(
            "it counts {counts:?} and its outcomes come to {sums:?} (success, failed, aborted, expired)"
        )),
        _ => None,
    })
}

/// No row has two final outcomes, and none of an ended batch has none.
async fn outcomes(c: &impl Db, batch: &Stored) -> Result<Option<String>, StoreError> {
    if batch.purged {
        return Ok(None);
    }
    let (mut from, mut ended) = (0, 0);
    loop {
        let page = close::outcomes(c, batch.id, from, OUTCOMES).await?;
        let Some(last) = page.last() else { break };
        from = last.no + 1;
        for block in &page {
            match finals(block) {
                Ok(count) => ended += count,
                Err(what) => return Ok(Some(format!("block {}: {what}", block.no))),
            }
        }
    }
    Ok((batch.ended() && ended != batch.rows).then(|| {
        let rows = counted(batch.rows, "row", "rows");
        format!("{ended} of its {rows} have an outcome")
    }))
}

/// How many rows of a block have a final outcome; the error says which has two.
fn finals(block: &BlockOutcomes) -> Result<u64, String> {
    let mut seen = vec![false; usize::try_from(block.rows).unwrap_or(0)];
    let mut count = 0;
    let mut end = |ordinal: u32| {
        let at = usize::try_from(ordinal)
            .ok()
            .and_then(|at| seen.get_mut(at));
        let Some(row) = at else {
            return Err(format!(
                "an outcome of row {ordinal}, which it does not have"
            ));
        };
        if std::mem::replace(row, true) {
            return Err(format!("row {ordinal} has two final outcomes"));
        }
        count += 1;
        Ok(())
    };
    for part in &block.parts {
        for (i, line) in (0_u32..).zip(part.body.lines()) {
            let outcome = decode_outcome(line).map_err(|e| format!("an outcome's text: {e}"))?;
            let files = FilesOf::new(line).next(|_, _| ());
            files.map_err(|e| format!("what an outcome wrote to files: {e}"))?;
            let at = usize::try_from(i).unwrap_or(usize::MAX);
            let ordinal = match &part.ordinals {
                Some(list) => list.get(at).copied().ok_or("an outcome of no row")?,
                None => i,
            };
            if outcome.status().is_some() {
                end(ordinal)?;
            }
        }
        match &part.rest {
            None => {}
            Some((_, Some(rest))) => rest.iter().copied().try_for_each(&mut end)?,
            Some((_, None)) => (0..block.rows).try_for_each(&mut end)?,
        }
    }
    Ok(count)
}

/// Nothing is stored of a batch that is not there.
async fn orphans(c: &impl Db, words: &Words) -> Result<Check, StoreError> {
    let mut wrong = Wrong::default();
    for (table, next) in [
        ("blocks", sql!("doctor_next_blocks")),
        ("attempts", sql!("doctor_next_attempts")),
        ("files", sql!("doctor_next_files")),
        ("appends", sql!("doctor_next_appends")),
    ] {
        let id = |r: &mut Record| r.get::<BatchId>(0);
        let mut after = None;
        while let Some(batch) = one(c, next, [behind(c, after)], id).await? {
            after = Some(batch);
            let guard = one(c, sql!("batch_guard"), params![batch], |_| Ok(()));
            if guard.await?.is_none() {
                // A load that is given up goes between two reads.
                let still = one(c, next, [behind(c, before(batch))], id).await?;
                if still == Some(batch) {
                    wrong.add(|| format!("{table} of batch {batch}, which is not there"));
                }
            }
        }
    }
    Ok(wrong.check(
        "orphans",
        "nothing is stored of a batch that is not there",
        words.report,
    ))
}

/// The key just before this one, for a look at it alone.
fn before(batch: BatchId) -> Option<BatchId> {
    let before = batch.0.as_u128().checked_sub(1);
    before.map(|id| BatchId(Uuid::from_u128(id)))
}
