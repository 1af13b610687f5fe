//! Chunks: the rows of a task together, and a bad row alone.

use futures_util::FutureExt;
use rowmill::RowFailure;
use rowmill::model::{Delivery, Kind, Message, Status};
use serde_json::{Value, json};

use super::world::{
    World, chunks, code, inputs, log, numbers, read, rows_of, settings, statuses, submit,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_a_task_come_together_with_their_lines_and_keys() {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = chunks(move |cx, rows, out| {
        let lines: Vec<u32> = rows.iter().map(|r| r.line.0).collect();
        assert_eq!(cx.key(1), format!("{}/2", cx.batch()));
        seen.lock().unwrap().push((lines, cx.attempt()));
        for (i, row) in rows.iter().enumerate() {
            out.success(i, &json!(row.input * 2));
            out.success(i, &json!("a second outcome"));
            out.write_line(i, "out.csv", &row.input.to_string());
        }
        async { Ok(()) }.boxed()
    });
    let manager = world
        .builder()
        .chunk("bank", "post", processor)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    assert_eq!(*calls.lock().unwrap(), [(vec![1, 2, 3], 1)]);
    let rows = rows_of(&manager, id).await;
    assert_eq!(
        rows[1].result.as_ref().unwrap().get(),
        "4",
        "the first outcome stays"
    );
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!(read(&manager, &batch, "out.csv").await, "1\n2\n3\n");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_without_an_outcome_fails_with_no_outcome() {
    let world = World::new().await;
    let processor = chunks(|_, _, out| {
        out.success(0, &Value::Null);
        out.failure(2, Message::new("bad", 1).into());
        out.success(99, &Value::Null);
        async { Ok(()) }.boxed()
    });
    let manager = world
        .builder()
        .chunk("bank", "post", processor)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    use Status::{Failed, Success};
    assert_eq!(statuses(&manager, id).await, [Success, Failed, Failed]);
    assert_eq!(code(&rows_of(&manager, id).await[1]), "no_outcome");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_row_of_a_chunk_costs_itself_alone() {
    for bad in ["error", "panic"] {
        let world = World::new().await;
        let calls = log();
        let seen = calls.clone();
        let processor = chunks(move |_, rows, out| {
            seen.lock().unwrap().push(rows.len());
            async move {
                for (i, row) in rows.iter().enumerate() {
                    match (row.input, bad) {
                        (3, "error") => return Err(RowFailure::Error("down".into())),
                        (3, _) => panic!("down"),
                        _ => out.success(i, &json!(row.input)),
                    }
                }
                Ok(())
            }
            .boxed()
        });
        let manager = world
            .builder()
            .chunk("bank", "post", processor)
            .build()
            .unwrap();
        let id = submit(&manager, "post", numbers(5)).await;
        world.work(&manager).await;
        use Status::{Failed, Success};
        assert_eq!(
            statuses(&manager, id).await,
            [Success, Success, Failed, Success, Success]
        );
        assert_eq!(
            *calls.lock().unwrap(),
            [5, 1, 1, 1],
            "rows with an outcome do not run again"
        );
        world.end(&manager).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_does_not_fit_is_in_no_chunk() {
    let world = World::new().await;
    let processor = chunks(|_, rows, out| {
        for (i, row) in rows.iter().enumerate() {
            out.success(i, &json!(row.line));
        }
        async { Ok(()) }.boxed()
    });
    let manager = world
        .builder()
        .chunk("bank", "post", processor)
        .build()
        .unwrap();
    let id = submit(&manager, "post", inputs(&[json!(1), json!("x"), json!(3)])).await;
    let none = submit(&manager, "post", inputs(&[json!("x"), json!("y")])).await;
    world.work(&manager).await;
    let rows = rows_of(&manager, id).await;
    assert_eq!(rows[2].result.as_ref().unwrap().get(), "3");
    assert_eq!(code(&rows[1]), "bad_input");
    assert_eq!(manager.batch_done(none).await.unwrap().counts.failed, 2);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_a_chunk_is_one_row_and_is_called_once() {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = chunks(move |_, rows, _| {
        let inputs: Vec<i64> = rows.iter().map(|row| row.input).collect();
        seen.lock().unwrap().push(inputs);
        async { Err(RowFailure::Error("down".into())) }.boxed()
    });
    let once = settings(|s| s.delivery = Delivery::AtMostOnce);
    let manager = world
        .builder()
        .chunk("bank", "post", processor)
        .settings("bank", "post", Kind::Batch, once)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Status::Failed; 3]);
    assert_eq!(*calls.lock().unwrap(), [[1], [2], [3]]);
    world.end(&manager).await;
}
