//! Transactions that do not begin, on connections that live, and words that are lost: nothing is written outside of a
//! transaction, and what was committed is told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use rowmill::Store;
use rowmill::model::Status;
use rowmill::store::StoreError;
use rowmill::store::postgres::{Address, Options, PostgresStore};
use tokio_postgres::{AsyncMessage, NoTls};

use super::world::key;
use crate::support::servers::Proxy;
use crate::support::{Harness as _, Kit, Outcomes, Postgres, invariants};

/// A database in which a statement outside of a transaction finds rowmill's tables too.
async fn database() -> Postgres {
    let h = Postgres::open().await;
    h.run(
        "do $$ begin
             execute format('alter database %I set search_path to rowmill', current_database());
         end $$",
    );
    h
}

fn kit_by(h: &Postgres, store: PostgresStore) -> Kit {
    Kit {
        store: Store::new(store),
        clock: Arc::clone(&h.kit().clock),
    }
}

async fn behind(h: &Postgres, proxy: &Proxy) -> Kit {
    let options = Options::new(proxy.url()).expect("an address");
    kit_by(h, PostgresStore::open(options).await.expect("a store"))
}

/// Whether the op is paused, as others see it.
async fn is_paused(h: &Postgres) -> bool {
    let ops = h.kit().store.ops().await.expect("the ops");
    ops.iter().any(|op| op.paused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_whose_transaction_did_not_begin_wrote_nothing_and_is_made_again() {
    made_again(database().await).await;
    // Outside of a transaction the tables are not found.
    made_again(Postgres::open().await).await;
}

async fn made_again(h: Postgres) {
    let proxy = Proxy::start(h.url());
    let kit = behind(&h, &proxy).await;
    let (op, worker) = kit.op_and_worker().await;
    proxy.spoil_begins(1);
    let id = kit.rows_of(2).await;
    proxy.spoil_begins(1);
    let task = kit.claim_one(worker, op).await;
    assert_eq!(task.claim.attempt, 1, "it was claimed once");
    proxy.spoil_begins(1);
    let part = Outcomes::of(&task).all_success().ends();
    kit.record(worker, part).await;
    assert_eq!(proxy.spoiled(), 3);
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 2));
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_transaction_can_begin_nothing_is_written_and_the_cause_is_named() {
    let h = database().await;
    let proxy = Proxy::start(h.url());
    let kit = behind(&h, &proxy).await;
    kit.op().await;
    proxy.spoil_begins(usize::MAX);
    let refused = kit
        .store
        .pause_op(key("post"), "somebody".to_owned(), kit.now())
        .await;
    proxy.spoil_begins(0);
    assert!(
        proxy.spoiled() > 1,
        "it was tried again, and asked for its cause"
    );
    names_its_cause(refused);
    assert!(!is_paused(&h).await, "the statement was not made alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_callers_pool_nothing_is_sent_before_its_transaction_has_begun() {
    let h = database().await;
    let proxy = Proxy::start(h.url());
    let pool = crate::reach::pools::pool(proxy.url());
    let store = PostgresStore::open(Options::pool(pool)).await;
    let kit = kit_by(&h, store.expect("a store"));
    kit.op().await;
    proxy.spoil_begins(1);
    let refused = kit
        .store
        .pause_op(key("post"), "somebody".to_owned(), kit.now())
        .await;
    assert_eq!(proxy.spoiled(), 1);
    names_its_cause(refused);
    assert!(!is_paused(&h).await, "the statement was not made alone");
    let paused = kit
        .store
        .pause_op(key("post"), "somebody".to_owned(), kit.now())
        .await;
    paused.expect("the connection is as it was");
    assert!(is_paused(&h).await);
}

fn names_its_cause<T: std::fmt::Debug>(refused: Result<T, StoreError>) {
    let why = refused.expect_err("it is refused").to_string();
    assert!(
        why.contains("beginning a transaction: syntax error"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_without_an_answer_is_told() {
    let h = Postgres::open().await;
    let proxy = Proxy::start(h.url());
    let kit = behind(&h, &proxy).await;
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    let mut told = kit.store.signal();
    told.take();
    proxy.swallow_next_answer_to(b"commit\0");
    let part = Outcomes::of(&task).all_success().ends();
    kit.record(worker, part).await;
    assert_eq!(proxy.swallowed(), 1);
    assert!(told.take(), "whoever waits for its end hears of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_was_lost_with_the_stores_own_connection_is_said_again() {
    let h = Postgres::open().await;
    let (client, mut connection) = tokio_postgres::connect(h.url(), NoTls)
        .await
        .expect("a connection");
    let (words, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut said = poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = said.next().await {
            if let AsyncMessage::Notification(word) = message {
                words.send(word.process_id()).ok();
            }
        }
    });
    client.batch_execute("listen rowmill").await.expect("heard");
    let proxy = Arc::new(Proxy::start(h.url()));
    let mut options = Options::new(h.url()).expect("an address");
    options.session = Some(Address::new(proxy.url()).expect("an address"));
    let store = PostgresStore::open(options).await;
    let kit = kit_by(&h, store.expect("a store"));
    kit.op().await;
    // What was said of the op is not what is waited for.
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(500), heard.recv()).await {}
    proxy.freeze();
    kit.rows_of(1).await;
    let cut = Arc::clone(&proxy);
    tokio::task::spawn_blocking(move || {
        cut.cut();
        cut.thaw();
    })
    .await
    .expect("cut");
    let word = tokio::time::timeout(Duration::from_secs(30), heard.recv()).await;
    assert!(matches!(word, Ok(Some(_))), "others hear of the batch");
}
