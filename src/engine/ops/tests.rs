use super::*;
use crate::model::{JobKey, Kind, RawJson, TaskId};
use crate::processor::{BatchProcessor, Registry, RowCx, RowFailure, TransactionalProcessor};
use crate::store::slots::FreeSlots;
use crate::store::sqlite::Tx;
use crate::store::{BatchHead, FreeSlot};

/// Gives each row back as it came.
pub(in crate::engine) struct Same;

impl BatchProcessor for Same {
    type Block = ();
    type Context = ();
    type Input = i64;
    type Output = i64;

    async fn process(&self, _: &mut RowCx<'_, (), ()>, n: i64) -> Result<i64, RowFailure> {
        Ok(n)
    }
}

struct Writes;

impl TransactionalProcessor for Writes {
    type Block = ();
    type Context = ();
    type Input = i64;
    type Output = i64;

    fn process(
        &self,
        _: &mut Tx<'_>,
        _: &mut RowCx<'_, (), ()>,
        n: i64,
    ) -> Result<i64, RowFailure> {
        Ok(n)
    }
}

#[test]
fn at_most_once_that_is_set_for_a_transactional_op_is_not_taken_up() {
    let registry = Registry::new()
        .batch("a", "rows", Same)
        .transactional("a", "writes", Writes);
    let taken = registry.ops().map(|registered| {
        let mut op = Op::new(OpId(1), registered.clone(), 4);
        op.take_live(Some(&LiveOp {
            id: OpId(1),
            paused: false,
            settings: Some("{\"delivery\":\"at_most_once\"}".to_owned()),
        }));
        (registered.key.op.to_string(), op.settings().delivery)
    });
    let expected = [
        ("rows".to_owned(), Delivery::AtMostOnce),
        ("writes".to_owned(), Delivery::AtLeastOnce),
    ];
    assert!(taken.eq(expected));
}

pub(in crate::engine) fn task() -> ClaimedTask {
    let id = BatchId::new();
    let head = BatchHead {
        id,
        key: JobKey::new("a", "b", Kind::Batch).unwrap(),
        context: RawJson::NULL.to_owned(),
        root: id,
        generation: 0,
        expires_at: None,
    };
    ClaimedTask {
        batch: Arc::new(head),
        claim: ClaimRef {
            batch: id,
            task: TaskId(0),
            no: 0,
            attempt: 1,
            token: Token(1),
        },
        failures: 0,
        laters: 0,
        suspect: false,
        accused: false,
        believed: false,
        first_line: 1,
        lines: None,
        body: "1\n".to_owned(),
        pick: None,
        rows: 1,
    }
}

#[test]
fn every_fourth_claim_that_takes_something_takes_the_oldest() {
    let registry = Registry::new().batch("a", "b", Same);
    let mut op = Op::new(OpId(1), registry.ops().next().unwrap().clone(), 4);
    let mut oldest = Vec::new();
    for _ in 0..8 {
        // As a capped op does it: each claim that takes something is followed by one that meets the cap.
        for taken in [vec![task()], Vec::new()] {
            op.claiming = false;
            op.more = true;
            let ask = op.ask(WorkerNo(1), None).unwrap().unwrap();
            if !taken.is_empty() {
                oldest.push(ask.oldest);
            }
            op.count_claim(&taken);
        }
    }
    let quarter = [false, false, false, true];
    assert_eq!(oldest, [quarter, quarter].concat());
}

#[test]
fn more_is_claimed_ahead_when_what_runs_and_what_waits_is_short() {
    let registry = Registry::new().batch("a", "b", Same);
    let mut op = Op::new(OpId(1), registry.ops().next().unwrap().clone(), 1);
    op.slots = 1;
    op.measure(1, 4 * CLAIM);
    op.claimed(vec![task()]);
    let turns = Turns {
        running: 0,
        suspect: false,
        accused: false,
        overdue: false,
        waits: false,
    };
    let running = op.next(&turns).expect("a slot is free").claim;
    let now = Instant::now();
    assert!(
        op.ask(WorkerNo(1), None).unwrap().is_none(),
        "it runs for long"
    );
    let at = op.asks_at(now).expect("a later moment");
    assert!(at > now && at <= now + 4 * CLAIM - CLAIM / 2);
    op.measure(1, Duration::from_millis(1));
    op.ended(&running);
    assert!(
        op.ask(WorkerNo(1), None).unwrap().is_some(),
        "a slot is free"
    );
}

#[test]
fn of_rows_that_take_next_to_nothing_no_more_wait_here_than_two_claims_bring() {
    let registry = Registry::new().batch("a", "b", Same);
    let mut op = Op::new(OpId(1), registry.ops().next().unwrap().clone(), 1);
    op.slots = 1;
    op.measure(1, Duration::from_micros(1));
    op.running.insert(task().claim, Some(Instant::now()));
    let mut claims = 0;
    while let Some(ask) = op.ask(WorkerNo(1), None).unwrap() {
        claims += 1;
        assert_eq!(ask.max_tasks, CLAIM_TASKS);
        op.claimed((0..ask.max_tasks).map(|_| task()).collect());
        op.claiming = false;
        op.more = true;
    }
    assert_eq!(claims, 2, "what waits is not done sooner for a third");
    op.drain();
    let suspect = ClaimedTask {
        suspect: true,
        ..task()
    };
    op.claimed(vec![suspect; 2 * AHEAD_TASKS]);
    let ask = op.ask(WorkerNo(1), None).unwrap();
    assert!(ask.is_some(), "they keep no others from their turn");
}

#[test]
fn a_long_task_keeps_one_slot_busy_and_not_the_others() {
    let registry = Registry::new().batch("a", "b", Same);
    let mut op = Op::new(OpId(1), registry.ops().next().unwrap().clone(), 4);
    op.slots = 4;
    let now = Instant::now();
    op.measure(1, Duration::from_millis(1));
    let claim = task().claim;
    op.running.insert(claim, Some(now + 40 * CLAIM));
    let ask = op.ask(WorkerNo(1), None).unwrap().expect("three are free");
    assert_eq!(ask.max_tasks, CLAIM_TASKS, "it is claimed ahead for them");
}

#[test]
fn who_waits_for_tasks_that_are_over_their_time_is_not_woken_again_and_again() {
    let registry = Registry::new().batch("a", "b", Same);
    let mut op = Op::new(OpId(1), registry.ops().next().unwrap().clone(), 1);
    op.slots = 1;
    let now = Instant::now();
    op.measure(1, CLAIM);
    op.claimed(vec![task()]);
    op.running.insert(task().claim, Some(now));
    assert_eq!(op.asks_at(now), None, "time alone changes nothing");
    let soon = now + CLAIM / 2 + Duration::from_micros(1);
    op.running.insert(task().claim, Some(soon));
    op.queued_rows = 0;
    let at = op.asks_at(now).expect("a later moment");
    assert!(at >= now + PEEK, "and not in a microsecond");
}

#[test]
fn a_cap_that_is_set_while_tasks_run_is_seen_by_them() {
    let registry = Registry::new().batch("a", "b", Same);
    let mut op = Op::new(OpId(1), registry.ops().next().unwrap().clone(), 1);
    let seen = Arc::clone(op.capped());
    assert!(!seen.load(Ordering::Relaxed));
    let mut live = LiveOp {
        id: OpId(1),
        paused: false,
        settings: Some(r#"{"concurrency":2}"#.to_owned()),
    };
    assert!(op.take_live(Some(&live)) && seen.load(Ordering::Relaxed));
    live.settings = None;
    assert!(op.take_live(Some(&live)) && !seen.load(Ordering::Relaxed));
}

#[test]
fn where_a_cap_may_be_why_it_is_looked_for_later_and_later() {
    let registry = Registry::new().batch("a", "b", Same);
    let mut op = Op::new(OpId(1), registry.ops().next().unwrap().clone(), 1);
    let now = Instant::now();
    let mut waits = |capped: Option<&str>| {
        let live = LiveOp {
            id: OpId(1),
            paused: false,
            settings: capped.map(str::to_owned),
        };
        op.take_live(Some(&live));
        op.forget_misses();
        let mut wait = || {
            op.look_later(now);
            let wait = op.looks_at().unwrap().duration_since(now);
            wait.as_millis() / RETRY.as_millis()
        };
        (0..7).map(|_| wait()).collect::<Vec<_>>()
    };
    assert_eq!(waits(None), [1, 2, 4, 4, 4, 4, 4]);
    let capped = Some(r#"{"concurrency":2}"#);
    assert_eq!(waits(capped), [1, 2, 4, 8, 16, 32, 32]);
}

/// An op that has looked for work and found none, with so many slots.
fn idle(slots: usize) -> Op {
    let registry = Registry::new().batch("a", "b", Same);
    let mut op = Op::new(OpId(1), registry.ops().next().unwrap().clone(), slots);
    op.more = false;
    op
}

#[test]
fn a_slot_is_offered_while_there_is_nothing_to_claim() {
    let mut op = idle(1);
    assert!(op.is_idle());
    op.more = true;
    assert!(!op.is_idle(), "there may be tasks");
    op.more = false;
    op.claiming = true;
    assert!(!op.is_idle(), "some may be on their way");
    op.claiming = false;
    op.claimed(vec![task()]);
    assert!(!op.is_idle(), "one waits");
    op.drain();
    let set = |text: Option<&str>, paused| LiveOp {
        id: OpId(1),
        paused,
        settings: text.map(str::to_owned),
    };
    for (live, idle) in [
        (set(None, true), false),
        (set(Some(r#"{"concurrency":2}"#), false), false),
        (set(None, false), true),
    ] {
        op.take_live(Some(&live));
        op.more = false;
        assert_eq!(op.is_idle(), idle, "{live:?}");
    }
}

/// As `beat` lists what may be on its way to a slot.
fn listed(slot: &FreeSlot) -> ClaimRef {
    ClaimRef {
        token: slot.holder().token,
        ..task().claim
    }
}

#[test]
fn a_slot_that_is_offered_is_claimed_for_once_it_can_be_taken_back() {
    let mut op = idle(2);
    let (slot, _asked) = op.offer(WorkerNo(1)).unwrap().expect("a free slot");
    assert!(op.offer(WorkerNo(1)).unwrap().is_none(), "one at a time");
    assert!(op.expects(&listed(&slot)) && !op.expects(&task().claim));
    op.more = true;
    let ask = op.ask(WorkerNo(1), None).unwrap().expect("a claim");
    assert!(ask.max_tasks >= 2, "nobody had asked for it");
    assert!(slot.is_taken() && !op.expects(&listed(&slot)));
    (op.more, op.claiming) = (false, false);

    let (slot, _asked) = op.offer(WorkerNo(1)).unwrap().expect("a free slot");
    let slots = FreeSlots::default();
    let key = op.registered.key.clone();
    slots.offer(&key, Arc::clone(&slot));
    let taken = slots.take(&key).expect("it is free");
    // Rows are quick: more would be claimed than there are slots.
    op.measure(1, Duration::from_micros(1));
    op.more = true;
    let ask = op.ask(WorkerNo(1), None).unwrap().expect("a claim");
    assert_eq!(ask.max_tasks, 1, "the other may be filled");
    assert!(op.expects(&listed(&slot)));
    let ahead = ClaimedTask {
        claim: ClaimRef {
            no: 7,
            ..task().claim
        },
        ..task()
    };
    op.claimed(vec![ahead]);
    drop(taken);
    assert!(op.filled(slot.holder().token) && !op.expects(&listed(&slot)));
    op.fills(task());
    assert_eq!(op.queue.front().unwrap().claim.no, 0, "it was promised");
}

#[test]
fn what_fills_a_slot_under_other_settings_is_told_apart() {
    let mut op = idle(2);
    let (first, _filled) = op.offer(WorkerNo(1)).unwrap().expect("a free slot");
    op.take_back();
    let (second, _filled) = op.offer(WorkerNo(1)).unwrap().expect("a free slot");
    assert!(!op.filled(first.holder().token), "it was given up");
    assert!(op.filled(second.holder().token));
    let (third, _filled) = op.offer(WorkerNo(1)).unwrap().expect("a free slot");
    let paused = LiveOp {
        id: OpId(1),
        paused: true,
        settings: None,
    };
    assert!(op.take_live(Some(&paused)));
    assert!(!op.filled(third.holder().token), "it is to be given back");
}
