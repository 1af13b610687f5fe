//! A worker is replaced while a batch runs, as a new release of an application is rolled out.

use super::scene::{Moment, Scene};
use super::worker::{HALTS, Halt};
use crate::support::servers::{Database, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_replaced_while_a_batch_runs_costs_no_loss_and_no_row_twice() {
    let mut scene = Scene::new(Moment::AfterClaim, None).await;
    scene.job.halt = Some(Halt::UntilTold);
    let old = scene.job.start("");
    let runs = || scene.job.starts().contains_key(&HALTS).then_some(());
    until("a row that runs in the old one", runs);
    // The new one is there before the old one is told to end, which gives back what it has not begun.
    let new = scene.other();
    scene.have_entered(2);
    assert!(!scene.is_done().await, "a row still runs");
    old.ends();
    let done = scene.done(None).await;
    new.ends();
    let by = "select 1 from rowmill.attempts where ended_as = 2 and worker = 1";
    assert!(
        !Database::rows_at(scene.store.url(), by).is_empty(),
        "the rest of its block was given back"
    );
    // No loss is charged, and each row has run once.
    scene.is_whole(&done, None).await;
}
