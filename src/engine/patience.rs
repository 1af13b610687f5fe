//! How long an engine that somebody waits for goes on against a store that refuses.
//!
//! A worker that runs until a signal tries without end: a disk that has room again finds its
//! outcomes still in memory. Whoever waits for one batch, or for the queue to be empty, is told.

use super::Engine;
use crate::store::StoreError;

/// Failures in a row, a pause after each: about five seconds.
const MOST: u32 = 25;

/// What the store refuses, each counted for itself: the one may work while the other does not.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    Claim,
    Record,
    Close,
    Tell,
}

#[derive(Default)]
pub(super) struct Patience {
    claims: u32,
    records: u32,
    closes: u32,
    tells: u32,
    /// Why it has ended.
    over: Option<String>,
}

impl Patience {
    fn count(&mut self, asked: Asked) -> &mut u32 {
        match asked {
            Asked::Claim => &mut self.claims,
            Asked::Record => &mut self.records,
            Asked::Close => &mut self.closes,
            Asked::Tell => &mut self.tells,
        }
    }

    /// The store did what it was asked.
    pub(super) fn answered(&mut self, asked: Asked) {
        *self.count(asked) = 0;
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Why it has ended, if it has.
    pub(super) fn over(&self) -> Option<StoreError> {
        let why = self.over.as_deref()?;
        let text = "the database refuses for too long; what was recorded is safe";
        Some(StoreError::unavailable(text, why))
    }
}

impl Engine {
    /// Failures in a row after which somebody is told; none where nobody waits.
    pub(super) fn most_failures(&self) -> Option<u32> {
        (self.by_hand || self.only.is_some()).then_some(MOST)
    }

    /// The store refused; whether that is worth a word: not every time of many.
    pub(super) fn refused(&mut self, asked: Asked, error: &StoreError) -> bool {
        self.refused_times(asked, 1, error)
    }

    /// As [`Engine::refused`], so many times.
    pub(super) fn refused_times(&mut self, asked: Asked, more: u32, error: &StoreError) -> bool {
        let most = self.most_failures();
        let times = self.patience.count(asked);
        let before = *times;
        *times = times.saturating_add(more);
        let times = *times;
        if most.is_some_and(|most| times >= most) && !self.patience.is_over() {
            self.patience.over = Some(error.to_string());
        }
        before.is_multiple_of(MOST)
    }
}
