//! Changes are told over a connection that may be lost, by processes that may die: they are seen all the same.

use std::time::Duration;

use rowmill::Store;
use rowmill::model::{JobKey, Kind, Timestamp};
use rowmill::store::{Serves, Signal};

use crate::support::servers::{Database, Proxy, until};
use crate::support::{Harness as _, Postgres};

/// Less than the time after which it is looked for what nobody told.
const SOON: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(60);

async fn store(url: &str) -> Store {
    Store::postgres_url(url).await.expect("a store")
}

/// Changes something and tells of it; true where somebody hears of it soon.
async fn is_heard(by: &mut Signal, tells: &Store, op: &str) -> bool {
    while by.take() {}
    let key = JobKey::new("told", op, Kind::Batch).expect("names");
    let paused = tells.pause_op(key, "me".to_owned(), Timestamp::now());
    assert!(paused.await.expect("told"));
    tokio::time::timeout(SOON, by.changed()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_heard_again_after_the_connection_was_lost() {
    let database = Database::fresh();
    let proxy = Proxy::start(database.url());
    let (hears, tells) = (store(proxy.url()).await, store(database.url()).await);
    let mut signal = hears.signal();
    assert!(is_heard(&mut signal, &tells, "before").await);
    proxy.cut();
    // Being back is news: whatever was told meanwhile is looked for. What wakes by chance is not this many in a row.
    let mut n = 0;
    let heard = async {
        let mut in_a_row = 0;
        while in_a_row < 5 {
            n += 1;
            in_a_row = match is_heard(&mut signal, &tells, &format!("op-{n}")).await {
                true => in_a_row + 1,
                false => 0,
            };
        }
    };
    tokio::time::timeout(LONG, heard).await.expect("heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_told_while_nobody_could_listen_is_looked_for() {
    let database = Database::fresh();
    let proxy = Proxy::start(database.url());
    let (hears, tells) = (store(proxy.url()).await, store(database.url()).await);
    let mut signal = hears.signal();
    assert!(is_heard(&mut signal, &tells, "before").await);
    proxy.refuse();
    proxy.cut();
    let key = JobKey::new("told", "meanwhile", Kind::Batch).expect("names");
    let paused = tells.pause_op(key, "me".to_owned(), Timestamp::now());
    assert!(paused.await.expect("told"));
    let looks = async {
        // As whoever waits does: look, then wait for a change.
        loop {
            signal.take();
            if hears.ops().await.is_ok_and(|ops| ops.len() == 2) {
                break;
            }
            signal.changed().await;
        }
    };
    let (seen, ()) = tokio::join!(tokio::time::timeout(LONG, looks), async {
        proxy.accept();
    });
    seen.expect("seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_told_is_looked_for() {
    let database = Database::fresh();
    let hears = store(database.url()).await;
    let mut signal = hears.signal();
    while signal.take() {}
    // As by a process that died between its commit and its word.
    database.run("update rowmill.meta set value = value");
    let heard = tokio::time::timeout(LONG, signal.changed()).await;
    heard.expect("woken");
}

/// Its lock is free for as long as it cannot connect; it lives, and tells what ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_stored_for_a_worker_that_is_cut_off_while_one_enters_that_tells_none() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let op = kit.register(kit.key(), false, 3).await;
    let proxy = Proxy::start(h.url());
    let cut = store(proxy.url()).await;
    let serves = |notify| vec![Serves { op, notify }];
    let teller = kit.enter(&cut, serves(true), None).await;
    proxy.refuse();
    proxy.cut();
    let held = "select count(*) from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'advisory' and a.datname = current_database()";
    until("its lock is free", || {
        (h.numbers(held) == [0]).then_some(())
    });
    let workers = kit.store.workers().await.expect("workers");
    assert!(
        workers.iter().all(|w| w.no == teller && !w.alive),
        "{workers:?}"
    );
    kit.enter(&kit.store, serves(false), None).await;
    let id = kit.submit(kit.held(), &[1]).await;
    kit.abort(id).await;
    assert_eq!(
        h.facts().notices.len(),
        1,
        "it is stored for the one that will be back"
    );
}
