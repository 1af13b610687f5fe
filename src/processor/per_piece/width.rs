//! How many rows run together beside each other.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A run has so many times as many rows as run at once: at its end the last ones are waited for.
const WAVES: usize = 4;

/// Rows of a run of which all are likely to succeed, by what the op's tasks have met in this process. A run counts only if
/// all of its rows succeed, so where some do not, short ones cost less.
pub(super) struct Width(AtomicUsize);

impl Default for Width {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl Width {
    /// Rows of a run, and how many of them at once, where so many may be; rows in turn have runs of their own length.
    pub(super) fn of(&self, in_turn: usize, beside: usize) -> (usize, usize) {
        let widest = in_turn.max(beside.saturating_mul(WAVES));
        match self.0.load(Ordering::Relaxed).min(widest) {
            rows if beside > 1 && rows > 1 => (rows, beside.min(rows)),
            _ => (in_turn, 1),
        }
    }

    /// A run of so many was kept.
    pub(super) fn went_well(&self, rows: usize) {
        let width = self.0.load(Ordering::Relaxed);
        if width <= rows {
            self.0.store(width.saturating_mul(2), Ordering::Relaxed);
        }
    }

    /// One of a run of so many did not succeed.
    pub(super) fn went_badly(&self, rows: usize) {
        self.0.store((rows / 2).max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_halved_to_rows_in_turn_and_grow_again() {
        let width = Width::default();
        assert_eq!(width.of(17, 1), (17, 1), "nobody may run beside others");
        assert_eq!(width.of(17, 64), (256, 64));
        assert_eq!(width.of(500, 64), (500, 64));
        width.went_badly(256);
        assert_eq!(width.of(17, 64), (128, 64));
        width.went_badly(128);
        width.went_badly(64);
        assert_eq!(width.of(17, 64), (32, 32));
        width.went_badly(2);
        assert_eq!(width.of(17, 64), (17, 1), "one after the other");
        width.went_well(17);
        assert_eq!(width.of(17, 64), (2, 2));
        width.went_well(1);
        assert_eq!(width.of(17, 64), (2, 2), "a short one says nothing");
        for rows in [2, 4, 8, 16, 32, 64, 128, 256] {
            width.went_well(rows);
        }
        assert_eq!(width.of(17, 64), (256, 64));
    }
}
