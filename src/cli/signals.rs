//! SIGINT and SIGTERM: the first stops gracefully, the second at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::{self, Failure};

/// One wish may arrive twice: `timeout` signals its child and then the child's whole group.
const TWICE: Duration = Duration::from_millis(200);
/// An answer that somebody reads has ended this long after a signal.
const LAST_LINE: Duration = Duration::from_secs(1);

/// What stopped us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Int,
    Term,
}

impl Signal {
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Int => 130,
            Self::Term => 143,
        }
    }
}

/// Tells whether and why to stop; cheap to clone.
#[derive(Clone)]
pub(super) struct Stop {
    token: CancellationToken,
    signal: Arc<OnceLock<Signal>>,
    heard: Arc<AtomicBool>,
    answers: Arc<AtomicBool>,
}

impl Stop {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed = |e| Failure::io("listening for signals", e);
        let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut term = signal(SignalKind::terminate()).map_err(failed)?;
        let stop = Self {
            token: CancellationToken::new(),
            signal: Arc::default(),
            heard: Arc::default(),
            answers: Arc::default(),
        };
        let told = stop.clone();
        tokio::spawn(async move {
            let mut first = None;
            loop {
                let signal = tokio::select! {
                    _ = int.recv() => Signal::Int,
                    _ = term.recv() => Signal::Term,
                };
                let since = *first.get_or_insert_with(Instant::now);
                if told.signal.set(signal).is_err() {
                    if since.elapsed() < TWICE {
                        continue;
                    }
                    exit::say("stopped at once\n");
                    std::process::exit(i32::from(signal.exit_code()));
                }
                told.token.cancel();
                if told.answers.load(Ordering::Acquire) {
                    tokio::spawn(leave(signal));
                }
            }
        });
        Ok(stop)
    }

    /// For parts that take a token.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Waits for the first signal. **Cancellation:** safe.
    pub(super) async fn stopped(&self) -> Signal {
        self.token.cancelled().await;
        self.signal().unwrap_or(Signal::Int)
    }

    /// From now on the command itself stops when it is told to.
    pub(super) fn heard(&self) {
        self.heard.store(true, Ordering::Release);
    }

    /// The command only answers, at length: it ends even where whoever reads has stopped reading.
    pub(super) fn answers(&self) {
        self.answers.store(true, Ordering::Release);
    }

    /// Waits for the first signal, unless the command itself stops. **Cancellation:** safe.
    pub(super) async fn stopped_unheard(&self) -> Signal {
        let signal = self.stopped().await;
        if self.heard.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
        signal
    }

    /// The first signal, if it has come.
    pub(super) fn signal(&self) -> Option<Signal> {
        self.signal.get().copied()
    }
}

async fn leave(signal: Signal) {
    tokio::time::sleep(LAST_LINE).await;
    std::process::exit(i32::from(signal.exit_code()));
}
