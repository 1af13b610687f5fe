//! Wake-ups: by a signal within the process, by NOTIFY across processes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::model::Token;
use crate::store::{Eager, Signal};

/// Half of this or more, up to all of it: so that many do not ask at the same moment.
pub(super) fn jittered(most: Duration) -> Duration {
    let dice = Token::random().map_or(0, |token| token.0.unsigned_abs() % 512);
    most / 2 + most / 1024 * u32::try_from(dice).unwrap_or(0)
}

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
