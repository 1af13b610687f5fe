//! The breaker: after a fault nobody waits for the server until it has come back.
//!
//! It is tried in the background. One warning says that it went, one line that it is back. What was
//! changed meanwhile is removed first, so that nobody meets the status from before.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};

use super::Link;
use super::link::Target;

/// A connection is made within this, or not at all. A call waits for none but a process's first.
pub(super) const CONNECT: Duration = Duration::from_millis(250);
/// The server is tried again after this, and then less and less often,
const FIRST: Duration = Duration::from_millis(50);
/// up to this.
const SELDOM: Duration = Duration::from_secs(5);
/// So many late answers in a row are a fault: one is a moment of a busy machine.
const LATE: u32 = 3;
/// Keys that are to be removed when the server is back; the times to live take care of any others.
const OWED: usize = 10_000;

pub(super) struct Breaker {
    target: Target,
    response: Duration,
    state: Mutex<State>,
}

struct State {
    /// None: nobody waits for it now.
    link: Option<Link>,
    /// Counts the times that it came back, so that an old fault is not told of a new connection.
    turn: u64,
    late: u32,
    /// When it came back, and how often it was late again soon after: that is told once.
    back_at: Option<Instant>,
    soon: u32,
    /// Keys whose text is older than what their writer knew.
    owed: BTreeSet<String>,
}

impl State {
    /// The connection, which nobody is given any more; `None` where an older one has failed.
    fn take(&mut self, turn: u64) -> Option<Link> {
        if self.turn != turn {
            return None;
        }
        self.late = 0;
        self.link.take()
    }
}

impl Breaker {
    pub(super) async fn open(target: Target, response: Duration) -> Arc<Self> {
        let breaker = Arc::new(Self {
            target,
            response,
            state: Mutex::new(State {
                link: None,
                turn: 0,
                late: 0,
                back_at: None,
                soon: 0,
                owed: BTreeSet::new(),
            }),
        });
        let mut link = None;
        if let Err(error) = breaker.try_back(&mut link).await {
            tracing::warn!(
                error,
                "the status cache cannot be reached; statuses come from the database until it is"
            );
            tokio::spawn(come_back(Arc::downgrade(&breaker), link, 0));
        }
        breaker
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, where the server is not known to be gone.
    pub(super) fn link(&self) -> Option<(Link, u64)> {
        let state = self.state();
        state.link.clone().map(|link| (link, state.turn))
    }

    pub(super) fn answered(&self) {
        self.state().late = 0;
    }

    /// An answer was late.
    pub(super) fn late(self: &Arc<Self>, turn: u64, at_once: bool) {
        let mut state = self.state();
        state.late = state.late.saturating_add(1);
        if (at_once || state.late >= LATE)
            && let Some(link) = state.take(turn)
        {
            let is_soon = state.back_at.is_some_and(|at| at.elapsed() < SELDOM);
            state.soon = if is_soon { state.soon + 1 } else { 0 };
            let soon = state.soon;
            drop(state);
            self.gone(link, "it does not answer in time", soon);
        }
    }

    /// The server is gone.
    pub(super) fn down(self: &Arc<Self>, turn: u64, error: &str) {
        let mut state = self.state();
        if let Some(link) = state.take(turn) {
            state.soon = 0;
            drop(state);
            self.gone(link, error, 0);
        }
    }

    /// Told once, and tried again in the background: the later, the oftener it was late soon after it was back.
    fn gone(self: &Arc<Self>, link: Link, error: &str, soon: u32) {
        if soon == 0 {
            tracing::warn!(
                error,
                "the status cache is gone; statuses come from the database until it is back"
            );
        } else {
            tracing::debug!(error, "the status cache is late again");
        }
        tokio::spawn(come_back(Arc::downgrade(self), Some(link), soon));
    }

    /// A key that is to be removed before anybody reads again.
    pub(super) fn owe(&self, key: String) {
        let mut state = self.state();
        if state.owed.len() < OWED {
            state.owed.insert(key);
        }
    }

    /// Tries the connection, or a new one, and removes what is owed.
    async fn try_back(&self, link: &mut Option<Link>) -> Result<(), String> {
        let mut found = match link.take() {
            Some(link) => link,
            None => {
                let connected = self.target.connect(self.response);
                let connected = tokio::time::timeout(CONNECT, connected).await;
                let connected = connected.map_err(|_| "it cannot be reached in time".to_owned())?;
                connected.map_err(|e| e.to_string())?
            }
        };
        self.ask(&mut found, redis::cmd("GET").arg("rowmill:is-there"))
            .await?;
        loop {
            let owed: Vec<String> = {
                let mut state = self.state();
                if state.owed.is_empty() {
                    state.turn += 1;
                    state.late = 0;
                    state.back_at = Some(Instant::now());
                    state.link = Some(found);
                    return Ok(());
                }
                state.owed.iter().take(100).cloned().collect()
            };
            for key in owed {
                self.ask(&mut found, redis::cmd("DEL").arg(&key)).await?;
                self.state().owed.remove(&key);
            }
        }
    }

    async fn ask(&self, link: &mut Link, command: &redis::Cmd) -> Result<(), String> {
        match tokio::time::timeout(self.response, link.ask(command)).await {
            Ok(Ok(_)) => Ok(()),
            // Who may ask for some keys alone gets an answer, too.
            Ok(Err(error)) if super::is_refusal(&error) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it does not answer in time".to_owned()),
        }
    }
}

/// Tries until the server is back, or nobody holds the cache any more.
async fn come_back(breaker: Weak<Breaker>, mut link: Option<Link>, soon: u32) {
    let first = FIRST.saturating_mul(1 << soon.min(10)).min(SELDOM);
    let delays = ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(SELDOM)
        .with_jitter()
        .without_max_times()
        .build();
    for delay in delays {
        tokio::time::sleep(delay).await;
        let Some(breaker) = breaker.upgrade() else {
            return;
        };
        match breaker.try_back(&mut link).await {
            Ok(()) => {
                if soon == 0 {
                    tracing::info!("the status cache is back");
                } else {
                    tracing::debug!("the status cache is back");
                }
                return;
            }
            Err(error) => tracing::debug!(error, "the status cache is not back yet"),
        }
    }
}
