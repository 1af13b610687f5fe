//! Time as a parameter: nothing else asks the machine what time it is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::model::{Timestamp, Token};

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Now, in UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Another machine's clock, as it was measured: this machine's own says only how much time went by since.
#[derive(Debug)]
pub(crate) struct Measured {
    began: Instant,
    /// Their time when this began, in microseconds.
    offset: AtomicI64,
}

impl Measured {
    /// Shows this machine's time until the other's was measured.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            offset: AtomicI64::new(Timestamp::now().as_microsecond()),
        }
    }

    /// The other machine's clock showed `theirs` at some moment between these two.
    ///
    /// What is known already stays where it may be right: a clock that is read often does not tremble.
    pub(crate) fn measured(&self, theirs: Timestamp, asked: Instant, answered: Instant) {
        let since = |at: Instant| us(at.saturating_duration_since(self.began));
        let theirs = theirs.as_microsecond();
        let (latest, earliest) = (theirs - since(asked), theirs - since(answered));
        let known = self.offset.load(Ordering::Acquire);
        if !(earliest..=latest).contains(&known) {
            let middle = earliest + (latest - earliest) / 2;
            self.offset.store(middle, Ordering::Release);
        }
    }
}

fn us(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 2)
}

impl Clock for Measured {
    fn now(&self) -> Timestamp {
        let now = self.offset.load(Ordering::Acquire) + us(self.began.elapsed());
        Timestamp::from_microsecond(now).unwrap_or(Timestamp::MAX)
    }
}

/// Some time between these: so that many do not ask at the same moment.
pub(crate) fn between(least: Duration, most: Duration) -> Duration {
    let dice = Token::random().map_or(0, |token| token.0.unsigned_abs() % 1024);
    least + most.saturating_sub(least) / 1024 * u32::try_from(dice).unwrap_or(0)
}

/// What is done now and then, and not each time that it could be.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether so long has gone by since it was last due; then it is due again after as long.
    pub(crate) fn is_due(&mut self, every: Duration) -> bool {
        let due = self.0.is_none_or(|at| at.elapsed() >= every);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// A clock that stands still until it is moved.
///
/// ```
/// use rowmill::clock::{Clock, ManualClock};
/// let clock = ManualClock::at("2026-01-01T00:00:00Z".parse()?);
/// clock.advance(std::time::Duration::from_secs(90));
/// assert_eq!(clock.now().to_string(), "2026-01-01T00:01:30Z");
/// # Ok::<(), jiff::Error>(())
/// ```
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.as_microsecond()))
    }

    /// Moves it forward.
    pub fn advance(&self, by: std::time::Duration) {
        let us = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.0.fetch_add(us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }
}

impl<T: Clock + ?Sized> Clock for std::sync::Arc<T> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_was_measured_shows_the_other_machines_time() {
        let clock = Measured::new();
        let hour = Duration::from_secs(3600);
        for theirs in [Timestamp::now() + hour, Timestamp::now() - hour] {
            let asked = Instant::now();
            clock.measured(theirs, asked, Instant::now());
            let off = clock.now().duration_since(theirs).as_secs_f64().abs();
            assert!(off < 5.0, "{off} s");
        }
    }

    #[test]
    fn an_answer_that_took_long_does_not_move_a_clock_that_may_be_right() {
        let clock = Measured::new();
        let asked = clock.began;
        let exact = Timestamp::now();
        clock.measured(exact, asked, asked);
        let known = clock.offset.load(Ordering::SeqCst);
        let late = asked + Duration::from_secs(4);
        clock.measured(exact + Duration::from_secs(1), asked, late);
        assert_eq!(clock.offset.load(Ordering::SeqCst), known);
        clock.measured(exact + Duration::from_secs(9), asked, late);
        assert_eq!(
            clock.offset.load(Ordering::SeqCst) - known,
            7_000_000,
            "the middle of what it may be"
        );
    }
}
