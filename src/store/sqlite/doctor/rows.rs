//! The named invariants of what is stored, batch by batch and block by block.

use rusqlite::{Connection, params};

use super::{Check, Wrong};
use crate::model::{BatchId, BatchState, counted, decode_outcome};
use crate::store::sqlite::db::now;
use crate::store::sqlite::sql::{all, batch_id, key, one, sql};
use crate::store::steps::close;
use crate::store::{BlockOutcomes, StoreError};

/// Batches that are read at once.
const BATCHES: i64 = 200;
/// Outcomes that are read at once.
const OUTCOMES: usize = 4 << 20;
const REPORT: &str =
    "restore the file from a copy, and report it with this text: it must not happen";

/// A look at what is stored.
type Look = fn(&Connection) -> Result<Check, StoreError>;

pub(super) const LOOKS: [(&str, Look); 3] = [
    ("blocks", blocks),
    ("outcomes", outcomes),
    ("orphans", orphans),
];

/// A batch's record, as far as it is compared.
struct Record {
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

impl Record {
    fn ended(&self) -> bool {
        BatchState::from_code(self.state).is_some_and(BatchState::is_final)
    }
}

/// Looks at every batch; one that changed meanwhile is looked at by the next doctor.
fn each(
    c: &Connection,
    name: &'static str,
    look: impl Fn(&Record) -> Result<Option<String>, StoreError>,
) -> Result<Check, StoreError> {
    let (mut wrong, mut looked, mut after) = (Wrong::default(), 0_u64, Vec::new());
    loop {
        let page = all(c, sql!("doctor_batches"), params![after, BATCHES], |r| {
            let counts = [r.get(5)?, r.get(6)?, r.get(7)?, r.get(8)?];
            let [Some(success), Some(failed), Some(aborted), Some(expired)] = counts else {
                return Ok((record(r)?, None));
            };
            Ok((record(r)?, Some([success, failed, aborted, expired])))
        })?;
        let Some((last, _)) = page.last() else {
            let well = counted(
                looked,
                "batch is as it must be",
                "batches are as they must be",
            );
            return Ok(wrong.check(name, well, REPORT));
        };
        after = key(last.id).to_vec();
        for (record, counts) in page {
            let record = Record { counts, ..record };
            if !record.looked_at {
                continue;
            }
            looked += 1;
            let what = match look(&record) {
                // It cannot be read; the others can.
                Err(StoreError::Corrupt(what)) => Some(what),
                looked => looked?,
            };
            let Some(what) = what else { continue };
            let Record {
                id, state, rows, ..
            } = record;
            let same = params![key(id), state, rows, record.purged];
            if one(c, sql!("doctor_same"), same, |_| Ok(()))?.is_some() {
                wrong.add(|| format!("batch {id}: {what}"));
            }
        }
    }
}

fn record(r: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        id: batch_id(r.get(0)?),
        state: r.get(1)?,
        rows: r.get(2)?,
        blocks: r.get(3)?,
        purged: r.get(4)?,
        counts: None,
        looked_at: r.get(9)?,
        context: r.get(10)?,
    })
}

/// A batch has the blocks that it counts and their rows, and its counts are those of its outcomes.
fn blocks(c: &Connection) -> Result<Check, StoreError> {
    each(c, "blocks", |batch| {
        if BatchState::from_code(batch.state).is_none() {
            let state = batch.state;
            return Ok(Some(format!("it is in state {state}, which there is not")));
        }
        if !batch.context {
            return Ok(Some("its context is no JSON".to_owned()));
        }
        if batch.purged {
            let left = one(c, sql!("doctor_left"), [key(batch.id)], |_| Ok(()))?;
            return Ok(left.map(|()| "it was purged, and something of it is left".to_owned()));
        }
        let params = params![key(batch.id), batch.blocks];
        let found = one(c, sql!("doctor_blocks"), params, |r| {
            Ok((
                r.get::<_, u64>(0)?,
                r.get::<_, u64>(1)?,
                r.get::<_, i64>(2)?,
                r.get::<_, u64>(3)?,
            ))
        })?;
        let (count, rows, last, beyond) = found.unwrap_or_default();
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
        let sums: Option<[u64; 4]> = one(c, sql!("end_counts"), [key(batch.id)], |r| {
            Ok([r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?])
        })?;
        Ok(match (batch.counts, sums) {
            (Some(counts), Some(sums)) if counts != sums => Some(format!(
                "it counts {counts:?} and its outcomes come to {sums:?} (success, failed, aborted, expired)"
            )),
            _ => None,
        })
    })
}

/// No row has two final outcomes, and none of an ended batch has none.
fn outcomes(c: &Connection) -> Result<Check, StoreError> {
    each(c, "outcomes", |batch| {
        if batch.purged {
            return Ok(None);
        }
        let (mut from, mut ended) = (0, 0);
        loop {
            let page = now(close::outcomes(c, batch.id, from, OUTCOMES))?;
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
    })
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
fn orphans(c: &Connection) -> Result<Check, StoreError> {
    let mut wrong = Wrong::default();
    for (table, next) in [
        ("blocks", sql!("doctor_next_blocks")),
        ("attempts", sql!("doctor_next_attempts")),
        ("files", sql!("doctor_next_files")),
        ("appends", sql!("doctor_next_appends")),
    ] {
        let mut after = Vec::new();
        while let Some(batch) = one(c, next, [&after], |r| r.get::<_, [u8; 16]>(0))? {
            after = batch.to_vec();
            if one(c, sql!("batch_guard"), [batch], |_| Ok(()))?.is_none() {
                // A load that is given up goes between two reads.
                let still = one(c, next, [before(&batch)], |r| r.get::<_, [u8; 16]>(0))?;
                if still == Some(batch) {
                    wrong.add(|| {
                        format!("{table} of batch {}, which is not there", batch_id(batch))
                    });
                }
            }
        }
    }
    Ok(wrong.check(
        "orphans",
        "nothing is stored of a batch that is not there",
        REPORT,
    ))
}

/// The key just before this one, for a look at it alone.
fn before(key: &[u8; 16]) -> Vec<u8> {
    let number = u128::from_be_bytes(*key);
    match number.checked_sub(1) {
        Some(number) => number.to_be_bytes().to_vec(),
        None => Vec::new(),
    }
}
