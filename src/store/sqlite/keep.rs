//! keep: what time alone changes.

use rusqlite::Connection;

use super::end;
use super::release::give;
use super::sql::{all, batch_id, change, one, sql, time, us};
use super::submit::{DISCARD, SILENT, discard_piece};
use crate::model::Timestamp;
use crate::store::{Kept, StoreError};

/// Whether there is anything to do; reads only, so that an idle process writes nothing.
pub(super) fn is_due(
    c: &Connection,
    now: Timestamp,
) -> Result<(bool, Option<Timestamp>), StoreError> {
    let (next, notice) = next_due(c, now)?;
    let giving = one(c, sql!("keep_giving"), [], |_| Ok(()))?.is_some();
    let silent = one(c, sql!("keep_loads"), [silent_before(now)], |_| Ok(()))?.is_some();
    let due = giving || silent || next.is_some_and(|at| at <= now);
    Ok((due, first(next, notice)))
}

fn silent_before(now: Timestamp) -> i64 {
    us(now) - i64::try_from(SILENT.as_micros()).unwrap_or(i64::MAX)
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

pub(super) fn keep(c: &Connection, now: Timestamp) -> Result<Kept, StoreError> {
    let mut kept = Kept {
        woken: u64::try_from(change(c, sql!("keep_wake"), [us(now)])?).unwrap_or(u64::MAX),
        ..Kept::default()
    };
    for id in all(c, sql!("keep_expire"), [us(now)], |r| {
        Ok(batch_id(r.get(0)?))
    })? {
        end::expire(c, id, now)?;
        kept.expired += 1;
    }
    for id in all(c, sql!("keep_giving"), [], |r| Ok(batch_id(r.get(0)?)))? {
        give(c, id, now)?;
    }
    for id in all(c, sql!("keep_loads"), [silent_before(now)], |r| {
        Ok(batch_id(r.get(0)?))
    })? {
        kept.swept += u64::from(discard_piece(c, id, DISCARD)?);
    }
    let (next, notice) = next_due(c, now)?;
    kept.next_due = first(next, notice);
    Ok(kept)
}
