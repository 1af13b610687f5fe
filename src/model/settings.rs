//! How an op's rows are run: retries, limits, what is stored together.

mod duration;

use std::time::Duration;

pub use duration::{format_duration, parse_duration};

const MIB: u32 = 1024 * 1024;

/// The settings of one op. A processor registered without any gets [`OpSettings::default`].
#[derive(Debug, Clone, PartialEq)]
pub struct OpSettings {
    /// Failures (a `retry` answer, an error, a panic, a time-out) after which a row is `failed`.
    pub max_attempts: u32,
    /// Times that a task of one row may be lost with its worker before the row is `failed`.
    pub max_lost: u32,
    /// The delay of a retry that names none.
    pub backoff: Backoff,
    /// Rows in flight over all workers: none is no limit, 0 pauses the op.
    pub concurrency: Option<u32>,
    /// The same in one process; none is the number of cores. A command handler has so many children.
    pub local_concurrency: Option<u32>,
    /// Rows of one task that run at once. A running task takes so many of `concurrency`.
    pub parallel: u32,
    /// How long a row may take, from its start; none is no limit.
    pub timeout: Option<Duration>,
    /// What happens to a row that had started when its worker died.
    pub delivery: Delivery,
    /// Rows after which a block closes: what is stored together, not what runs together.
    pub block_rows: u32,
    /// Bytes after which a block closes; a larger row is a block of its own.
    pub block_bytes: u32,
    /// How long an abort lets running rows finish before it takes them from their worker.
    pub abort_grace: Duration,
    /// Times that a row may answer `later`.
    pub max_later: u32,
    /// How long an ended batch is kept; none is until somebody purges it.
    pub keep: Option<Duration>,
}

impl Default for OpSettings {
    fn default() -> Self {
        Self {
            max_attempts: 1,
            max_lost: 3,
            backoff: Backoff::default(),
            concurrency: None,
            local_concurrency: None,
            parallel: 1,
            timeout: None,
            delivery: Delivery::AtLeastOnce,
            block_rows: 1000,
            block_bytes: MIB,
            abort_grace: Duration::from_secs(30),
            max_later: 1000,
            keep: None,
        }
    }
}

impl OpSettings {
    /// Counts of failures and losses are 16 bits wide where they are stored.
    const MAX_COUNT: u32 = i16::MAX as u32;

    /// Names every setting that cannot be, with what it wants: empty where all is well.
    ///
    /// A setting inside another is named with it: `backoff.cap`.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let Self {
            max_attempts,
            max_lost,
            backoff,
            concurrency,
            local_concurrency,
            parallel,
            timeout,
            delivery: _,
            block_rows,
            block_bytes,
            abort_grace: _,
            max_later,
            keep: _,
        } = self;
        let mut wrong = Vec::new();
        let mut within = |key, value: u32, from: u32, to: u32| {
            if !(from..=to).contains(&value) {
                wrong.push((key, format!("must be {from} to {to}, and is {value}")));
            }
        };
        within("max_attempts", *max_attempts, 1, Self::MAX_COUNT);
        within("max_lost", *max_lost, 1, Self::MAX_COUNT);
        if let Some(rows) = concurrency {
            within("concurrency", *rows, 0, 1_000_000);
        }
        if let Some(rows) = local_concurrency {
            within("local_concurrency", *rows, 1, 10_000);
        }
        within("parallel", *parallel, 1, 10_000);
        within("block_rows", *block_rows, 1, 100_000);
        // Blocks are written in transactions of 8 MiB at most.
        within("block_bytes", *block_bytes, 1, 8 * MIB);
        within("max_later", *max_later, 1, 1_000_000);

        for (key, limit) in [
            ("concurrency", concurrency),
            ("local_concurrency", local_concurrency),
        ] {
            match *limit {
                Some(rows) if rows > 0 && rows < *parallel => wrong.push((
                    "parallel",
                    format!("is {parallel} rows of one task at once, but {key} allows {rows}: no task could ever run"),
                )),
                _ => {}
            }
        }
        if timeout.is_some_and(|time| time.is_zero()) {
            wrong.push((
                "timeout",
                "must be longer than 0s; leave it out for no limit".to_owned(),
            ));
        }
        wrong.extend(backoff.check());
        wrong
    }
}

/// The delay before a retry: `base` × `factor` for each failure so far, never over `cap`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub base: Duration,
    /// What each further failure multiplies it by: 1 or more.
    pub factor: f64,
    /// The longest delay: not less than `base`.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(2),
            factor: 2.0,
            cap: Duration::from_secs(3600),
        }
    }
}

impl Backoff {
    fn check(&self) -> Vec<(&'static str, String)> {
        let Self { base, factor, cap } = self;
        let mut wrong = Vec::new();
        if !factor.is_finite() || *factor < 1.0 {
            wrong.push((
                "backoff.factor",
                format!("must be a number of 1 or more, and is {factor}"),
            ));
        }
        if cap < base {
            let (base, cap) = (format_duration(*base), format_duration(*cap));
            wrong.push((
                "backoff.cap",
                format!("is {cap}, less than base, which is {base}"),
            ));
        }
        wrong
    }
}

/// What happens to a row that had started when its worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// It runs again; its idempotency key tells the outside that it is the same row.
    #[default]
    AtLeastOnce,
    /// It is `failed`; it never runs twice.
    AtMostOnce,
}

impl Delivery {
    /// Every one there is.
    pub const ALL: [Self; 2] = [Self::AtLeastOnce, Self::AtMostOnce];

    /// The word that users write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at_least_once",
            Self::AtMostOnce => "at_most_once",
        }
    }

    /// Reads the word that users write.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|delivery| delivery.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut OpSettings)) -> Vec<&'static str> {
        let mut settings = OpSettings::default();
        change(&mut settings);
        settings.check().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn the_defaults_are_those_of_the_contract_and_possible() {
        let OpSettings {
            max_attempts,
            max_lost,
            backoff,
            concurrency,
            local_concurrency,
            parallel,
            timeout,
            delivery,
            block_rows,
            block_bytes,
            abort_grace,
            max_later,
            keep,
        } = OpSettings::default();
        assert_eq!(
            (max_attempts, max_lost, parallel, max_later),
            (1, 3, 1, 1000)
        );
        assert_eq!(
            (concurrency, local_concurrency, timeout, keep),
            (None, None, None, None)
        );
        assert_eq!(delivery, Delivery::AtLeastOnce);
        assert_eq!((block_rows, block_bytes), (1000, 1_048_576));
        assert_eq!(
            (format_duration(abort_grace), backoff.factor),
            ("30s".to_owned(), 2.0)
        );
        assert_eq!(format_duration(backoff.base), "2s");
        assert_eq!(format_duration(backoff.cap), "1h");
        assert_eq!(OpSettings::default().check(), []);
    }

    #[test]
    fn counts_that_let_nothing_run_are_impossible() {
        assert_eq!(wrong(|s| s.max_attempts = 0), ["max_attempts"]);
        assert_eq!(wrong(|s| s.max_lost = 0), ["max_lost"]);
        assert_eq!(
            wrong(|s| s.local_concurrency = Some(0)),
            ["local_concurrency"]
        );
        assert_eq!(wrong(|s| s.parallel = 0), ["parallel"]);
        assert_eq!(wrong(|s| s.max_later = 0), ["max_later"]);
        assert_eq!(wrong(|s| s.timeout = Some(Duration::ZERO)), ["timeout"]);
    }

    #[test]
    fn counts_that_the_store_cannot_hold_are_impossible() {
        assert_eq!(wrong(|s| s.max_attempts = 32_767), [""; 0]);
        assert_eq!(wrong(|s| s.max_attempts = 32_768), ["max_attempts"]);
        assert_eq!(wrong(|s| s.max_lost = 32_768), ["max_lost"]);
    }

    #[test]
    fn a_block_holds_1_to_100000_rows_and_at_most_8_mib() {
        assert_eq!(wrong(|s| s.block_rows = 0), ["block_rows"]);
        assert_eq!(wrong(|s| s.block_rows = 100_000), [""; 0]);
        assert_eq!(wrong(|s| s.block_rows = 100_001), ["block_rows"]);
        assert_eq!(wrong(|s| s.block_bytes = 0), ["block_bytes"]);
        assert_eq!(wrong(|s| s.block_bytes = 8 * MIB), [""; 0]);
        assert_eq!(wrong(|s| s.block_bytes = 8 * MIB + 1), ["block_bytes"]);
    }

    #[test]
    fn backoff_never_shrinks_and_its_cap_is_not_below_its_base() {
        for factor in [0.99, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(wrong(|s| s.backoff.factor = factor), ["backoff.factor"]);
        }
        assert_eq!(wrong(|s| s.backoff.factor = 1.0), [""; 0]);
        assert_eq!(
            wrong(|s| s.backoff.cap = Duration::from_secs(1)),
            ["backoff.cap"]
        );
        assert_eq!(wrong(|s| s.backoff.cap = s.backoff.base), [""; 0]);
    }

    #[test]
    fn a_task_that_could_never_get_its_rows_is_impossible() {
        let set = |concurrency, local_concurrency, parallel| {
            wrong(|s| {
                s.concurrency = concurrency;
                s.local_concurrency = local_concurrency;
                s.parallel = parallel;
            })
        };
        assert_eq!(set(Some(4), None, 5), ["parallel"]);
        assert_eq!(set(None, Some(4), 5), ["parallel"]);
        assert_eq!(set(Some(5), Some(5), 5), [""; 0]);
    }

    #[test]
    fn a_paused_op_is_possible() {
        assert_eq!(wrong(|s| s.concurrency = Some(0)), [""; 0]);
    }

    #[test]
    fn at_most_once_may_have_more_than_one_attempt_for_its_retry_answers() {
        let change = |s: &mut OpSettings| {
            s.delivery = Delivery::AtMostOnce;
            s.max_attempts = 5;
        };
        assert_eq!(wrong(change), [""; 0]);
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let all = wrong(|s| {
            s.max_attempts = 0;
            s.block_rows = 0;
            s.backoff.factor = 0.0;
        });
        assert_eq!(all, ["max_attempts", "block_rows", "backoff.factor"]);
    }

    #[test]
    fn delivery_is_read_as_it_is_written() {
        for delivery in Delivery::ALL {
            assert_eq!(Delivery::from_word(delivery.as_str()), Some(delivery));
        }
        assert_eq!(Delivery::from_word("exactly_once"), None);
    }
}
