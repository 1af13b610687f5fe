//! Aborts and stops, before, while and after rows run.

use std::time::Duration;

use futures_util::FutureExt;
use rowmill::CancelCause;
use rowmill::model::{Delivery, Kind, Status};
use serde_json::Value;

use super::limits::run;
use super::world::{
    Ends, Gate, LONG, World, ask, code, done, log, numbers, queries, rows, rows_of, settings,
    statuses, submit,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_before_and_after_the_work() {
    let world = World::new().await;
    let manager =
        world
            .builder()
            .batch("bank", "post", rows(|_, input| async { Ok(input) }.boxed()));
    let manager = manager.build().unwrap();
    let before = submit(&manager, "post", numbers(3)).await;
    let aborted = manager.batch_abort(before, Duration::ZERO).await.unwrap();
    assert_eq!(
        (aborted.status, aborted.counts.aborted),
        (Status::Aborted, 3)
    );
    let after = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    let late = manager.batch_abort(after, Duration::ZERO).await.unwrap();
    assert_eq!(
        (late.status, late.counts.success),
        (Status::Success, 3),
        "it returns what it is"
    );
    let missing = manager
        .batch_abort(rowmill::BatchId::new(), Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), rowmill::ErrorKind::NotFound);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_heeds_an_abort_is_what_it_answered_and_no_other_starts() {
    let world = World::new().await;
    let (gate, ends) = (Gate::new(), Ends::default());
    let seen = gate.clone();
    let processor = rows(move |cx, input| {
        let (cancel, gate) = (cx.cancel().clone(), seen.clone());
        async move {
            gate.open(1);
            gate.pass().await;
            assert_eq!(cancel.cancelled().await, CancelCause::Aborted);
            Ok(input)
        }
        .boxed()
    });
    let one = settings(|s| {
        s.local_concurrency = Some(1);
        s.block_rows = 3;
    });
    let manager = world
        .builder()
        .batch("bank", "post", processor.telling(&ends));
    let manager = manager
        .settings("bank", "post", Kind::Batch, one)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(6)).await;
    let (stop, ran) = run(&manager);
    gate.entered(1).await;
    let batch = manager.batch_abort(id, LONG).await.unwrap();
    assert!(batch.done);
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.aborted),
        (Status::Aborted, 1, 5)
    );
    assert_eq!(gate.here(), 0, "no other row started");
    assert!(
        rows_of(&manager, id).await[1].messages.is_none(),
        "it had not started"
    );
    stop.cancel();
    ran.await.unwrap().unwrap();
    world.work(&manager).await;
    assert_eq!(ends.of(id), [Status::Aborted]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_does_not_heed_an_abort_is_interrupted_after_its_grace() {
    let world = World::new().await;
    let gate = Gate::new();
    let (first, second) = (gate.clone(), gate.clone());
    let batches = rows(move |_, input| {
        let gate = first.clone();
        async move {
            if input == 2 {
                gate.pass().await;
            }
            Ok(input)
        }
        .boxed()
    });
    let answers = queries(move |_, input| {
        let gate = second.clone();
        async move {
            gate.pass().await;
            Ok(input)
        }
        .boxed()
    });
    let hasty = || settings(|s| s.abort_grace = Duration::ZERO);
    let manager = world
        .builder()
        .batch("bank", "post", batches)
        .slow_query("bank", "ask", answers);
    let manager = manager.settings("bank", "post", Kind::Batch, hasty());
    let manager = manager
        .settings("bank", "ask", Kind::Query, hasty())
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    let query = ask(&manager, "ask", "1").await;
    let (stop, ran) = run(&manager);
    gate.entered(2).await;
    let batch = manager.batch_abort(id, LONG).await.unwrap();
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.aborted),
        (Status::Aborted, 1, 2)
    );
    let seen = rows_of(&manager, id).await;
    assert_eq!(code(&seen[1]), "interrupted");
    assert!(seen[2].messages.is_none());
    let query = manager.slow_query_abort(query, LONG).await.unwrap();
    assert_eq!((query.status, query.done), (Status::Aborted, true));
    assert!(
        query
            .messages
            .unwrap()
            .unwrap()
            .get()
            .contains("interrupted")
    );
    stop.cancel();
    ran.await.unwrap().unwrap();
    world.end(&manager).await;
}

/// Something of the application's that cannot even be dropped.
struct Undroppable;

impl Drop for Undroppable {
    fn drop(&mut self) {
        panic!("secret: a bug of the application's");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_panics_when_it_is_dropped_is_interrupted_as_any_other() {
    let world = World::new().await;
    let gate = Gate::new();
    let at = gate.clone();
    let processor = rows(move |_, input| {
        let gate = at.clone();
        async move {
            if input == 2 {
                let _bad = Undroppable;
                gate.pass().await;
            }
            Ok(input)
        }
        .boxed()
    });
    let hasty = settings(|s| s.abort_grace = Duration::ZERO);
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager.settings("bank", "post", Kind::Batch, hasty);
    let manager = manager.build().unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    let (stop, ran) = run(&manager);
    gate.entered(1).await;
    let batch = manager.batch_abort(id, LONG).await.unwrap();
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.aborted),
        (Status::Aborted, 1, 2)
    );
    assert_eq!(code(&rows_of(&manager, id).await[1]), "interrupted");
    stop.cancel();
    ran.await.unwrap().unwrap();
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_gives_rows_back_and_counts_no_failure() {
    let world = World::new().await;
    let gate = Gate::new();
    let seen = gate.clone();
    let causes = log();
    let told = causes.clone();
    let processor = rows(move |cx, input| {
        let (gate, cancel, told) = (seen.clone(), cx.cancel().clone(), told.clone());
        async move {
            if input == 2 {
                gate.pass().await;
                let cause = cancel.cancelled().await;
                told.lock().unwrap().push(cause);
                std::future::pending::<()>().await;
            }
            Ok(input)
        }
        .boxed()
    });
    let one = settings(|s| {
        s.local_concurrency = Some(1);
        s.block_rows = 3;
    });
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, one)
        .grace(Duration::from_millis(50))
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(6)).await;
    let (stop, ran) = run(&manager);
    gate.entered(1).await;
    gate.open(1);
    stop.cancel();
    ran.await.unwrap().unwrap();
    assert_eq!(*causes.lock().unwrap(), [CancelCause::Shutdown]);
    use Status::{Queued, Success};
    assert_eq!(
        statuses(&manager, id).await,
        [Success, Queued, Queued, Queued, Queued, Queued]
    );
    let facts = world.facts();
    for task in facts.rows_tasks(id) {
        assert_eq!(
            (task.failures, task.losses, task.suspect),
            (0, 0, 0),
            "{task:?}"
        );
    }
    let other = world
        .builder()
        .batch("bank", "post", rows(|_, input| async { Ok(input) }.boxed()));
    let other = other.build().unwrap();
    world.work(&other).await;
    assert_eq!(other.batch_done(id).await.unwrap().counts.success, 6);
    world.end(&other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_finishes_within_the_grace_of_a_stop_is_recorded() {
    let world = World::new().await;
    let gate = Gate::new();
    let seen = gate.clone();
    let processor = rows(move |cx, input| {
        let (gate, cancel) = (seen.clone(), cx.cancel().clone());
        async move {
            gate.open(1);
            gate.pass().await;
            cancel.cancelled().await;
            Ok(input)
        }
        .boxed()
    });
    let manager = world
        .builder()
        .grace(LONG)
        .batch("bank", "post", processor)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    let (stop, ran) = run(&manager);
    gate.entered(1).await;
    stop.cancel();
    ran.await.unwrap().unwrap();
    use Status::{Queued, Success};
    assert_eq!(statuses(&manager, id).await, [Success, Queued, Queued]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_at_most_once_that_a_stop_cuts_off_has_failed() {
    let world = World::new().await;
    let gate = Gate::new();
    let seen = gate.clone();
    let processor = rows(move |_, input| {
        let gate = seen.clone();
        async move {
            if input == 2 {
                gate.pass().await;
            }
            Ok(input)
        }
        .boxed()
    });
    let once = settings(|s| s.delivery = Delivery::AtMostOnce);
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, once)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    let (stop, ran) = run(&manager);
    gate.entered(1).await;
    assert_eq!(
        world.facts().rows_tasks(id)[0].row_now,
        Some(1),
        "its start was committed"
    );
    stop.cancel();
    ran.await.unwrap().unwrap();
    use Status::{Failed, Queued, Success};
    assert_eq!(statuses(&manager, id).await, [Success, Failed, Queued]);
    assert_eq!(code(&rows_of(&manager, id).await[1]), "worker_lost");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_managers_work_one_batch_once() {
    let world = World::new().await;
    let tally = super::world::Tally::default();
    let build = || {
        let tally = tally.clone();
        let processor = rows(move |cx, input| {
            super::world::count(&tally, &input);
            cx.write_line("all.csv", &input.to_string());
            async { Ok(Value::Null) }.boxed()
        });
        let small = settings(|s| s.block_rows = 5);
        let manager = world.builder().batch("bank", "post", processor);
        manager
            .settings("bank", "post", Kind::Batch, small)
            .build()
            .unwrap()
    };
    let managers = [build(), build(), build()];
    let runs: Vec<_> = managers.iter().map(run).collect();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(submit(&managers[0], "post", numbers(100)).await);
    }
    for id in &ids {
        let batch = done(&managers[1], *id).await;
        assert_eq!((batch.status, batch.counts.success), (Status::Success, 100));
        let lines: String = (1..=100).map(|n| format!("{n}\n")).collect();
        assert_eq!(
            super::world::read(&managers[2], &batch, "all.csv").await,
            lines
        );
    }
    for (stop, ran) in runs {
        stop.cancel();
        ran.await.unwrap().unwrap();
    }
    assert!(
        tally.lock().unwrap().values().all(|n| *n == 3),
        "once in each batch"
    );
    world.end(&managers[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submit_wakes_an_idle_worker_and_an_end_wakes_who_waits_for_it() {
    let world = World::new().await;
    let manager =
        world
            .builder()
            .batch("bank", "post", rows(|_, input| async { Ok(input) }.boxed()));
    let manager = manager.build().unwrap();
    let (stop, ran) = run(&manager);
    // A hundred round trips: were each to wait for a poll of half a second, the test would not end in time.
    let trips = async {
        for _ in 0..100 {
            let id = submit(&manager, "post", numbers(1)).await;
            done(&manager, id).await;
        }
    };
    tokio::time::timeout(LONG / 2, trips).await.expect("woken");
    stop.cancel();
    ran.await.unwrap().unwrap();
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_a_dead_process_is_worked_by_another() {
    let world = World::new().await;
    let other = world.again().await;
    let op = world.kit().op().await;
    let dead = world.kit().worker_of(&other).await;
    let manager =
        world
            .builder()
            .batch("bank", "post", rows(|_, input| async { Ok(input) }.boxed()));
    let manager = manager.build().unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    other
        .claim(world.kit().ask(dead, op), world.kit().now())
        .await
        .unwrap();
    drop(other);
    let tick = manager.tick().await.unwrap();
    assert_eq!((tick.taken_over, tick.recorded), (1, 3));
    assert_eq!(rows_of(&manager, id).await[0].attempt, Some(2));
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_worker_s_outcomes_are_dropped() {
    let world = World::new().await;
    let gate = Gate::new();
    let seen = gate.clone();
    let processor = rows(move |_, input| {
        let gate = seen.clone();
        async move {
            gate.pass().await;
            Ok(input)
        }
        .boxed()
    });
    let manager = world
        .builder()
        .batch("bank", "post", processor)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(1)).await;
    let (stop, ran) = run(&manager);
    gate.entered(1).await;
    let frozen = world.facts().rows_tasks(id)[0].worker.unwrap();
    world
        .kit()
        .take_over(rowmill::model::WorkerNo(frozen))
        .await;
    let worker = world.kit().worker().await;
    let op = world.kit().op().await;
    let task = world.kit().claim_one(worker, op).await;
    gate.open(1);
    let part = crate::support::Outcomes::of(&task).failed(0).ends();
    world.kit().record(worker, part).await;
    stop.cancel();
    // It may have heard of it before the stop.
    let fenced = ran.await.unwrap().err();
    assert!(fenced.is_none_or(|error| error.code() == "fenced"));
    let row = &rows_of(&manager, id).await[0];
    assert_eq!(
        (row.status, row.attempt),
        (Status::Failed, Some(2)),
        "the new owner's word stands"
    );
    world.end(&manager).await;
}
