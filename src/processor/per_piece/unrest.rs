//! What a piece that was undone is followed by: a pause, fewer rows, and in the end a word about a row.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::super::desk::Work;
use super::piece::PIECE;
use crate::processor::RowFailure;
use crate::processor::whose::Whose;

/// A piece that others are in the way of is made again so often, each time with half of its rows; then they go one at
/// a time, each so often.
const TRIES: usize = 10;
/// After a piece that was in others' way, at first and at most.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MOST: Duration = Duration::from_millis(500);
/// After so many pieces that nobody was in the way of, the next have twice as many rows.
const CLEAN: u32 = 8;
/// After a transaction that could not be made because of the database or the way to it.
const LOST: Duration = Duration::from_millis(200);
/// A row alone during which the connection was lost each time is why, after so many.
const LOSSES: u32 = 10;
/// After so many losses, one after the other, a task's rows are alone.
const TOGETHER: u32 = 3;

/// Rows of one piece that others are seldom in the way of, by what the op's tasks have met in this process. Who locks many
/// records for long meets the others of its op again and again, and each deadlock costs a second to be found.
pub(crate) struct Calm(AtomicUsize);

impl Default for Calm {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl Calm {
    fn most(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Half of a piece's rows; at least one.
    fn half(&self, of: usize) -> usize {
        let half = (of / 2).max(1);
        self.0.store(half, Ordering::Relaxed);
        half
    }

    fn twice(&self) {
        self.0
            .store(self.most().saturating_mul(2), Ordering::Relaxed);
    }
}

/// How the pieces of a task went lately.
pub(super) struct Unrest<'a> {
    /// Rows that others are seldom in the way of.
    calm: &'a Calm,
    /// Rows for whatever other reason.
    most: usize,
    clean: u32,
    /// Pauses that are left.
    pauses: Option<backon::ExponentialBackoff>,
    /// Losses since the last piece that was kept, and of each row alone.
    losses: u32,
    lost: HashMap<usize, u32>,
}

impl<'a> Unrest<'a> {
    pub(super) fn new(calm: &'a Calm, most: usize) -> Self {
        Self {
            calm,
            most,
            clean: 0,
            pauses: None,
            losses: 0,
            lost: HashMap::new(),
        }
    }

    /// Rows of the next piece, at most.
    pub(super) fn most(&self) -> usize {
        self.most.min(self.calm.most())
    }

    /// So many rows were committed in that time.
    pub(super) fn done(&mut self, rows: usize, took: Duration) {
        self.pauses = None;
        self.losses = 0;
        self.clean += 1;
        if self.clean == CLEAN {
            self.clean = 0;
            self.calm.twice();
        }
        if took > PIECE {
            let fit = PIECE.as_secs_f64() / took.as_secs_f64() * 1e6;
            // Whole millionths of as many rows as one knows of: nothing is lost by it.
            let fit = u128::try_from(rows).unwrap_or(0) * fit as u128 / 1_000_000;
            self.most = self.most.min(usize::try_from(fit).unwrap_or(1).max(1));
        }
    }

    /// Others were in its way.
    pub(super) async fn in_the_way(&mut self, work: &Work, places: &[usize]) {
        let pauses = self.pauses.get_or_insert_with(|| {
            ExponentialBuilder::default()
                .with_min_delay(PAUSE)
                .with_max_delay(PAUSE_MOST)
                .with_max_times(TRIES - 1)
                .with_jitter()
                .build()
        });
        let Some(pause) = pauses.next() else {
            self.pauses = None;
            if let [place] = places {
                let text = "others were in its way each time";
                put(work, *place, text);
            } else {
                self.most = 1;
                work.desk.put_back(places);
            }
            return;
        };
        tracing::debug!(batch = %work.task.batch.id, rows = places.len(), "others were in a piece's way; it is made again");
        work.desk.put_back(places);
        self.clean = 0;
        if places.len() > 1 {
            // The tries of one row are its own.
            if self.calm.half(places.len()) == 1 {
                self.pauses = None;
            }
        }
        rest(work, pause).await;
    }

    /// The way to the database was lost while they ran; it may have been one of them that did it. Who that is shows where
    /// each has a transaction of its own.
    pub(super) async fn lost(&mut self, work: &Work, places: &[usize]) {
        self.losses += 1;
        if let [place] = places {
            let losses = self.lost.entry(*place).or_default();
            *losses += 1;
            if *losses >= LOSSES {
                return put(work, *place, "its transaction was lost each time");
            }
        } else if self.losses >= TOGETHER {
            self.most = 1;
        }
        self.again(work, places).await;
    }

    /// So many at once were interrupted, and nothing came of it.
    pub(super) fn took_too_long(&mut self, rows: usize) {
        self.most = self.most.min((rows / 2).max(1));
    }

    /// It was none of them that did it.
    pub(super) async fn again(&self, work: &Work, places: &[usize]) {
        work.desk.put_back(places);
        rest(work, LOST).await;
    }
}

fn put(work: &Work, place: usize, why: &str) {
    let outcome = Whose::row(work, place).failure(RowFailure::Error(why.into()));
    work.desk.put(place, &outcome);
}

async fn rest(work: &Work, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        _ = work.cancel.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_halved_to_a_row_and_grow_again() {
        let calm = Calm::default();
        let mut unrest = Unrest::new(&calm, usize::MAX);
        assert_eq!(unrest.most(), usize::MAX);
        let halves: Vec<usize> = (0..8)
            .scan(100, |rows, _| {
                *rows = calm.half(*rows);
                Some(*rows)
            })
            .collect();
        assert_eq!(halves, [50, 25, 12, 6, 3, 1, 1, 1]);
        assert_eq!(unrest.most(), 1);
        let other = Unrest::new(&calm, usize::MAX);
        for _ in 0..CLEAN * 2 {
            unrest.done(1, Duration::ZERO);
        }
        assert_eq!(other.most(), 4, "and so for the op's other tasks");
        assert_eq!(Unrest::new(&calm, 1).most(), 1, "a suspect stays alone");
    }
}
