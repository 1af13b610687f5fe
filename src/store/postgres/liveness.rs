//! Who lives: a worker's life is an advisory lock that its process's own connection holds.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::PostgresStore;
use super::errors::postgres_error;
use super::session::LIVES;
use super::tx::Tx;
use crate::model::{Timestamp, WorkerNo};
use crate::store::steps::ops::Lives;
use crate::store::steps::take_over;
use crate::store::{NewWorker, StoreError};

/// What the server says of locks.
pub(super) struct Locks {
    held: BTreeSet<i64>,
    /// The server's start and its timeline: a lock of an earlier one is gone, whoever lives.
    pub(super) incarnation: String,
}

impl Locks {
    pub(super) async fn of(tx: &Tx) -> Result<Self, StoreError> {
        let failed = || postgres_error("looking at the workers' locks");
        let client = tx.client()?;
        let statement = client.prepare_cached(alone!("locks")).await;
        let statement = statement.map_err(failed())?;
        let found = client.query_one(&statement, &[&i64::from(LIVES)]).await;
        let found = found.map_err(failed())?;
        let held: Vec<i64> = found.try_get(0).map_err(failed())?;
        Ok(Self {
            held: held.into_iter().collect(),
            incarnation: found.try_get(1).map_err(failed())?,
        })
    }
}

impl Lives for Locks {
    fn lives(&mut self, worker: WorkerNo, _lock: &str) -> Result<bool, StoreError> {
        Ok(self.held.contains(&worker.0))
    }
}

/// Notes that a worker lives.
pub(super) async fn heard_of(
    tx: &Tx,
    worker: WorkerNo,
    incarnation: &str,
) -> Result<(), StoreError> {
    let failed = || postgres_error("noting that a worker lives");
    let client = tx.client()?;
    let statement = client.prepare_cached(alone!("beat")).await;
    let statement = statement.map_err(failed())?;
    let noted = client.execute(&statement, &[&worker.0, &incarnation]).await;
    noted.map_err(failed())?;
    Ok(())
}

impl PostgresStore {
    /// Enters a worker: its lock is taken before its record is seen by anybody.
    pub(super) async fn enter_now(
        &self,
        tx: &Tx,
        worker: &NewWorker,
        taken: &Mutex<Vec<WorkerNo>>,
        now: Timestamp,
    ) -> Result<WorkerNo, StoreError> {
        let mut locks = Locks::of(tx).await?;
        let no = take_over::enter(tx, &mut locks, "", worker, now).await?;
        self.session.take(no).await?;
        taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(no);
        heard_of(tx, no, &locks.incarnation).await?;
        Ok(no)
    }

    /// Whether it is time to note again that a worker lives: workers ask for what they run far more often.
    pub(super) fn may_note(&self, worker: WorkerNo) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let due = heard.get(&worker).is_none_or(|at| at.elapsed() >= NOTE);
        if due {
            heard.insert(worker, Instant::now());
        }
        due
    }

    /// A worker of this process has left.
    pub(super) fn is_gone(&self, worker: WorkerNo) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.remove(&worker);
        self.session.let_go(worker);
    }

    /// Workers that are dead: by a lock that is free on two looks, with the server the same as when
    /// it was taken; or, where the server is another, by the silence of their beat.
    pub(super) async fn dead(&self, tx: &Tx) -> Result<Vec<WorkerNo>, StoreError> {
        let locks = Locks::of(tx).await?;
        let failed = || postgres_error("looking for dead workers");
        let client = tx.client()?;
        let statement = client.prepare_cached(alone!("dead")).await;
        let statement = statement.map_err(failed())?;
        let found = client.query(&statement, &[]).await.map_err(failed())?;
        let mut dead = Vec::new();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = BTreeSet::new();
        for row in found {
            let no: i64 = row.try_get(0).map_err(failed())?;
            let incarnation: String = row.try_get(1).map_err(failed())?;
            let heard: bool = row.try_get(2).map_err(failed())?;
            let ended: bool = row.try_get(3).map_err(failed())?;
            let worker = WorkerNo(no);
            if ended {
                dead.push(worker);
                continue;
            }
            if locks.held.contains(&no) {
                continue;
            }
            seen.insert(worker);
            let since = *free.entry(worker).or_insert_with(Instant::now);
            let twice = since.elapsed() >= self.options.dead_after;
            let same = incarnation == locks.incarnation;
            if (twice && same) || !heard {
                dead.push(worker);
            }
        }
        // One whose lock is held again begins anew.
        free.retain(|worker, _| seen.contains(worker));
        Ok(dead)
    }

    /// Whether it is time to look for batches whose end was missed.
    pub(super) fn may_sweep(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let due = swept.is_none_or(|at| at.elapsed() >= SWEEP);
        if due {
            *swept = Some(Instant::now());
        }
        due
    }
}

/// How often it is noted that a worker lives: a sixth of the time after which its silence counts.
const NOTE: Duration = Duration::from_secs(5);
/// How often batches are looked for whose end was missed by a crash.
const SWEEP: Duration = Duration::from_secs(1);
