//! Turns what lay on a desk into a part: which rows go again, when, and together with which.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::model::{Backoff, OpSettings, Timestamp};
use crate::processor::Draft;
use crate::store::{Again, ClaimedTask, Part, Then};

/// Tasks that one record may become at most.
const GROUPS: usize = 16;

pub(super) fn part_of(
    draft: Draft,
    task: &ClaimedTask,
    settings: &OpSettings,
    now: Timestamp,
    then: Then,
) -> Part {
    let rows = usize::try_from(task.rows).unwrap_or(usize::MAX);
    let whole = task.pick.is_none() && draft.is_whole(rows);
    Part {
        claim: task.claim,
        part: 0,
        again: again(&draft.again, task, settings, now),
        ordinals: (!whole).then_some(draft.ordinals),
        body: Arc::new(draft.body),
        success: draft.success,
        failed: draft.failed,
        files: draft.files,
        then,
        capped: settings.concurrency.is_some(),
        more: false,
    }
}

/// Rows with the same count of failures and nearly the same delay become one task.
fn again(
    rows: &[(u32, Option<Duration>, bool)],
    task: &ClaimedTask,
    settings: &OpSettings,
    now: Timestamp,
) -> Vec<Again> {
    if rows.is_empty() {
        return Vec::new();
    }
    let backoff = delay(&settings.backoff, task.failures);
    let mut groups: BTreeMap<(bool, Duration), Vec<u32>> = BTreeMap::new();
    for (ordinal, wanted, failure) in rows {
        let delay = round_up(wanted.unwrap_or(backoff));
        groups.entry((*failure, delay)).or_default().push(*ordinal);
    }
    while groups.len() > GROUPS {
        // The shortest delay that has a longer one of its kind joins it: nothing comes before it asked
        // to. There are two kinds, so of more than two groups two are of one.
        let longer = groups.keys().zip(groups.keys().skip(1));
        let Some((short, long)) = longer.map(|(a, b)| (*a, *b)).find(|(a, b)| a.0 == b.0) else {
            break;
        };
        if let Some(ordinals) = groups.remove(&short) {
            groups.entry(long).or_default().extend(ordinals);
        }
    }
    groups
        .into_iter()
        .map(|((failure, delay), mut ordinals)| {
            ordinals.sort_unstable();
            Again {
                ordinals,
                // Beyond the end of time is never.
                due_at: Some(now.checked_add(delay).unwrap_or(Timestamp::MAX))
                    .filter(|_| !delay.is_zero()),
                failures: task.failures + u32::from(failure),
                laters: task.laters + u32::from(!failure),
                suspect: false,
            }
        })
        .collect()
}

/// The back-off after so many failures: base × factorⁿ up to the cap, then up to as much again by jitter.
pub(super) fn delay(backoff: &Backoff, failures: u32) -> Duration {
    #[allow(clippy::cast_possible_truncation)]
    let factor = backoff.factor as f32;
    ExponentialBuilder::new()
        .with_min_delay(backoff.base)
        .with_factor(factor)
        .with_max_delay(backoff.cap)
        .with_jitter()
        .without_max_times()
        .build()
        .nth(usize::try_from(failures.min(64)).unwrap_or(64))
        .unwrap_or(backoff.cap)
        .min(backoff.cap)
}

/// Rounds up by at most a sixteenth, so that nearly equal delays become equal.
fn round_up(delay: Duration) -> Duration {
    let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let step = (ms.checked_next_power_of_two().unwrap_or(1 << 63) / 32).max(1);
    Duration::from_millis(ms.div_ceil(step).saturating_mul(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_rounded_up_by_a_sixteenth_at_most() {
        for ms in [0, 1, 15, 16, 17, 1000, 1001, 59_999, 3_600_000, 86_399_999] {
            let delay = Duration::from_millis(ms);
            let rounded = round_up(delay);
            assert!(rounded >= delay, "{ms}");
            assert!(
                rounded <= delay + delay / 16 + Duration::from_millis(1),
                "{ms}"
            );
        }
    }

    #[test]
    fn the_back_off_grows_and_stays_below_its_cap() {
        let backoff = Backoff {
            base: Duration::from_secs(2),
            factor: 2.0,
            cap: Duration::from_secs(60),
        };
        assert!(delay(&backoff, 0) >= Duration::from_secs(2));
        assert!(delay(&backoff, 3) >= Duration::from_secs(16));
        for failures in [0, 1, 10, 1000] {
            assert!(delay(&backoff, failures) <= backoff.cap);
        }
    }
}
