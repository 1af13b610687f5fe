//! The end of a batch under many workers: one of them closes it, whoever dies, and an upload holds nothing.

use super::scene::{Fault, Moment, Scene};
use super::worker::Halt;
use crate::support::servers::{Database, until};

impl Scene {
    /// How often a file was put in its place.
    fn published(&self) -> usize {
        let asked = self.s3.asked();
        let puts = asked.iter().filter(|ask| ask.line.starts_with("PUT "));
        puts.filter(|ask| !ask.line.contains(".staging")).count()
    }

    /// Waits until nobody is in a transaction, or holds another lock than that by which a worker lives. Beats and
    /// looks are transactions of a moment; whatever is held for longer would be seen at every one.
    async fn has_a_moment_without_locks(&self) {
        let holds = "select 1 from pg_stat_activity a
                      where a.datname = current_database() and a.backend_type = 'client backend'
                        and a.pid <> pg_backend_pid()
                        and (a.xact_start is not null or exists (
                            select 1 from pg_locks l where l.pid = a.pid and l.locktype <> 'advisory'))";
        let held = || Database::rows_at(self.store.url(), holds).len();
        let url = self.store.url();
        let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
        let (other, driver) = connected.unwrap();
        let driver = tokio::spawn(driver);
        other.batch_execute("begin").await.unwrap();
        assert!(held() > 0, "who is in a transaction is seen");
        drop(other);
        driver.await.unwrap().unwrap();
        until("a moment at which nobody holds anything", || {
            (held() == 0).then_some(())
        });
    }
}

/// Kills a worker at a moment of the end; another one goes on.
async fn another_ends_what_was_killed(moment: Moment) {
    let scene = Scene::new(moment, Some(Fault::Killed)).await;
    let worker = scene.at_the_moment().await;
    drop(worker);
    let other = scene.other();
    let done = scene.done(Some(Fault::Killed)).await;
    scene.has_nothing_staged();
    other.ends();
    scene.is_whole(&done, Some(Fault::Killed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_between_staging_and_publishing_is_followed_by_another() {
    another_ends_what_was_killed(Moment::Assembled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_between_the_end_and_clearing_is_followed_by_another() {
    another_ends_what_was_killed(Moment::Closed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_before_it_told_an_end_is_followed_by_another() {
    another_ends_what_was_killed(Moment::BeforeTold).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_before_it_could_say_that_an_end_was_told_is_followed_by_another() {
    another_ends_what_was_killed(Moment::Told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_four_workers_that_find_a_close_of_a_dead_one_one_closes() {
    let scene = Scene::new(Moment::BeforeClose, Some(Fault::Killed)).await;
    let worker = scene.at_the_moment().await;
    let others = [(); 4].map(|()| scene.other());
    scene.have_entered(5);
    drop(worker);
    let done = scene.done(Some(Fault::Killed)).await;
    others.into_iter().for_each(super::worker::Worker::ends);
    assert_eq!(scene.published(), 1);
    scene.is_whole(&done, Some(Fault::Killed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_four_workers_that_end_a_batch_together_one_closes() {
    for _ in 0..3 {
        let mut scene = Scene::new(Moment::AfterClaim, None).await;
        scene.job.halt = None;
        let workers = [(); 4].map(|()| scene.other());
        let done = scene.done(None).await;
        workers.into_iter().for_each(super::worker::Worker::ends);
        assert_eq!(scene.published(), 1);
        scene.is_whole(&done, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_holds_no_transaction_and_no_lock() {
    let scene = Scene::new(Moment::WithinUpload, None).await;
    let parts = scene.s3.hold_parts();
    let worker = scene.other();
    until("a part on its way", || (scene.s3.parts() > 0).then_some(()));
    scene.has_a_moment_without_locks().await;
    assert!(scene.s3.parts() > 0 && !scene.is_done().await);
    drop(parts);
    let done = scene.done(None).await;
    worker.ends();
    scene.is_whole(&done, None).await;
}

/// Nothing is held while the application's own code stands still.
async fn holds_nothing_while(halt: Halt) {
    let mut scene = Scene::new(Moment::AfterClaim, None).await;
    scene.job.halt = Some(halt);
    let worker = scene.job.start("");
    until("something that stands", || scene.job.stands().then_some(()));
    scene.has_a_moment_without_locks().await;
    scene.job.go();
    let done = scene.done(None).await;
    worker.ends();
    scene.is_whole(&done, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_runs_holds_no_transaction_and_no_lock() {
    holds_nothing_while(Halt::RowStands).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_told_holds_no_transaction_and_no_lock() {
    holds_nothing_while(Halt::ReceiverStands).await;
}
