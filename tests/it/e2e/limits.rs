//! How much runs at once, and in which order.

use futures_util::FutureExt;
use rowmill::model::{Kind, NewBatch, Status};
use rowmill::{CancellationToken, JobManager};
use serde_json::Value;

use super::world::{
    Crowd, Gate, World, crowded, done, key, log, numbers, raw, rows, settings, submit,
};

/// Runs a manager until it is stopped.
pub fn run(
    manager: &JobManager,
) -> (
    CancellationToken,
    tokio::task::JoinHandle<rowmill::Result<()>>,
) {
    let stop = CancellationToken::new();
    let (manager, until) = (manager.clone(), stop.clone());
    (stop, tokio::spawn(async move { manager.run(until).await }))
}

/// Lets 24 rows through in waves of `wave`; each wave is full before it may go on.
async fn waves(gate: &Gate, wave: u32) {
    let mut left = 24;
    while left > 0 {
        let now = wave.min(left);
        gate.entered(now).await;
        assert_eq!(gate.here(), 0, "nobody else came in");
        gate.open(usize::try_from(now).unwrap());
        left -= now;
    }
}

async fn at_most(change: impl FnOnce(&mut rowmill::OpSettings), wave: u32) {
    let world = World::new().await;
    let (gate, crowd) = (Gate::new(), Crowd::default());
    let limits = settings(|s| {
        s.block_rows = 4;
        change(s);
    });
    let manager = world.builder().batch("bank", "post", crowded!(gate, crowd));
    let manager = manager
        .settings("bank", "post", Kind::Batch, limits)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(24)).await;
    let (stop, ran) = run(&manager);
    waves(&gate, wave).await;
    assert_eq!(done(&manager, id).await.counts.success, 24);
    assert_eq!(crowd.most(), usize::try_from(wave).unwrap());
    stop.cancel();
    ran.await.unwrap().unwrap();
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_slot_runs_one_row_after_the_other() {
    at_most(|s| s.local_concurrency = Some(1), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_run_beside_each_other_up_to_the_local_limit() {
    at_most(|s| s.local_concurrency = Some(3), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_over_all_workers_is_exact() {
    at_most(
        |s| {
            s.local_concurrency = Some(6);
            s.concurrency = Some(2);
        },
        2,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_one_task_run_at_once_where_they_may() {
    at_most(
        |s| {
            s.local_concurrency = Some(4);
            s.parallel = 4;
        },
        4,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_limit_counts_rows_and_not_tasks() {
    at_most(
        |s| {
            s.local_concurrency = Some(4);
            s.parallel = 2;
        },
        4,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_counts_the_parallel_rows_of_a_task() {
    at_most(
        |s| {
            s.local_concurrency = Some(8);
            s.concurrency = Some(4);
            s.parallel = 2;
        },
        4,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_holds_over_two_managers_and_both_work() {
    let world = World::new().await;
    let (gate, crowd) = (Gate::new(), Crowd::default());
    let limits = || {
        settings(|s| {
            s.block_rows = 1;
            s.concurrency = Some(3);
            s.local_concurrency = Some(2);
        })
    };
    let build = || {
        let manager = world.builder().batch("bank", "post", crowded!(gate, crowd));
        manager
            .settings("bank", "post", Kind::Batch, limits())
            .build()
            .unwrap()
    };
    let (one, two) = (build(), build());
    let id = submit(&one, "post", numbers(24)).await;
    let runs = [run(&one), run(&two)];
    waves(&gate, 3).await;
    assert_eq!(done(&one, id).await.counts.success, 24);
    assert_eq!(crowd.most(), 3);
    for (stop, ran) in runs {
        stop.cancel();
        ran.await.unwrap().unwrap();
    }
    world.end(&one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_op_of_no_concurrency_is_not_worked() {
    let world = World::new().await;
    let paused = settings(|s| s.concurrency = Some(0));
    let manager =
        world
            .builder()
            .batch("bank", "post", rows(|_, input| async { Ok(input) }.boxed()));
    let manager = manager
        .settings("bank", "post", Kind::Batch, paused)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(2)).await;
    world.work(&manager).await;
    assert_eq!(manager.batch_done(id).await.unwrap().status, Status::Queued);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fourth_claim_takes_the_oldest_batch() {
    let world = World::new().await;
    let seen = log();
    let told = seen.clone();
    let processor = rows(move |cx, _| {
        told.lock()
            .unwrap()
            .push(cx.context().as_str().unwrap().to_owned());
        async { Ok(Value::Null) }.boxed()
    });
    let one = settings(|s| {
        s.local_concurrency = Some(1);
        s.concurrency = Some(1);
        s.block_rows = 1;
    });
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, one)
        .build()
        .unwrap();
    for (name, priority) in [("old", -100), ("new", 100)] {
        let new = NewBatch {
            context: raw(&format!("\"{name}\"")),
            priority,
            ..NewBatch::new(key("post"))
        };
        manager.batch_submit(new, numbers(8)).await.unwrap();
        world.kit().advance(1);
    }
    for _ in 0..8 {
        manager.tick().await.unwrap();
    }
    assert_eq!(
        *seen.lock().unwrap(),
        ["new", "new", "new", "old", "new", "new", "new", "old"]
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_a_task_run_in_line_order() {
    let world = World::new().await;
    let seen = log();
    let told = seen.clone();
    let processor = rows(move |cx, _| {
        told.lock().unwrap().push(cx.line().0);
        async { Ok(Value::Null) }.boxed()
    });
    let manager = world
        .builder()
        .batch("bank", "post", processor)
        .build()
        .unwrap();
    submit(&manager, "post", numbers(500)).await;
    world.work(&manager).await;
    assert!(seen.lock().unwrap().iter().copied().eq(1..=500));
    world.end(&manager).await;
}
