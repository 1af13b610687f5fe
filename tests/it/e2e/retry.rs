//! retry: failed rows run again in a child batch, and none of them twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use rowmill::ingest::Options;
use rowmill::model::{BatchFilter, Message, NewBatch, Status};
use rowmill::{BatchId, Client, ErrorKind, JobManager, NewRow, Retried, RowFailure};
use serde_json::Value;
use tokio::sync::Barrier;

use super::world::{
    LONG, Log, World, ask, key, log, numbers, queries, query, raw, rows, rows_of, statuses, submit,
};

/// What each input comes to: at first every one fails.
type Verdicts = Arc<Mutex<BTreeMap<String, Verdict>>>;

#[derive(Clone, Copy)]
enum Verdict {
    Success,
    Failed,
}

fn judge(verdicts: &Verdicts, input: &Value) -> Result<Value, RowFailure> {
    let verdict = verdicts.lock().unwrap().get(&input.to_string()).copied();
    match verdict.unwrap_or(Verdict::Failed) {
        Verdict::Success => Ok(input.clone()),
        Verdict::Failed => Err(Message::new("bad", 1).into()),
    }
}

/// A manager whose rows come to their verdicts, and the keys under which they ran.
fn manager(world: &World, verdicts: &Verdicts) -> (JobManager, Log<String>) {
    let keys = log();
    let (judged, noted) = (verdicts.clone(), keys.clone());
    let batches = rows(move |cx, input| {
        let (judged, noted) = (judged.clone(), noted.clone());
        async move {
            let key = format!("{} {}", cx.key(), cx.context());
            noted.lock().unwrap().push(key);
            judge(&judged, &input)
        }
        .boxed()
    });
    let (judged, noted) = (verdicts.clone(), keys.clone());
    let answers = queries(move |cx, input| {
        let (judged, noted) = (judged.clone(), noted.clone());
        async move {
            noted.lock().unwrap().push(cx.key());
            judge(&judged, &input)
        }
        .boxed()
    });
    let builder = world.builder().batch("bank", "post", batches);
    let manager = builder.slow_query("bank", "ask", answers).build();
    (manager.unwrap(), keys)
}

fn set(verdicts: &Verdicts, inputs: &[u32], verdict: Verdict) {
    let mut all = verdicts.lock().unwrap();
    all.extend(inputs.iter().map(|n| (n.to_string(), verdict)));
}

async fn lines(client: &Client, id: BatchId) -> Vec<u32> {
    let rows = rows_of(client, id).await;
    rows.iter().map(|r| r.line.0).collect()
}

fn refusal(answer: rowmill::Result<Retried>) -> (ErrorKind, &'static str) {
    let error = answer.unwrap_err();
    (error.kind(), error.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_rows_run_again_with_their_lines_inputs_and_keys() {
    let world = World::new().await;
    let verdicts = Verdicts::default();
    let (manager, keys) = manager(&world, &verdicts);
    set(&verdicts, &[1, 3], Verdict::Success);
    let new = NewBatch {
        context: raw("{\"day\":7}"),
        priority: 9,
        external_id: Some("mine".to_owned()),
        expires_at: Some(world.kit().in_seconds(3600)),
        ..NewBatch::new(key("post"))
    };
    let row = |(line, n): (u32, u32)| NewRow {
        line: Some(line),
        input: raw(&n.to_string()),
    };
    let given = [(2, 1), (5, 2), (6, 3), (900, 4), (901, 5)].map(row);
    let parent = manager.batch_submit(new, given).await.unwrap().id;
    world.work(&manager).await;
    world.kit().advance(1);
    set(&verdicts, &[2, 5], Verdict::Success);
    let retried = manager.acting_as("rita").retry(parent).await.unwrap();
    assert!(!retried.repeated);
    let child = retried.batch;
    assert_eq!((child.status, child.counts.rows), (Status::Queued, 3));
    assert_eq!(
        (child.parent, child.root, child.generation),
        (Some(parent), parent, 1)
    );
    assert_eq!((child.context.get(), child.priority), ("{\"day\":7}", 9));
    assert_eq!(child.created_by, "rita");
    assert!(child.external_id.is_none() && child.expires_at.is_none() && child.run_at.is_none());
    let seen = rows_of(&manager, child.id).await;
    let seen: Vec<(u32, &str)> = seen.iter().map(|r| (r.line.0, r.input.get())).collect();
    assert_eq!(seen, [(5, "2"), (900, "4"), (901, "5")]);
    let mut before: Vec<String> = std::mem::take(&mut *keys.lock().unwrap());
    world.work(&manager).await;
    let mut again = keys.lock().unwrap().clone();
    before.retain(|key| ["/5 ", "/900 ", "/901 "].iter().any(|l| key.contains(l)));
    before.sort();
    again.sort();
    assert_eq!(before.len(), 3);
    assert_eq!(before, again, "the same keys");
    assert_eq!(
        statuses(&manager, child.id).await,
        [Status::Success, Status::Failed, Status::Success]
    );
    // The child's own failed row is the child's to retry.
    let second = manager.retry(child.id).await.unwrap().batch;
    assert_eq!(
        (second.parent, second.root, second.generation),
        (Some(child.id), parent, 2)
    );
    assert_eq!(lines(&manager, second.id).await, [900]);
    keys.lock().unwrap().clear();
    world.work(&manager).await;
    assert_eq!(
        *keys.lock().unwrap(),
        [format!("{parent}/900 {{\"day\":7}}")]
    );
    let unchanged = manager.batch_status(parent).await.unwrap();
    assert_eq!(
        (unchanged.status, unchanged.counts.failed),
        (Status::Failed, 3)
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_is_asked_for_twice_is_the_same_child() {
    let world = World::new().await;
    let verdicts = Verdicts::default();
    let (manager, keys) = manager(&world, &verdicts);
    let parent = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    let child = manager.retry(parent).await.unwrap().batch.id;
    let repeated = async || {
        let again = manager.retry(parent).await.unwrap();
        assert_eq!((again.batch.id, again.repeated), (child, true));
        again.batch.status
    };
    assert_eq!(repeated().await, Status::Queued);
    set(&verdicts, &[1], Verdict::Success);
    keys.lock().unwrap().clear();
    world.work(&manager).await;
    assert_eq!(keys.lock().unwrap().len(), 3);
    assert_eq!(repeated().await, Status::Failed);
    world.work(&manager).await;
    assert_eq!(keys.lock().unwrap().len(), 3, "no row ran for a repeat");
    let of = BatchFilter {
        parent: Some(parent),
        ..BatchFilter::default()
    };
    assert_eq!(manager.list_page(of, None, 9).await.unwrap().data.len(), 1);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_rows_that_no_retry_brought_to_an_outcome_are_taken_again() {
    let world = World::new().await;
    let verdicts = Verdicts::default();
    let (manager, _) = manager(&world, &verdicts);
    let parent = submit(&manager, "post", numbers(5)).await;
    world.work(&manager).await;
    // It is aborted before it began: all of its rows are free again.
    let first = manager.retry(parent).await.unwrap().batch.id;
    manager.batch_abort(first, Duration::ZERO).await.unwrap();
    world.kit().advance(1);
    let second = manager.retry(parent).await.unwrap();
    assert!(!second.repeated && second.batch.id != first);
    assert_eq!(lines(&manager, second.batch.id).await, [1, 2, 3, 4, 5]);
    let second = second.batch.id;
    // Rows 2 and 4 come to an outcome, the others do not.
    let kit = world.kit();
    let (op, worker) = (kit.op().await, kit.worker().await);
    let task = kit.claim_one(worker, op).await;
    let part = crate::support::Outcomes::of(&task).success(1).failed(3);
    kit.record(worker, part.goes_on(None)).await;
    // In hand: nothing is free.
    let held = manager.retry(parent).await.unwrap();
    assert_eq!((held.batch.id, held.repeated), (second, true));
    kit.abort(second).await;
    let rest = crate::support::Outcomes::of(&task).part(1);
    let rest = rest.ends_as(rowmill::model::EndedAs::Aborted, vec![0, 2, 4]);
    kit.record(worker, rest).await;
    world.kit().advance(1);
    let third = manager.retry(parent).await.unwrap();
    assert!(!third.repeated);
    assert_eq!(lines(&manager, third.batch.id).await, [1, 3, 5]);
    // What failed in the second is the second's to retry, not what was aborted in it.
    let grandchild = manager.retry(second).await.unwrap().batch;
    assert_eq!(lines(&manager, grandchild.id).await, [4]);
    set(&verdicts, &[1, 2, 3, 4, 5], Verdict::Success);
    world.work(&manager).await;
    let last = manager.retry(parent).await.unwrap();
    assert_eq!(
        (last.batch.id, last.repeated, last.batch.status),
        (third.batch.id, true, Status::Success)
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_at_the_same_moment_make_one_child() {
    let world = World::new().await;
    let (manager, _) = manager(&world, &Verdicts::default());
    let parent = submit(&manager, "post", numbers(20)).await;
    world.work(&manager).await;
    let barrier = Arc::new(Barrier::new(6));
    let ask = || {
        let (client, barrier) = (manager.client().clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            client.retry(parent).await.unwrap()
        })
    };
    let asked: Vec<_> = (0..6).map(|_| ask()).collect();
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|a| !a.repeated).count(), 1);
    let first = answers[0].batch.id;
    assert!(answers.iter().all(|a| a.batch.id == first));
    world.work(&manager).await;
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_retried_is_refused_and_nothing_is_made() {
    let world = World::new().await;
    let verdicts = Verdicts::default();
    let (manager, _) = manager(&world, &verdicts);
    let missing = manager.retry(BatchId::new()).await;
    assert_eq!(refusal(missing), (ErrorKind::NotFound, "not_found"));
    let open = submit(&manager, "post", numbers(1)).await;
    let wrong = (ErrorKind::Conflict, "wrong_state");
    assert_eq!(refusal(manager.retry(open).await), wrong);
    set(&verdicts, &[1], Verdict::Success);
    world.work(&manager).await;
    let nothing = (ErrorKind::Conflict, "nothing_to_retry");
    assert_eq!(refusal(manager.retry(open).await), nothing);
    let aborted = submit(&manager, "post", numbers(2)).await;
    manager.batch_abort(aborted, Duration::ZERO).await.unwrap();
    assert_eq!(refusal(manager.retry(aborted).await), nothing);
    let file = &b"{\n[1\n"[..];
    let new = NewBatch::new(key("post"));
    let read = manager.batch_submit_reader(new, file, Options::jsonl());
    let refused = read.await.unwrap().batch;
    assert_eq!((refused.status, refused.counts.failed), (Status::Failed, 2));
    assert_eq!(refusal(manager.retry(refused.id).await), nothing);
    let all = manager.list_page(BatchFilter::default(), None, 9);
    assert_eq!(all.await.unwrap().data.len(), 3);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_and_redacted_rows_are_left_out() {
    let world = World::new().await;
    let (manager, _) = manager(&world, &Verdicts::default());
    let file = &b"null\n{\n2\nnull\n"[..];
    let new = NewBatch::new(key("post"));
    let read = manager.batch_submit_reader(new, file, Options::jsonl());
    let id = read.await.unwrap().batch.id;
    world.work(&manager).await;
    let kit = world.kit();
    for line in [3, 4] {
        let redacted = kit.store.redact(id, line, "eve".to_owned(), kit.now());
        assert!(redacted.await.unwrap());
    }
    // An input that always was null is one.
    let child = manager.retry(id).await.unwrap().batch;
    assert_eq!(lines(&manager, child.id).await, [1]);
    world.work(&manager).await;
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_query_is_retried_as_a_query() {
    let world = World::new().await;
    let verdicts = Verdicts::default();
    let (manager, keys) = manager(&world, &verdicts);
    let id = ask(&manager, "ask", "7").await;
    world.work(&manager).await;
    assert_eq!(
        manager.slow_query_done(id).await.unwrap().status,
        Status::Failed
    );
    set(&verdicts, &[7], Verdict::Success);
    let child = manager.retry(id).await.unwrap().batch;
    assert_eq!((child.kind, child.op.as_str()), (query("ask").kind, "ask"));
    world.work(&manager).await;
    let child = manager.slow_query_done(child.id).await.unwrap();
    assert_eq!(child.status, Status::Success);
    assert_eq!(child.result.unwrap().unwrap().get(), "7");
    assert_eq!(
        *keys.lock().unwrap(),
        [format!("{id}/1"), format!("{id}/1")]
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_retry_is_loaded_and_keeps_its_columns() {
    let world = World::new().await;
    let verdicts = Verdicts::default();
    let builder = world.builder().batch(
        "bank",
        "post",
        rows(move |_, input| {
            let verdicts = verdicts.clone();
            async move {
                if input["n"].as_str().is_some_and(|n| n.ends_with('0')) {
                    return Ok(Value::Null);
                }
                judge(&verdicts, &input)
            }
            .boxed()
        }),
    );
    let manager = builder.build().unwrap();
    let padding = "x".repeat(1_000);
    let body: String = (0..5_000).map(|n| format!("{n},{padding}\n")).collect();
    let file = std::io::Cursor::new(format!("n,text\n{body}").into_bytes());
    let new = NewBatch::new(key("post"));
    let read = manager.batch_submit_reader(new, file, Options::csv());
    let parent = read.await.unwrap().batch.id;
    world.work(&manager).await;
    let child = manager.retry(parent).await.unwrap().batch;
    assert_eq!(child.counts.rows, 4_500);
    assert_eq!(child.columns.as_deref().unwrap(), ["n", "text"]);
    let expected = (2..5_002).filter(|line| (line - 2) % 10 != 0);
    assert!(lines(&manager, child.id).await.into_iter().eq(expected));
    let again = manager.retry(parent).await.unwrap();
    assert_eq!((again.batch.id, again.repeated), (child.id, true));
    let facts = world.facts();
    assert_eq!(facts.batches.len(), 2, "no load is left over");
    manager.batch_abort(child.id, Duration::ZERO).await.unwrap();
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_batch_is_not_retried_and_in_no_list() {
    let world = World::new().await;
    let (manager, _) = manager(&world, &Verdicts::default());
    let parent = submit(&manager, "post", numbers(1)).await;
    world.work(&manager).await;
    let child = manager.retry(parent).await.unwrap().batch.id;
    world.work(&manager).await;
    let purged = (ErrorKind::Conflict, "purged");
    world.kit().purge(child).await;
    // Which rows the child brought to an outcome is not known any more.
    assert_eq!(refusal(manager.retry(parent).await), purged);
    let list = manager.list_page(BatchFilter::default(), None, 9).await;
    let list: Vec<BatchId> = list.unwrap().data.iter().map(|b| b.id).collect();
    assert_eq!(list, [parent]);
    world.kit().purge(parent).await;
    assert_eq!(refusal(manager.retry(parent).await), purged);
    let list = manager.list_page(BatchFilter::default(), None, 9).await;
    assert!(list.unwrap().data.is_empty());
    world.end(&manager).await;
}

/// As many retries at once as there are threads for what blocks: they wait for reads, which need one too.
#[test]
fn a_retry_holds_no_thread_that_its_own_reads_wait_for() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(1);
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        let verdicts = Verdicts::default();
        let (manager, _) = manager(&world, &verdicts);
        let id = submit(&manager, "post", numbers(3)).await;
        world.work(&manager).await;
        let retried = tokio::time::timeout(LONG, manager.retry(id)).await;
        let retried = retried.expect("it comes to an end").unwrap();
        assert_eq!(retried.batch.counts.rows, 3);
        world.end(&manager).await;
    });
    // What waits for it would keep the test from ending.
    runtime.shutdown_background();
}
