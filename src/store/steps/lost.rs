//! What a worker runs, as whoever takes it over reads it.

use super::db::{Db, Record, all, params, sql};
use super::record::Task;
use crate::model::{BatchId, TaskId, Token, WorkerNo};
use crate::store::{ClaimRef, StoreError};

/// A task that a worker runs or ran.
pub(in crate::store) struct Lost {
    pub(in crate::store) claim: ClaimRef,
    pub(in crate::store) close: bool,
    pub(in crate::store) task: Task,
    pub(in crate::store) failures: u32,
    pub(in crate::store) laters: u32,
    pub(in crate::store) row_now: Option<u32>,
}

/// What a worker runs, but for what stands together; one that cannot be read keeps the others from nobody.
pub(in crate::store) async fn held_by(
    c: &impl Db,
    worker: WorkerNo,
) -> Result<Vec<(BatchId, Held)>, StoreError> {
    all(c, sql!("take_over_tasks"), params![worker.0], |r| {
        Ok((r.get(0)?, lost(r)))
    })
    .await
}

/// One of them, or what is wrong with its record.
type Held = Result<Lost, StoreError>;

fn lost(r: &mut Record) -> Result<Lost, StoreError> {
    Ok(Lost {
        claim: ClaimRef {
            batch: r.get(0)?,
            task: TaskId(r.get(1)?),
            no: r.get(2)?,
            attempt: r.get(10)?,
            token: Token(r.get(11)?),
        },
        close: r.get::<i64>(3)? == 1,
        task: Task {
            no: r.get(2)?,
            op: r.get(4)?,
            priority: r.get(5)?,
            turn: r.get(6)?,
            age: r.get(7)?,
            rows: r.get(8)?,
            pick: r.get(9)?,
            attempt: r.get(10)?,
            losses: r.get(13)?,
            suspect: r.get(15)?,
            started_at: r.get(17)?,
        },
        failures: r.get(12)?,
        laters: r.get(14)?,
        row_now: r.get(16)?,
    })
}
