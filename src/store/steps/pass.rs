//! Which blocks a reader of rows in one status may pass over.

use super::db::{Db, one, params, sql};
use super::guard::unpurged;
use crate::model::{BatchId, BatchState, Status, TaskState};
use crate::store::StoreError;

/// Blocks whose parts one step looks through.
const FAR: i64 = 20_000;

/// What a reader of rows must know of their batch.
pub(in crate::store) struct Found {
    /// Its rows wait for a release.
    pub(in crate::store) held: bool,
    ended: bool,
    blocks: i64,
    given: i64,
}

/// Where to look for rows in a status.
pub(in crate::store) enum Next {
    /// Nowhere: there are none.
    None,
    /// In this block.
    Block(i64),
    /// Not before this line; what stands behind it is looked at by another step.
    Far(u32),
}

impl Found {
    pub(in crate::store) async fn of(c: &impl Db, id: BatchId) -> Result<Self, StoreError> {
        let found = unpurged(c, id).await?;
        Ok(Self {
            held: found.state == BatchState::Wait,
            ended: found.state.is_final(),
            blocks: found.blocks,
            given: found.given,
        })
    }

    /// The next block, from one on, that may have rows in a status.
    pub(in crate::store) async fn next(
        &self,
        c: &impl Db,
        id: BatchId,
        from: i64,
        status: Status,
    ) -> Result<Next, StoreError> {
        let state = match status {
            Status::Success => BatchState::Success,
            Status::Failed => BatchState::Failed,
            Status::Aborted => BatchState::Aborted,
            Status::Expired => BatchState::Expired,
            Status::Wait | Status::Queued | Status::Inprog => {
                return self.next_open(c, id, from, status).await;
            }
        };
        let to = self.blocks.min(from.saturating_add(FAR));
        let params = params![id, from, to, state.code()];
        if let Some(no) = one(c, sql!("rows_next_ended"), params, |r| r.get(0)).await? {
            return Ok(Next::Block(no));
        }
        // A batch of so many blocks is looked through in several steps, each a short transaction.
        let line = one(c, sql!("rows_line"), params![id, to], |r| r.get(0)).await?;
        Ok(line
            .filter(|_| to < self.blocks)
            .map_or(Next::None, Next::Far))
    }

    async fn next_open(
        &self,
        c: &impl Db,
        id: BatchId,
        from: i64,
        status: Status,
    ) -> Result<Next, StoreError> {
        if self.ended || self.held != (status == Status::Wait) {
            return Ok(Next::None);
        }
        if self.held {
            // Every row but those that were refused.
            return Ok(Next::Block(from));
        }
        let (one_state, other) = if status == Status::Inprog {
            (TaskState::Running, TaskState::Parked)
        } else {
            (TaskState::Later, TaskState::Queued)
        };
        let params = params![id, from, one_state.code(), other.code()];
        let tasks = one(c, sql!("rows_next_open"), params, |r| {
            r.get::<Option<i64>>(0)
        })
        .await?
        .flatten();
        // Blocks that were given to no task yet are queued as well.
        let ungiven = (status == Status::Queued && self.given < self.blocks)
            .then(|| self.given.max(from))
            .filter(|no| *no < self.blocks);
        let next = match (tasks, ungiven) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok(next.map_or(Next::None, Next::Block))
    }
}
