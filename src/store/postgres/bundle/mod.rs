//! Tasks of one-row batches that were submitted together stand in the queue together, as one record: a bundle. It is claimed
//! whole, and whatever concerns one of its tasks alone makes each a record of its own first.

mod claim;
mod known;
mod record;

use super::db::only;
use crate::model::{BatchId, WorkerNo};
use crate::store::StoreError;
use crate::store::steps::db::{Bundles, Db, Insert, all, change, params};

pub(super) use claim::{Best, claim, loosen_best};
pub(super) use known::Known;
pub(super) use record::record;

/// How bundles come to be.
pub(super) const BUNDLES: Bundles = Bundles {
    batches: Insert {
        sql: only!("submit_bundled"),
        copy: alone!("copy_bundled"),
    },
    tasks: only!("bundle_add"),
};

/// Makes each task of the bundles that hold these batches' a record of its own; whether there were any.
pub(super) async fn loosen(c: &impl Db, ids: &[BatchId]) -> Result<bool, StoreError> {
    // What it waits for is seen by the next statement.
    let found = all(c, only!("bundle_lock"), params![ids], |r| r.get(0)).await?;
    loosen_these(c, &found).await
}

/// The same with all that a worker runs; what others hold is left to a later look.
pub(super) async fn loosen_of(c: &impl Db, worker: WorkerNo) -> Result<(), StoreError> {
    let found = all(c, only!("bundle_held"), params![worker.0], |r| r.get(0)).await?;
    loosen_these(c, &found).await.map(drop)
}

async fn loosen_these(c: &impl Db, bundles: &[BatchId]) -> Result<bool, StoreError> {
    for bundle in bundles {
        change(c, only!("bundle_loosen"), params![*bundle]).await?;
    }
    Ok(!bundles.is_empty())
}
