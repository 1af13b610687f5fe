//! A database that refuses one thing alone, and a worker that others took for dead.

use futures_util::FutureExt;
use rowmill::model::{NewBatch, Status};
use rowmill::{CancellationToken, ErrorKind};
use serde_json::Value;

use super::limits::run;
use super::world::{Ends, LONG, World, key, numbers, rows, submit};

/// Works a batch off whose end the database refuses; says how often the end was told.
///
/// Whoever turns by hand is told within some seconds, and the next worker goes on.
async fn is_told_of_it(refusal: &str) -> usize {
    let world = World::new().await;
    let ends = Ends::default();
    let manager = || {
        let processor = rows(|cx, input| {
            cx.write_line("all.txt", &input.to_string());
            async { Ok(Value::Null) }.boxed()
        });
        let builder = world
            .builder()
            .batch("bank", "post", processor.telling(&ends));
        builder.build().unwrap()
    };
    let trigger = format!(
        "create trigger refusal before {refusal} begin select raise(abort, 'no room'); end"
    );
    world.db().execute_batch(&trigger).unwrap();
    let first = manager();
    let id = submit(&first, "post", numbers(3)).await;
    let stop = CancellationToken::new();
    let refused = tokio::time::timeout(LONG, first.run_until_idle(&stop)).await;
    let error = refused.expect("it does not try for ever").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().contains("what was recorded is safe"),
        "{error}"
    );
    assert!(first.stop().await.is_err(), "it could not leave as usual");
    let batch = first.batch_status(id).await.unwrap();
    assert_eq!(batch.counts.success, 3);
    drop(first);

    world.db().execute_batch("drop trigger refusal").unwrap();
    let next = manager();
    world.work(&next).await;
    assert_eq!(next.batch_status(id).await.unwrap().status, Status::Success);
    world.end(&next).await;
    ends.of(id).len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_by_hand_ends_where_no_close_can_be_claimed() {
    let claim = "update on queue when new.what = 1 and new.state = 2";
    assert_eq!(is_told_of_it(claim).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_by_hand_ends_where_no_end_can_be_claimed() {
    let claim = "update on notices when new.worker is not null";
    assert_eq!(is_told_of_it(claim).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_by_hand_ends_where_a_told_end_cannot_be_settled() {
    let settled = is_told_of_it("delete on notices").await;
    assert_eq!(settled, 2, "it was told, and nobody knows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_taken_for_dead_ends_when_it_would_tell_an_end() {
    let world = World::new().await;
    let ends = Ends::default();
    let processor = rows(|_, input| async { Ok(input) }.boxed());
    let manager = world
        .builder()
        .batch("bank", "post", processor.telling(&ends))
        .build()
        .unwrap();
    let (_stop, ran) = run(&manager);
    let no = loop {
        if let [worker] = manager.workers().await.unwrap().as_slice() {
            break worker.no;
        }
        tokio::task::yield_now().await;
    };
    let held = NewBatch {
        hold: true,
        ..NewBatch::new(key("post"))
    };
    let id = manager.batch_submit(held, numbers(1)).await.unwrap().id;
    world.kit().take_over(no).await;
    // Nothing is to be claimed but this end.
    manager.batch_abort(id, LONG).await.unwrap();
    let ended = tokio::time::timeout(LONG, ran).await;
    let ended = ended.expect("it does not ask for ever").unwrap();
    assert_eq!(ended.unwrap_err().code(), "fenced");
    assert!(ends.told().is_empty());
    world.work(&manager).await;
    assert_eq!(ends.of(id), [Status::Aborted]);
    world.end(&manager).await;
}
