//! purge: an ended batch goes in pieces, and leaves a tombstone; tombstones are forgotten in the end.

use std::time::Duration;

use super::claim::job_key;
use super::db::{Db, Record, Us, all, change, corrupt, locked, params, sql, time, us};
use super::guard::guard;
use crate::config::LiveSettings;
use crate::model::{BatchId, OpId, OpSettings, Timestamp};
use crate::store::{PurgePage, PurgeScan, Purgeable, StoreError};

/// An end that was told to nobody for so long keeps its batch no longer.
const TOLD_WITHIN: Duration = Duration::from_secs(30 * 86_400);
/// What is left of a purged batch is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(400 * 86_400);

fn before(now: Timestamp, ago: Duration) -> Us {
    let ago = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
    Us(us(now).0.saturating_sub(ago))
}

/// A batch as it is read, before its op's names are checked.
type Found = ((BatchId, u64, u64, u64), (String, String, i64));

fn found(r: &mut Record) -> Result<Found, StoreError> {
    Ok((
        (r.get(0)?, r.get(4)?, r.get(5)?, r.get(6)?),
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

pub(in crate::store) async fn purgeable(
    c: &impl Db,
    scan: &PurgeScan,
    now: Timestamp,
) -> Result<PurgePage, StoreError> {
    let (after, id) = scan
        .after
        .map_or((Us(i64::MIN), BatchId(uuid::Uuid::nil())), |(at, id)| {
            (us(at), id)
        });
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
        Ok((found(r)?, r.get::<Us>(7)?, r.get::<bool>(8)?))
    })
    .await?;
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
pub(in crate::store) async fn mark(
    c: &impl Db,
    ids: &[BatchId],
    by: Option<&str>,
    now: Timestamp,
) -> Result<Vec<BatchId>, StoreError> {
    let mut marked = Vec::with_capacity(ids.len());
    for id in ids {
        // Those that would wait for it come before, or see the mark.
        guard(c, *id).await?;
        let params = params![*id, us(now), before(now, TOLD_WITHIN)];
        if change(c, sql!("purge_mark"), params).await? == 1 {
            if let Some(by) = by {
                let params = params![us(now), by, "purge", *id];
                change(c, sql!("audit_add"), params).await?;
            }
            marked.push(*id);
        }
    }
    Ok(marked)
}

pub(in crate::store) async fn purging(
    c: &impl Db,
    limit: u32,
) -> Result<Vec<Purgeable>, StoreError> {
    let seen = all(c, sql!("purging"), params![limit], found).await?;
    seen.into_iter().map(named).collect()
}

/// Removes at most so many records of a batch that is being purged; true if nothing of them is left.
pub(in crate::store) async fn piece(
    c: &impl Db,
    id: BatchId,
    most: u32,
) -> Result<bool, StoreError> {
    // Held until this piece is gone: of two who remove the same at the same moment the later would find nothing of the
    // first kind, and take for the end what is none.
    let (lock, state) = (sql!("batch_lock"), sql!("purge_state"));
    let purging = locked(c, lock, state, params![id], |_| Ok(())).await?;
    if purging.is_none() {
        return Ok(true);
    }
    let mut left = u64::from(most).max(1);
    // Outcomes before the blocks that they are of, so that what is left always fits together.
    for remove in [
        sql!("purge_attempts"),
        sql!("purge_blocks"),
        sql!("purge_files"),
        sql!("purge_notices"),
        sql!("purge_appends"),
    ] {
        left = left.saturating_sub(change(c, remove, params![id, left]).await?);
        if left == 0 {
            return Ok(false);
        }
    }
    change(c, sql!("purge_end"), params![id]).await?;
    Ok(true)
}

pub(in crate::store) async fn keeps(c: &impl Db) -> Result<Vec<(OpId, Duration)>, StoreError> {
    let ops = all(c, sql!("purge_keeps"), params![], |r| {
        Ok((
            OpId(r.get(0)?),
            r.get::<Option<i64>>(1)?,
            r.get::<Option<String>>(2)?,
        ))
    })
    .await?;
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
pub(in crate::store) async fn forgettable(
    c: &impl Db,
    most: u32,
    now: Timestamp,
) -> Result<Vec<BatchId>, StoreError> {
    let params = params![before(now, REMEMBERED), most];
    all(c, sql!("forget_due"), params, |r| r.get(0)).await
}

pub(in crate::store) async fn forget(
    c: &impl Db,
    most: u32,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut forgotten = 0;
    for id in forgettable(c, most, now).await? {
        change(c, sql!("forget_external"), params![id]).await?;
        forgotten += u64::from(change(c, sql!("forget_batch"), params![id]).await? == 1);
    }
    Ok(forgotten)
}
