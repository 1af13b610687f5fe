//! doctor: what is looked at in every database, in short reads; changes nothing.
//!
//! What is looked at in several reads is looked at again before it is called wrong, because others go on writing.

mod rows;
mod state;

use uuid::Uuid;

use super::db::{Db, Value, all, params, sql};
use crate::model::{BatchId, Timestamp, WorkerNo};
use crate::store::{Check, Diagnosis, StoreError};

/// Output files whose sizes are to be compared with those in the object store.
const FILES: i64 = 100;

/// What to do where the database is damaged: it is another thing for each.
pub(in crate::store) struct Words {
    /// Where what is stored breaks an invariant.
    pub(in crate::store) report: &'static str,
    /// Where something cannot be read.
    pub(in crate::store) unread: &'static str,
}

impl Words {
    /// What could not be looked at.
    pub(in crate::store) fn unread(&self, name: &'static str, error: &StoreError) -> Check {
        Check::repair(
            name,
            format!("could not be looked at: {error}"),
            self.unread,
        )
    }
}

/// The key after which a look goes on, or begins: on SQLite before every key that there can be.
fn behind(c: &impl Db, batch: Option<BatchId>) -> Value<'static> {
    match batch {
        Some(batch) => Value::Id(batch),
        None if c.is_shared() => Value::Id(BatchId(Uuid::nil())),
        None => Value::Bytes(&[]),
    }
}

/// Looks at what is stored and at what goes on; these workers are dead.
pub(in crate::store) async fn looks(
    c: &impl Db,
    dead: Result<Vec<WorkerNo>, StoreError>,
    now: Timestamp,
    words: &Words,
    found: &mut Diagnosis,
) {
    rows::looks(c, words, &mut found.checks).await;
    match dead {
        Ok(dead) => state::looks(c, dead, now, words, &mut found.checks).await,
        Err(error) => found.checks.push(words.unread("workers", &error)),
    }
    let files = all(c, sql!("doctor_files"), params![FILES], |r| {
        Ok((r.get(0)?, r.get(1)?))
    });
    found.files = files.await.unwrap_or_default();
}
