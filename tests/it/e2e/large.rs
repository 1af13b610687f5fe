//! Outcomes that are large: many together, and one that is too large to be recorded.

use futures_util::FutureExt;
use rowmill::model::{Kind, Status};
use rowmill::{Builder, JobManager};
use serde_json::{Value, json};

use super::world::{
    World, ask, chunks, code, count, log, numbers, queries, rows, rows_of, settings, submit,
};

const MIB: usize = 1 << 20;
/// What a part holds before it takes no further row, and what is recorded of a row.
const PART: usize = 8 * MIB;
const MAX_OUTCOME: usize = 64 * MIB;

/// Every row may have three goes: what is not tried again is final.
fn patient(builder: Builder, kind: Kind) -> JobManager {
    let patient = settings(|s| s.max_attempts = 3);
    let builder = builder.settings("bank", "post", kind, patient);
    builder.build().unwrap()
}

fn text(bytes: usize) -> Value {
    json!("x".repeat(bytes))
}

/// Bytes of what was recorded part by part, and how many parts ended an attempt.
fn parts(world: &World) -> (Vec<usize>, usize) {
    let db = world.db();
    let mut found = db
        .prepare("select length(body), ended_as is not null from attempts order by part")
        .unwrap();
    let found = found.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    let found: Vec<(usize, bool)> = found.collect::<Result<_, _>>().unwrap();
    let ends = found.iter().filter(|part| part.1).count();
    (found.into_iter().map(|part| part.0).collect(), ends)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_of_large_outcomes_is_recorded_in_parts() {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = chunks(move |_, rows, out| {
        seen.lock().unwrap().push(rows.len());
        for (i, row) in rows.iter().enumerate() {
            out.success(i, &json!([row.input, "x".repeat(MIB)]));
        }
        async { Ok(()) }.boxed()
    });
    let manager = patient(
        world.builder().chunk("bank", "post", processor),
        Kind::Batch,
    );
    let id = submit(&manager, "post", numbers(40)).await;
    world.work(&manager).await;
    let (sizes, ends) = parts(&world);
    assert_eq!((sizes.len(), ends), (5, 1), "{sizes:?}");
    assert!(sizes.iter().all(|bytes| *bytes < PART + 2 * MIB));
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!((batch.counts.success, batch.counts.failed), (40, 0));
    let rows = rows_of(&manager, id).await;
    for (row, n) in rows.iter().zip(1..) {
        let result = row.result.as_ref().unwrap().get();
        assert!(result.starts_with(&format!("[{n},")), "row {n}");
    }
    assert_eq!(*calls.lock().unwrap(), [40], "nothing runs again");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_large_outcomes_that_go_again_leave_their_task_in_parts() {
    let world = World::new().await;
    let tally = super::world::Tally::default();
    let counted = tally.clone();
    let processor = chunks(move |_, rows, out| {
        for (i, row) in rows.iter().enumerate() {
            let go = count(&counted, &json!(row.input));
            if go == 1 && row.input % 2 == 0 {
                out.failure(i, rowmill::RowFailure::Later(std::time::Duration::ZERO));
            } else {
                out.success(i, &text(MIB));
            }
        }
        async { Ok(()) }.boxed()
    });
    let manager = patient(
        world.builder().chunk("bank", "post", processor),
        Kind::Batch,
    );
    let id = submit(&manager, "post", numbers(40)).await;
    world.work_to_the_end(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!((batch.counts.success, batch.counts.failed), (40, 0));
    for (input, goes) in &*tally.lock().unwrap() {
        let even = input.parse::<u32>().unwrap() % 2 == 0;
        assert_eq!(*goes, if even { 2 } else { 1 }, "row {input}");
    }
    world.end(&manager).await;
}

/// Row 2 of three gave back too much: it failed, once, and its neighbours succeeded.
async fn costs_row_2_alone(manager: &JobManager, id: rowmill::model::BatchId) {
    let rows = rows_of(manager, id).await;
    let found: Vec<Status> = rows.iter().map(|r| r.status).collect();
    assert_eq!(found, [Status::Success, Status::Failed, Status::Success]);
    assert_eq!(code(&rows[1]), "outcome_too_large");
    assert!(rows[1].result.is_none());
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!((batch.counts.success, batch.counts.failed), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_gives_back_too_much_fails_alone() {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = rows(move |cx, input| {
        seen.lock().unwrap().push(input.clone());
        if input == 2 {
            cx.write_line("out.csv", &"x".repeat(MAX_OUTCOME));
        }
        async move { Ok(input) }.boxed()
    });
    let manager = patient(
        world.builder().batch("bank", "post", processor),
        Kind::Batch,
    );
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    costs_row_2_alone(&manager, id).await;
    assert_eq!(calls.lock().unwrap().len(), 3, "nothing runs again");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_a_chunk_that_gives_back_too_much_fails_alone() {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = chunks(move |_, rows, out| {
        seen.lock().unwrap().push(rows.len());
        for (i, row) in rows.iter().enumerate() {
            out.success(i, &text(if row.input == 2 { MAX_OUTCOME } else { 1 }));
        }
        async { Ok(()) }.boxed()
    });
    let manager = patient(
        world.builder().chunk("bank", "post", processor),
        Kind::Batch,
    );
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    costs_row_2_alone(&manager, id).await;
    assert_eq!(*calls.lock().unwrap(), [3], "nothing runs again");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_too_large_is_a_failed_query() {
    let world = World::new().await;
    let processor = queries(|_, _| async { Ok(text(MAX_OUTCOME)) }.boxed());
    let manager = patient(
        world.builder().slow_query("bank", "post", processor),
        Kind::Query,
    );
    let id = ask(&manager, "post", "1").await;
    world.work(&manager).await;
    let batch = manager.slow_query_done(id).await.unwrap();
    assert_eq!(batch.status, Status::Failed);
    world.end(&manager).await;
}
