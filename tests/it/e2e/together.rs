//! Queries that are submitted one by one at the same moment, on PostgreSQL: one commit for those who wait.

use std::pin::Pin;

use futures_util::poll;
use rowmill::model::{Block, ContentHash, NewBatch};
use rowmill::store::{StoreError, Submitted};
use rowmill::{BatchId, Store};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::servers::until;
use crate::support::{Harness as _, Postgres, invariants};

/// Transactions of this kind that run at the same time.
const TURNS: usize = 2;

type Query = (NewBatch, Block, [u8; 32]);
type Stored = Result<Vec<Submitted>, StoreError>;
type Submit = Pin<Box<dyn Future<Output = Stored> + Send>>;

/// A store where each turn stands before a lock.
struct Scene {
    h: Postgres,
    lock: Client,
    first: Vec<JoinHandle<Stored>>,
}

impl Scene {
    async fn begin() -> Self {
        let h = Postgres::open().await;
        let known = submit(&h, query(&h));
        known.await.expect("the op is known");
        let lock = connect(&h).await;
        lock.batch_execute("begin; lock table rowmill.batches in share mode")
            .await
            .expect("locked");
        let first = Vec::new();
        let mut scene = Self { h, lock, first };
        // One after the other: two that come at once may share a turn.
        for turn in 1..=TURNS {
            let one = submit(&scene.h, query(&scene.h));
            scene.first.push(tokio::spawn(one));
            scene.wait_stuck(turn);
        }
        scene
    }

    /// Waits until so many stand before a lock.
    fn wait_stuck(&self, many: usize) {
        let stuck = "select count(*) from pg_locks l join pg_stat_activity a using (pid) where a.datname = current_database() and not l.granted";
        let many = i64::try_from(many).expect("few");
        until("they stand before a lock", || {
            (self.h.numbers(stuck) == [many]).then_some(())
        });
    }

    /// Queries that wait for a turn, in this order.
    async fn waiting(&self, many: usize) -> (Vec<BatchId>, Vec<Submit>) {
        let (mut ids, mut all) = (Vec::new(), Vec::new());
        for _ in 0..many {
            let query = query(&self.h);
            ids.push(query.0.id);
            let mut submit = submit(&self.h, query);
            assert!(poll!(submit.as_mut()).is_pending());
            all.push(submit);
        }
        (ids, all)
    }

    async fn release(&mut self) {
        self.lock.batch_execute("commit").await.expect("released");
        for one in self.first.drain(..) {
            one.await.expect("no panic").expect("stored");
        }
    }
}

async fn connect(h: &Postgres) -> Client {
    let connected = tokio_postgres::connect(h.url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("a connection");
    tokio::spawn(connection);
    client
}

fn query(h: &Postgres) -> Query {
    let block = h.kit().blocks(&[1]).remove(0);
    let hash = ContentHash::of(&block);
    (NewBatch::new(h.kit().query_key()), block, hash)
}

fn submit(h: &Postgres, query: Query) -> Submit {
    let (store, now): (Store, _) = (h.kit().store.clone(), h.kit().now());
    Box::pin(async move { store.submit_many(vec![query], now).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_stored_with_the_others_and_who_is_gone_is_not() {
    let mut scene = Scene::begin().await;
    let (ids, waiting) = scene.waiting(5).await;
    let (gone_id, gone) = scene.waiting(1).await;
    drop(gone);
    let waiting: Vec<_> = waiting.into_iter().map(tokio::spawn).collect();
    scene.release().await;
    for one in waiting {
        let answer = one.await.expect("no panic").expect("stored");
        assert!(matches!(answer[..], [Submitted::New(_)]));
    }
    let list: Vec<String> = ids.iter().map(|id| format!("'{}'", id.0)).collect();
    let commits = format!(
        "select count(distinct xmin::text) from rowmill.batches where id in ({})",
        list.join(", ")
    );
    let h = &scene.h;
    assert_eq!(h.numbers(&commits), [1], "one transaction for who waited");
    assert!(h.kit().find(gone_id[0]).await.is_none());
    invariants(h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_gone_within_its_turn_takes_nobody_elses_query_along() {
    let mut scene = Scene::begin().await;
    // The next in the way of those who wait: it comes behind those who have their turns.
    let next = connect(&scene.h).await;
    let next = tokio::spawn(async move {
        let lock = "begin; lock table rowmill.batches in share mode";
        next.batch_execute(lock).await.expect("locked");
        next
    });
    scene.wait_stuck(TURNS + 1);
    let (ids, waiting) = scene.waiting(5).await;
    let mut waiting: Vec<_> = waiting.into_iter().map(tokio::spawn).collect();
    scene.release().await;
    let next = next.await.expect("no panic");
    scene.wait_stuck(1);
    // The turn is of the one that has waited longest.
    let first = waiting.remove(0);
    first.abort();
    assert!(first.await.expect_err("it is gone").is_cancelled());
    next.batch_execute("commit").await.expect("released");
    for one in waiting {
        one.await.expect("no panic").expect("stored");
    }
    for id in &ids[1..] {
        assert!(scene.h.kit().find(*id).await.is_some());
    }
    invariants(&scene.h).await;
}
