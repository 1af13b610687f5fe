//! Queries that are submitted one by one at the same moment are stored together: one commit for many of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::sync::{Semaphore, oneshot};

use super::PostgresStore;
use crate::model::Timestamp;
use crate::store::steps::submit::{self, Asked};
use crate::store::{QueryBlock, StoreError, Submitted};

/// So many are stored by one transaction at most.
const MOST: usize = 256;
/// What of them is one at least, however large, and no more than this otherwise: bytes.
const MOST_BYTES: usize = 8 << 20;
/// Transactions of this kind at the same time: one waits for the disk while the next is filled.
const TURNS: usize = 2;

/// A query, and when it came.
pub(super) type Query = Arc<(QueryBlock, Timestamp)>;

struct Waits {
    query: Query,
    tell: oneshot::Sender<Submitted>,
}

pub(super) struct Together {
    waiting: Mutex<VecDeque<Waits>>,
    turns: Semaphore,
}

impl Together {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            turns: Semaphore::new(TURNS),
        }
    }

    fn wait(&self, query: Query) -> oneshot::Receiver<Submitted> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(Waits { query, tell });
        told
    }

    /// Those who have waited longest. Whoever does not wait any more is not stored.
    fn take(&self) -> Vec<Waits> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = waiting.pop_front() {
            if next.tell.is_closed() {
                continue;
            }
            bytes += size(&next.query);
            if taken.len() == MOST || (bytes > MOST_BYTES && !taken.is_empty()) {
                waiting.push_front(next);
                break;
            }
            taken.push(next);
        }
        taken
    }
}

fn size(query: &Query) -> usize {
    let ((batch, block, _), _) = &**query;
    block.body.len() + batch.context.get().len()
}

impl PostgresStore {
    /// Stores one query with others that wait at the same moment; alone, where that fails for any of them.
    pub(super) async fn submit_together(&self, query: Query) -> Result<Submitted, StoreError> {
        let mut told = self.together.wait(Arc::clone(&query));
        loop {
            let turn = tokio::select! {
                biased;
                told = &mut told => return self.told(told.ok(), query).await,
                turn = self.together.turns.acquire() => turn,
            };
            let group = self.together.take();
            if group.is_empty() {
                // It is on its way in another's turn.
                drop(turn);
                return self.told(told.await.ok(), query).await;
            }
            let queries: Vec<Query> = group.iter().map(|one| Arc::clone(&one.query)).collect();
            match self.submit_all(queries).await {
                Ok(done) => {
                    for (one, submitted) in group.into_iter().zip(done) {
                        // Whoever is gone by now finds it there when it asks again.
                        one.tell.send(submitted).ok();
                    }
                }
                Err(error) => match group.as_slice() {
                    [one] if Arc::ptr_eq(&one.query, &query) => return Err(error),
                    // It may be the fault of one of them: each is told by itself.
                    _ => drop(group),
                },
            }
        }
    }

    /// What became of a query; where nobody can say, it is stored by itself.
    async fn told(&self, told: Option<Submitted>, query: Query) -> Result<Submitted, StoreError> {
        match told {
            Some(submitted) => Ok(submitted),
            None => self.store_one(query).await,
        }
    }

    /// Stores queries by one transaction: one that comes alone in a slot that is free, where there is one.
    pub(super) async fn submit_all(
        &self,
        queries: Vec<Query>,
    ) -> Result<Vec<Submitted>, StoreError> {
        if let Some(submitted) = self.stored_in_a_slot(&queries).await {
            return Ok(vec![submitted]);
        }
        self.store_all(queries).await
    }

    /// Stores one query, as any.
    pub(super) async fn store_one(&self, query: Query) -> Result<Submitted, StoreError> {
        let id = query.0.0.id;
        let stored = self.store_all(vec![query]).await?;
        stored.into_iter().next().ok_or(StoreError::NotFound(id))
    }

    async fn store_all(&self, queries: Vec<Query>) -> Result<Vec<Submitted>, StoreError> {
        let Some(now) = queries.iter().map(|query| query.1).max() else {
            return Ok(Vec::new());
        };
        let queries = Arc::new(queries);
        let submit = move || {
            let queries = Arc::clone(&queries);
            write!(self, now, tx => async {
                let asked: Vec<Asked<'_>> = queries.iter().map(|query| Asked::of(&query.0, query.1)).collect();
                submit::submit_many(&tx, &asked).await
            })
            .boxed()
        };
        self.over_silent(now, submit).await
    }
}
