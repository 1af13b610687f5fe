//! The server goes and comes back under two workers on one batch: time is lost, and nothing else.

use rowmill::BatchId;

use super::worker::{Crew, Worker};
use crate::support::servers::{Database, Options, Postgres, Proxy, until};

const ROWS: u32 = 3000;
/// Time enough for everybody to be back, and short enough that an outage may last twice as long.
const HEARTBEAT: u64 = 5000;

/// Two workers by way of a proxy, in the middle of a batch.
struct Scene {
    crew: Crew,
    workers: [Worker; 2],
    id: BatchId,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn begin(proxy: &Proxy) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut crew = Crew::new(dir.path(), proxy.url());
        crew.heartbeat = HEARTBEAT;
        let id = crew.submit(ROWS).await;
        let workers = ["one", "two"].map(|name| crew.start(name, None));
        for worker in &workers {
            worker.wait_begun(100);
        }
        Self {
            crew,
            workers,
            id,
            _dir: dir,
        }
    }

    /// The batch is whole, no task was lost, and both processes and both workers are those that they were.
    async fn end(self) {
        let lost = self.crew.assert_whole(self.id, ROWS).await;
        let said = || self.workers.iter().map(Worker::said).collect::<Vec<_>>();
        assert_eq!(lost, 0, "{:#?}", said());
        assert_eq!(self.crew.alive().len(), 2, "{:#?}", said());
        for worker in self.workers {
            let said = worker.said();
            assert_eq!(worker.says("declared dead"), 0, "{said:#?}");
            assert!(said.len() < 40, "it is said again and again: {said:#?}");
            worker.stop();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_again_costs_time_alone() {
    let mut server = Postgres::start(&Options::default());
    let proxy = Proxy::start(&server.url("postgres"));
    let scene = Scene::begin(&proxy).await;
    server.restart();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_costs_time_alone() {
    let mut server = Postgres::start(&Options {
        settings: &[("fsync", "on"), ("full_page_writes", "on")],
        ..Options::default()
    });
    let proxy = Proxy::start(&server.url("postgres"));
    let scene = Scene::begin(&proxy).await;
    server.kill();
    server.restart();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dies_with_the_server_is_missed_when_the_others_are_back() {
    let mut server = Postgres::start(&Options::default());
    let dir = tempfile::tempdir().expect("a folder");
    let mut crew = Crew::new(dir.path(), &server.url("postgres"));
    // Nobody's silence is waited for.
    crew.heartbeat = 600_000;
    let id = crew.submit(ROWS).await;
    let [other, killed] = ["other", "killed"].map(|name| crew.start(name, None));
    for worker in [&other, &killed] {
        worker.wait_begun(100);
    }
    killed.kill_with_tasks(&crew, "true");
    server.kill();
    server.restart();
    let lost = crew.assert_whole(id, ROWS).await;
    assert!(lost > 0, "it had tasks");
    assert_eq!(crew.alive().len(), 1);
    assert_eq!(other.says("declared dead"), 0, "{:#?}", other.said());
    other.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_heartbeats_without_connections_cost_time_alone() {
    let server = Postgres::start(&Options::default());
    let proxy = Proxy::start(&server.url("postgres"));
    let scene = Scene::begin(&proxy).await;
    proxy.refuse();
    proxy.cut();
    two_heartbeats_of_silence(&server);
    proxy.accept();
    scene.end().await;
}

/// Waits until no worker was heard of for so long.
fn two_heartbeats_of_silence(server: &Postgres) {
    let silent = format!(
        "select 1 from workers where ended_at is null having max(beat_at) < clock_timestamp() - interval '{} ms'",
        2 * HEARTBEAT
    );
    let url = server.url("postgres");
    until("two heartbeats of silence", || {
        (!Database::rows_at(&url, &silent).is_empty()).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_stood_still_together_take_each_other_for_alive() {
    let server = Postgres::start(&Options::default());
    let proxy = Proxy::start(&server.url("postgres"));
    let scene = Scene::begin(&proxy).await;
    for worker in &scene.workers {
        worker.signal(libc::SIGSTOP);
    }
    two_heartbeats_of_silence(&server);
    // The second comes back when the first has looked about.
    for worker in &scene.workers {
        worker.signal(libc::SIGCONT);
        // Stopped while it asked, it finds its connection late, and makes another.
        let knows = || worker.says("stood still") + worker.says("is back") > 0;
        until("it knows", || knows().then_some(()));
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_promoted_costs_time_alone() {
    let primary = Postgres::start(&Options::default());
    let standby = Postgres::start(&Options {
        standby_of: Some(&primary),
        ..Options::default()
    });
    // What was acknowledged is there too.
    primary.run(
        "postgres",
        "alter system set synchronous_standby_names = '*'",
    );
    primary.run("postgres", "select pg_reload_conf()");
    let proxy = Proxy::start(&primary.url("postgres"));
    let scene = Scene::begin(&proxy).await;
    drop(primary);
    standby.promote();
    // As if its clock were an hour ahead of the other's.
    let ahead = "update rowmill.workers set beat_at = beat_at - interval '1 hour'";
    Database::run_at(&standby.url("postgres"), ahead);
    proxy.lead_to(&standby.url("postgres"));
    scene.end().await;
}
