//! The time that a row may take: it runs while this process does.

use std::future::Future;
use std::time::Duration;

/// Of a limit so much is counted at once: a process that stood still for longer has lost no more.
const PART: u32 = 8;
const LONGEST: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(1);

/// Ends when this process has run for so long.
///
/// While it was stopped, or its machine slept, no row had time to do anything: none has taken too long by that.
pub(super) async fn passed(limit: Duration) {
    for slice in slices(limit) {
        tokio::time::sleep(slice).await;
    }
}

fn slices(limit: Duration) -> impl Iterator<Item = Duration> {
    let most = (limit / PART).clamp(SHORTEST, LONGEST);
    let mut left = limit;
    std::iter::from_fn(move || {
        let slice = left.min(most);
        left -= slice;
        Some(slice).filter(|slice| !slice.is_zero())
    })
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
    fn a_process_that_stood_still_once_has_lost_an_eighth_and_a_second_at_most() {
        for limit in [0, 1, 7, 100, 2_001, 10_000, 3_600_000] {
            let limit = Duration::from_millis(limit);
            let most = (limit / 8).clamp(Duration::from_millis(1), Duration::from_secs(1));
            assert!(slices(limit).all(|slice| slice <= most), "{limit:?}");
            assert_eq!(slices(limit).sum::<Duration>(), limit);
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
