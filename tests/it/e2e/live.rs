//! Ops that are paused, resumed and set while workers run.

use futures_util::FutureExt;
use rowmill::model::{Batch, Delivery, JobKey, Kind, NewBatch, OpEntry, Status};
use rowmill::{Client, JobManager, OpSettings, RowFailure, Waits};
use serde_json::Value;

use super::limits::run;
use super::world::{
    Crowd, Ends, Gate, LONG, World, count, crowded, done, key, numbers, raw, rows, rows_of,
    settings, submit,
};

async fn set(client: &Client, op: &str, text: &str) -> rowmill::Result<OpEntry> {
    let (key_, value) = text.split_once('=').unwrap();
    let change = [(key_.to_owned(), value.to_owned())];
    client.op_set(&key(op), &change).await
}

/// Waits until the op is as it is to be, looking whenever the store changes.
async fn until(world: &World, client: &Client, is: impl Fn(&OpEntry) -> bool) {
    let mut signal = world.kit().store.signal();
    let looking = async {
        loop {
            signal.take();
            if is(&client.op(&key("post")).await.unwrap()) {
                return;
            }
            signal.changed().await;
        }
    };
    tokio::time::timeout(LONG, looking).await.expect("it comes");
}

fn manager(
    world: &World,
    processor: impl rowmill::BatchProcessor,
    settings: OpSettings,
) -> JobManager {
    let builder = world.builder().batch("bank", "post", processor);
    let builder = builder.settings("bank", "post", Kind::Batch, settings);
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_lets_running_rows_finish_and_a_resume_goes_on() {
    for delivery in Delivery::ALL {
        let world = World::new().await;
        let (gate, crowd) = (Gate::new(), Crowd::default());
        let one = settings(|s| {
            s.local_concurrency = Some(1);
            s.delivery = delivery;
        });
        let manager = manager(&world, crowded!(gate, crowd), one);
        let id = submit(&manager, "post", numbers(6)).await;
        let (stop, ran) = run(&manager);
        gate.entered(1).await;
        assert!(manager.op_pause(&key("post")).await.unwrap().paused);
        until(&world, &manager, |op| op.queued.rows == 5).await;
        if delivery == Delivery::AtMostOnce {
            let tasks = world.facts().tasks;
            let running = tasks.iter().find(|task| task.worker.is_some()).unwrap();
            assert_eq!(running.row_now, Some(0), "it is still to blame");
        }
        gate.open(1);
        until(&world, &manager, |op| op.running.is_none()).await;
        let batch = manager.batch_status(id).await.unwrap();
        assert_eq!((batch.counts.success, batch.counts.pending), (1, 5));
        assert_eq!(gate.here(), 0, "no other row began");
        gate.open(5);
        manager.op_resume(&key("post")).await.unwrap();
        assert_eq!(done(&manager, id).await.counts.success, 6);
        let rows = rows_of(&manager, id).await;
        assert_eq!(rows[0].attempt, Some(1));
        assert_eq!(
            rows[5].attempt,
            Some(2),
            "it was given back and counts no failure"
        );
        stop.cancel();
        ran.await.unwrap().unwrap();
        world.end(&manager).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_worker_takes_up_a_cap_and_its_end() {
    let world = World::new().await;
    let (gate, crowd) = (Gate::new(), Crowd::default());
    let limits = settings(|s| {
        s.local_concurrency = Some(6);
        s.concurrency = Some(1);
        s.block_rows = 1;
    });
    let manager = manager(&world, crowded!(gate, crowd), limits);
    let id = submit(&manager, "post", numbers(12)).await;
    let (stop, ran) = run(&manager);
    gate.entered(1).await;
    assert_eq!(gate.here(), 0);
    set(&manager, "post", "concurrency=3").await.unwrap();
    gate.entered(2).await;
    assert_eq!((gate.here(), crowd.most()), (0, 3));
    set(&manager, "post", "concurrency=none").await.unwrap();
    gate.entered(3).await;
    assert_eq!(
        (gate.here(), crowd.most()),
        (0, 6),
        "the local limit is left"
    );
    gate.open(12);
    assert_eq!(done(&manager, id).await.counts.success, 12);
    stop.cancel();
    ran.await.unwrap().unwrap();
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrency_of_0_pauses_every_worker_until_it_is_taken_back() {
    let world = World::new().await;
    let (gate, crowd) = (Gate::new(), Crowd::default());
    let limits = || {
        settings(|s| {
            s.local_concurrency = Some(1);
            s.block_rows = 2;
        })
    };
    let one = manager(&world, crowded!(gate, crowd), limits());
    let two = manager(&world, crowded!(gate, crowd), limits());
    let id = submit(&one, "post", numbers(10)).await;
    let runs = [run(&one), run(&two)];
    gate.entered(2).await;
    set(&one, "post", "concurrency=0").await.unwrap();
    // Each gives back the row that it has not begun, and so shows that it has seen it.
    until(&world, &one, |op| op.queued.rows == 8).await;
    gate.open(2);
    until(&world, &one, |op| op.running.is_none()).await;
    assert_eq!(one.batch_status(id).await.unwrap().counts.success, 2);
    gate.open(8);
    let op = set(&one, "post", "concurrency=").await.unwrap();
    assert_eq!(op.settings, None);
    assert_eq!(done(&one, id).await.counts.success, 10);
    for (stop, ran) in runs {
        stop.cancel();
        ran.await.unwrap().unwrap();
    }
    world.end(&one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_that_is_set_holds_over_two_workers() {
    let world = World::new().await;
    let (gate, crowd) = (Gate::new(), Crowd::default());
    let limits = || {
        settings(|s| {
            s.local_concurrency = Some(2);
            s.block_rows = 1;
        })
    };
    let one = manager(&world, crowded!(gate, crowd), limits());
    let two = manager(&world, crowded!(gate, crowd), limits());
    let id = submit(&one, "post", numbers(24)).await;
    set(&one, "post", "concurrency=3").await.unwrap();
    let runs = [run(&one), run(&two)];
    for _ in 0..8 {
        gate.entered(3).await;
        assert_eq!(gate.here(), 0, "nobody else came in");
        gate.open(3);
    }
    assert_eq!(done(&one, id).await.counts.success, 24);
    assert_eq!(crowd.most(), 3);
    for (stop, ran) in runs {
        stop.cancel();
        ran.await.unwrap().unwrap();
    }
    world.end(&one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_begin_later_run_under_what_was_set() {
    let world = World::new().await;
    let tally = super::world::Tally::default();
    let seen = tally.clone();
    let processor = rows(move |_, input| {
        count(&seen, &input);
        async { Err(RowFailure::retry("busy")) }.boxed()
    });
    let manager = manager(&world, processor, OpSettings::default());
    let first = submit(&manager, "post", numbers(1)).await;
    world.work_to_the_end(&manager).await;
    assert_eq!(manager.batch_done(first).await.unwrap().counts.failed, 1);
    assert_eq!(tally.lock().unwrap()["1"], 1, "max_attempts is 1");
    set(&manager, "post", "max_attempts=3").await.unwrap();
    let second = submit(&manager, "post", numbers(1)).await;
    world.work_to_the_end(&manager).await;
    assert_eq!(manager.batch_done(second).await.unwrap().counts.failed, 1);
    assert_eq!(tally.lock().unwrap()["1"], 4);
    set(&manager, "post", "max_attempts=").await.unwrap();
    submit(&manager, "post", numbers(1)).await;
    world.work_to_the_end(&manager).await;
    assert_eq!(tally.lock().unwrap()["1"], 5);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_is_taken_up_before_the_next_claim() {
    let world = World::new().await;
    let processor = rows(|_, input| async { Ok(input) }.boxed());
    let manager = manager(&world, processor, OpSettings::default());
    manager.tick().await.unwrap();
    let text = format!("delivery={}", Delivery::AtMostOnce.as_str());
    set(&manager, "post", &text).await.unwrap();
    submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    // At most once each row is committed before it starts: a part for each.
    assert!(world.facts().parts.len() >= 3, "{:?}", world.facts().parts);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_of_a_submit_are_as_was_set() {
    let world = World::new().await;
    let processor = rows(|_, input| async { Ok(input) }.boxed());
    let manager = manager(&world, processor, OpSettings::default());
    set(&manager, "post", "block_rows=2").await.unwrap();
    submit(&manager, "post", numbers(10)).await;
    assert_eq!(world.facts().blocks.len(), 5);
    world.work(&manager).await;
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_with_all_that_is_wrong_and_changes_nothing() {
    let world = World::new().await;
    let processor = rows(|_, input| async { Ok(input) }.boxed());
    let manager = manager(&world, processor, settings(|s| s.parallel = 4));
    let change = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    };
    for (pairs, told) in [
        (
            change(&[("colour", "red"), ("timeout", "soon")]),
            vec!["colour: unknown key", "timeout: \"soon\" is no duration"],
        ),
        (change(&[("concurrency", "2")]), vec!["parallel: is 4 rows"]),
        (
            change(&[("max_attempts", "0")]),
            vec!["max_attempts: must be 1 to"],
        ),
        (
            change(&[("timeout", "5s"), ("handler", "x")]),
            vec!["handler: cannot be set"],
        ),
    ] {
        let error = manager.op_set(&key("post"), &pairs).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (rowmill::ErrorKind::Invalid, "bad_setting")
        );
        let text = error.to_string();
        assert!(told.iter().all(|told| text.contains(told)), "{text}");
    }
    assert_eq!(manager.op(&key("post")).await.unwrap().settings, None);
    let missing = manager.op_pause(&key("nobody")).await.unwrap_err();
    assert_eq!(missing.kind(), rowmill::ErrorKind::NotFound);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_do_not_fit_a_worker_leave_it_to_its_own() {
    let world = World::new().await;
    let processor = || rows(|_, input| async { Ok(input) }.boxed());
    let lax = manager(&world, processor(), OpSettings::default());
    set(&lax, "post", "concurrency=2").await.unwrap();
    let strict = manager(&world, processor(), settings(|s| s.parallel = 4));
    let id = submit(&lax, "post", numbers(8)).await;
    world.work(&strict).await;
    assert_eq!(strict.batch_done(id).await.unwrap().counts.success, 8);
    world.end(&strict).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_set_an_op_at_the_same_moment_lose_nothing() {
    let world = World::new().await;
    let processor = rows(|_, input| async { Ok(input) }.boxed());
    let manager = manager(&world, processor, OpSettings::default());
    let texts = [
        "timeout=5s",
        "max_later=7",
        "backoff.base=3s",
        "backoff.cap=4h",
        "block_rows=9",
    ];
    let sets = texts.map(|text| set(&manager, "post", text));
    for set in futures_util::future::join_all(sets).await {
        set.unwrap();
    }
    let op = manager.op(&key("post")).await.unwrap();
    let set: Value = serde_json::from_str(&op.settings.unwrap()).unwrap();
    let wanted = serde_json::json!({
        "timeout": "5s", "max_later": 7, "backoff": {"base": "3s", "cap": "4h"}, "block_rows": 9
    });
    assert_eq!(set, wanted);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_waits_says_why() {
    let world = World::new().await;
    let processor = rows(|_, input| async { Ok(input) }.boxed());
    let manager = manager(&world, processor, OpSettings::default());
    let id = submit(&manager, "post", numbers(1)).await;
    let why = async || {
        let batch: Batch = manager.batch_status(id).await.unwrap();
        manager.waits(&batch).await.unwrap()
    };
    assert_eq!(why().await, Some(Waits::NoWorker));
    manager.op_pause(&key("post")).await.unwrap();
    assert_eq!(why().await, Some(Waits::Paused));
    manager.op_resume(&key("post")).await.unwrap();
    set(&manager, "post", "concurrency=0").await.unwrap();
    assert_eq!(why().await, Some(Waits::NoConcurrency));
    manager.tick().await.unwrap();
    set(&manager, "post", "concurrency=").await.unwrap();
    assert_eq!(why().await, None, "a worker is there");
    world.work(&manager).await;
    assert_eq!(why().await, None, "it has ended");
    let later = NewBatch {
        run_at: Some(world.kit().in_seconds(60)),
        ..NewBatch::new(key("post"))
    };
    world.end(&manager).await;
    let later = manager.batch_submit(later, numbers(1)).await.unwrap();
    assert_eq!(
        manager.waits(&later).await.unwrap(),
        None,
        "its time has not come"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_serves_its_ops_from_start_to_stop() {
    let world = World::new().await;
    let ends = Ends::default();
    let processor = rows(|_, input| async { Ok(input) }.boxed()).telling(&ends);
    let manager = manager(&world, processor, OpSettings::default());
    assert_eq!(manager.op(&key("post")).await.unwrap().workers, 0);
    manager.tick().await.unwrap();
    assert_eq!(manager.op(&key("post")).await.unwrap().workers, 1);
    let workers = manager.workers().await.unwrap();
    assert_eq!(workers.len(), 1);
    assert_eq!(workers[0].ops, [key("post")]);
    manager.stop().await.unwrap();
    assert_eq!(manager.op(&key("post")).await.unwrap().workers, 0);
    assert!(manager.workers().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_a_paused_op_expires_beside_its_worker() {
    let world = World::new().await;
    let processor = rows(|_, input| async { Ok(input) }.boxed());
    let manager = manager(&world, processor, OpSettings::default());
    manager.op_pause(&key("post")).await.unwrap();
    let expires = NewBatch {
        context: raw("{}"),
        expires_at: Some(world.kit().in_seconds(60)),
        ..NewBatch::new(key("post"))
    };
    let id = manager.batch_submit(expires, numbers(3)).await.unwrap().id;
    let aborted = submit(&manager, "post", numbers(2)).await;
    world.work(&manager).await;
    assert_eq!(
        manager.batch_status(id).await.unwrap().status,
        Status::Queued
    );
    let batch = manager.batch_abort(aborted, LONG).await.unwrap();
    assert_eq!(batch.status, Status::Aborted);
    world.kit().advance(61);
    world.work(&manager).await;
    assert_eq!(
        manager.batch_done(id).await.unwrap().status,
        Status::Expired
    );
    world.end(&manager).await;
}

/// A key is of an op's kind: the wrong one is not found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_op_of_another_kind_is_another_op() {
    let world = World::new().await;
    let processor = rows(|_, input| async { Ok(input) }.boxed());
    let manager = manager(&world, processor, OpSettings::default());
    let query = JobKey {
        kind: Kind::Query,
        ..key("post")
    };
    let error = manager.op_pause(&query).await.unwrap_err();
    assert_eq!(error.code(), "unknown_op");
    world.end(&manager).await;
}
