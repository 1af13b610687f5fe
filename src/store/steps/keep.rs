//! keep: what time alone changes.

use super::damage::Damage;
use super::db::{Db, Record, Us, all, change, one, params, sql, time, us};
use super::discard::{DISCARD, Leftover, silent_before, take_append, take_load};
use super::end;
use super::release::give;
use crate::model::{BatchId, Timestamp};
use crate::store::{Kept, StoreError};

/// Whether there is anything to do; reads only, so that an idle process writes nothing.
pub(in crate::store) async fn is_due(
    c: &impl Db,
    now: Timestamp,
) -> Result<(bool, Option<Timestamp>), StoreError> {
    let (next, notice) = next_due(c, now).await?;
    let giving = one(c, sql!("keep_giving"), params![0], |_| Ok(()))
        .await?
        .is_some();
    let before = params![silent_before(now)];
    let silent = one(c, sql!("keep_loads"), before, |_| Ok(()))
        .await?
        .is_some()
        || one(c, sql!("keep_appends"), before, |_| Ok(()))
            .await?
            .is_some();
    let due = giving || silent || next.is_some_and(|at| at <= now);
    Ok((due, first(next, notice)))
}

fn first(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// When the keeper is to act, and when a notice becomes due. A notice that is due already is its
/// receiver's alone: keeping changes nothing about it, and its receiver may be elsewhere or down.
async fn next_due(
    c: &impl Db,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
    let due = |found: Option<Option<Us>>| found.flatten().map(time);
    let task = one(c, sql!("keep_due_task"), params![], |r| r.get(0)).await?;
    let expiry = one(c, sql!("keep_due_expiry"), params![], |r| r.get(0)).await?;
    let notice = one(c, sql!("keep_due_notice"), params![us(now)], |r| r.get(0)).await?;
    Ok((first(due(task), due(expiry)), due(notice)))
}

/// Asks for batches whose last task is gone whether they have ended: a crash came between the last
/// record and the look after it.
pub(in crate::store) async fn settle_missed(c: &impl Db) -> Result<(), StoreError> {
    for id in all(c, sql!("keep_ended"), params![], |r| r.get::<BatchId>(0)).await? {
        c.settle_later(id);
    }
    Ok(())
}

/// Each batch's step is apart from the others': one that is damaged holds none of them up.
pub(in crate::store) async fn keep(
    c: &impl Db,
    damage: &Damage,
    now: Timestamp,
) -> Result<Kept, StoreError> {
    let mut kept = Kept {
        woken: change(c, sql!("keep_wake"), params![us(now)]).await?,
        ..Kept::default()
    };
    // Those that are damaged stay what they are, and would fill the list.
    let more = damage.count();
    for id in all(c, sql!("keep_expire"), params![us(now), more], |r| r.get(0)).await? {
        let done = damage.apart(c, id, end::expire(c, id, now)).await?;
        kept.expired += u64::from(done == Some(true));
    }
    let mut given = 0;
    for id in all(c, sql!("keep_giving"), params![more], |r| r.get(0)).await? {
        let done = damage.apart(c, id, give(c, id, now)).await?;
        given += u64::from(done.is_some());
    }
    for left in silent(c, now).await? {
        kept.swept += u64::from(left.remove(c, DISCARD).await?);
    }
    let (next, notice) = next_due(c, now).await?;
    // What stays due because it is damaged, or in others' hands, is looked at now and then, and not without a pause.
    let stays = (damage.count() > 0 || c.is_shared()) && kept.woken + kept.expired + given == 0;
    kept.next_due = first(next.filter(|at| !stays || *at > now), notice);
    Ok(kept)
}

/// Loads and appends whose loaders have been silent, taken from them: one that comes back is fenced.
async fn silent(c: &impl Db, now: Timestamp) -> Result<Vec<Leftover>, StoreError> {
    let before = params![silent_before(now)];
    let named = |r: &mut Record| Ok((r.get(0)?, r.get::<i64>(1)?));
    let mut left = Vec::new();
    for (id, token) in all(c, sql!("keep_loads"), before, named).await? {
        left.extend(take_load(c, id, token).await?);
    }
    for (id, token) in all(c, sql!("keep_appends"), before, named).await? {
        left.extend(take_append(c, id, token).await?);
    }
    Ok(left)
}
