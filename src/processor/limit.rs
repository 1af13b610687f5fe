//! The time that a row may take: it runs while this process does.

use std::future::Future;
use std::time::{Duration, Instant};

/// Of a limit so much is counted at once: a process that stood still for longer has lost no more.
const PART: u32 = 8;
const LONGEST: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(1);

/// Ends when this process has run for so long.
///
/// While it was stopped, or its machine slept, no row had time to do anything: none has taken too long by that.
pub(super) async fn passed(limit: Duration) {
    let mut left = limit;
    while !left.is_zero() {
        let slice = slice(limit).min(left);
        let began = Instant::now();
        tokio::time::sleep(slice).await;
        left = rest(left, slice, began.elapsed());
    }
}

fn slice(limit: Duration) -> Duration {
    (limit / PART).clamp(SHORTEST, LONGEST)
}

/// What is left after a slice that took so long: a late timer counts, a process that stood still does not.
fn rest(left: Duration, slice: Duration, took: Duration) -> Duration {
    left.saturating_sub(took.clamp(slice, 2 * slice))
}

/// What a future comes to; `None`: the limit passed before.
pub(super) async fn within<T>(limit: Duration, run: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = run => Some(done),
        () = passed(limit) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_stood_still_once_has_lost_a_quarter_and_two_seconds_at_most() {
        for limit in [8, 100, 2_001, 10_000, 3_600_000] {
            let limit = Duration::from_millis(limit);
            let (slice, hour) = (slice(limit), Duration::from_secs(3600));
            let lost = limit - rest(limit, slice, hour);
            assert!(lost <= limit / 4 && lost <= 2 * Duration::from_secs(1));
            let late = slice + Duration::from_millis(1);
            assert_eq!(
                rest(limit, slice, late),
                limit - late,
                "it is not late twice"
            );
        }
    }

    #[tokio::test]
    async fn what_is_done_at_the_limit_is_done_and_what_is_not_has_none() {
        let run = async { 7 };
        assert_eq!(within(Duration::ZERO, run).await, Some(7));
        let never = std::future::pending::<u32>();
        assert_eq!(within(Duration::from_millis(20), never).await, None);
    }
}
