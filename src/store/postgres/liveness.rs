//! Who lives: a worker's life is an advisory lock that its process's own connection holds, and its beat.

use std::collections::{BTreeSet, HashMap};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_postgres::types::{ToSql, Type};

use super::PostgresStore;
use super::db::only;
use super::errors::postgres_error;
use super::ready::ask;
use super::session::Life;
use super::tx::Tx;
use super::whole::Whole;
use crate::model::{Timestamp, WorkerNo};
use crate::store::steps::db::corrupt;
use crate::store::steps::ops::Lives;
use crate::store::steps::take_over;
use crate::store::{NewWorker, StoreError};

/// Who was cut off or stood still takes nobody for dead before the others can be back.
const SETTLE: Duration = Duration::from_secs(5);
/// Where the server has started again whoever lives is back after this: a pause and a try to connect are shorter.
const BACK: Duration = Duration::from_secs(3);
/// How often batches are looked for whose end was missed by a crash.
const SWEEP: Duration = Duration::from_secs(1);

/// What the server says of locks.
pub(super) struct Locks {
    held: BTreeSet<i64>,
    /// Those that this process's last look found dead.
    dead: BTreeSet<WorkerNo>,
    /// The server's start and its timeline: a lock of an earlier one is gone, whoever lives.
    incarnation: String,
}

impl Locks {
    /// `lives` is the first half of their keys; whoever has none lives by a heartbeat of so long.
    pub(super) async fn of(tx: &Tx, lives: i32, heartbeat: Duration) -> Result<Self, StoreError> {
        let failed = || postgres_error("looking at the workers' locks");
        let (key, silence) = (i64::from(lives), heartbeat.as_secs_f64());
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&key, Type::INT8), (&silence, Type::FLOAT8)];
        let found = ask(tx, only!("locks"), &params).await?;
        let found = found
            .first()
            .ok_or_else(|| corrupt("nothing is said of locks"))?;
        let held: Vec<i64> = found.try_get(0).map_err(failed())?;
        Ok(Self {
            held: held.into_iter().collect(),
            dead: BTreeSet::new(),
            incarnation: found.try_get(1).map_err(failed())?,
        })
    }
}

impl Lives for Locks {
    fn lives(&mut self, worker: WorkerNo, _lock: &str) -> Result<bool, StoreError> {
        Ok(self.held.contains(&worker.0))
    }

    fn is_gone(&mut self, worker: WorkerNo, lock: &str) -> Result<bool, StoreError> {
        Ok(!self.lives(worker, lock)? && self.dead.contains(&worker))
    }
}

/// What this process has seen of workers.
#[derive(Default)]
pub(super) struct Seen {
    /// Locks that were free, and since when.
    free: HashMap<WorkerNo, Instant>,
    /// This process's connection has been whole since then: what was seen before it counts no more.
    of: Option<Instant>,
    /// Who was found dead on the last look.
    dead: BTreeSet<WorkerNo>,
}

/// What a look at the workers found.
struct Found {
    dead: Vec<WorkerNo>,
    /// The lock of some is free; a second look will tell.
    doubtful: bool,
}

/// What may be concluded by whoever looks.
struct Judge {
    by_lock: bool,
    by_silence: bool,
    /// Whoever was there before the server started again, and has not come back.
    by_absence: bool,
}

impl Judge {
    /// Nothing, where this process was cut off or stood still itself: what did that may have done so to others.
    fn of(whole: Option<&Whole>, incarnation: &str, heartbeat: Duration) -> Self {
        let same = whole.filter(|whole| *whole.incarnation == *incarnation);
        Self {
            by_lock: same.is_some_and(|whole| !whole.again || whole.since.elapsed() >= SETTLE),
            // The clock of a new server may have jumped: whoever lives has beaten by it since.
            by_silence: same.is_some_and(|whole| whole.since.elapsed() >= heartbeat),
            by_absence: same.is_some_and(|whole| whole.restarted && whole.since.elapsed() >= BACK),
        }
    }
}

/// Whether a server is what another one was before it started again. One that was promoted in its place is not: to
/// find that may take some longer than others.
fn is_restarted(before: &str, now: &str) -> bool {
    let timeline = |of: &str| of.split_once('/').map(|(_, line)| line.to_owned());
    before != now && timeline(before).is_some() && timeline(before) == timeline(now)
}

impl PostgresStore {
    /// Enters a worker: its lock is taken before its record is seen by anybody.
    pub(super) async fn enter_now(
        &self,
        tx: &Tx,
        worker: &NewWorker,
        now: Timestamp,
    ) -> Result<Life<'_>, StoreError> {
        let mut locks = self.locks(tx).await?;
        locks.dead = self.seen_dead();
        let no = take_over::enter(tx, &mut locks, "", worker, now).await?;
        let (life, incarnation) = self.session.take(no).await?;
        let incarnation = &*incarnation;
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&no.0, Type::INT8), (&incarnation, Type::TEXT)];
        ask(tx, only!("entered"), &params).await?;
        if self.options.lockless {
            tracing::warn!(
                "a pooler is in between and no database_session is set: this worker holds no lock, its death is noticed by its silence alone, and it looks for work instead of being woken"
            );
        }
        // Its first look is a whole one.
        self.fresh.store(true, Ordering::Relaxed);
        Ok(life)
    }

    fn seen_dead(&self) -> BTreeSet<WorkerNo> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.dead.clone()
    }

    /// Whose locks are held.
    pub(super) async fn locks(&self, tx: &Tx) -> Result<Locks, StoreError> {
        Locks::of(tx, self.options.lives(), self.options.heartbeat).await
    }

    /// Workers that are dead. The first look after a worker has entered is a whole one: it may come in the
    /// place of one that died, and does not begin without what that one had.
    pub(super) async fn dead_now(&self) -> Result<Vec<WorkerNo>, StoreError> {
        // What this process let go of is free by then.
        self.session.here().await?;
        let first = self.fresh.swap(false, Ordering::Relaxed);
        let found = read!(self, tx => self.dead(&tx)).await?;
        if !(first && found.doubtful) {
            return Ok(found.dead);
        }
        tokio::time::sleep(self.options.dead_after).await;
        Ok(read!(self, tx => self.dead(&tx)).await?.dead)
    }

    /// Workers that are dead: by a lock that is free on two looks, with the server the same as when
    /// it was taken; by not coming back to a server that started again; or by the silence of their beat, lock or no lock.
    async fn dead(&self, tx: &Tx) -> Result<Found, StoreError> {
        let locks = self.locks(tx).await?;
        let failed = || postgres_error("looking for dead workers");
        let heartbeat = self.options.heartbeat;
        let silence = heartbeat.as_secs_f64();
        let rows = ask(tx, only!("dead"), &[(&silence, Type::FLOAT8)]).await?;
        // Asked after the look: what broke it is known by then.
        let whole = self.session.whole();
        let judge = Judge::of(whole.as_ref(), &locks.incarnation, heartbeat);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.of != whole.as_ref().map(|whole| whole.since) || !judge.by_lock {
            seen.free.clear();
            seen.of = whole.as_ref().map(|whole| whole.since);
        }
        let mut found = Found {
            dead: Vec::new(),
            doubtful: false,
        };
        let mut free = HashMap::new();
        for row in rows {
            let no: i64 = row.try_get(0).map_err(failed())?;
            let incarnation: String = row.try_get(1).map_err(failed())?;
            let heard: bool = row.try_get(2).map_err(failed())?;
            let ended: bool = row.try_get(3).map_err(failed())?;
            let worker = WorkerNo(no);
            let held = locks.held.contains(&no);
            let mut dead = ended || (judge.by_silence && !heard);
            let absent = !held && is_restarted(&incarnation, &locks.incarnation);
            if absent || (judge.by_lock && !held && incarnation == locks.incarnation) {
                let since = seen.free.get(&worker).copied();
                let since = since.unwrap_or_else(Instant::now);
                free.insert(worker, since);
                let twice = since.elapsed() >= self.options.dead_after;
                dead |= twice && (judge.by_absence || !absent);
                found.doubtful |= !twice;
            }
            if dead {
                found.dead.push(worker);
            }
        }
        // One whose lock is held again begins anew.
        seen.free = free;
        seen.dead = found.dead.iter().copied().collect();
        Ok(found)
    }

    /// Whether it is time to look for batches whose end was missed.
    pub(super) fn may_sweep(&self) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        swept.is_due(SWEEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Duration {
        Duration::from_secs(30)
    }

    /// What may be concluded from locks, and from silence.
    fn may(since: u64, again: bool, incarnation: &str) -> (bool, bool) {
        let since = Instant::now().checked_sub(Duration::from_secs(since));
        let whole = Whole::at("here/1".into(), since.expect("a moment"), again);
        let judge = Judge::of(Some(&whole), incarnation, heartbeat());
        (judge.by_lock, judge.by_silence)
    }

    #[test]
    fn who_was_there_before_a_restart_is_missed_when_everybody_else_is_back() {
        let missed = |since, restarted, at: &str| {
            let since = Instant::now().checked_sub(Duration::from_secs(since));
            let mut whole = Whole::at("here/1".into(), since.expect("a moment"), false);
            whole.restarted = restarted;
            Judge::of(Some(&whole), at, heartbeat()).by_absence
        };
        let here = [2, 4].map(|since| missed(since, true, "here/1"));
        assert_eq!(here, [false, true]);
        assert!(!missed(4, true, "here/2"), "it has not come back itself");
        assert!(!missed(4, false, "here/1"), "it was not there before");
        assert!(is_restarted("12.5/00000001", "99.1/00000001"));
        assert!(!is_restarted("12.5/00000001", "12.5/00000001"), "the same");
        assert!(!is_restarted("12.5/00000001", "99.1/00000002"), "another");
        assert!(
            !is_restarted("", "99.1/00000001") && !is_restarted("", ""),
            "never noted"
        );
    }

    #[test]
    fn who_has_just_begun_finds_the_killed_and_not_the_silent() {
        assert_eq!(may(0, false, "here/1"), (true, false));
        assert_eq!(may(31, false, "here/1"), (true, true));
    }

    #[test]
    fn who_was_cut_off_or_stood_still_concludes_nothing_before_the_others_can_be_back() {
        assert_eq!(may(4, true, "here/1"), (false, false));
        assert_eq!(may(6, true, "here/1"), (true, false));
        assert_eq!(may(31, true, "here/1"), (true, true));
    }

    #[test]
    fn on_another_server_than_that_of_its_connection_nobody_concludes_anything() {
        assert_eq!(may(100, false, "here/2"), (false, false));
        let judge = Judge::of(None, "here/1", heartbeat());
        assert!(!judge.by_lock && !judge.by_silence, "it has none");
    }
}
