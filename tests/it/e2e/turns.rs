//! Turns and runs that do not come to their end.

use std::pin::pin;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use rowmill::{BatchId, CancellationToken, ErrorKind, JobManager};

use super::limits::run;
use super::world::{Gate, World, done, numbers, rows, submit};

fn gated(world: &World, gate: &Gate) -> JobManager {
    let gate = gate.clone();
    let processor = rows(move |_, input| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Ok(input)
        }
        .boxed()
    });
    let builder = world.builder().batch("bank", "post", processor);
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_runs_after_a_turn_was_dropped_claims_as_any_other() {
    let world = World::new().await;
    let gate = Gate::new();
    let manager = gated(&world, &gate);
    let first = submit(&manager, "post", numbers(1)).await;
    {
        let turn = pin!(manager.tick());
        let entered = pin!(gate.entered(1));
        let ended = select(turn, entered).await;
        assert!(matches!(ended, Either::Right(_)), "the turn was dropped");
    }
    gate.open(2);
    let second = submit(&manager, "post", numbers(1)).await;
    let (stop, ran) = run(&manager);
    assert_eq!(done(&manager, first).await.counts.success, 1);
    assert_eq!(done(&manager, second).await.counts.success, 1);
    stop.cancel();
    ran.await.unwrap().unwrap();
    world.end(&manager).await;
}

/// A manager whose worker was declared dead, and a batch that waits.
async fn declared_dead(world: &World) -> (JobManager, BatchId) {
    let gate = Gate::new();
    let manager = gated(world, &gate);
    gate.open(1);
    manager.tick().await.unwrap();
    let worker = manager.workers().await.unwrap()[0].no;
    world.kit().take_over(worker).await;
    let id = submit(&manager, "post", numbers(1)).await;
    (manager, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_of_a_worker_that_was_declared_dead_is_an_error_and_no_idleness() {
    let world = World::new().await;
    let (manager, id) = declared_dead(&world).await;
    let error = manager.tick().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Conflict, "fenced")
    );
    manager.stop().await.unwrap();
    world.work(&manager).await;
    assert_eq!(done(&manager, id).await.counts.success, 1);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_a_worker_that_was_declared_dead_ends_with_an_error_and_can_be_begun_again() {
    let world = World::new().await;
    let (manager, id) = declared_dead(&world).await;
    let error = manager.run(CancellationToken::new()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Conflict, "fenced")
    );
    world.work(&manager).await;
    assert_eq!(done(&manager, id).await.counts.success, 1);
    world.end(&manager).await;
}
