//! A submit inside the caller's own transaction.

use rowmill::model::NewBatch;
use rowmill::sqlite::rusqlite::{Connection, TransactionBehavior};
use rowmill::sqlite::submit_in;
use rowmill::{ErrorKind, NewRow, Status};

use super::world::{World, inputs, key, numbers, query, raw, rows, rows_of};
use futures_util::FutureExt;

async fn world() -> (World, Connection) {
    let world = World::new().await;
    let db = world.db();
    db.execute_batch("create table orders (id integer primary key)")
        .unwrap();
    (world, db)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_there_with_the_callers_writes_after_the_commit_and_is_worked_off() {
    let (world, mut db) = world().await;
    let echo = rows(|_, input| async move { Ok(input) }.boxed());
    let manager = world.builder().batch("bank", "post", echo).build().unwrap();
    let tx = db.transaction().unwrap();
    tx.execute("insert into orders values (1)", []).unwrap();
    let new = NewBatch {
        context: raw("{}"),
        ..NewBatch::new(key("post"))
    };
    let id = submit_in(&tx, new, numbers(3)).unwrap();
    assert!(
        manager.batch_status(id).await.is_err(),
        "not before the commit"
    );
    tx.commit().unwrap();
    assert_eq!(manager.batch_status(id).await.unwrap().counts.pending, 3);
    world.work(&manager).await;
    let lines: Vec<u32> = rows_of(&manager, id)
        .await
        .iter()
        .map(|r| r.line.0)
        .collect();
    assert_eq!(lines, [1, 2, 3]);
    assert_eq!(
        manager.batch_done(id).await.unwrap().status,
        Status::Success
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_takes_it_back_with_the_callers_writes() {
    let (world, mut db) = world().await;
    let manager = world.builder().build().unwrap();
    let tx = db.transaction().unwrap();
    tx.execute("insert into orders values (1)", []).unwrap();
    let id = submit_in(&tx, NewBatch::new(key("post")), numbers(3)).unwrap();
    tx.rollback().unwrap();
    assert!(manager.batch_status(id).await.is_err());
    let orders = db.query_row("select count(*) from orders", [], |r| r.get::<_, i64>(0));
    assert_eq!(orders.unwrap(), 0);
    assert!(world.facts().batches.is_empty());
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_submit_leaves_the_callers_transaction_as_it_was() {
    let (world, mut db) = world().await;
    let manager = world.builder().build().unwrap();
    let named = |context: &str| NewBatch {
        context: raw(context),
        external_id: Some("order-7".to_owned()),
        ..NewBatch::new(key("post"))
    };
    let tx = db.transaction().unwrap();
    let first = submit_in(&tx, named("1"), numbers(2)).unwrap();
    tx.execute("insert into orders values (1)", []).unwrap();
    let again = submit_in(&tx, named("1"), numbers(2)).unwrap();
    assert_eq!(first, again, "the same content is the batch that is there");
    let other = submit_in(&tx, named("2"), numbers(2)).unwrap_err();
    assert_eq!(
        (other.kind(), other.code()),
        (ErrorKind::Conflict, "duplicate")
    );
    let falling = inputs(&[1.into(), 2.into()]).into_iter().map(|row| NewRow {
        line: Some(5),
        ..row
    });
    let falling = submit_in(&tx, NewBatch::new(key("post")), falling).unwrap_err();
    assert_eq!(falling.code(), "bad_line");
    let none = submit_in(&tx, NewBatch::new(key("post")), []).unwrap_err();
    assert_eq!(none.code(), "no_rows");
    let two = submit_in(&tx, NewBatch::new(query("report")), numbers(2)).unwrap_err();
    assert_eq!(two.code(), "bad_line");
    let asked = submit_in(&tx, NewBatch::new(query("report")), numbers(1)).unwrap();
    tx.commit().unwrap();
    let orders = db.query_row("select count(*) from orders", [], |r| r.get::<_, i64>(0));
    assert_eq!(orders.unwrap(), 1);
    assert_eq!(manager.batch_status(first).await.unwrap().counts.rows, 2);
    assert_eq!(manager.slow_query_done(asked).await.unwrap().counts.rows, 1);
    assert_eq!(world.facts().batches.len(), 2);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_rows_than_a_transaction_should_hold_are_refused() {
    let (world, mut db) = world().await;
    let manager = world.builder().build().unwrap();
    let tx = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .unwrap();
    let row = || NewRow {
        line: None,
        input: raw("1"),
    };
    let most = std::iter::repeat_with(row).take(100_000);
    submit_in(&tx, NewBatch::new(key("post")), most).unwrap();
    let more = std::iter::repeat_with(row).take(100_001);
    let refused = submit_in(&tx, NewBatch::new(key("post")), more).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Invalid, "too_large")
    );
    tx.commit().unwrap();
    assert_eq!(world.facts().batches.len(), 1);
    world.end(&manager).await;
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut db = Connection::open(folder.path().join("other.db")).unwrap();
    db.execute_batch("create table orders (id integer primary key)")
        .unwrap();
    let tx = db.transaction().unwrap();
    let refused = submit_in(&tx, NewBatch::new(key("post")), numbers(1)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(refused.code(), "unusable_database");
}
