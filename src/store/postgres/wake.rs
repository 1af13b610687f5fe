//! Wake-ups: by a signal within the process, by NOTIFY across processes.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::store::{Eager, Signal};

/// Tells everyone that the store has changed.
pub(super) struct Waker {
    version: watch::Sender<u64>,
    eager: Arc<Eager>,
    tell: Notify,
}

impl Waker {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            version: watch::channel(0).0,
            eager: Arc::default(),
            tell: Notify::new(),
        })
    }

    /// This process has changed something: others are told after the commit.
    pub(super) fn wake(&self) {
        self.heard();
        self.tell.notify_one();
    }

    /// Somebody has changed something.
    pub(super) fn heard(&self) {
        self.version.send_modify(|v| *v = v.wrapping_add(1));
    }

    /// Waits until there is something to tell.
    pub(super) async fn told(&self) {
        self.tell.notified().await;
    }

    pub(super) fn signal(&self) -> Signal {
        let mut version = self.version.subscribe();
        version.mark_changed();
        Signal {
            version,
            eager: Arc::clone(&self.eager),
        }
    }
}
