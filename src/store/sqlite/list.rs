//! list: batches newest first, by pages that each do a bounded piece of work.

use rusqlite::{Connection, Row, params};

use super::ops::names;
use super::read;
use super::sql::{all, batch_id, key, one, sql, time, us, us_opt};
use crate::model::{
    Batch, BatchFilter, BatchState, BatchesPage, Cursor, JobKey, OpId, Status, Timestamp,
};
use crate::store::StoreError;

/// Records that one step looks at.
const SCAN: u32 = 2_000;
/// What one step may read: a batch costs `BATCH`, one that is open its blocks on top, whose sums are asked for.
const WORK: i64 = 20_000;
const BATCH: i64 = 10;
/// Contexts and results of one page.
const BYTES: usize = 2 << 20;

/// A batch that may be in the list.
struct Candidate {
    place: Cursor,
    op: OpId,
    state: i64,
    blocks: i64,
}

fn candidate(r: &Row<'_>) -> rusqlite::Result<Candidate> {
    Ok(Candidate {
        place: Cursor {
            id: batch_id(r.get(0)?),
            created_at: time(r.get(1)?),
        },
        op: OpId(r.get(2)?),
        state: r.get(3)?,
        blocks: r.get(4)?,
    })
}

pub(super) fn list(
    c: &Connection,
    filter: &BatchFilter,
    after: Option<Cursor>,
    limit: u32,
) -> Result<BatchesPage, StoreError> {
    let ops = ops(c, filter)?;
    let mut page = Page {
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        filter,
        ops: &ops,
        seen: 0,
        work: 0,
        bytes: 0,
        last: None,
        page: BatchesPage::default(),
    };
    if ops.is_empty() || limit == 0 {
        return Ok(page.page);
    }
    let (before, below) = start(filter, after);
    let since = us_opt(filter.created_after).unwrap_or(i64::MIN);
    if let Some(external_id) = &filter.external_id {
        for found in external(c, external_id, &ops)? {
            let place = (us(found.place.created_at), key(found.place.id));
            if place < (before, below) && !page.take(c, &found)? {
                break;
            }
        }
        return Ok(page.page);
    }
    let mut statement;
    let mut rows = match filter.parent {
        Some(parent) => {
            statement = c.prepare_cached(sql!("list_children"))?;
            statement.query(params![key(parent), before, below, since, SCAN])?
        }
        None => {
            statement = c.prepare_cached(sql!("list_batches"))?;
            statement.query(params![before, below, since, SCAN])?
        }
    };
    while let Some(row) = rows.next()? {
        if !page.take(c, &candidate(row)?)? {
            return Ok(page.page);
        }
    }
    if page.seen == SCAN {
        page.page.next = page.last;
    }
    Ok(page.page)
}

/// The place behind which a page begins: where the one before ended, or the newest that may be in it.
fn start(filter: &BatchFilter, after: Option<Cursor>) -> (i64, [u8; 16]) {
    let newest = match filter.created_before {
        Some(at) => (us(at), [0; 16]),
        None => (i64::MAX, [0xff; 16]),
    };
    match after {
        Some(place) => newest.min((us(place.created_at), key(place.id))),
        None => newest,
    }
}

/// The ops whose batches may be in the list.
fn ops(c: &Connection, filter: &BatchFilter) -> Result<Vec<(OpId, JobKey)>, StoreError> {
    let mut ops = names(c)?;
    ops.retain(|(_, key)| {
        filter.app.as_ref().is_none_or(|app| *app == key.app)
            && filter.op.as_ref().is_none_or(|name| *name == key.op)
            && filter.kind.is_none_or(|kind| kind == key.kind)
    });
    Ok(ops)
}

/// The batches that carry an external id, at most one an app, newest first.
fn external(
    c: &Connection,
    external_id: &str,
    ops: &[(OpId, JobKey)],
) -> Result<Vec<Candidate>, StoreError> {
    let mut apps: Vec<&str> = ops.iter().map(|(_, key)| key.app.as_str()).collect();
    apps.sort_unstable();
    apps.dedup();
    let mut found = Vec::new();
    for app in apps {
        let ids = all(c, sql!("external_find"), [app, external_id], |r| {
            Ok(batch_id(r.get(0)?))
        })?;
        for id in ids {
            found.extend(one(c, sql!("list_one"), [key(id)], candidate)?);
        }
    }
    found.sort_by_key(|f| std::cmp::Reverse(f.place));
    Ok(found)
}

/// A page while it is made.
struct Page<'a> {
    limit: usize,
    filter: &'a BatchFilter,
    ops: &'a [(OpId, JobKey)],
    seen: u32,
    work: i64,
    bytes: usize,
    last: Option<Cursor>,
    page: BatchesPage,
}

impl Page<'_> {
    /// Looks at the next batch; false where the page is full and goes on with that one.
    fn take(&mut self, c: &Connection, found: &Candidate) -> Result<bool, StoreError> {
        if self.page.data.len() >= self.limit || self.work >= WORK || self.bytes >= BYTES {
            self.page.next = self.last;
            return Ok(false);
        }
        self.seen += 1;
        self.last = Some(found.place);
        if !self.may_fit(found) {
            return Ok(true);
        }
        let open = BatchState::from_code(found.state).is_some_and(|s| !s.is_final());
        self.work += BATCH + if open { found.blocks } else { 0 };
        if let Some(batch) = read::batch(c, found.place.id)?
            && self.filter.fits(&batch)
        {
            self.bytes += bytes(&batch);
            self.page.data.push(batch);
        }
        Ok(true)
    }

    /// Whether a batch may fit, by what its record alone says.
    fn may_fit(&self, found: &Candidate) -> bool {
        let after = |at: Timestamp| found.place.created_at >= at;
        self.ops.iter().any(|(op, _)| *op == found.op)
            && self.filter.created_after.is_none_or(after)
            && self.filter.status.is_none_or(|status| {
                let stored = BatchState::from_code(found.state).and_then(BatchState::status);
                // What runs is stored as queued.
                let as_queued = matches!(status, Status::Queued | Status::Inprog);
                stored == Some(status) || (as_queued && stored == Some(Status::Queued))
            })
    }
}

fn bytes(batch: &Batch) -> usize {
    let result = batch.result.as_ref().and_then(Option::as_ref);
    let messages = batch.messages.as_ref().and_then(Option::as_ref);
    let texts = [Some(&batch.context), result, messages];
    texts.into_iter().flatten().map(|t| t.get().len()).sum()
}
