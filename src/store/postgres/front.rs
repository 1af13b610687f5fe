//! Where a claim begins to look, while what has ended stands before what is ready.
//!
//! A snapshot that is held keeps the server from removing what has ended from the queue's indexes: whoever looks from the
//! beginning passes over all of it. A look that took long for that is not made again at once; until then claims begin where
//! the last one found its first task. What became ready before that place waits so long, unless there is nothing else.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{BatchId, OpId, Timestamp};
use crate::store::Claim;
use crate::store::steps::db::Us;

/// A look from the beginning that finds its first task later than this took long.
const LONG: Duration = Duration::from_millis(4);
/// So many of them in turn are no chance.
const CHANCE: u32 = 2;
/// The next look from the beginning comes after so many times as long as the last took, and after no longer than `WAIT`.
const REST: u32 = 16;
const WAIT: Duration = Duration::from_secs(1);

/// A task's place in the orders of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) priority: i64,
    pub(super) turn: i64,
    pub(super) age: Us,
    pub(super) batch: BatchId,
    pub(super) id: i64,
}

/// By op, and whether the oldest come first.
#[derive(Default)]
pub(super) struct Fronts(Mutex<HashMap<(OpId, bool), Front>>);

#[derive(Default)]
struct Front {
    /// How many looks from the beginning took long, in turn.
    long: u32,
    /// Where the last claim found its first task, and when that is where the next one begins: a clock may be set back.
    from: Option<(Place, Range<Timestamp>)>,
}

impl Fronts {
    fn lock(&self) -> MutexGuard<'_, HashMap<(OpId, bool), Front>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a claim begins; `None` is the beginning.
    pub(super) fn of(&self, ask: &Claim, now: Timestamp) -> Option<Place> {
        let fronts = self.lock();
        let (place, spared) = fronts.get(&(ask.op, ask.oldest))?.from.as_ref()?;
        spared.contains(&now).then_some(*place)
    }

    /// A claim that began somewhere found its first task here.
    pub(super) fn went_on(&self, ask: &Claim, first: Place) {
        if let Some(front) = self.lock().get_mut(&(ask.op, ask.oldest))
            && let Some((place, _)) = &mut front.from
        {
            *place = first;
        }
    }

    /// A claim that looked from the beginning found its first task after so long.
    pub(super) fn found(&self, ask: &Claim, first: Place, took: Duration, now: Timestamp) {
        let mut fronts = self.lock();
        let key = (ask.op, ask.oldest);
        if took < LONG {
            fronts.remove(&key);
            return;
        }
        let front = fronts.entry(key).or_default();
        front.long = front.long.saturating_add(1);
        // It was asked for before it looked.
        let until = now.checked_add(took + (took * REST).min(WAIT)).ok();
        front.from = until
            .filter(|_| front.long >= CHANCE)
            .map(|until| (first, now..until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Token, WorkerNo};

    fn ask(op: i64, oldest: bool) -> Claim {
        Claim {
            worker: WorkerNo(1),
            op: OpId(op),
            token: Token(1),
            max_tasks: 1,
            max_rows: 1,
            max_bytes: 1,
            split_over: None,
            cap: None,
            only: None,
            oldest,
            once: false,
        }
    }

    fn place(turn: i64) -> Place {
        Place {
            priority: 0,
            turn,
            age: Us(0),
            batch: BatchId(uuid::Uuid::nil()),
            id: 0,
        }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).expect("a time")
    }

    #[test]
    fn looks_from_the_beginning_that_take_no_long_are_made_each_time() {
        let fronts = Fronts::default();
        let ask = ask(1, false);
        for turn in 0..10 {
            fronts.found(&ask, place(turn), Duration::from_millis(3), at(turn));
            assert_eq!(fronts.of(&ask, at(turn)), None);
        }
    }

    #[test]
    fn one_that_took_long_may_be_chance_and_two_in_turn_are_not_made_again_at_once() {
        let fronts = Fronts::default();
        let long = Duration::from_millis(10);
        let ask = ask(1, false);
        fronts.found(&ask, place(1), long, at(0));
        assert_eq!(fronts.of(&ask, at(0)), None);
        fronts.found(&ask, place(2), Duration::ZERO, at(0));
        fronts.found(&ask, place(3), long, at(0));
        assert_eq!(fronts.of(&ask, at(0)), None, "not in turn");
        fronts.found(&ask, place(4), long, at(0));
        assert_eq!(fronts.of(&ask, at(169)), Some(place(4)));
        fronts.went_on(&ask, place(5));
        assert_eq!(fronts.of(&ask, at(169)), Some(place(5)));
        assert_eq!(fronts.of(&ask, at(170)), None, "16 times as long");
        fronts.found(&ask, place(6), long, at(170));
        assert_eq!(fronts.of(&ask, at(171)), Some(place(6)));
        fronts.found(&ask, place(7), Duration::from_millis(1), at(400));
        assert_eq!(fronts.of(&ask, at(400)), None, "nothing stands before it");
    }

    #[test]
    fn what_became_ready_before_waits_no_longer_than_a_second() {
        let fronts = Fronts::default();
        let ask = ask(1, true);
        for _ in 0..2 {
            fronts.found(&ask, place(1), Duration::from_secs(5), at(0));
        }
        assert_eq!(fronts.of(&ask, at(5999)), Some(place(1)));
        assert_eq!(fronts.of(&ask, at(6000)), None, "after the look");
        assert_eq!(fronts.of(&ask, at(-1)), None, "a clock was set back");
    }

    #[test]
    fn each_op_and_each_order_has_its_own() {
        let fronts = Fronts::default();
        for _ in 0..2 {
            fronts.found(&ask(1, false), place(1), LONG, at(0));
        }
        assert_eq!(fronts.of(&ask(1, false), at(0)), Some(place(1)));
        assert_eq!(fronts.of(&ask(1, true), at(0)), None);
        assert_eq!(fronts.of(&ask(2, false), at(0)), None);
        fronts.went_on(&ask(2, false), place(3));
        assert_eq!(fronts.of(&ask(2, false), at(0)), None);
    }
}
