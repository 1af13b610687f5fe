//! Wake-ups: who waits for a change of the store.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use tokio::sync::watch;

use crate::model::OpId;

/// Of so many of the latest changes it is known that they were new tasks alone.
const KNOWN: usize = 64;

/// What has changed, counted.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    no: u64,
    /// Those that were a new task of an op, and nothing else.
    tasks: VecDeque<(u64, OpId)>,
}

impl Changes {
    /// Anything may have changed.
    pub(crate) fn any(&mut self) {
        self.no += 1;
    }

    /// An op has new tasks that can be claimed; nothing else has changed.
    pub(crate) fn task(&mut self, op: OpId) {
        self.any();
        if self.tasks.len() == KNOWN {
            self.tasks.pop_front();
        }
        self.tasks.push_back((self.no, op));
    }

    fn since(&self, seen: Option<u64>) -> Option<News> {
        let seen = match seen {
            Some(seen) if seen == self.no => return None,
            Some(seen) => seen,
            None => return Some(News::Any),
        };
        let tasks = self.tasks.iter().filter(|(no, _)| *no > seen);
        let ops: Vec<OpId> = tasks.map(|(_, op)| *op).collect();
        let all = u64::try_from(ops.len()).ok() == Some(self.no - seen);
        Some(if all { News::Tasks(ops) } else { News::Any })
    }
}

/// What has changed since it was last looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// These ops have new tasks that can be claimed.
    Tasks(Vec<OpId>),
    /// Anything.
    Any,
}

/// Who waits for another process's change; while somebody does, it is looked for more often.
#[derive(Debug, Default)]
pub(crate) struct Eager {
    waiting: AtomicUsize,
    watcher: OnceLock<Thread>,
}

impl Eager {
    pub(crate) fn watched_by(&self, watcher: Thread) {
        // Set once, by the store that made it.
        let _ = self.watcher.set(watcher);
    }

    pub(crate) fn waits(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn begin(&self) -> Waiting<'_> {
        if self.waiting.fetch_add(1, Ordering::SeqCst) == 0
            && let Some(watcher) = self.watcher.get()
        {
            watcher.unpark();
        }
        Waiting(self)
    }
}

struct Waiting<'a>(&'a Eager);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Wakes whoever waits for a change: taken before looking, so that no change is missed.
#[derive(Debug, Clone)]
pub struct Signal {
    changes: watch::Receiver<Changes>,
    eager: Arc<Eager>,
    /// The number of the last change whose news were taken.
    seen: Option<u64>,
}

impl Signal {
    /// Something may have changed before the first look.
    pub(crate) fn of(changes: &watch::Sender<Changes>, eager: &Arc<Eager>) -> Self {
        let mut changes = changes.subscribe();
        changes.mark_changed();
        Self {
            changes,
            eager: Arc::clone(eager),
            seen: None,
        }
    }

    /// As [`Signal::take`], and says what has changed since this was last asked.
    pub(crate) fn news(&mut self) -> Option<News> {
        if !self.take() {
            return None;
        }
        let changes = self.changes.borrow();
        let news = changes.since(self.seen);
        self.seen = Some(changes.no);
        news
    }

    /// Whether something has changed since this was made or last looked at.
    pub fn take(&mut self) -> bool {
        let changed = self.changes.has_changed().unwrap_or(false);
        if changed {
            self.changes.mark_unchanged();
        }
        changed
    }

    /// Waits until [`Signal::take`] would answer yes. **Cancellation:** safe.
    pub(crate) async fn changed_keep(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.changes.mark_changed();
    }

    /// Waits until something has changed since this was made or last returned, looking for other
    /// processes' changes every few milliseconds.
    ///
    /// **Cancellation:** safe; nothing is lost.
    pub async fn changed(&mut self) {
        let _waiting = self.eager.begin();
        if self.changes.changed().await.is_err() {
            // The store is gone with its threads: nothing will ever change.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal() -> (watch::Sender<Changes>, Signal) {
        let changes = watch::channel(Changes::default()).0;
        let signal = Signal::of(&changes, &Arc::default());
        (changes, signal)
    }

    #[test]
    fn new_tasks_are_news_of_their_ops_as_long_as_nothing_else_has_changed() {
        let (changes, mut signal) = signal();
        assert_eq!(signal.news(), Some(News::Any), "before the first look");
        assert_eq!(signal.news(), None);
        for op in [3, 1] {
            changes.send_modify(|c| c.task(OpId(op)));
        }
        assert_eq!(signal.news(), Some(News::Tasks(vec![OpId(3), OpId(1)])));
        assert_eq!(signal.news(), None, "they are told once");
        changes.send_modify(|c| c.task(OpId(2)));
        changes.send_modify(Changes::any);
        assert_eq!(signal.news(), Some(News::Any));
        changes.send_modify(|c| c.task(OpId(2)));
        assert_eq!(signal.news(), Some(News::Tasks(vec![OpId(2)])));
    }

    #[test]
    fn more_news_than_are_kept_are_anything() {
        let (changes, mut signal) = signal();
        signal.news();
        for _ in 0..=KNOWN {
            changes.send_modify(|c| c.task(OpId(1)));
        }
        assert_eq!(signal.news(), Some(News::Any));
    }

    #[tokio::test]
    async fn who_waited_without_taking_the_news_still_has_them() {
        let (changes, mut signal) = signal();
        signal.news();
        changes.send_modify(|c| c.task(OpId(1)));
        signal.changed_keep().await;
        assert_eq!(signal.news(), Some(News::Tasks(vec![OpId(1)])));
    }
}
