use std::sync::Arc;
use std::time::Duration;

use super::super::Parts;
use super::super::fill::{By, Filled};
use super::super::ops::tests::{Same, task};
use super::*;
use crate::cache::{StatusCache, Statuses};
use crate::clock::SystemClock;
use crate::files::ObjectStore;
use crate::model::{BatchId, EndedAs, TaskId, Token};
use crate::processor::{CancelHandle, Registry};
use crate::store::{Found, Look, Part, Store};

async fn engine(dir: &tempfile::TempDir, registry: Registry) -> Engine {
    let store = Store::sqlite(dir.path().join("rowmill.db")).await.unwrap();
    let parts = Parts {
        statuses: Statuses::new(store.clone(), StatusCache::none()),
        store,
        objects: ObjectStore::folder(dir.path().join("files")),
        clock: Arc::new(SystemClock),
        registry: Arc::new(registry),
        grace: std::time::Duration::ZERO,
    };
    Engine::start(parts, None).await.unwrap()
}

#[tokio::test]
async fn who_got_nothing_of_what_it_saw_looks_again_and_later_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(&dir, Registry::new().batch("a", "b", Same)).await;
    let mut before = Duration::ZERO;
    for times in 0..8 {
        let now = Instant::now();
        engine.take_claim(0, false, Ok(Vec::new()), &mut Tick::default());
        let at = engine.ops[0].looks_at().expect("it looks again");
        let wait = at.duration_since(now);
        assert!(wait >= RETRY * (1 << times.min(2)) && wait > before / 2);
        assert!(wait < 8 * RETRY, "it is bounded");
        before = wait;
    }
    (engine.look, engine.kept) = (Due::default(), true);
    engine.ops[0].look_later(Instant::now().checked_sub(8 * RETRY).unwrap());
    engine.turn();
    assert!(
        engine.ops[0].looks_at().is_none() && engine.looking,
        "its time has come"
    );
}

#[tokio::test]
async fn who_got_nothing_of_one_op_is_as_quick_for_another_and_for_what_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new().batch("a", "b", Same).batch("a", "c", Same);
    let mut engine = engine(&dir, registry).await;
    for _ in 0..4 {
        engine.take_claim(0, false, Ok(Vec::new()), &mut Tick::default());
    }
    let late = engine.ops[0].looks_at();
    let now = Instant::now();
    engine.take_claim(1, false, Ok(Vec::new()), &mut Tick::default());
    let at = engine.ops[1].looks_at().expect("it looks again");
    assert!(at < now + 2 * RETRY, "the other's first time");
    assert_eq!(
        engine.ops[0].looks_at(),
        late,
        "each has a moment of its own"
    );
    let nothing = Step::Looked {
        asked: Look {
            ops: vec![engine.ops[0].id],
            ..Look::default()
        },
        result: Ok(Found::default()),
    };
    engine.take(nothing, &mut Tick::default());
    assert!(
        engine.ops[0].looks_at().is_none(),
        "nobody holds what is not there"
    );
    let now = Instant::now();
    engine.take_claim(0, false, Ok(Vec::new()), &mut Tick::default());
    let at = engine.ops[0].looks_at().expect("it looks again");
    assert!(at < now + 2 * RETRY, "it begins anew");
    assert!(
        engine.ops[1].looks_at().is_some(),
        "the other was not asked for"
    );
}

#[tokio::test]
async fn what_was_lost_on_its_way_is_given_back_however_busy_the_worker_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(&dir, Registry::new()).await;
    let claim = ClaimRef {
        batch: BatchId::new(),
        task: TaskId(0),
        no: 0,
        attempt: 1,
        token: Token(1),
    };
    let running = [Running {
        claim,
        close: false,
        aborting: false,
    }];
    engine.compare(&[], &running);
    let since = engine.strangers.get_mut(&claim).expect("a stranger");
    *since = since.checked_sub(2 * STRANGE).unwrap();
    engine.recording = true;
    engine.compare(&[], &running);
    assert!(
        engine.steps.is_empty(),
        "a part on its way may speak for it"
    );
    engine.recording = false;
    engine.compare(&[], &running);
    assert_eq!(engine.steps.len(), 1, "it is given back");
    engine.compare(&[], &[]);
    assert!(engine.strangers.is_empty());
}

#[tokio::test]
async fn a_part_says_that_more_of_its_batch_is_here_as_long_as_some_of_it_has_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(&dir, Registry::new().batch("a", "b", Same)).await;
    let part = |task: &ClaimedTask, no| Outgoing {
        part: Part {
            claim: ClaimRef { no, ..task.claim },
            part: 0,
            ordinals: None,
            body: Arc::default(),
            success: 0,
            failed: 0,
            files: false,
            again: Vec::new(),
            then: Then::Ends {
                ended_as: EndedAs::Finished,
                rest: Vec::new(),
                interrupted: 0,
            },
            capped: false,
            more: false,
        },
        cancel: CancelHandle::new(),
        reply: None,
    };
    let (long, other) = (task(), task());
    engine.ops[0].claimed(vec![long.clone()]);
    let mut parts = [part(&long, 3), part(&other, 3), part(&long, 0)];
    let more = |parts: &[Outgoing]| parts.iter().map(|out| out.part.more).collect::<Vec<_>>();
    engine.note_more(&mut parts);
    assert_eq!(more(&parts), [true, false, true]);
    engine.by_hand = true;
    engine.note_more(&mut parts);
    assert_eq!(more(&parts), [false; 3], "there may be no keeper");
    engine.by_hand = false;
    engine.note_more(&mut parts);
    assert_eq!(more(&parts), [true, false, true]);
    // They could not be recorded, and meanwhile the rest has begun.
    engine.ops[0].drain();
    engine.note_more(&mut parts);
    assert_eq!(more(&parts), [false; 3]);
    // Of queries nobody asks it.
    engine.ops[0].claimed(vec![long.clone()]);
    let mut queries = [part(&long, 0)];
    engine.note_more(&mut queries);
    assert_eq!(more(&queries), [false]);
}

#[tokio::test]
async fn a_look_that_fails_leaves_closes_and_ends_to_those_who_look_for_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(&dir, Registry::new().batch("a", "b", Same)).await;
    engine.look = Due::default();
    let asked = Look {
        closes: true,
        receivers: vec![engine.ops[0].id],
        ..Look::default()
    };
    let result = Err(StoreError::unavailable("looking", "it is gone"));
    engine.take(Step::Looked { asked, result }, &mut Tick::default());
    assert!(engine.close && engine.tell && !engine.look.work);
    assert!(matches!(
        engine.steps.join_next().await,
        Some(Ok(Step::Waited))
    ));
    engine.take(Step::Waited, &mut Tick::default());
    assert!(engine.look.work && !engine.look.closes && !engine.look.ends);
}

/// Who fills a slot that this engine has just offered.
fn offered(engine: &mut Engine) -> By {
    let worker = engine.worker;
    let (slot, _asked) = engine.ops[0].offer(worker).unwrap().expect("a free slot");
    By {
        store: engine.parts.store.clone(),
        clock: Arc::clone(&engine.parts.clock),
        holder: slot.holder(),
    }
}

#[tokio::test]
async fn what_fills_a_slot_waits_to_begin_or_goes_back_where_settings_have_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = engine(&dir, Registry::new().batch("a", "b", Same)).await;
    for is_changed in [false, true] {
        let by = offered(&mut engine);
        if is_changed {
            let paused = LiveOp {
                id: engine.ops[0].id,
                paused: true,
                settings: None,
            };
            engine.take_live(&[paused]);
        }
        let (steps, mut tick) = (engine.steps.len(), Tick::default());
        let filled = Step::Filled {
            at: 0,
            token: by.holder.token,
            filled: Some(Filled::new(task(), by)),
        };
        engine.take(filled, &mut tick);
        assert_eq!(tick.claimed, u64::from(!is_changed));
        assert_eq!(engine.ops[0].queue.len(), usize::from(!is_changed));
        let gives_back = engine.steps.len() - steps;
        assert_eq!(gives_back, usize::from(is_changed));
        engine.ops[0].drain();
    }
}
