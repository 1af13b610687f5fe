//! Tasks of one-row batches that were submitted together stand in the queue together, as one record: a bundle. It is claimed
//! whole, and whatever concerns one of its tasks alone makes each a record of its own first.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::db::only;
use super::errors::postgres_error;
use super::ready::ask;
use super::record::{Bodies, Told};
use super::tx::{Link, Tx};
use crate::model::{BatchId, JobKey, OpId, TaskId, Timestamp, Token, WorkerNo};
use crate::store::steps::claim::raw;
use crate::store::steps::db::{Bundles, Db, Insert, Record, Value, all, change, params, us};
use crate::store::steps::single::MEMBERS;
use crate::store::{BatchHead, Claim, ClaimRef, ClaimedTask, Head, Part, Recorded, StoreError};

/// How bundles come to be.
pub(super) const BUNDLES: Bundles = Bundles {
    batches: Insert {
        sql: only!("submit_bundled"),
        copy: alone!("copy_bundled"),
    },
    tasks: only!("bundle_add"),
};

/// So many claimed tasks are known to be in bundles; of more it is found out when it is asked.
const KNOWN: usize = 1 << 16;

/// What this process knows of bundles. What it does not know, or wrongly, costs a statement more.
#[derive(Default)]
pub(super) struct Known {
    /// The bundles of tasks that were claimed here.
    members: Mutex<HashMap<BatchId, (BatchId, Token)>>,
    /// Ops of which some waited when it was last looked at.
    waiting: Mutex<HashSet<OpId>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Takes in what the best tasks of ops are.
    pub(super) fn see(&self, ops: &[OpId], heads: &[(Head, bool)]) {
        let mut waiting = lock(&self.waiting);
        for op in ops {
            waiting.remove(op);
        }
        waiting.extend(
            heads
                .iter()
                .filter(|(_, together)| *together)
                .map(|(head, _)| head.op),
        );
    }

    fn claimed(&self, tasks: &[(BatchId, ClaimedTask)]) {
        let mut members = lock(&self.members);
        if members.len() + tasks.len() > KNOWN {
            members.clear();
        }
        members.extend(
            tasks
                .iter()
                .map(|(bundle, task)| (task.claim.batch, (*bundle, task.claim.token))),
        );
    }

    /// Whether a claimed task may be in one.
    pub(super) fn holds(&self, claim: &ClaimRef) -> bool {
        self.of(claim).is_some()
    }

    /// The bundle of a claimed task.
    fn of(&self, claim: &ClaimRef) -> Option<BatchId> {
        let members = lock(&self.members);
        let (bundle, token) = members.get(&claim.batch)?;
        (*token == claim.token).then_some(*bundle)
    }

    /// These have ended, or stand alone.
    pub(super) fn forget<'a>(&self, claims: impl Iterator<Item = &'a ClaimRef>) {
        let mut members = lock(&self.members);
        if members.is_empty() {
            return;
        }
        for claim in claims {
            members.remove(&claim.batch);
        }
    }

    /// Those of the parts in whose stead a bundle may stand.
    pub(super) fn split<'a>(
        &self,
        told: Vec<Told<'a>>,
    ) -> (Vec<(BatchId, Told<'a>)>, Vec<Told<'a>>) {
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for one in told {
            match self.of(&one.1.claim) {
                Some(bundle) => together.push((bundle, one)),
                None => alone.push(one),
            }
        }
        (together, alone)
    }
}

/// Makes each task of the bundle that holds a batch's a record of its own; whether there was one.
pub(super) async fn loosen(c: &impl Db, id: BatchId) -> Result<bool, StoreError> {
    // What it waits for is seen by the next statement.
    let found = all(c, only!("bundle_lock"), params![id], |r| r.get(0)).await?;
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

/// What became of an op's best tasks.
pub(super) enum Best {
    /// They stand alone.
    Alone,
    /// Some stood together, and stand alone now.
    Loosened,
    /// They are claimed.
    Claimed(Vec<ClaimedTask>),
    /// One of them is to be looked at by itself.
    Strange,
}

impl Known {
    /// Whether an op's best tasks may stand together: those of one batch, and where some were seen.
    pub(super) fn are_expected(&self, ask: &Claim) -> bool {
        ask.only.is_some() || lock(&self.waiting).contains(&ask.op)
    }

    /// Claims an op's best tasks where they stand together and all of them fit; where they do not fit, they stand alone
    /// from now on.
    pub(super) async fn claim(
        &self,
        tx: &Tx,
        ask: &Claim,
        key: &JobKey,
        now: Timestamp,
    ) -> Result<Best, StoreError> {
        if let Some(batch) = ask.only {
            return Ok(loosened(loosen(tx, batch).await?));
        }
        let room = match ask.cap {
            None if !ask.once => u64::from(ask.max_tasks).min(ask.max_rows),
            // Each begins by itself.
            _ => 0,
        };
        let most = room / MEMBERS as u64 + 1;
        let found = best(tx, ask, most).await?;
        let Some((best, _)) = found.first() else {
            return Ok(Best::Alone);
        };
        let mut tasks = 0;
        let fits = |(_, of): &&(BatchId, u64)| {
            tasks += of;
            tasks <= room
        };
        let taken: Vec<BatchId> = found
            .iter()
            .take_while(fits)
            .map(|(bundle, _)| *bundle)
            .collect();
        if taken.is_empty() {
            return Ok(loosened(loosen_these(tx, &[*best]).await?));
        }
        let expected: u64 = found.iter().take(taken.len()).map(|(_, of)| of).sum();
        take(self, tx, ask, key, &taken, expected, now).await
    }
}

/// The bundles that an op's best tasks stand in, and how many tasks each has; nobody else claims of them before this transaction ends.
async fn best(c: &impl Db, ask: &Claim, most: u64) -> Result<Vec<(BatchId, u64)>, StoreError> {
    let sql = if ask.oldest {
        only!("bundle_oldest")
    } else {
        only!("bundle_ready")
    };
    all(c, sql, params![ask.op.0, most], |r| {
        Ok((r.get(0)?, r.get(1)?))
    })
    .await
}

/// Makes each of an op's best tasks one of its own, where they stand together.
pub(super) async fn loosen_best(c: &impl Db, ask: &Claim) -> Result<(), StoreError> {
    let found = match ask.only {
        Some(batch) => return loosen(c, batch).await.map(drop),
        None => best(c, ask, 1).await?,
    };
    let bundles: Vec<BatchId> = found.into_iter().map(|(bundle, _)| bundle).collect();
    loosen_these(c, &bundles).await.map(drop)
}

fn loosened(some: bool) -> Best {
    if some { Best::Loosened } else { Best::Alone }
}

async fn take(
    known: &Known,
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
    known.claimed(&tasks);
    Ok(Best::Claimed(
        tasks.into_iter().map(|(_, task)| task).collect(),
    ))
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

/// Records tasks of bundles; returns those whose bundle is not there any more: they stand alone, or are somebody else's.
pub(super) async fn record<'a>(
    tx: &Tx,
    worker: WorkerNo,
    told: Vec<(BatchId, Told<'a>)>,
    now: Timestamp,
    answers: &mut [Recorded],
) -> Result<Vec<Told<'a>>, StoreError> {
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let of = |part: fn(&Part) -> u32| -> Vec<i32> {
        told.iter()
            .map(|(_, (_, p))| part(p).cast_signed())
            .collect()
    };
    let bundles: Vec<Uuid> = told.iter().map(|(bundle, _)| bundle.0).collect();
    let batches: Vec<Uuid> = told.iter().map(|(_, (_, p))| p.claim.batch.0).collect();
    let tokens: Vec<i64> = told.iter().map(|(_, (_, p))| p.claim.token.0).collect();
    let (success, failed) = (of(|p| p.success), of(|p| p.failed));
    let bodies = Bodies(told.iter().map(|(_, (_, p))| p.body.as_str()).collect());
    let sql = only!("bundle_record");
    let wrong = || postgres_error(sql.name);
    let at = Value::Time(us(now));
    let rows = ask(
        tx,
        sql,
        &[
            (&worker.0, Type::INT8),
            (&at, Type::TIMESTAMPTZ),
            (&bundles, Type::UUID_ARRAY),
            (&batches, Type::UUID_ARRAY),
            (&tokens, Type::INT8_ARRAY),
            (&success, Type::INT4_ARRAY),
            (&failed, Type::INT4_ARRAY),
            (&bodies, Type::TEXT_ARRAY),
        ],
    )
    .await?;
    let (mut held, mut through) = (BTreeSet::new(), Vec::new());
    let mut ended = BTreeSet::new();
    for row in &rows {
        let bundle: Option<Uuid> = row.try_get(0).map_err(wrong())?;
        match bundle {
            Some(bundle) => {
                held.insert(BatchId(bundle));
                if row.try_get(1).map_err(wrong())? {
                    through.push(BatchId(bundle));
                }
            }
            // Counted from 1.
            None => ended.extend(usize::try_from(
                row.try_get::<_, i64>(2).map_err(wrong())? - 1,
            )),
        }
    }
    tx.wrote_some(!ended.is_empty());
    let (mut alone, mut strange) = (Vec::new(), BTreeMap::new());
    for (place, (bundle, (at, part))) in told.into_iter().enumerate() {
        if ended.contains(&place) {
            if let Some(answer) = answers.get_mut(at) {
                *answer = Recorded::Done;
            }
        } else if held.contains(&bundle) {
            strange.insert(bundle, part.claim.batch);
        } else {
            alone.push((at, part));
        }
    }
    if !through.is_empty() {
        change(tx, only!("bundle_end"), params![&through[..]]).await?;
    }
    // Counted as ended, and it was not: what is left of its bundle is found by itself.
    loosen_these(tx, &strange.into_keys().collect::<Vec<_>>()).await?;
    Ok(alone)
}
