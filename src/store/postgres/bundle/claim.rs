//! claim: the best tasks of an op where they stand together.

use std::sync::Arc;

use super::super::db::only;
use super::super::tx::Tx;
use super::{loosen, loosen_these};
use crate::model::{BatchId, JobKey, TaskId, Timestamp};
use crate::store::steps::claim::raw;
use crate::store::steps::db::{Db, Record, all, params, us};
use crate::store::steps::single::{MEMBER_BYTES, MEMBERS};
use crate::store::{BatchHead, Claim, ClaimRef, ClaimedTask, StoreError};

/// What became of an op's best tasks.
pub(in crate::store::postgres) enum Best {
    /// They stand alone, or are more than is asked for.
    Alone,
    /// Some stood together, and stand alone now.
    Loosened,
    /// They are claimed, each with its bundle.
    Claimed(Vec<(BatchId, ClaimedTask)>),
    /// One of them is to be looked at by itself.
    Strange,
}

/// Claims an op's best tasks where they stand together and all of them fit; where they do not fit, they stand alone
/// from now on, if that is wanted.
pub(in crate::store::postgres) async fn claim(
    tx: &Tx,
    ask: &Claim,
    key: &JobKey,
    loosens: bool,
    now: Timestamp,
) -> Result<Best, StoreError> {
    let bytes = u64::try_from(ask.max_bytes / MEMBER_BYTES).unwrap_or(u64::MAX);
    let room = match ask.cap {
        None if !ask.once => u64::from(ask.max_tasks).min(ask.max_rows).min(bytes),
        // Each begins by itself.
        _ => 0,
    };
    // Where they are not full, the next run takes more.
    let most = (room / MEMBERS as u64).max(1);
    let found = best(tx, ask, most, false).await?;
    let Some((best, _)) = found.first() else {
        return Ok(Best::Alone);
    };
    let mut tasks = 0;
    let fits = |(_, of): &&(BatchId, u64)| {
        tasks += of;
        tasks <= room
    };
    let fitting: Vec<&(BatchId, u64)> = found.iter().take_while(fits).collect();
    if fitting.is_empty() {
        if loosens && loosen_these(tx, &[*best]).await? {
            return Ok(Best::Loosened);
        }
        return Ok(Best::Alone);
    }
    let bundles: Vec<BatchId> = fitting.iter().map(|(bundle, _)| *bundle).collect();
    let expected: u64 = fitting.iter().map(|(_, tasks)| tasks).sum();
    take(tx, ask, key, &bundles, expected, now).await
}

/// The bundles that an op's best tasks stand in, and how many tasks each has; nobody else claims of them before this transaction ends.
/// `any`: also behind tasks that stand alone.
async fn best(
    c: &impl Db,
    ask: &Claim,
    most: u64,
    any: bool,
) -> Result<Vec<(BatchId, u64)>, StoreError> {
    let sql = if ask.oldest {
        only!("bundle_oldest")
    } else {
        only!("bundle_ready")
    };
    all(c, sql, params![ask.op.0, most, any], |r| {
        Ok((r.get(0)?, r.get(1)?))
    })
    .await
}

/// Makes each of an op's best tasks one of its own, where they stand together; whether they did.
pub(in crate::store::postgres) async fn loosen_best(
    c: &impl Db,
    ask: &Claim,
    any: bool,
) -> Result<bool, StoreError> {
    let found = match ask.only {
        Some(batch) => return loosen(c, &[batch]).await,
        None => best(c, ask, 1, any).await?,
    };
    let bundles: Vec<BatchId> = found.into_iter().map(|(bundle, _)| bundle).collect();
    loosen_these(c, &bundles).await
}

async fn take(
    tx: &Tx,
    ask: &Claim,
    key: &JobKey,
    bundles: &[BatchId],
    expected: u64,
    now: Timestamp,
) -> Result<Best, StoreError> {
    let params = params![bundles, ask.token.0, ask.worker.0, us(now)];
    let mut found = tx.all(only!("bundle_take"), &params).await?;
    let mut tasks = Vec::with_capacity(found.len());
    for record in &mut found {
        match member(record, ask, key)? {
            Some(task) => tasks.push(task),
            None => return Ok(Best::Strange),
        }
    }
    if u64::try_from(tasks.len()).ok() != Some(expected) {
        return Ok(Best::Strange);
    }
    Ok(Best::Claimed(tasks))
}

/// A task of a bundle; `None`: its batch is to be looked at.
fn member(
    r: &mut Record,
    ask: &Claim,
    key: &JobKey,
) -> Result<Option<(BatchId, ClaimedTask)>, StoreError> {
    if !r.get::<bool>(7)? {
        return Ok(None);
    }
    let id = r.get(1)?;
    let head = BatchHead {
        id,
        key: key.clone(),
        context: raw(r.get(4)?)?,
        root: r.get(5)?,
        generation: r.get(6)?,
        expires_at: None,
    };
    let task = ClaimedTask {
        batch: Arc::new(head),
        claim: ClaimRef {
            batch: id,
            task: TaskId(0),
            no: 0,
            attempt: 1,
            token: ask.token,
        },
        failures: 0,
        laters: 0,
        suspect: false,
        accused: false,
        believed: false,
        first_line: r.get(2)?,
        lines: None,
        body: r.get(3)?,
        pick: None,
        rows: 1,
    };
    Ok(Some((r.get(0)?, task)))
}
