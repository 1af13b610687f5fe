//! What a manager refuses before anything runs, and what a client refuses before anything is stored.

use std::io::Cursor;

use futures_util::FutureExt;
use rowmill::ingest::Options;
use rowmill::model::{AppName, BatchId, Kind, NewBatch, Status};
use rowmill::{
    BoxError, ErrorKind, InitBlock, Initializer, JobManager, NewQuery, NewRow, Submission,
};
use serde_json::Value;

use super::world::{
    World, code, inputs, key, numbers, query, raw, rows, rows_of, settings, statuses, submit,
};

struct Pool;

impl InitBlock for Pool {}

struct Open;

impl Initializer for Open {
    type Block = Pool;

    async fn init(&self, _: &AppName) -> Result<Pool, BoxError> {
        Ok(Pool)
    }
}

struct NeedsPool;

impl rowmill::BatchProcessor for NeedsPool {
    type Block = Pool;
    type Context = Value;
    type Input = Value;
    type Output = Value;

    async fn process(
        &self,
        _: &mut rowmill::RowCx<'_, Pool, Value>,
        input: Value,
    ) -> Result<Value, rowmill::RowFailure> {
        Ok(input)
    }
}

fn idle() -> impl rowmill::BatchProcessor {
    rows(|_, input| async { Ok(input) }.boxed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_is_reported_at_once() {
    let world = World::new().await;
    let impossible = settings(|s| {
        s.max_attempts = 0;
        s.parallel = 0;
    });
    let error = world
        .builder()
        .batch("bank", "post", idle())
        .batch("bank", "POST", idle())
        .batch("bank", "no spaces", idle())
        .batch("bank", "job_x", idle())
        .batch("shop", "needs", NeedsPool)
        .initializer("app1", Open)
        .initializer("app1", Open)
        .settings("bank", "post", Kind::Batch, impossible)
        .settings("bank", "nobody", Kind::Query, settings(|_| ()))
        .build()
        .err()
        .expect("mistakes");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Invalid, "bad_registration")
    );
    let text = error.to_string();
    for mistake in [
        "batch processor already registered for bank/post",
        "no spaces",
        "job_x",
        "shop/needs needs an init block",
        "initializer already registered for this app: app=app1",
        "bank/post: max_attempts",
        "bank/post: parallel",
        "settings for bank/nobody, of which no query processor is registered",
    ] {
        assert!(text.contains(mistake), "{mistake:?} is not in\n{text}");
    }
    let none = rowmill::Builder::new().build().err().expect("no store");
    assert!(none.to_string().contains("there is no store"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_that_differ_in_app_op_or_kind_are_registered_side_by_side() {
    let world = World::new().await;
    let manager = world
        .builder()
        .batch("bank", "post", idle())
        .batch("bank", "other", idle())
        .batch("Bank", "post", idle());
    let manager = manager.slow_query(
        "bank",
        "post",
        super::world::queries(|_, input| async { Ok(input) }.boxed()),
    );
    assert!(manager.mistakes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_batch_is_refused_and_nothing_is_stored() {
    let world = World::new().await;
    let manager = world
        .builder()
        .batch("bank", "post", idle())
        .build()
        .unwrap();
    let new = || NewBatch::new(key("post"));
    let row = |line| NewRow {
        line,
        input: raw("1"),
    };
    let max = u32::try_from(i32::MAX).unwrap();
    let lines = [
        vec![Some(0)],
        vec![Some(2), Some(2)],
        vec![Some(3), Some(1)],
        vec![Some(max + 1)],
        vec![Some(max), None],
    ];
    for lines in lines {
        let refused = manager
            .batch_submit(new(), lines.clone().into_iter().map(row))
            .await;
        let refused = refused.err().unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!(
            (refused.kind(), refused.code()),
            (ErrorKind::Invalid, "bad_line"),
            "{lines:?}"
        );
    }
    let refuse = async |new: NewBatch, code: &str| {
        let refused = manager.batch_submit(new, numbers(1)).await.unwrap_err();
        assert_eq!((refused.kind(), refused.code()), (ErrorKind::Invalid, code));
    };
    refuse(
        NewBatch {
            priority: 101,
            ..new()
        },
        "bad_priority",
    )
    .await;
    refuse(
        NewBatch {
            external_id: Some(String::new()),
            ..new()
        },
        "bad_external_id",
    )
    .await;
    refuse(NewBatch::new(query("post")), "wrong_kind").await;
    let past = NewBatch {
        run_at: Some(world.kit().in_seconds(9)),
        expires_at: Some(world.kit().in_seconds(9)),
        ..new()
    };
    refuse(past, "bad_expires_at").await;
    let empty = manager.batch_submit(new(), Vec::new()).await.unwrap_err();
    assert_eq!(empty.code(), "no_rows");
    let kind = manager
        .slow_query_submit(new(), raw("1"))
        .await
        .unwrap_err();
    assert_eq!(kind.code(), "wrong_kind");
    assert!(world.facts().batches.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_input_is_loaded_in_pieces_and_submitted_once() {
    let world = World::new().await;
    let manager = world
        .builder()
        .batch("bank", "post", idle())
        .build()
        .unwrap();
    let filler = "x".repeat(1000);
    let csv = |n: u32| {
        let rows: String = (0..n).map(|i| format!("{i},{filler}\n")).collect();
        Cursor::new(format!("id,text\n{rows}").into_bytes())
    };
    let named = |id| NewBatch {
        id,
        external_id: Some("large.csv".to_owned()),
        ..NewBatch::new(key("post"))
    };
    let submit = async |id, n| {
        manager
            .batch_submit_reader(named(id), csv(n), Options::csv())
            .await
    };
    let first = BatchId::new();
    let Submission { batch, intake } = submit(first, 10_000).await.unwrap();
    assert_eq!(
        (batch.id, batch.counts.rows, intake.rows),
        (first, 10_000, 10_000)
    );
    assert_eq!(
        submit(first, 10_000).await.unwrap().batch.id,
        first,
        "the same id"
    );
    assert_eq!(
        submit(BatchId::new(), 10_000).await.unwrap().batch.id,
        first,
        "the same external id"
    );
    let other = submit(BatchId::new(), 10_001).await.unwrap_err();
    assert_eq!(
        (other.kind(), other.code()),
        (ErrorKind::Conflict, "duplicate")
    );
    assert_eq!(world.facts().batches.len(), 1);
    assert_eq!(
        world.facts().blocks.iter().map(|b| b.rows).sum::<u32>(),
        10_000
    );
    world.work(&manager).await;
    assert_eq!(
        manager.batch_done(first).await.unwrap().counts.success,
        10_000
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_fails_halfway_leaves_nothing() {
    let world = World::new().await;
    let manager = world
        .builder()
        .batch("bank", "post", idle())
        .build()
        .unwrap();
    struct Breaks(u64);
    impl std::io::Read for Breaks {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            if self.0 > 12_000_000 {
                return Err(std::io::Error::other("the line is cut"));
            }
            let row = b"\"0123456789012345678901234567890123456789\"\n";
            let n = room.len() / row.len();
            if n == 0 {
                room[..1].copy_from_slice(b" ");
                return Ok(1);
            }
            for at in 0..n {
                room[at * row.len()..(at + 1) * row.len()].copy_from_slice(row);
            }
            self.0 += u64::try_from(n * row.len()).unwrap();
            Ok(n * row.len())
        }
    }
    let new = NewBatch::new(key("post"));
    let id = new.id;
    let error = manager
        .batch_submit_reader(new, Breaks(0), Options::jsonl())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "unreadable_input");
    let missing = manager.batch_done(id).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let facts = world.facts();
    assert!(facts.batches.is_empty() && facts.blocks.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cannot_be_a_row_is_a_failed_row() {
    let world = World::new().await;
    let manager = world
        .builder()
        .batch("bank", "post", idle())
        .build()
        .unwrap();
    let text = "{\"a\":1}\nnot json\n\n[2]\n";
    let new = NewBatch::new(key("post"));
    let Submission { batch, intake } = manager
        .batch_submit_reader(new, Cursor::new(text), Options::jsonl())
        .await
        .unwrap();
    assert_eq!((intake.rows, intake.rejected, intake.blank), (3, 1, 1));
    world.work(&manager).await;
    use Status::{Failed, Success};
    assert_eq!(
        statuses(&manager, batch.id).await,
        [Success, Failed, Success]
    );
    let rows = rows_of(&manager, batch.id).await;
    assert_eq!(rows.iter().map(|r| r.line.0).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(code(&rows[1]), intake.first_rejected[0].1.errcode);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_needs_no_worker_and_no_processor() {
    let world = World::new().await;
    let client = rowmill::Client::new(world.kit().store.clone());
    let id = submit(&client, "post", inputs(&[Value::Null])).await;
    assert_eq!(
        client.batch_status(id).await.unwrap().status,
        Status::Queued
    );
    let waited = client
        .wait_done(id, Some(std::time::Duration::ZERO))
        .await
        .unwrap();
    assert!(!waited.done, "it returns what it is");
    let held = NewBatch {
        hold: true,
        ..NewBatch::new(key("post"))
    };
    let held = client.batch_submit(held, numbers(1)).await.unwrap();
    assert_eq!(held.status, Status::Wait);
    assert_eq!(
        client.wait_off(held.id).await.unwrap().status,
        Status::Queued
    );
    let manager: JobManager = world
        .builder()
        .batch("bank", "post", idle())
        .build()
        .unwrap();
    world.work(&manager).await;
    assert!(client.batch_done(id).await.unwrap().done);
    let ended = client.wait_off(held.id).await.unwrap_err();
    assert_eq!(
        (ended.kind(), ended.code()),
        (ErrorKind::Conflict, "wrong_state")
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_queries_are_submitted_all_or_none_and_told_in_their_order() {
    let world = World::new().await;
    let manager = world.builder().build().unwrap();
    let new = |name: &str, input: &str| NewQuery {
        query: NewBatch {
            external_id: Some(name.to_owned()),
            ..NewBatch::new(query("ask"))
        },
        input: raw(input),
    };
    let first = manager
        .slow_query_submit_many(vec![new("a", "1"), new("b", "2")])
        .await
        .unwrap();
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|query| !query.existed));
    for (query, input) in first.iter().zip(["1", "2"]) {
        let rows = rows_of(&manager, query.id).await;
        assert_eq!(rows[0].input.get(), input);
    }
    let again = manager
        .slow_query_submit_many(vec![new("c", "3"), new("b", "2")])
        .await
        .unwrap();
    assert_eq!((again[0].existed, again[1].existed), (false, true));
    assert_eq!(again[1].id, first[1].id);
    let refused = manager
        .slow_query_submit_many(vec![new("d", "4"), new("b", "9")])
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "duplicate");
    let none = manager.find_external("bank", "d").await.unwrap();
    assert_eq!(none, None, "all or none");
    assert_eq!(world.facts().batches.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_queries_that_are_too_many_for_one_transaction_are_refused() {
    let world = World::new().await;
    let manager = world.builder().build().unwrap();
    let new = |input: &str| NewQuery {
        query: NewBatch::new(query("ask")),
        input: raw(input),
    };
    let large = format!("\"{}\"", "x".repeat(33 << 20));
    for queries in [vec![new("1"); 10_001], vec![new(&large); 2]] {
        let refused = manager.slow_query_submit_many(queries).await.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.code()),
            (ErrorKind::Invalid, "too_large")
        );
    }
    assert_eq!(world.facts().batches.len(), 0);
    let one = manager.slow_query_submit_many(vec![new(&large)]).await;
    assert_eq!(one.unwrap().len(), 1, "one of any size");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_no_slow_query_and_is_not_aborted_as_one() {
    let world = World::new().await;
    let manager = world.builder().build().unwrap();
    let batch = submit(&manager, "post", numbers(2)).await;
    let asked = manager.slow_query_done(batch).await.unwrap_err();
    let wait = std::time::Duration::ZERO;
    let aborted = manager.slow_query_abort(batch, wait).await.unwrap_err();
    for error in [asked, aborted] {
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::NotFound, "not_found")
        );
    }
    assert_eq!(statuses(&manager, batch).await, [Status::Queued; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_processor_is_registered_once_and_found_in_any_case() {
    let world = World::new().await;
    let echo = || super::world::queries(|_, input| async { Ok(input) }.boxed());
    let twice = world
        .builder()
        .slow_query("bank", "GenReport", echo())
        .slow_query("bank", "genreport", echo());
    let error = twice.build().err().expect("a mistake").to_string();
    let mistake = "query processor already registered for bank/genreport";
    assert!(error.contains(mistake), "{error}");
    let manager = world.builder().slow_query("bank", "GenReport", echo());
    let manager = manager.build().unwrap();
    let asked = super::world::ask(&manager, "genREPORT", "1").await;
    world.work(&manager).await;
    let query = manager.slow_query_done(asked).await.unwrap();
    assert_eq!(query.status, Status::Success);
    world.end(&manager).await;
}
