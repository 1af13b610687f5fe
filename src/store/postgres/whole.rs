//! Since when a connection has been what it was, and what that lets its holder conclude of others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::own::Own;

/// Whoever did not look for so long was frozen, or cut off without a word.
pub(super) const GAP: Duration = Duration::from_secs(5);

/// A connection that holds all the locks it should.
#[derive(Clone)]
pub(super) struct Whole {
    pub(super) incarnation: Arc<str>,
    /// Since when it has been so without a break, and without a gap in its looks.
    pub(super) since: Instant,
    /// It was not so before, on the same server: what cut this process off or froze it may have done so to others.
    pub(super) again: bool,
    /// It was there before, on this server as it was before it started again at the same address.
    pub(super) restarted: bool,
    pub(super) last: Instant,
}

impl Whole {
    pub(super) fn is_seen(&self) -> bool {
        self.last.elapsed() <= GAP
    }

    /// Whole from now on.
    pub(super) fn of(own: &Own) -> Self {
        Self::at(Arc::clone(&own.incarnation), Instant::now(), false)
    }

    /// Whole again, by another connection than that to `before`.
    pub(super) fn again(own: &Own, before: &Before) -> Self {
        // Where the server has begun anew, whoever has a lock on it has been back since.
        let same = own.incarnation == before.incarnation;
        Self {
            restarted: !same && own.at == before.at,
            ..Self::at(Arc::clone(&own.incarnation), Instant::now(), same)
        }
    }

    pub(super) fn at(incarnation: Arc<str>, since: Instant, again: bool) -> Self {
        Self {
            incarnation,
            since,
            again,
            restarted: false,
            last: since,
        }
    }
}

/// The server of a connection that was lost.
pub(super) struct Before {
    pub(super) incarnation: Arc<str>,
    pub(super) at: Option<String>,
}
