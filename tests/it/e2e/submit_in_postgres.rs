//! A submit inside the caller's own transaction, on PostgreSQL.

use rowmill::model::NewBatch;
use rowmill::postgres::submit_in;
use rowmill::postgres::tokio_postgres::{self, Client, NoTls};
use rowmill::{ErrorKind, NewRow, Status};

use super::on_postgres::World;
use super::world::{LONG, inputs, key, numbers, query, raw};
use crate::support::Harness as _;
use crate::support::servers::Database;

/// The application's own connection.
async fn mine(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn named(context: &str) -> NewBatch {
    NewBatch {
        context: raw(context),
        external_id: Some("order-7".to_owned()),
        ..NewBatch::new(key("post"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_it_is_there_with_the_callers_writes_after_the_commit_and_wakes_workers() {
    let world = World::new().await;
    let kit = world.h.kit();
    let mut db = mine(world.h.url()).await;
    let mut signal = kit.store.signal();
    while signal.take() {}
    let tx = db.transaction().await.unwrap();
    tx.execute("insert into effects values (1)", &[])
        .await
        .unwrap();
    let id = submit_in(&tx, named("1"), numbers(3)).await.unwrap();
    // The caller's own names are as they were.
    tx.execute("insert into effects values (2)", &[])
        .await
        .unwrap();
    assert!(
        kit.store.batch(id).await.unwrap().is_none(),
        "not before the commit"
    );
    tx.commit().await.unwrap();
    tokio::time::timeout(LONG, signal.changed())
        .await
        .expect("woken");
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.rows), (Status::Queued, 3));
    assert_eq!(world.noted(), [1, 2]);
    let tx = db.transaction().await.unwrap();
    let gone = submit_in(&tx, NewBatch::new(key("post")), numbers(3))
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert!(kit.store.batch(gone).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_refused_submit_leaves_the_callers_transaction_as_it_was() {
    let world = World::new().await;
    let mut db = mine(world.h.url()).await;
    let tx = db.transaction().await.unwrap();
    let first = submit_in(&tx, named("1"), numbers(2)).await.unwrap();
    tx.execute("insert into effects values (1)", &[])
        .await
        .unwrap();
    let again = submit_in(&tx, named("1"), numbers(2)).await.unwrap();
    assert_eq!(first, again, "the same content is the batch that is there");
    let other = submit_in(&tx, named("2"), numbers(2)).await.unwrap_err();
    assert_eq!(
        (other.kind(), other.code()),
        (ErrorKind::Conflict, "duplicate")
    );
    let falling = inputs(&[1.into(), 2.into()]).into_iter().map(|row| NewRow {
        line: Some(5),
        ..row
    });
    let new = || NewBatch::new(key("post"));
    let refused = submit_in(&tx, new(), falling).await.unwrap_err();
    assert_eq!(refused.code(), "bad_line");
    let refused = submit_in(&tx, new(), []).await.unwrap_err();
    assert_eq!(refused.code(), "no_rows");
    let report = || NewBatch::new(query("report"));
    let refused = submit_in(&tx, report(), numbers(2)).await.unwrap_err();
    assert_eq!(refused.code(), "bad_line");
    let row = || NewRow {
        line: None,
        input: raw("1"),
    };
    let more = std::iter::repeat_with(row).take(100_001);
    let refused = submit_in(&tx, new(), more).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Invalid, "too_large")
    );
    submit_in(&tx, report(), numbers(1)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.noted(), [1]);
    assert_eq!(world.h.facts().batches.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_ours_is_refused_and_goes_on() {
    let other = Database::fresh();
    let mut db = mine(other.url()).await;
    let tx = db.transaction().await.unwrap();
    let refused = submit_in(&tx, NewBatch::new(key("post")), numbers(1))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Invalid, "unusable_database")
    );
    tx.execute("select 1", &[]).await.expect("it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_submit_the_same_inside_their_transactions_at_the_same_moment_make_one_batch() {
    let world = World::new().await;
    let (mut a, mut b) = (mine(world.h.url()).await, mine(world.h.url()).await);
    let first = a.transaction().await.unwrap();
    let made = submit_in(&first, named("1"), numbers(2)).await.unwrap();
    let second = tokio::spawn(async move {
        let tx = b.transaction().await.unwrap();
        let made = submit_in(&tx, named("1"), numbers(2)).await.unwrap();
        tx.commit().await.unwrap();
        made
    });
    // It waits for the first, or comes after it: both are the same batch.
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), made);
    assert_eq!(world.h.facts().batches.len(), 1);
}
