//! Wake-ups: by a signal within the process, by `data_version` across processes.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

use crate::store::{Eager, Signal};

/// Tells everyone in this process that the store has changed.
pub(super) struct Waker {
    version: watch::Sender<u64>,
    eager: Arc<Eager>,
}

/// How often other processes' commits are looked for while something waits, and while nothing does.
const EAGER: Duration = Duration::from_millis(2);
const IDLE: Duration = Duration::from_millis(50);

impl Waker {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            version: watch::channel(0).0,
            eager: Arc::default(),
        })
    }

    pub(super) fn wake(&self) {
        self.version.send_modify(|v| *v = v.wrapping_add(1));
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

/// Starts the thread that sees other processes' commits; it ends with the store.
pub(super) fn start(connection: Connection, waker: &Arc<Waker>) -> std::io::Result<()> {
    let eager = Arc::clone(&waker.eager);
    let waker = Arc::downgrade(waker);
    let thread = std::thread::Builder::new()
        .name("rowmill-watch".to_owned())
        .spawn(move || {
            let look = || connection.query_row("pragma data_version", [], |r| r.get::<_, i64>(0));
            let mut seen = look().ok();
            loop {
                let Some(waker) = waker.upgrade() else { return };
                let found = look().ok();
                if found != seen {
                    seen = found;
                    waker.wake();
                }
                let nap = if waker.eager.waits() { EAGER } else { IDLE };
                drop(waker);
                // Ended early by the first one that begins to wait.
                std::thread::park_timeout(nap);
            }
        })?;
    eager.watched_by(thread.thread().clone());
    Ok(())
}
