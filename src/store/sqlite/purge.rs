//! purge: an ended batch goes in pieces, and leaves a tombstone; tombstones are forgotten in the end.

use std::time::Duration;

use rusqlite::{Connection, Row, params};

use super::claim::job_key;
use super::errors::corrupt;
use super::sql::{all, batch_id, change, key, one, sql, time, us};
use crate::config::LiveSettings;
use crate::model::{BatchId, OpId, OpSettings, Timestamp};
use crate::store::{PurgePage, PurgeScan, Purgeable, StoreError};

/// An end that was told to nobody for so long keeps its batch no longer.
const TOLD_WITHIN: Duration = Duration::from_secs(30 * 86_400);
/// What is left of a purged batch is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(400 * 86_400);

fn before(now: Timestamp, ago: Duration) -> i64 {
    us(now).saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX))
}

/// A batch as it is read, before its op's names are checked.
type Found = ((BatchId, u64, u64, u64), (String, String, i64));

fn found(r: &Row<'_>) -> rusqlite::Result<Found> {
    Ok((
        (batch_id(r.get(0)?), r.get(4)?, r.get(5)?, r.get(6)?),
        (r.get(1)?, r.get(2)?, r.get(3)?),
    ))
}

fn named(found: Found) -> Result<Purgeable, StoreError> {
    let ((id, rows, bytes, files), (app, op, kind)) = found;
    Ok(Purgeable {
        id,
        key: job_key(&app, &op, kind)?,
        rows,
        bytes,
        files,
    })
}

pub(super) fn purgeable(
    c: &Connection,
    scan: &PurgeScan,
    now: Timestamp,
) -> Result<PurgePage, StoreError> {
    let (after, id) = scan
        .after
        .map_or((i64::MIN, [0; 16]), |(at, id)| (us(at), key(id)));
    let params = params![
        scan.op.0,
        us(scan.before),
        after,
        id,
        scan.limit,
        before(now, TOLD_WITHIN),
        us(now)
    ];
    let seen = all(c, sql!("purgeable"), params, |r| {
        Ok((found(r)?, r.get::<_, i64>(7)?, r.get::<_, bool>(8)?))
    })?;
    let mut page = PurgePage {
        next: (seen.len() == usize::try_from(scan.limit).unwrap_or(usize::MAX))
            .then(|| seen.last().map(|last| (time(last.1), last.0.0.0)))
            .flatten(),
        ..PurgePage::default()
    };
    for (batch, _, may) in seen {
        if may {
            page.batches.push(named(batch)?);
        } else {
            page.waiting += 1;
        }
    }
    Ok(page)
}

/// Marks the batches of the list that may be purged; the others are left as they are.
pub(super) fn mark(
    c: &Connection,
    ids: &[BatchId],
    by: Option<&str>,
    now: Timestamp,
) -> Result<Vec<BatchId>, StoreError> {
    let mut marked = Vec::with_capacity(ids.len());
    for id in ids {
        let params = params![key(*id), us(now), before(now, TOLD_WITHIN)];
        if change(c, sql!("purge_mark"), params)? == 1 {
            if let Some(by) = by {
                let params = params![us(now), by, "purge", key(*id)];
                change(c, sql!("audit_add"), params)?;
            }
            marked.push(*id);
        }
    }
    Ok(marked)
}

pub(super) fn purging(c: &Connection, limit: u32) -> Result<Vec<Purgeable>, StoreError> {
    let seen = all(c, sql!("purging"), [limit], found)?;
    seen.into_iter().map(named).collect()
}

/// Removes at most so many records of a batch that is being purged; true if nothing of them is left.
pub(super) fn piece(c: &Connection, id: BatchId, most: u32) -> Result<bool, StoreError> {
    if one(c, sql!("purge_state"), [key(id)], |_| Ok(()))?.is_none() {
        return Ok(true);
    }
    let mut left = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    // Outcomes before the blocks that they are of, so that what is left always fits together.
    for remove in [
        sql!("purge_attempts"),
        sql!("purge_blocks"),
        sql!("purge_files"),
        sql!("purge_notices"),
        sql!("purge_appends"),
    ] {
        let limit = i64::try_from(left).unwrap_or(i64::MAX);
        left = left.saturating_sub(change(c, remove, params![key(id), limit])?);
        if left == 0 {
            return Ok(false);
        }
    }
    change(c, sql!("purge_end"), [key(id)])?;
    Ok(true)
}

pub(super) fn keeps(c: &Connection) -> Result<Vec<(OpId, Duration)>, StoreError> {
    let ops = all(c, sql!("purge_keeps"), [], |r| {
        Ok((
            OpId(r.get(0)?),
            r.get::<_, Option<i64>>(1)?,
            r.get::<_, Option<String>>(2)?,
        ))
    })?;
    let mut keeps = Vec::new();
    for (op, registered, set) in ops {
        let registered = registered.map(u64::try_from).transpose();
        let registered = registered.map_err(|_| corrupt("an op keeps for a time below 0"))?;
        let base = OpSettings {
            keep: registered.map(Duration::from_micros),
            ..OpSettings::default()
        };
        // What a newer program has set may mean anything: nothing is removed for it.
        let Ok(set) = set.map_or(Ok(LiveSettings::default()), |set| LiveSettings::parse(&set))
        else {
            continue;
        };
        keeps.extend(set.over(&base).keep.map(|keep| (op, keep)));
    }
    Ok(keeps)
}

/// Tombstones whose time is over.
pub(super) fn forgettable(
    c: &Connection,
    most: u32,
    now: Timestamp,
) -> Result<Vec<BatchId>, StoreError> {
    let params = params![before(now, REMEMBERED), most];
    all(c, sql!("forget_due"), params, |r| Ok(batch_id(r.get(0)?)))
}

pub(super) fn forget(c: &Connection, most: u32, now: Timestamp) -> Result<u64, StoreError> {
    let mut forgotten = 0;
    for id in forgettable(c, most, now)? {
        change(c, sql!("forget_external"), [key(id)])?;
        forgotten += u64::from(change(c, sql!("forget_batch"), [key(id)])? == 1);
    }
    Ok(forgotten)
}
