//! Steps that are made again: others were in the way, or nobody knows whether they were made.

use std::time::{Duration, Instant};

use super::errors::{final_word, is_in_the_way, is_unknown};
use crate::store::StoreError;

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
    /// Since when it is not known.
    since: Option<Instant>,
    pause: Duration,
}

impl Tries {
    /// With `again` the step may have been committed before.
    pub(super) fn new(again: bool) -> Self {
        Self {
            made: 0,
            again,
            since: None,
            pause: AGAIN,
        }
    }

    /// For who asks whether a commit was made.
    pub(super) fn in_doubt() -> Self {
        Self {
            since: Some(Instant::now()),
            ..Self::new(true)
        }
    }

    pub(super) fn is_again(&self) -> bool {
        self.again
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
    pub(super) async fn over(&mut self, failed: StoreError) -> Option<StoreError> {
        self.made += 1;
        if is_in_the_way(&failed) && self.made < TRIES {
            return None;
        }
        let asks = self.since.is_some_and(|since| since.elapsed() < DOUBT);
        if !asks || !is_unknown(&failed) {
            return Some(final_word(failed));
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(AGAIN_MOST);
        None
    }
}
