//! Queries that begin with their submit, on PostgreSQL: the process that submits has a worker with a free slot.

use futures_util::{FutureExt, poll};
use rowmill::model::Status;
use rowmill::store::postgres::{Options, PostgresStore};
use rowmill::{JobManager, ObjectStore, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::world::{Gate, ask, done, queries, raw};
use crate::support::servers::{Proxy, until};
use crate::support::{Harness as _, Postgres, invariants};

/// Of so many queries one at least is submitted while its worker rests.
const SOME: u32 = 100;
/// Tasks that are as they were stored.
const STORED: &str = "select count(*) from rowmill.queue q join rowmill.batches b on b.id = q.batch where q.state = 2 and q.xmin = b.xmin";

/// A process of its own whose answers wait at a gate.
struct Process {
    manager: JobManager,
    gate: Gate,
    _folder: TempDir,
}

/// It turns.
struct Turning {
    process: Process,
    stop: CancellationToken,
    ran: JoinHandle<rowmill::Result<()>>,
}

impl Process {
    fn new(store: Store) -> Self {
        let (folder, gate) = (tempfile::tempdir().expect("a folder"), Gate::new());
        let passes = gate.clone();
        let echo = queries(move |_, input| {
            let gate = passes.clone();
            async move {
                gate.pass().await;
                Ok(input)
            }
            .boxed()
        });
        let manager = JobManager::builder(store)
            .objects(ObjectStore::folder(folder.path()))
            .slow_query("bank", "statement", echo)
            .build()
            .expect("a manager");
        Self {
            manager,
            gate,
            _folder: folder,
        }
    }

    fn turns(self) -> Turning {
        let stop = CancellationToken::new();
        let ran = tokio::spawn({
            let (manager, stop) = (self.manager.clone(), stop.clone());
            async move { manager.run(stop).await }
        });
        Turning {
            process: self,
            stop,
            ran,
        }
    }

    /// Asks until a query is stored as running: its task is as it was stored, while it waits at the gate.
    async fn asks_until_one_begins_at_once(&self, h: &Postgres) {
        for n in 0..SOME {
            let id = ask(&self.manager, "statement", &n.to_string()).await;
            self.gate.entered(1).await;
            let at_once = h.numbers(STORED) == [1];
            self.gate.open(1);
            let batch = done(&self.manager, id).await;
            assert_eq!((batch.status, batch.counts.success), (Status::Success, 1));
            if at_once {
                return;
            }
        }
        panic!("none of {SOME} queries began at once");
    }
}

impl Turning {
    async fn stops(self) {
        self.stop.cancel();
        self.ran.await.expect("no panic").expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_submitted_alone_begins_with_its_submit() {
    let h = Postgres::open().await;
    let worker = Process::new(h.again().await).turns();
    worker.process.asks_until_one_begins_at_once(&h).await;
    worker.stops().await;
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_while_a_query_is_stored_for_it_leaves_nothing() {
    let h = Postgres::open().await;
    let worker = Process::new(h.again().await).turns();
    worker.process.asks_until_one_begins_at_once(&h).await;
    let connected = tokio_postgres::connect(h.url(), tokio_postgres::NoTls).await;
    let (lock, connection) = connected.expect("a connection");
    tokio::spawn(connection);
    // Of who stands before the lock: whether the worker's record is held, as who stores for a worker has it.
    let stands = "select (select count(*) from pg_locks l where l.pid = a.pid and l.relation = 'rowmill.workers'::regclass and l.mode = 'RowShareLock')
                    from pg_stat_activity a where wait_event_type = 'Lock' and datname = current_database() and query like '-- Inserts a batch that is whole%'";
    let mut stored = None;
    for _ in 0..SOME {
        lock.batch_execute("begin; lock table rowmill.batches in share mode")
            .await
            .expect("locked");
        let asks = worker.process.manager.clone();
        let asked = tokio::spawn(async move { ask(&asks, "statement", "7").await });
        let mut for_a_worker = false;
        until("it is being stored", || {
            let stands = h.numbers(stands);
            for_a_worker = stands == [1];
            (stands.len() == 1).then_some(())
        });
        if for_a_worker {
            stored = Some(asked);
            break;
        }
        lock.batch_execute("commit").await.expect("released");
        worker.process.gate.open(1);
        done(&worker.process.manager, asked.await.expect("submitted")).await;
    }
    let asked = stored.expect("one is stored for the worker");
    worker.stop.cancel();
    lock.batch_execute("commit").await.expect("released");
    let id = asked.await.expect("submitted");
    worker.process.gate.open(1);
    worker.ran.await.expect("no panic").expect("stopped");
    let left = "select count(*) from rowmill.queue where state = 2";
    assert_eq!(h.numbers(left), [0], "nothing is left with who has left");
    let other = Process::new(h.again().await).turns();
    other.process.gate.open(1);
    let batch = done(&other.process.manager, id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 1));
    other.stops().await;
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_in_the_slot_of_a_worker_that_nobody_turns_is_another_s_after_a_while() {
    let h = Postgres::open().await;
    let worker = Process::new(h.again().await);
    let manager = worker.manager.clone();
    let mut run = std::pin::pin!(manager.run(CancellationToken::new()));
    tokio::select! {
        ran = &mut run => panic!("{ran:?}"),
        () = worker.asks_until_one_begins_at_once(&h) => {}
    }
    // It offers its slot again, and then nobody waits for it any more.
    let mut stuck = None;
    for _ in 0..SOME {
        let id = ask(&manager, "statement", "7").await;
        if h.numbers(STORED) == [1] {
            stuck = Some(id);
            break;
        }
        worker.gate.open(1);
        tokio::select! {
            ran = &mut run => panic!("{ran:?}"),
            batch = done(&manager, id) => assert_eq!(batch.status, Status::Success),
        }
        worker.gate.entered(1).await;
    }
    let id = stuck.expect("one is stored for who does not turn");
    let other = Process::new(h.again().await).turns();
    other.process.gate.open(1);
    let batch = done(&other.process.manager, id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 1));
    other.stops().await;
    // It turns again: what was another's is not begun, and what comes now is.
    let next = ask(&manager, "statement", "8").await;
    worker.gate.open(1);
    tokio::select! {
        ran = &mut run => panic!("{ran:?}"),
        batch = done(&manager, next) => assert_eq!(batch.counts.success, 1),
    }
    worker.gate.entered(1).await;
    assert_eq!(worker.gate.here(), 0, "the other was not begun");
    let attempts = format!(
        "select count(*) from rowmill.attempts where batch = '{}'",
        id.0
    );
    assert_eq!(h.numbers(&attempts), [1], "whoever began it");
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_ends_once_whichever_commit_is_not_answered() {
    let h = Postgres::open().await;
    let proxy = Proxy::start(h.url());
    let options = Options::new(proxy.url()).expect("an address");
    let behind = PostgresStore::open(options).await.expect("a store");
    let worker = Process::new(Store::new(behind)).turns();
    let mut given_back = 0;
    for n in 0..8 {
        worker.process.asks_until_one_begins_at_once(&h).await;
        // The submit's, as long as the engine rests.
        proxy.swallow_next_answer_to(b"commit\0");
        let id = ask(&worker.process.manager, "statement", &n.to_string()).await;
        worker.process.gate.open(1);
        let batch = done(&worker.process.manager, id).await;
        assert_eq!((batch.status, batch.counts.success), (Status::Success, 1));
        worker.process.gate.entered(1).await;
        assert_eq!(worker.process.gate.here(), 0, "it began once");
        assert_eq!(proxy.swallowed(), n + 1);
        let again = format!(
            "select count(*) from rowmill.attempts where attempt = 2 and batch = '{}'",
            id.0
        );
        given_back += h.numbers(&again)[0];
    }
    assert!(given_back > 0, "some were claimed, and nobody knew");
    worker.stops().await;
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submit_that_is_given_up_leaves_a_query_that_ends_or_none() {
    let h = Postgres::open().await;
    let worker = Process::new(h.again().await).turns();
    worker.process.gate.open(10_000);
    let client = &worker.process.manager;
    for n in 0..SOME {
        let query = rowmill::model::NewBatch::new(super::world::query("statement"));
        let id = query.id;
        let mut submit = Box::pin(client.slow_query_submit(query, raw(&n.to_string())));
        // It has sent something, and waits for the answer.
        assert!(poll!(submit.as_mut()).is_pending());
        if n % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(submit);
        let again = rowmill::model::NewBatch {
            id,
            ..rowmill::model::NewBatch::new(super::world::query("statement"))
        };
        let submitted = client.slow_query_submit(again, raw(&n.to_string())).await;
        assert_eq!(submitted.expect("submitted").id, id);
        let batch = done(client, id).await;
        assert_eq!((batch.status, batch.counts.success), (Status::Success, 1));
    }
    worker.stops().await;
    let again = "select count(*) from rowmill.attempts where attempt > 1";
    assert_eq!(h.numbers(again), [0], "none was begun and given up");
    invariants(&h).await;
}
