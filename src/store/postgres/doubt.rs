//! Steps that are made again: others were in the way, or nobody knows whether they were made.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::errors::{final_word, is_in_the_way, is_unknown, is_without_begin};
use crate::store::{ClaimRef, Part, StoreError};

/// A step that others are in the way of is made again so often.
const TRIES: u32 = 10;
/// Whether a commit was made whose answer was lost is asked for so long.
const DOUBT: Duration = Duration::from_secs(30);
/// A server that is gone is asked again after this, and later each time.
const AGAIN: Duration = Duration::from_millis(20);
const AGAIN_MOST: Duration = Duration::from_secs(1);

/// How often a step was tried, and whether one of those may have been committed.
pub(super) struct Tries {
    made: u32,
    again: bool,
    /// Since when it is not known, and how that was said.
    since: Option<Instant>,
    lost: Option<StoreError>,
    pause: Duration,
    /// Connections of the pool that may have been lost since they were last used.
    kept: usize,
}

impl Tries {
    /// With `again` the step may have been committed before; the pool keeps so many connections.
    pub(super) fn new(again: bool, kept: usize) -> Self {
        Self {
            kept,
            made: 0,
            again,
            since: None,
            lost: None,
            pause: AGAIN,
        }
    }

    /// For who asks whether a commit was made.
    pub(super) fn in_doubt() -> Self {
        Self {
            since: Some(Instant::now()),
            ..Self::new(true, 0)
        }
    }

    pub(super) fn is_again(&self) -> bool {
        self.again
    }

    /// Whether a step, of which nothing was heard yet, is to be made on another connection: all that were
    /// kept may have been lost since they were last used, and a new one comes after them. One whose transaction did
    /// not begin, though it can, has written nothing, and is made again, too.
    pub(super) fn was_kept(&mut self, heard: bool, error: &StoreError) -> bool {
        let lost = !heard && is_unknown(error);
        let lost = self.kept > 0 && (lost || is_without_begin(error));
        self.kept -= usize::from(lost);
        lost
    }

    /// A commit failed: where the server did not say so, it may have been made.
    pub(super) fn lost_commit(&mut self, error: StoreError) -> StoreError {
        if is_unknown(&error) {
            tracing::warn!(%error, "the answer to a commit was lost; looking whether it was made");
            self.again = true;
            self.since.get_or_insert_with(Instant::now);
        }
        error
    }

    /// The last word, unless the step is to be made again.
    ///
    /// Where a commit may have been made it is asked for whatever else fails meanwhile: a new server that is not ready
    /// yet, a lock that the old session still holds. The last word is then that its answer was lost.
    pub(super) async fn over(&mut self, failed: StoreError) -> Option<StoreError> {
        self.made += 1;
        if is_in_the_way(&failed) && self.made < TRIES {
            return None;
        }
        let asks = self.since.is_some_and(|since| since.elapsed() < DOUBT);
        let unavailable = matches!(failed, StoreError::Unavailable { .. });
        if !asks || !unavailable {
            let lost = self.lost.take().filter(|_| unavailable);
            return Some(lost.unwrap_or_else(|| final_word(failed)));
        }
        self.lost.get_or_insert(failed);
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(AGAIN_MOST);
        None
    }
}

/// Parts that may be recorded: their commit's answer was lost, and so was the server for as long as it was asked.
///
/// Whoever recorded them does so again until there is an answer, so that none is forgotten here.
#[derive(Default)]
pub(super) struct Doubts(Mutex<HashSet<(ClaimRef, u32)>>);

impl Doubts {
    fn locked(&self) -> MutexGuard<'_, HashSet<(ClaimRef, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, parts: &[Part]) -> bool {
        let doubts = self.locked();
        let mut parts = parts.iter();
        !doubts.is_empty() && parts.any(|part| doubts.contains(&(part.claim, part.part)))
    }

    /// Takes in how it went.
    pub(super) fn settle<T>(&self, parts: &[Part], recorded: &Result<T, StoreError>) {
        let mut doubts = self.locked();
        let unknown = matches!(recorded, Err(error) if is_unknown(error));
        if doubts.is_empty() && !unknown {
            return;
        }
        for part in parts {
            if unknown {
                doubts.insert((part.claim, part.part));
            } else if recorded.is_ok() {
                doubts.remove(&(part.claim, part.part));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::postgres::errors::postgres_error;

    /// As when the way to the server breaks.
    async fn lost() -> StoreError {
        let nobody = "host=127.0.0.1 port=1 user=nobody connect_timeout=2";
        let refused = tokio_postgres::connect(nobody, tokio_postgres::NoTls).await;
        postgres_error("committing")(refused.err().expect("nobody listens there"))
    }

    fn not_ready() -> StoreError {
        StoreError::unavailable("waiting for a connection to PostgreSQL", "timed out")
    }

    #[tokio::test]
    async fn whether_a_commit_was_made_is_asked_whatever_else_fails_meanwhile() {
        let mut tries = Tries::new(false, 0);
        let error = tries.lost_commit(lost().await);
        assert!(tries.over(error).await.is_none() && tries.is_again());
        assert!(tries.over(not_ready()).await.is_none());
        tries.since = Instant::now().checked_sub(DOUBT);
        let last = tries.over(not_ready()).await.expect("it is over");
        assert!(is_unknown(&last), "nobody knows: {last}");
    }

    #[tokio::test]
    async fn what_is_known_to_have_failed_is_not_asked_again() {
        let mut tries = Tries::new(false, 0);
        assert!(tries.over(not_ready()).await.is_some());
        let mut tries = Tries::new(false, 0);
        let error = tries.lost_commit(lost().await);
        assert!(tries.over(error).await.is_none());
        let dead = tries.over(StoreError::Fenced(crate::model::WorkerNo(1)));
        assert!(matches!(dead.await, Some(StoreError::Fenced(_))));
    }
}
