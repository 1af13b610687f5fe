//! keep: what time alone changes.

use rusqlite::{Connection, params};

use super::damage::Damage;
use super::discard::{DISCARD, Leftover, silent_before, take_append, take_load};
use super::end;
use super::release::give;
use super::sql::{all, batch_id, change, one, sql, time, us};
use crate::model::Timestamp;
use crate::store::{Kept, StoreError};

/// Whether there is anything to do; reads only, so that an idle process writes nothing.
pub(super) fn is_due(
    c: &Connection,
    now: Timestamp,
) -> Result<(bool, Option<Timestamp>), StoreError> {
    let (next, notice) = next_due(c, now)?;
    let giving = one(c, sql!("keep_giving"), [0], |_| Ok(()))?.is_some();
    let before = [silent_before(now)];
    let silent = one(c, sql!("keep_loads"), before, |_| Ok(()))?.is_some()
        || one(c, sql!("keep_appends"), before, |_| Ok(()))?.is_some();
    let due = giving || silent || next.is_some_and(|at| at <= now);
    Ok((due, first(next, notice)))
}

fn first(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// When the keeper is to act, and when a notice becomes due. A notice that is due already is its
/// receiver's alone: keeping changes nothing about it, and its receiver may be elsewhere or down.
fn next_due(
    c: &Connection,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
    let due = |found: Option<Option<i64>>| found.flatten().map(time);
    let task = one(c, sql!("keep_due_task"), [], |r| r.get(0))?;
    let expiry = one(c, sql!("keep_due_expiry"), [], |r| r.get(0))?;
    let notice = one(c, sql!("keep_due_notice"), [us(now)], |r| r.get(0))?;
    Ok((first(due(task), due(expiry)), due(notice)))
}

/// Each batch's step is apart from the others': one that is damaged holds none of them up.
pub(super) fn keep(c: &Connection, damage: &Damage, now: Timestamp) -> Result<Kept, StoreError> {
    let mut kept = Kept {
        woken: u64::try_from(change(c, sql!("keep_wake"), [us(now)])?).unwrap_or(u64::MAX),
        ..Kept::default()
    };
    // Those that are damaged stay what they are, and would fill the list.
    let more = damage.count();
    for id in all(c, sql!("keep_expire"), params![us(now), more], |r| {
        Ok(batch_id(r.get(0)?))
    })? {
        let done = damage.apart(c, id, || end::expire(c, id, now))?;
        kept.expired += u64::from(done.is_some());
    }
    let mut given = 0;
    for id in all(c, sql!("keep_giving"), [more], |r| Ok(batch_id(r.get(0)?)))? {
        let done = damage.apart(c, id, || give(c, id, now))?;
        given += u64::from(done.is_some());
    }
    for left in silent(c, now)? {
        kept.swept += u64::from(left.remove(c, DISCARD)?);
    }
    let (next, notice) = next_due(c, now)?;
    // What stays due because it is damaged is looked at now and then, and not without a pause.
    let stays = damage.count() > 0 && kept.woken + kept.expired + given == 0;
    kept.next_due = first(next.filter(|at| !stays || *at > now), notice);
    Ok(kept)
}

/// Loads and appends whose loaders have been silent, taken from them: one that comes back is fenced.
fn silent(c: &Connection, now: Timestamp) -> Result<Vec<Leftover>, StoreError> {
    let before = [silent_before(now)];
    let named = |r: &rusqlite::Row<'_>| Ok((batch_id(r.get(0)?), r.get::<_, i64>(1)?));
    let mut left = Vec::new();
    for (id, token) in all(c, sql!("keep_loads"), before, named)? {
        left.extend(take_load(c, id, token)?);
    }
    for (id, token) in all(c, sql!("keep_appends"), before, named)? {
        left.extend(take_append(c, id, token)?);
    }
    Ok(left)
}
