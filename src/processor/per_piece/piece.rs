//! One piece: runs of rows, each kept or undone, until its time is over.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::context::Shared;
use super::super::desk::{Ran, Work};
use super::super::draft::{FULL, weight};
use super::super::erased::block_of;
use super::width::Width;
use super::{Came, Runner};
use crate::model::{OutcomeStatus, RowOutcome};
use crate::processor::whose::Whose;
use crate::processor::{Draft, RowFailure};
use crate::store::postgres::{PieceTx, Trouble};

/// What a piece has locked others wait for: after this no further row of it begins.
pub(super) const PIECE: Duration = Duration::from_secs(1);

/// What happened in a transaction that may be undone.
#[derive(Default)]
pub(super) struct Tried {
    /// Rows that began.
    pub(super) places: Vec<usize>,
    /// Rows began, whatever has become of them.
    pub(super) has_begun: bool,
    /// So many ran, also of those that run again in another piece.
    pub(super) ran: usize,
    /// Rows of the latest run that was undone.
    pub(super) undone: usize,
    /// Where the application ended the transaction: what those before came to, and who was in flight.
    pub(super) done: Vec<(usize, RowOutcome)>,
    pub(super) run: Option<Vec<usize>>,
    pub(super) end: Option<End>,
    /// The task's other rows are to run one after the other.
    pub(super) in_turn: bool,
}

/// What a piece may do.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Its first row, which has been taken.
    pub(super) first: usize,
    /// Rows of it.
    pub(super) most: usize,
    /// Rows at once.
    pub(super) beside: usize,
}

/// Why a piece gave up.
#[derive(Clone, Copy)]
pub(super) enum End {
    InTheWay,
    Lost,
    Cut,
}

fn locked(tried: &Mutex<Tried>) -> MutexGuard<'_, Tried> {
    tried.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a run came to, once the database has been asked whether it may stay.
enum Kept {
    /// So many of its rows are done.
    Yes(Vec<RowOutcome>),
    /// It is undone.
    No(Undone),
    End(End),
    Ended,
}

/// Runs rows; none if what they wrote is to be undone, or if there is nothing to record.
pub(super) async fn run<P: Runner>(
    runner: &P,
    tx: &PieceTx<'_>,
    work: &Work,
    context: &P::Context,
    bounds: Bounds,
    width: &Width,
    tried: &Mutex<Tried>,
) -> Option<Ran> {
    let Ok(block) = block_of::<P::Block>(work) else {
        return None;
    };
    let shared = Shared {
        work,
        block,
        context,
        piece: Some(tx),
    };
    let began = Instant::now();
    let rows = usize::try_from(work.task.rows).unwrap_or(usize::MAX);
    let in_turn = runner.together(rows).max(1);
    let Bounds {
        first,
        most,
        beside,
    } = bounds;
    let (mut first, mut begun, mut bytes) = (Some(first), 0, 0);
    let mut done: Vec<(usize, RowOutcome)> = Vec::new();
    let mut waiting: VecDeque<Vec<usize>> = VecDeque::new();
    loop {
        let (together, at_once) = width.of(in_turn, beside);
        // Whoever is to stop begins nothing again either, and an interrupt that comes late is to end nobody else's statement.
        let stops = work.cancel.is_cancelled() || tx.is_interrupted();
        let is_full = bytes > FULL || began.elapsed() >= PIECE;
        let places = match waiting.pop_front() {
            // Each transaction gets on by a row at least.
            Some(places) if stops || is_full && !done.is_empty() => {
                give_back(work, tried, &places);
                continue;
            }
            Some(mut places) => {
                if places.len() > together {
                    waiting.push_front(places.split_off(together));
                }
                places
            }
            None => {
                let mut places: Vec<usize> = first.take().into_iter().collect();
                let over = begun >= most || is_full || stops;
                while !(places.is_empty() && over)
                    && places.len() < together.min(most - begun)
                    && let Some(place) = work.desk.start()
                {
                    places.push(place);
                }
                if places.is_empty() {
                    break;
                }
                begun += places.len();
                let mut tried = locked(tried);
                tried.has_begun = true;
                tried.places.extend(&places);
                places
            }
        };
        match kept(runner, tx, shared, &places, at_once).await {
            Kept::Yes(outcomes) => {
                if beside > 1 {
                    width.went_well(outcomes.len());
                }
                bytes += outcomes.iter().map(weight).sum::<usize>();
                let left = places.get(outcomes.len()..).unwrap_or_default();
                give_back(work, tried, left);
                begun -= left.len();
                done.extend(places.into_iter().zip(outcomes));
            }
            Kept::No(Undone {
                bad,
                again,
                in_turn,
            }) => {
                if at_once > 1 && places.len() > 1 {
                    width.went_badly(places.len());
                }
                let mut tried = locked(tried);
                tried.in_turn |= in_turn;
                tried.undone = places.len();
                drop(tried);
                done.extend(bad);
                for places in again.into_iter().rev().filter(|places| !places.is_empty()) {
                    waiting.push_front(places);
                }
            }
            Kept::End(end) => {
                let mut tried = locked(tried);
                tried.end = Some(end);
                // Where one of them had ended the transaction, too.
                (tried.done, tried.run) = (done, Some(places));
                return None;
            }
            Kept::Ended => {
                let mut tried = locked(tried);
                (tried.done, tried.run) = (done, Some(places));
                return None;
            }
        }
    }
    locked(tried).ran = begun;
    (!done.is_empty()).then(|| ran(work, done))
}

/// Rows that began, and after all did not.
fn give_back(work: &Work, tried: &Mutex<Tried>, places: &[usize]) {
    if !places.is_empty() {
        locked(tried).places.retain(|place| !places.contains(place));
        work.desk.put_back(places);
    }
}

/// What is recorded: in the rows' order, whatever the order in which they came to it.
fn ran(work: &Work, mut done: Vec<(usize, RowOutcome)>) -> Ran {
    done.sort_unstable_by_key(|(place, _)| *place);
    let mut draft = Draft::default();
    let mut places = Vec::with_capacity(done.len());
    for (place, outcome) in done {
        draft.add(work.desk.ordinal(place), &work.desk.judged(&outcome));
        places.push(place);
    }
    Ran { draft, places }
}

async fn kept<P: Runner>(
    runner: &P,
    tx: &PieceTx<'_>,
    shared: Shared<'_, P::Block, P::Context>,
    places: &[usize],
    at_once: usize,
) -> Kept {
    let undone = match runner.run(tx, shared, places, at_once).await {
        Came::Kept(outcomes) => match tx.keep().await {
            Ok(()) => return Kept::Yes(outcomes),
            Err(Trouble::Sql(error)) => unknown(shared.work, places, outcomes.len(), error.into()),
            Err(trouble) => return hopeless(&trouble),
        },
        Came::Bad { bad, again } => Undone::of(bad, again),
        Came::Apart { again, in_turn } => Undone {
            in_turn,
            ..Undone::of(Vec::new(), again)
        },
        Came::Unknown(upto, failure) => unknown(shared.work, places, upto, failure),
        Came::All(outcome) => match places {
            [place] => Undone::of(vec![(*place, outcome)], Vec::new()),
            _ => Undone::of(Vec::new(), halves(places, places.len())),
        },
        Came::InTheWay => return Kept::End(End::InTheWay),
        Came::Lost => return Kept::End(End::Lost),
        Came::Cut => return Kept::End(End::Cut),
    };
    match tx.undo().await {
        Ok(()) => Kept::No(undone),
        // A savepoint that is not there any more, in a transaction that is: whatever it was, it cannot go on.
        Err(Trouble::Sql(_)) => Kept::End(End::Lost),
        Err(trouble) => hopeless(&trouble),
    }
}

fn hopeless(trouble: &Trouble) -> Kept {
    match trouble {
        Trouble::InTheWay => Kept::End(End::InTheWay),
        Trouble::Ended => Kept::Ended,
        Trouble::Lost | Trouble::Sql(_) => Kept::End(End::Lost),
    }
}

/// What follows from a run whose rows wrote what may not stay.
struct Undone {
    /// What some came to.
    bad: Vec<(usize, RowOutcome)>,
    /// The runs in which the others run again.
    again: Vec<Vec<usize>>,
    /// One after the other.
    in_turn: bool,
}

impl Undone {
    fn of(bad: Vec<(usize, RowOutcome)>, again: Vec<Vec<usize>>) -> Self {
        Self {
            bad,
            again,
            in_turn: false,
        }
    }
}

/// One of the first so many rows is the bad one: a row alone it is; else they run again in halves.
fn unknown(work: &Work, places: &[usize], upto: usize, failure: RowFailure) -> Undone {
    match places {
        [place, rest @ ..] if upto <= 1 => {
            let outcome = Whose::row(work, *place).failure(failure);
            debug_assert_ne!(outcome.status, OutcomeStatus::Success);
            Undone::of(vec![(*place, outcome)], vec![rest.to_vec()])
        }
        _ => Undone::of(Vec::new(), halves(places, upto)),
    }
}

fn halves(places: &[usize], upto: usize) -> Vec<Vec<usize>> {
    let (ran, rest) = places.split_at(upto.min(places.len()));
    let (first, second) = ran.split_at(ran.len() / 2);
    [first, second, rest].map(<[usize]>::to_vec).into()
}
