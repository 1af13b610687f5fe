//! Whether others still hear of this worker: who is not heard of starts no further row.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::CancelSignal;

/// How soon a row that waits for the next beat looks again.
const LOOK: Duration = Duration::from_millis(20);

/// When this worker's last beat began, by its own monotonic clock: that of a process that stood still goes on.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    /// In milliseconds since then.
    last: AtomicU64,
    /// How old it may be; it may be of any age where nobody listens.
    most: Option<Duration>,
}

impl Pulse {
    /// A worker that has just entered; with `heartbeat`, others take it for dead after such a silence.
    pub(crate) fn new(heartbeat: Option<Duration>) -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
            // The rest is for the row that starts in the last moment.
            most: heartbeat.map(|heartbeat| heartbeat * 2 / 3),
        }
    }

    /// The beat that began at `at` was heard.
    pub(crate) fn beaten(&self, at: Instant) {
        let since = at.saturating_duration_since(self.began).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.last.fetch_max(since, Ordering::AcqRel);
    }

    /// Whether rows may start.
    pub(crate) fn is_felt(&self) -> bool {
        let Some(most) = self.most else { return true };
        let last = Duration::from_millis(self.last.load(Ordering::Acquire));
        self.began.elapsed().saturating_sub(last) < most
    }

    /// Waits until rows may start, or work is to stop.
    pub(crate) async fn felt(&self, cancel: &CancelSignal) {
        while !self.is_felt() {
            tokio::select! {
                _ = cancel.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(by: Duration) -> Instant {
        Instant::now().checked_sub(by).expect("a moment")
    }

    #[test]
    fn a_worker_that_was_not_heard_of_for_two_thirds_of_a_heartbeat_starts_no_row() {
        let mut pulse = Pulse::new(Some(Duration::from_secs(30)));
        assert!(pulse.is_felt());
        pulse.began = ago(Duration::from_secs(100));
        assert!(!pulse.is_felt());
        pulse.beaten(ago(Duration::from_secs(21)));
        assert!(!pulse.is_felt());
        pulse.beaten(ago(Duration::from_secs(19)));
        assert!(pulse.is_felt());
        pulse.beaten(ago(Duration::from_secs(90)));
        assert!(
            pulse.is_felt(),
            "an answer that comes late takes nothing back"
        );
    }

    #[tokio::test]
    async fn a_row_that_waits_for_a_beat_goes_on_with_it_or_ends_with_its_work() {
        let mut pulse = Pulse::new(Some(Duration::from_secs(30)));
        pulse.began = ago(Duration::from_secs(100));
        let cancel = super::super::CancelHandle::new();
        let signal = cancel.signal();
        let (pulse, waits) = (&pulse, pulse.felt(&signal));
        let beats = async { pulse.beaten(Instant::now()) };
        tokio::join!(waits, beats);
        let silent = Pulse::new(Some(Duration::ZERO));
        cancel.cancel(super::super::CancelCause::Fenced);
        silent.felt(&signal).await;
    }
}
