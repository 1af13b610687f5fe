//! SIGINT and SIGTERM: the first stops gracefully, the second at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::{self, Failure};

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
        };
        let told = stop.clone();
        tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    _ = int.recv() => Signal::Int,
                    _ = term.recv() => Signal::Term,
                };
                if told.signal.set(signal).is_err() {
                    exit::say("stopped at once\n");
                    std::process::exit(i32::from(signal.exit_code()));
                }
                told.token.cancel();
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
