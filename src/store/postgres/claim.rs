//! claim, in one statement: where a task or its batch is not as usual, the step that looks at each one by one is made instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::PostgresStore;
use super::bundle::{self, Best};
use super::db::only;
use super::errors::{is_in_the_way, is_unknown, is_without_begin};
use super::front::Place;
use super::tx::{Link as _, Tx};
use crate::model::{BatchId, JobKey, OpId, TaskId, Timestamp};
use crate::store::steps::claim::{claim, raw, room};
use crate::store::steps::db::{Column, Db as _, Record, Sql, Us, Value, params, time, us};
use crate::store::steps::together::both;
use crate::store::{BatchHead, Claim, ClaimRef, ClaimedTask, StoreError};

/// So many of the tasks that fit are asked for: those that come next may be smaller.
const MORE: u64 = 2;
/// A claim of tasks that stand together and tasks that do not takes so many runs of either at most.
const RUNS: u32 = 8;

impl PostgresStore {
    pub(super) async fn claim_now(
        &self,
        ask: &Claim,
        now: Timestamp,
    ) -> Result<Vec<ClaimedTask>, StoreError> {
        let tx = self.begin().await?;
        let quick = self.claim_quickly(&tx, ask, now).await;
        match quick {
            Ok(Some(quick)) if quick.is_answer(ask) => {
                let Quick {
                    claimed,
                    bundled,
                    loosened,
                    ..
                } = quick;
                let done = tx.commit().await?;
                self.bundles.claimed(bundled);
                // A claim is news for nobody, unless others have passed over what it held and did not take; who got
                // nothing for that looks again by itself, but for a cap, and for what stood together.
                if loosened || (ask.cap.is_some() && is_cut(ask, &claimed)) {
                    self.after(done, now).await;
                }
                self.note_size(ask.op, &claimed);
                return Ok(claimed);
            }
            Ok(_) | Err(StoreError::Corrupt(_)) => tx.rollback().await,
            Err(error) => {
                let heard = tx.is_heard();
                let error = tx.undo_for(&self.begin.write, error).await;
                let lost = !heard && is_unknown(&error);
                if !(lost || is_in_the_way(&error) || is_without_begin(&error)) {
                    return Err(error);
                }
            }
        }
        write!(self, now, tx => async {
            // Nothing is made to stand alone for a claim that may have nothing; and who may have it has the op first.
            if room(&tx, ask).await?.is_none() {
                return Ok(Vec::new());
            }
            bundle::loosen_best(&tx, ask, false).await?;
            let claimed = claim(&tx, &self.damage, ask, now).await?;
            // What stands alone before them may be for nobody to claim.
            if claimed.is_empty() && bundle::loosen_best(&tx, ask, true).await? {
                return claim(&tx, &self.damage, ask, now).await;
            }
            Ok(claimed)
        })
        .await
    }

    /// Claims; `None` where something is to be looked at one by one.
    async fn claim_quickly(
        &self,
        tx: &Tx,
        ask: &Claim,
        now: Timestamp,
    ) -> Result<Option<Quick>, StoreError> {
        let mut quick = Quick {
            together: self.bundles.are_expected(ask),
            ..Quick::default()
        };
        let mut known = None;
        let mut left = ask.clone();
        // Where others may claim as much as is left of a cap, that is asked first.
        if ask.cap.is_some() || quick.together {
            let Some((key, limit)) = room(tx, ask).await? else {
                quick.together = false;
                return Ok(Some(quick));
            };
            left.max_tasks = limit;
            known = Some(key);
        }
        if let Some(batch) = ask.only {
            quick.loosened = bundle::loosen(tx, &[batch]).await?;
        }
        // Those that stand together and those that do not come one after the other.
        for _ in 0..RUNS {
            let before = quick.claimed.len();
            if let Some(key) = known
                .as_ref()
                .filter(|_| quick.together && ask.only.is_none())
            {
                let loosens = quick.claimed.is_empty();
                match bundle::claim(tx, &left, key, loosens, now).await? {
                    Best::Claimed(tasks) => quick.take_together(tasks, &mut left),
                    Best::Strange => return Ok(None),
                    Best::Loosened => quick.loosened = true,
                    Best::Alone => {}
                }
            }
            if is_full(&left) {
                break;
            }
            let (key, found) = match &known {
                Some(key) => (key, self.alone(tx, &left, now).await?),
                // Sent together: what it holds is given back where it may not have it.
                None => {
                    let found = self.alone(tx, &left, now);
                    let (Some((key, _)), found) = both(room(tx, ask), found).await? else {
                        return Ok(None);
                    };
                    (&*known.insert(key), found)
                }
            };
            let Some(tasks) = taken(tx, ask, key, found, now).await? else {
                return Ok(None);
            };
            quick.take(tasks, &mut left);
            if !quick.together || is_full(&left) || quick.claimed.len() == before {
                break;
            }
        }
        Ok(Some(quick))
    }

    /// Claims tasks that stand alone.
    async fn alone(&self, tx: &Tx, ask: &Claim, now: Timestamp) -> Result<Vec<Taken>, StoreError> {
        let mut params = Vec::from(params![
            ask.op.0,
            ask.max_tasks.min(self.fitting(ask)),
            ask.max_rows,
            ask.max_bytes,
            ask.worker.0,
            ask.token.0,
            us(now),
            if ask.once { 2 } else { 0 },
        ]);
        if let Some(batch) = ask.only {
            params.push(batch.into());
            let mut found = tx.all(only!("claim_of_all"), &params).await?;
            return found.iter_mut().map(Taken::read).collect();
        }
        if let Some(from) = self.fronts.of(ask, now) {
            let (sql, place) = from_place(ask, &from);
            let mut all = params.clone();
            all.extend(place);
            let (taken, first) = placed(tx.all(sql, &all).await?)?;
            if let Some((first, _)) = first {
                self.fronts.went_on(ask, first);
                return Ok(taken);
            }
        }
        let sql = if ask.oldest {
            only!("claim_oldest_all")
        } else {
            only!("claim_ready_all")
        };
        let (taken, first) = placed(tx.all(sql, &params).await?)?;
        if let Some((first, took)) = first {
            self.fronts.found(ask, first, took, now);
        }
        Ok(taken)
    }

    /// How many tasks are as large as a claim may be, by what the last one took.
    fn fitting(&self, ask: &Claim) -> u32 {
        let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((rows, bytes)) = sizes.get(&ask.op) else {
            return u32::MAX;
        };
        let most = u64::try_from(ask.max_bytes).unwrap_or(u64::MAX);
        let fit = (ask.max_rows / (*rows).max(1)).min(most / (*bytes).max(1));
        u32::try_from(fit.saturating_mul(MORE).saturating_add(1)).unwrap_or(u32::MAX)
    }

    fn note_size(&self, op: OpId, claimed: &[ClaimedTask]) {
        let Ok(tasks @ 1..) = u64::try_from(claimed.len()) else {
            return;
        };
        let rows: u64 = claimed.iter().map(|task| u64::from(task.rows)).sum();
        let bytes: usize = claimed.iter().map(|task| task.body.len()).sum();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.insert(op, (rows / tasks, bytes / tasks));
    }
}

/// What a claim came to.
#[derive(Default)]
struct Quick {
    claimed: Vec<ClaimedTask>,
    /// Those of them that stand together, with their bundles.
    bundled: Vec<(BatchId, ClaimRef)>,
    /// What stood together stands alone now.
    loosened: bool,
    /// Some that stand together may be there to be claimed.
    together: bool,
}

impl Quick {
    /// Whether there is nothing else to be tried: tasks that nobody gets may stand before others that stand together.
    fn is_answer(&self, ask: &Claim) -> bool {
        !self.claimed.is_empty() || !self.together || ask.only.is_some()
    }

    fn take(&mut self, tasks: Vec<ClaimedTask>, left: &mut Claim) {
        for task in &tasks {
            left.max_tasks = left.max_tasks.saturating_sub(1);
            left.max_rows = left.max_rows.saturating_sub(task.rows.into());
            left.max_bytes = left.max_bytes.saturating_sub(task.body.len());
        }
        self.claimed.extend(tasks);
    }

    fn take_together(&mut self, tasks: Vec<(BatchId, ClaimedTask)>, left: &mut Claim) {
        let bundled = tasks.iter().map(|(bundle, task)| (*bundle, task.claim));
        self.bundled.extend(bundled);
        self.take(tasks.into_iter().map(|(_, task)| task).collect(), left);
    }
}

fn is_full(left: &Claim) -> bool {
    left.max_tasks == 0 || left.max_rows == 0 || left.max_bytes == 0
}

/// What was claimed; `None` where something of it is to be looked at one by one.
async fn taken(
    tx: &Tx,
    ask: &Claim,
    key: &JobKey,
    mut taken: Vec<Taken>,
    now: Timestamp,
) -> Result<Option<Vec<ClaimedTask>>, StoreError> {
    let most = ask.split_over.filter(|most| *most > 0);
    let too_long = |task: &Taken| most.is_some_and(|most| task.rows > most);
    if taken.iter().any(too_long) {
        return Ok(None);
    }
    let heads = heads(tx, key, &taken, now).await?;
    tx.wrote_some(!taken.is_empty());
    taken.sort_unstable_by_key(|task| task.place);
    let claimed = taken.into_iter().map(|task| task.of(ask, &heads));
    Ok(claimed.collect())
}

/// Whether a claim may have held tasks that it did not take, because they were too many rows or bytes.
fn is_cut(ask: &Claim, claimed: &[ClaimedTask]) -> bool {
    let rows: u64 = claimed.iter().map(|task| u64::from(task.rows)).sum();
    let bytes: usize = claimed.iter().map(|task| task.body.len()).sum();
    rows >= ask.max_rows || bytes >= ask.max_bytes
}

/// The tasks' batches as they are now that the tasks are held; none where one of them is gone, is being
/// aborted or has expired.
async fn heads(
    tx: &Tx,
    key: &JobKey,
    taken: &[Taken],
    now: Timestamp,
) -> Result<BTreeMap<BatchId, Arc<BatchHead>>, StoreError> {
    let ids: BTreeSet<BatchId> = taken.iter().map(|task| task.batch).collect();
    let mut heads = BTreeMap::new();
    if ids.is_empty() {
        return Ok(heads);
    }
    let ids: Vec<BatchId> = ids.into_iter().collect();
    let mut found = tx.all(only!("claim_heads"), &params![&ids[..]]).await?;
    for record in &mut found {
        let head = BatchHead {
            id: record.get(0)?,
            key: key.clone(),
            context: raw(record.get(1)?)?,
            root: record.get(2)?,
            generation: record.get(3)?,
            expires_at: record.get::<Option<Us>>(4)?.map(time),
        };
        let aborting = record.get::<Option<Us>>(5)?.is_some();
        if !aborting && head.expires_at.is_none_or(|at| at > now) {
            heads.insert(head.id, Arc::new(head));
        }
    }
    Ok(heads)
}

/// What a claim that begins at a place is asked with more than others.
fn from_place(ask: &Claim, from: &Place) -> (Sql, [Value<'static>; 4]) {
    let Place {
        priority,
        turn,
        age,
        batch,
        id,
    } = *from;
    if ask.oldest {
        (only!("claim_oldest_from"), params![age, batch, turn, id])
    } else {
        (
            only!("claim_ready_from"),
            params![priority, turn, batch, id],
        )
    }
}

/// The place of the first task of a claim, and how long it was looked for.
type First = (Place, Duration);

/// What was claimed, and where.
fn placed(mut found: Vec<Record>) -> Result<(Vec<Taken>, Option<First>), StoreError> {
    let mut taken = Vec::with_capacity(found.len());
    let mut first = None;
    for r in &mut found {
        let at = &mut 0;
        let task = Taken::next(r, at)?;
        let (priority, turn, age) = (next(r, at)?, next(r, at)?, next(r, at)?);
        if let Some(took) = next::<Option<u64>>(r, at)? {
            let (batch, id) = (task.batch, task.id);
            let place = Place {
                priority,
                turn,
                age,
                batch,
                id,
            };
            first = Some((place, Duration::from_micros(took)));
        }
        taken.push(task);
    }
    Ok((taken, first))
}

fn next<T: Column>(r: &mut Record, at: &mut usize) -> Result<T, StoreError> {
    let value = r.get(*at);
    *at += 1;
    value
}

/// A task that was claimed, without its batch.
struct Taken {
    place: i64,
    batch: BatchId,
    id: i64,
    no: i64,
    rows: u32,
    pick: Option<Vec<u32>>,
    attempt: u32,
    failures: u32,
    laters: u32,
    suspect: u32,
    losses: u32,
    first_line: u32,
    lines: Option<Vec<u32>>,
    body: String,
}

impl Taken {
    fn read(r: &mut Record) -> Result<Self, StoreError> {
        Self::next(r, &mut 0)
    }

    fn next(r: &mut Record, at: &mut usize) -> Result<Self, StoreError> {
        Ok(Self {
            place: next(r, at)?,
            batch: next(r, at)?,
            id: next(r, at)?,
            no: next(r, at)?,
            rows: next(r, at)?,
            pick: next(r, at)?,
            attempt: next(r, at)?,
            failures: next(r, at)?,
            laters: next(r, at)?,
            suspect: next(r, at)?,
            losses: next(r, at)?,
            first_line: next(r, at)?,
            lines: next(r, at)?,
            body: next(r, at)?,
        })
    }

    /// `None`: its batch is to be looked at.
    fn of(self, ask: &Claim, heads: &BTreeMap<BatchId, Arc<BatchHead>>) -> Option<ClaimedTask> {
        Some(ClaimedTask {
            batch: Arc::clone(heads.get(&self.batch)?),
            claim: ClaimRef {
                batch: self.batch,
                task: TaskId(self.id),
                no: self.no,
                attempt: self.attempt,
                token: ask.token,
            },
            failures: self.failures,
            laters: self.laters,
            suspect: self.suspect > 0 || ask.once,
            accused: self.suspect == 1 && self.losses > 0 && !ask.once,
            believed: self.suspect == 0 && self.losses > 0 && !ask.once,
            first_line: self.first_line,
            lines: self.lines,
            body: self.body,
            pick: self.pick,
            rows: self.rows,
        })
    }
}
