//! keep: what time alone changes.

use rusqlite::Connection;

use super::end;
use super::sql::{all, batch_id, change, one, sql, time, us};
use super::submit::{SILENT, discard, give};
use crate::model::Timestamp;
use crate::store::{Kept, StoreError};

/// Whether there is anything to do; reads only, so that an idle process writes nothing.
pub(super) fn is_due(
    c: &Connection,
    now: Timestamp,
) -> Result<(bool, Option<Timestamp>), StoreError> {
    let next = next_due(c)?;
    let giving = one(c, sql!("keep_giving"), [], |_| Ok(()))?.is_some();
    let silent = one(c, sql!("keep_loads"), [silent_before(now)], |_| Ok(()))?.is_some();
    Ok((giving || silent || next.is_some_and(|at| at <= now), next))
}

fn silent_before(now: Timestamp) -> i64 {
    us(now) - i64::try_from(SILENT.as_micros()).unwrap_or(i64::MAX)
}

fn next_due(c: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let mut next: Option<i64> = None;
    for statement in [
        sql!("keep_due_task"),
        sql!("keep_due_expiry"),
        sql!("keep_due_notice"),
    ] {
        let due = one(c, statement, [], |r| r.get::<_, Option<i64>>(0))?.flatten();
        next = match (next, due) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    Ok(next.map(time))
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
    let loads = all(c, sql!("keep_loads"), [silent_before(now)], |r| {
        Ok((batch_id(r.get(0)?), r.get::<_, Option<i64>>(1)?))
    })?;
    for (id, token) in loads {
        kept.swept += u64::from(discard(c, id, token.unwrap_or(0))?);
    }
    kept.next_due = next_due(c)?;
    Ok(kept)
}
