//! submit and claim in one step: a query that is submitted alone is stored as running in a free slot of this process's worker.

use std::sync::Arc;

use futures_util::FutureExt;

use super::PostgresStore;
use super::db::only;
use super::errors::is_unknown;
use super::together::Query;
use super::tx::Tx;
use crate::model::{NewBatch, Timestamp};
use crate::store::steps::db::{one, params};
use crate::store::steps::single::{self, Known, Whole};
use crate::store::steps::submit::{Asked, existing};
use crate::store::steps::take_over;
use crate::store::steps::together::both;
use crate::store::{ClaimedTask, Holder, StoreError, Submitted};

/// Whether a query may begin at once: no time is set for it, it is no retry, and its one row can be read.
fn may_begin(query: &Query) -> bool {
    let ((batch, block, _), _) = &**query;
    let NewBatch {
        hold,
        run_at,
        expires_at,
        retry_of,
        ..
    } = batch;
    !hold
        && run_at.is_none()
        && expires_at.is_none()
        && retry_of.is_none()
        && block.rejected.is_empty()
}

impl PostgresStore {
    /// Has a query stored in a free slot; `None` where there is none, it may not begin at once, or it is not known to be stored.
    pub(super) async fn stored_in_a_slot(&self, queries: &[Query]) -> Option<Submitted> {
        let [one] = queries else { return None };
        if !may_begin(one) {
            return None;
        }
        let taken = self.slots.take(&one.0.0.key)?;
        taken.stores(Arc::clone(one)).await
    }

    /// Stores a query as its slot's worker has it, by one try. Where that is dead, or others of its op wait, it waits as they do.
    pub(super) async fn submit_now_at_once(
        &self,
        query: Query,
        holder: Holder,
        now: Timestamp,
    ) -> Result<Option<(Submitted, Option<ClaimedTask>)>, StoreError> {
        if !may_begin(&query) {
            return Ok(Some((self.store_one(query).await?, None)));
        }
        let tx = self.begin_brief().await?;
        let (submitted, task) = match at_once(&tx, &query, holder, now).await {
            Ok(stored) => stored,
            Err(error) => return Err(tx.undo_for(&self.begin.brief, error).await),
        };
        match tx.commit().await {
            // A claim is news for nobody.
            Ok(_) if task.is_some() => {}
            Ok(done) => self.after(done, now).await,
            Err(error) if is_unknown(&error) => {
                tracing::warn!(%error, "the answer to a query's commit was lost");
                self.waker.wake();
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        Ok(Some((submitted, task)))
    }
}

async fn at_once(
    tx: &Tx,
    query: &Query,
    holder: Holder,
    now: Timestamp,
) -> Result<(Submitted, Option<ClaimedTask>), StoreError> {
    let Asked {
        query,
        block,
        hash,
        at,
    } = Asked::of(&query.0, query.1);
    let known = &mut Known::default();
    // Boxed: what is sent together is moved often.
    let there = existing(tx, query, Some(*hash)).boxed();
    let whole = Whole::of(tx, known, query, block, hash, at).boxed();
    let lives = take_over::lives(tx, holder.worker).boxed();
    let free = one(tx, only!("submit_free"), params![holder.op.0], |r| r.get(0)).boxed();
    // One wait for all of it.
    let ((there, whole), may) = both(both(there, whole), both(lives, free)).await?;
    if let Some(there) = there {
        return Ok((there, None));
    }
    let task = match may {
        (true, Some(true)) if whole.op() == holder.op => {
            let sql = only!("submit_claimed");
            Some(single::submit_claimed(tx, &whole, sql, holder, now).await?)
        }
        _ => {
            single::submit(tx, &whole).await?;
            None
        }
    };
    Ok((Submitted::New(query.id), task))
}
