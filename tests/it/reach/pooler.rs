//! PgBouncer in its transaction mode.

use rowmill::Store;
use rowmill::store::postgres::{Address, Options};
use rowmill::store::{Serves, StoreError};

use super::works_off;
use crate::support::Kit;
use crate::support::servers::{Database, PgBouncer, Postgres};

struct Pooled {
    database: Database,
    pooler: PgBouncer,
}

impl Pooled {
    async fn start() -> Self {
        let started = tokio::task::spawn_blocking(|| {
            let database = Database::fresh();
            let pooler = PgBouncer::start(Postgres::shared(), database.name());
            Self { database, pooler }
        });
        started.await.expect("a pooler")
    }

    /// A store through the pooler, with a direct address beside it or without.
    async fn store(&self, direct: bool) -> Store {
        let opened = Store::postgres_by(self.options(direct)).await;
        opened.expect("a store")
    }

    fn options(&self, direct: bool) -> Options {
        let mut options = Options::new(self.pooler.url()).expect("an address");
        if direct {
            options.session = Some(Address::new(self.database.url()).expect("an address"));
        }
        options
    }

    /// Workers whose locks are held.
    fn locks(&self) -> usize {
        let sql = "select 1 from pg_locks where locktype = 'advisory' and classid = 1919907693 and granted
                      and database = (select oid from pg_database where datname = current_database())";
        self.database.rows(sql, None).len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_behind_a_pooler_work_a_batch_off_with_a_direct_address_for_their_locks() {
    let pooled = Pooled::start().await;
    let stores = vec![pooled.store(true).await, pooled.store(true).await];
    works_off(stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_behind_a_pooler_without_a_direct_address_work_a_batch_off_and_hold_no_lock() {
    let pooled = Pooled::start().await;
    let stores = vec![pooled.store(false).await, pooled.store(false).await];
    works_off(stores).await;
    assert_eq!(pooled.locks(), 0);
    let left = "select 1 from pg_prepared_statements";
    let url = pooled.pooler.url();
    assert!(
        Database::rows_at(url, left).len() <= 1,
        "the test's own at most"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_a_lock_lives_by_its_heartbeat_and_is_dead_when_it_is_silent() {
    let pooled = Pooled::start().await;
    let heartbeat = std::time::Duration::from_secs(2);
    let store = async |direct| {
        let mut options = pooled.options(direct);
        options.heartbeat = heartbeat;
        Store::postgres_by(options).await.expect("a store")
    };
    let (kit, other) = (Kit::new(store(false).await), store(true).await);
    let op = kit.op().await;
    let dying = store(false).await;
    let serves = vec![Serves { op, notify: false }];
    let worker = kit.enter(&dying, serves, None).await;
    let beats =
        "select count(distinct beat_at) from workers where ended_at is null and incarnation = ''";
    assert_eq!(pooled.database.rows(beats, None)[0].get::<_, i64>(0), 1);
    // Twice, as for a lock that is free.
    for _ in 0..2 {
        let dead = other.dead_workers().await.expect("a look");
        assert!(dead.is_empty(), "{dead:?}: it was heard of");
        let listed = other.workers().await.expect("workers");
        assert!(listed.iter().all(|w| w.alive), "{listed:?}");
    }
    drop(dying);
    let look = async {
        while other.dead_workers().await.expect("a look") != [worker] {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(crate::e2e::world::LONG, look).await;
    in_time.expect("found dead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_address_that_is_a_poolers_is_refused() {
    let pooled = Pooled::start().await;
    let mut options = Options::new(pooled.database.url()).expect("an address");
    options.session = Some(Address::new(pooled.pooler.url()).expect("an address"));
    let refused = Store::postgres_by(options).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unusable(_)), "{refused:?}");
    assert!(
        refused.to_string().contains("database_session"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_behind_a_pooler_tells_others_of_what_it_has_submitted() {
    let pooled = Pooled::start().await;
    let hears = pooled.store(true).await;
    let mut signal = hears.signal();
    while signal.take() {}
    let kit = Kit::new(pooled.store(false).await);
    kit.submit(kit.new_batch(), &[1]).await;
    let heard = tokio::time::timeout(crate::e2e::world::LONG, signal.changed()).await;
    heard.expect("woken without a look of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_processes_that_start_at_once_behind_a_pooler_make_one_schema() {
    let pooled = Pooled::start().await;
    let url = pooled.pooler.url();
    let all = (0..10).map(|_| Store::postgres_url(url));
    let opened = futures_util::future::join_all(all).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    let versions = "select count(distinct version) = count(*) from schema_history";
    let once: bool = pooled.database.rows(versions, None)[0].get(0);
    assert!(once);
}
