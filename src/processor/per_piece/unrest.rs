//! What a piece that was undone is followed by: a pause, fewer rows, and in the end a word about a row.

use std::collections::HashMap;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::super::desk::Work;
use super::piece::PIECE;
use crate::processor::RowFailure;
use crate::processor::whose::Whose;

/// A piece that others are in the way of is made again so often; then its rows go one at a time, each so often.
const TRIES: usize = 10;
/// After a piece that was in others' way, at first and at most.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MOST: Duration = Duration::from_millis(500);
/// After a transaction that could not be made because of the database or the way to it.
const LOST: Duration = Duration::from_millis(200);
/// A row during which the connection was lost each time may be why, after so many.
const LOSSES: u32 = 10;

/// How the pieces of a task went lately.
pub(super) struct Unrest {
    most: usize,
    /// Pauses that are left.
    pauses: Option<backon::ExponentialBackoff>,
    lost: HashMap<usize, u32>,
}

impl Unrest {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            pauses: None,
            lost: HashMap::new(),
        }
    }

    /// Rows of the next piece, at most.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// So many rows were committed in that time.
    pub(super) fn done(&mut self, rows: usize, took: Duration) {
        self.pauses = None;
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
        rest(work, pause).await;
    }

    /// The database, or the way to it, was lost; it may have been this row that did it.
    pub(super) async fn lost(&mut self, work: &Work, places: &[usize], by: Option<usize>) {
        let mut back = places.to_vec();
        if let Some(place) = by {
            let losses = self.lost.entry(place).or_default();
            *losses += 1;
            if *losses >= LOSSES {
                put(work, place, "the connection was lost each time");
                back.retain(|p| *p != place);
            }
        }
        work.desk.put_back(&back);
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
