//! purge: what is old goes, a batch's output files before its records, in pieces.
//!
//! The order is what makes a crash harmless: first the mark, after which nobody sees a row of the
//! batch; then its files, whose names are still in the database; then its records. Whoever purges
//! next finds the mark and goes on.

use super::Parts;
use crate::files::{ObjectStore, StageError, guarded, object_folder};
use crate::model::{BatchId, OpId, Timestamp};
use crate::probe;
use crate::store::{PurgeScan, Purgeable, Store, StoreError};

/// Records that one transaction removes, so that others' commits wait for none longer. A block may
/// have 1 MiB.
const PIECE: u32 = 64;
/// Pieces that a worker removes at one look.
const PIECES: u32 = 16;
/// Batches that a worker marks at one look.
const BATCHES: u32 = 64;
/// Ended batches that are read at once.
pub(crate) const PAGE: u32 = 100;
/// Pages that a worker reads of an op at one look: so many batches may wait in front of one that need not.
const PAGES: u32 = 100;
/// Tombstones that are forgotten in one transaction.
pub(crate) const FORGET: u32 = 500;

/// Why a purge stopped; what it did is done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PurgeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Stage(#[from] StageError),
}

/// Removes what is left of a batch that is marked, in at most `pieces`; true when it is whole.
pub(crate) async fn remove(
    store: &Store,
    objects: &ObjectStore,
    batch: &Purgeable,
    pieces: &mut u32,
) -> Result<bool, PurgeError> {
    probe::at("purge_marked");
    objects.remove(&object_folder(&batch.key, batch.id)).await?;
    // What a close could not clear when it had published.
    objects.clear(batch.id).await?;
    probe::at("purge_files_removed");
    while *pieces > 0 {
        *pieces -= 1;
        if store.purge_piece(batch.id, PIECE).await? {
            return Ok(true);
        }
        probe::at("purge_piece");
    }
    Ok(false)
}

/// A worker's look: some of what is half purged, else of what its op keeps no longer, else of what
/// is to be forgotten. Returns how many batches were purged, and whether there may be more to do.
pub(super) async fn some(parts: &Parts, now: Timestamp) -> Result<(u64, bool), PurgeError> {
    let (store, objects) = (&parts.store, &parts.objects);
    let mut marked = store.purging(BATCHES).await?;
    if marked.is_empty() {
        let due = due(store, now).await?;
        if due.is_empty() {
            let forgotten = store.forget(now, FORGET).await?;
            return Ok((0, forgotten == u64::from(FORGET)));
        }
        let new = store.purge_mark(due, None, now).await?;
        if new.is_empty() {
            return Ok((0, false));
        }
        parts.statuses.forget(&new).await;
        marked = store.purging(BATCHES).await?;
    }
    let (mut purged, mut pieces, mut failed) = (0, PIECES, None);
    for batch in &marked {
        match guarded(remove(store, objects, batch, &mut pieces)).await {
            Ok(true) => purged += 1,
            Ok(false) => break,
            // A folder that cannot be removed keeps only its own batch.
            Err(error) => {
                tracing::warn!(%error, batch = %batch.id, "a batch could not be purged");
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if purged == 0 => Err(error),
        _ => Ok((purged, true)),
    }
}

/// Removes what is staged for batches that have ended: a worker that died left it, or one that ended
/// them and died before it could clear it.
///
/// A batch that this store does not know may be another's that has the same folder.
pub(super) async fn sweep(store: &Store, objects: &ObjectStore) -> Result<(), PurgeError> {
    for id in objects.staged().await? {
        if store.batch(id).await?.is_some_and(|batch| batch.done) {
            objects.clear(id).await?;
        }
    }
    Ok(())
}

/// Batches that their op keeps no longer, of the first op that has some.
async fn due(store: &Store, now: Timestamp) -> Result<Vec<BatchId>, StoreError> {
    for (op, keep) in store.keeps().await? {
        // What is kept since before the beginning of time is kept for ever.
        let Ok(before) = now.checked_sub(keep) else {
            continue;
        };
        let due = due_of(store, op, before, now).await?;
        if !due.is_empty() {
            return Ok(due);
        }
    }
    Ok(Vec::new())
}

async fn due_of(
    store: &Store,
    op: OpId,
    before: Timestamp,
    now: Timestamp,
) -> Result<Vec<BatchId>, StoreError> {
    let mut scan = PurgeScan {
        op,
        before,
        after: None,
        limit: BATCHES,
    };
    for _ in 0..PAGES {
        let page = store.purgeable(scan, now).await?;
        if !page.batches.is_empty() || page.next.is_none() {
            return Ok(page.batches.into_iter().map(|batch| batch.id).collect());
        }
        scan.after = page.next;
    }
    Ok(Vec::new())
}
