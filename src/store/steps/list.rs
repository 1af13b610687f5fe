//! list: batches newest first, by pages that each do a bounded piece of work.

use super::db::{Db, Record, Us, all, one, params, sql, time, us, us_opt};
use super::ops::names;
use super::read;
use crate::model::{
    Batch, BatchFilter, BatchId, BatchState, BatchesPage, Cursor, JobKey, OpId, Status, Timestamp,
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

fn candidate(r: &mut Record) -> Result<Candidate, StoreError> {
    Ok(Candidate {
        place: Cursor {
            id: r.get(0)?,
            created_at: time(r.get(1)?),
        },
        op: OpId(r.get(2)?),
        state: r.get(3)?,
        blocks: r.get(4)?,
    })
}

pub(in crate::store) async fn list(
    c: &impl Db,
    filter: &BatchFilter,
    after: Option<Cursor>,
    limit: u32,
) -> Result<BatchesPage, StoreError> {
    let ops = ops(c, filter).await?;
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
    let since = us_opt(filter.created_after).unwrap_or(Us(i64::MIN));
    if let Some(external_id) = &filter.external_id {
        for found in external(c, external_id, &ops).await? {
            let place = (us(found.place.created_at), found.place.id);
            if place < (before, below) && !page.take(c, &found).await? {
                break;
            }
        }
        return Ok(page.page);
    }
    let found = match filter.parent {
        Some(parent) => {
            let place = params![parent, before, below, since, SCAN];
            all(c, sql!("list_children"), place, candidate).await?
        }
        None => {
            let place = params![before, below, since, SCAN];
            all(c, sql!("list_batches"), place, candidate).await?
        }
    };
    for found in found {
        if !page.take(c, &found).await? {
            return Ok(page.page);
        }
    }
    if page.seen == SCAN {
        page.page.next = page.last;
    }
    Ok(page.page)
}

/// The place behind which a page begins: where the one before ended, or the newest that may be in it.
fn start(filter: &BatchFilter, after: Option<Cursor>) -> (Us, BatchId) {
    let newest = match filter.created_before {
        Some(at) => (us(at), BatchId(uuid::Uuid::nil())),
        None => (Us(i64::MAX), BatchId(uuid::Uuid::max())),
    };
    match after {
        Some(place) => newest.min((us(place.created_at), place.id)),
        None => newest,
    }
}

/// The ops whose batches may be in the list.
async fn ops(c: &impl Db, filter: &BatchFilter) -> Result<Vec<(OpId, JobKey)>, StoreError> {
    let mut ops = names(c).await?;
    ops.retain(|(_, key)| {
        filter.app.as_ref().is_none_or(|app| *app == key.app)
            && filter.op.as_ref().is_none_or(|name| *name == key.op)
            && filter.kind.is_none_or(|kind| kind == key.kind)
    });
    Ok(ops)
}

/// The batches that carry an external id, at most one an app, newest first.
async fn external(
    c: &impl Db,
    external_id: &str,
    ops: &[(OpId, JobKey)],
) -> Result<Vec<Candidate>, StoreError> {
    let mut apps: Vec<&str> = ops.iter().map(|(_, key)| key.app.as_str()).collect();
    apps.sort_unstable();
    apps.dedup();
    let mut found = Vec::new();
    for app in apps {
        let ids = all(c, sql!("external_find"), params![app, external_id], |r| {
            r.get::<BatchId>(0)
        })
        .await?;
        for id in ids {
            found.extend(one(c, sql!("list_one"), params![id], candidate).await?);
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
    async fn take(&mut self, c: &impl Db, found: &Candidate) -> Result<bool, StoreError> {
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
        if let Some(batch) = read::batch(c, found.place.id).await?
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
