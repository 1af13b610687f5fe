//! Every status of batches and queries, as each call of the client sees it.

use std::time::Duration;

use futures_util::{FutureExt, TryStreamExt};
use rowmill::model::{BatchFilter, Kind, Message, NewBatch, Status};
use rowmill::{Batch, BatchId, Client, JobManager};
use serde_json::Value;

use super::limits::run;
use super::world::{
    Gate, LONG, World, inputs, key, numbers, queries, query, raw, rows, rows_of, settings, submit,
};

/// Rows wait at the gate; `bad` fails.
fn gated(world: &World, gate: &Gate) -> JobManager {
    async fn answer(gate: Gate, input: Value) -> Result<Value, rowmill::RowFailure> {
        gate.pass().await;
        if input == "bad" {
            return Err(Message::new("bad", 1).into());
        }
        Ok(input)
    }
    let (first, second) = (gate.clone(), gate.clone());
    let batches = rows(move |_, input| answer(first.clone(), input).boxed());
    let answers = queries(move |_, input| answer(second.clone(), input).boxed());
    let hasty = || settings(|s| s.abort_grace = Duration::ZERO);
    let builder = world.builder().batch("bank", "post", batches);
    let builder = builder.slow_query("bank", "ask", answers);
    let builder = builder.settings("bank", "post", Kind::Batch, hasty());
    builder
        .settings("bank", "ask", Kind::Query, hasty())
        .build()
        .unwrap()
}

/// Submits one row or query.
async fn begin(
    client: &Client,
    kind: Kind,
    input: &str,
    change: impl Fn(&mut NewBatch),
) -> BatchId {
    let mut new = NewBatch::new(match kind {
        Kind::Batch => key("post"),
        Kind::Query => query("ask"),
    });
    new.context = raw("{}");
    change(&mut new);
    let batch = match kind {
        Kind::Batch => client.batch_submit(new, inputs(&[input.into()])).await,
        Kind::Query => {
            let input = raw(&format!("\"{input}\""));
            client.slow_query_submit(new, input).await
        }
    };
    batch.unwrap().id
}

async fn abort(client: &Client, kind: Kind, id: BatchId, wait: Duration) -> Batch {
    match kind {
        Kind::Batch => client.batch_abort(id, wait).await,
        Kind::Query => client.slow_query_abort(id, wait).await,
    }
    .unwrap()
}

/// Every call says the same of a batch of one row.
async fn is(client: &Client, kind: Kind, id: BatchId, status: Status) {
    let done = match kind {
        Kind::Batch => client.batch_done(id).await,
        Kind::Query => client.slow_query_done(id).await,
    };
    let done = done.unwrap();
    assert_eq!((done.status, done.done), (status, status.is_final()));
    let shown = serde_json::to_value(client.batch_status(id).await.unwrap()).unwrap();
    assert_eq!(shown["status"], status.as_str());
    let counts = &shown["counts"];
    for count in Status::ALL.into_iter().filter(|s| s.is_final()) {
        assert_eq!(
            counts[count.as_str()],
            u64::from(count == status),
            "{count}"
        );
    }
    assert_eq!(counts["pending"], u64::from(!status.is_final()));
    let is_query = kind == Kind::Query;
    assert_eq!(shown.get("result").is_some(), is_query);
    if is_query {
        let succeeded = status == Status::Success;
        assert_eq!(shown["result"].is_null(), !succeeded);
    }
    for listed in Status::ALL {
        let filter = BatchFilter {
            status: Some(listed),
            kind: Some(kind),
            ..BatchFilter::default()
        };
        let found: Vec<Batch> = client.list(filter).try_collect().await.unwrap();
        let found: Vec<&Batch> = found.iter().filter(|b| b.id == id).collect();
        assert_eq!(found.len(), usize::from(listed == status), "in {listed}");
        for batch in found {
            assert_eq!(serde_json::to_value(batch).unwrap(), shown);
        }
        let rows: Vec<_> = client.rows(id, Some(listed)).try_collect().await.unwrap();
        assert_eq!(rows.len(), usize::from(listed == status), "in {listed}");
    }
    let rows = rows_of(client, id).await;
    assert_eq!(rows[0].status, status);
    assert_eq!(rows[0].done_at.is_some(), status.is_final());
}

async fn lives(kind: Kind) {
    let world = World::new().await;
    let gate = Gate::new();
    let manager = gated(&world, &gate);
    let hold = |new: &mut NewBatch| new.hold = true;
    let usual = |_: &mut NewBatch| ();
    let is = async |id, status| is(&manager, kind, id, status).await;

    // wait, queued, inprog, success
    let id = begin(&manager, kind, "good", hold).await;
    is(id, Status::Wait).await;
    manager.wait_off(id).await.unwrap();
    is(id, Status::Queued).await;
    let (stop, ran) = run(&manager);
    gate.entered(1).await;
    is(id, Status::Inprog).await;
    gate.open(1);
    manager.wait_done(id, Some(LONG)).await.unwrap();
    is(id, Status::Success).await;
    let late = abort(&manager, kind, id, LONG).await;
    assert_eq!(late.status, Status::Success, "it is what it was");
    is(id, Status::Success).await;

    // failed
    gate.open(1);
    let id = begin(&manager, kind, "bad", usual).await;
    manager.wait_done(id, Some(LONG)).await.unwrap();
    is(id, Status::Failed).await;
    gate.entered(1).await;

    // aborted while it runs
    let id = begin(&manager, kind, "good", usual).await;
    gate.entered(1).await;
    let aborting = abort(&manager, kind, id, LONG).await;
    assert!(aborting.done, "{aborting:?}");
    is(id, Status::Aborted).await;
    stop.cancel();
    ran.await.unwrap().unwrap();

    // aborted before it runs: held, and queued
    for change in [hold, usual as fn(&mut NewBatch)] {
        let id = begin(&manager, kind, "good", change).await;
        let aborted = abort(&manager, kind, id, Duration::ZERO).await;
        assert!(aborted.done && !aborted.aborting);
        is(id, Status::Aborted).await;
        let again = abort(&manager, kind, id, Duration::ZERO).await;
        assert_eq!(again.done_at, aborted.done_at);
    }

    // expired
    let soon = world.kit().in_seconds(5);
    let id = begin(&manager, kind, "good", |new| new.expires_at = Some(soon)).await;
    is(id, Status::Queued).await;
    world.kit().advance(5);
    world.work(&manager).await;
    is(id, Status::Expired).await;

    // queued until its time
    let later = world.kit().in_seconds(5);
    let id = begin(&manager, kind, "good", |new| new.run_at = Some(later)).await;
    world.work(&manager).await;
    is(id, Status::Queued).await;
    gate.open(1);
    world.work_to_the_end(&manager).await;
    is(id, Status::Success).await;
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_of_a_batch_is_seen_by_every_call() {
    lives(Kind::Batch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_of_a_query_is_seen_by_every_call() {
    lives(Kind::Query).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_a_stream_of_pages() {
    let world = World::new().await;
    let manager = gated(&world, &Gate::new());
    let mut made = Vec::new();
    for _ in 0..250 {
        world.kit().advance(1);
        made.insert(0, submit(&manager, "post", numbers(1)).await);
    }
    let all: Vec<Batch> = manager
        .list(BatchFilter::default())
        .try_collect()
        .await
        .unwrap();
    assert!(all.iter().map(|b| b.id).eq(made.iter().copied()));
    let page = manager.list_page(BatchFilter::default(), None, 240).await;
    let page = page.unwrap();
    assert!(
        page.data
            .iter()
            .map(|b| b.id)
            .eq(made[..240].iter().copied())
    );
    let shown = serde_json::to_value(&page).unwrap();
    let next: rowmill::model::Cursor = shown["next"].as_str().unwrap().parse().unwrap();
    let rest = manager
        .list_page(BatchFilter::default(), Some(next), 240)
        .await;
    let rest = rest.unwrap();
    assert!(
        rest.data
            .iter()
            .map(|b| b.id)
            .eq(made[240..].iter().copied())
    );
    assert!(rest.next.is_none());
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_is_a_stream_of_blocks_or_of_one_line() {
    let world = World::new().await;
    let gate = Gate::new();
    gate.open(300);
    let manager = gated(&world, &gate);
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    let blocks: Vec<_> = manager.history(id, None).try_collect().await.unwrap();
    let shown = serde_json::to_value(&blocks).unwrap();
    let entry = &shown[0];
    let keys: Vec<&str> = entry
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = [
        "first_line",
        "rows",
        "attempt",
        "worker",
        "started_at",
        "ended_at",
        "before",
        "after",
        "errcode",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(
        (&entry["rows"], &entry["after"]),
        (&3.into(), &"success".into())
    );
    let line: Vec<_> = manager.history(id, Some(2)).try_collect().await.unwrap();
    let shown = serde_json::to_value(&line).unwrap();
    assert_eq!(shown[0]["line"], 2);
    assert_eq!(shown[0].as_object().unwrap().len(), 8);
    for (id, line) in [
        (id, Some(4)),
        (BatchId::new(), Some(1)),
        (BatchId::new(), None),
    ] {
        let read: rowmill::Result<Vec<_>> = manager.history(id, line).try_collect().await;
        let error = read.unwrap_err();
        assert_eq!(error.kind(), rowmill::ErrorKind::NotFound, "{line:?}");
    }
    world.end(&manager).await;
}
