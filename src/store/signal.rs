//! Wake-ups: who waits for a change of the store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use tokio::sync::watch;

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
    pub(crate) version: watch::Receiver<u64>,
    pub(crate) eager: Arc<Eager>,
}

impl Signal {
    /// Whether something has changed since this was made or last looked at.
    pub fn take(&mut self) -> bool {
        let changed = self.version.has_changed().unwrap_or(false);
        if changed {
            self.version.mark_unchanged();
        }
        changed
    }

    /// Waits until [`Signal::take`] would answer yes. **Cancellation:** safe.
    pub(crate) async fn changed_keep(&mut self) {
        if self.version.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.version.mark_changed();
    }

    /// Waits until something has changed since this was made or last returned, looking for other
    /// processes' changes every few milliseconds.
    ///
    /// **Cancellation:** safe; nothing is lost.
    pub async fn changed(&mut self) {
        let _waiting = self.eager.begin();
        if self.version.changed().await.is_err() {
            // The store is gone with its threads: nothing will ever change.
            std::future::pending::<()>().await;
        }
    }
}
