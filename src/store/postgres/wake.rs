//! Wake-ups: by a signal within the process, by NOTIFY across processes.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::model::OpId;
use crate::store::{Changes, Eager, Signal};

/// Tells everyone that the store has changed.
pub(super) struct Waker {
    changes: watch::Sender<Changes>,
    eager: Arc<Eager>,
    tell: Notify,
}

impl Waker {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            changes: watch::channel(Changes::default()).0,
            eager: Arc::default(),
            tell: Notify::new(),
        })
    }

    /// This process has changed something: others are told after the commit.
    pub(super) fn wake(&self) {
        self.heard();
        self.tell.notify_one();
    }

    /// This process has added tasks of these ops that can be claimed, and nothing else.
    pub(super) fn wake_for(&self, ops: &[OpId]) {
        for op in ops {
            self.changes.send_modify(|changes| changes.task(*op));
        }
        self.tell.notify_one();
    }

    /// Somebody has changed something.
    pub(super) fn heard(&self) {
        self.changes.send_modify(Changes::any);
    }

    /// Waits until there is something to tell.
    pub(super) async fn told(&self) {
        self.tell.notified().await;
    }

    pub(super) fn signal(&self) -> Signal {
        Signal::of(&self.changes, &self.eager)
    }
}
