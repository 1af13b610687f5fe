//! A child as a task sees it: rows go in, answers come out, and what it owes is known.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::TARGET;
use super::pipes::{Feed, Output};
use super::process::{Leash, start};
use super::spec::CommandSpec;
use super::stderr::About;
use crate::model::Line;
use crate::store::BatchHead;

/// How long a child may take to end once its input is closed, and to be gone once it was killed.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// A row that was given to a child and is not answered.
pub(super) struct Given {
    pub(super) place: usize,
    pub(super) line: Line,
    /// Nothing else may be given until it is answered.
    pub(super) alone: bool,
    /// Where its line stands in the child's input.
    pub(super) bytes: Range<u64>,
}

/// A running child. Dropped, it is killed.
pub(super) struct Child {
    pub(super) feed: Feed,
    pub(super) output: Output,
    /// In the order in which they were given.
    pub(super) unanswered: VecDeque<Given>,
    /// Since when the first of them has been the oldest.
    pub(super) oldest_since: Instant,
    pub(super) process: Leash,
    about: Arc<About>,
}

impl Child {
    /// Starts one. **Cancellation:** it is killed.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) async fn start(spec: &Arc<CommandSpec>) -> io::Result<Self> {
        let about = Arc::new(About::default());
        let started = start(spec, &about).await?;
        Ok(Self {
            feed: Feed::new(started.stdin)?,
            output: Output::new(started.stdout)?,
            unanswered: VecDeque::new(),
            oldest_since: Instant::now(),
            process: started.process,
            about,
        })
    }

    /// The batch that its lines on stderr are about from now on.
    pub(super) fn works_on(&self, batch: &Arc<BatchHead>) {
        self.about.set(batch);
    }

    /// Gives it a row, whose line `write` appends.
    pub(super) fn give(
        &mut self,
        (place, line, alone): (usize, Line, bool),
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.unanswered.is_empty() {
            self.oldest_since = Instant::now();
        }
        let bytes = self.feed.add(write);
        self.unanswered.push_back(Given {
            place,
            line,
            alone,
            bytes,
        });
    }

    /// Whether it may get another row while at most `window` are unanswered.
    pub(super) fn has_room(&self, window: usize) -> bool {
        self.unanswered.len() < window
            && !self.unanswered.iter().any(|row| row.alone)
            && self.feed.is_open()
            && !self.feed.is_full()
    }

    /// Whether it owes nothing and can work on.
    pub(super) fn is_idle(&self) -> bool {
        self.unanswered.is_empty()
            && self.feed.is_open()
            && self.feed.is_empty()
            && self.output.is_empty()
            && !self.process.has_ended()
    }

    /// Whether it has kept still since its last answer: what it says unasked could meet a row of
    /// the next batch.
    pub(super) fn kept_still(&mut self) -> bool {
        let open = self.output.read_now();
        if open && self.is_idle() {
            return true;
        }
        if self.output.is_empty() {
            tracing::debug!(target: TARGET, pid = self.process.pid(), "an idle handler has ended");
        } else {
            let said = super::wire::cut(self.output.begun());
            let pid = self.process.pid();
            tracing::error!(target: TARGET, pid, said, "a handler that had no row to answer wrote to its output and is ended");
        }
        false
    }

    /// Ends it and waits until it is gone; it may end by itself for as long as `patience`.
    /// Returns how it ended, if that was by itself.
    pub(super) async fn end(&mut self, patience: Duration) -> Option<String> {
        // From here on it cannot pass for an idle one, even if this is dropped.
        self.feed.close();
        if timeout(patience, self.process.ended()).await.is_ok() {
            return self.process.how();
        }
        self.process.kill();
        // Its successor may want what only one can have: a lock, a port.
        if timeout(GRACE, self.process.ended()).await.is_err() {
            tracing::warn!(target: TARGET, pid = self.process.pid(), "a handler that was killed has not ended");
        }
        None
    }
}
