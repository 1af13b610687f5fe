//! What a query had streamed when it ended without files goes.

use std::time::Duration;

use futures_util::FutureExt;
use rowmill::model::{Kind, Message, Status};
use rowmill::{BatchId, RowFailure};
use serde_json::Value;

use super::limits::run;
use super::world::{Gate, LONG, World, ask, queries, settings};

/// What is staged for anything, folders without files among them.
fn staged(world: &World) -> usize {
    let dir = world.folder().join(".staging");
    std::fs::read_dir(dir)
        .expect("something was staged")
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_ends_without_files_leaves_nothing_staged() {
    let world = World::new().await;
    let processor = queries(|cx, input| {
        async move {
            let word = input.as_str().unwrap();
            let mut begun = cx.create_file("begun.txt").await?;
            begun.write(b"never ended").await?;
            if word == "nothing" {
                return Ok(Value::Null);
            }
            for text in ["first", "second"] {
                let mut file = cx.create_file("report.txt").await?;
                file.write(text.as_bytes()).await?;
                cx.finish_file(file).await?;
            }
            match word {
                "failed" => Err(Message::new("bad", 1).into()),
                "again" => Err(RowFailure::retry("busy")),
                "bad name" => {
                    cx.write_line("../x", "a line");
                    Ok(Value::Null)
                }
                "slow" => std::future::pending().await,
                _ => panic!("broken"),
            }
        }
        .boxed()
    });
    let twice = settings(|s| {
        s.max_attempts = 2;
        s.timeout = Some(Duration::from_millis(100));
    });
    let manager = world.builder().slow_query("bank", "ask", processor);
    let manager = manager.settings("bank", "ask", Kind::Query, twice);
    let manager = manager.build().unwrap();
    for word in ["failed", "again", "bad name", "slow", "panic", "nothing"] {
        let id = ask(&manager, "ask", &format!("\"{word}\"")).await;
        world.work(&manager).await;
        assert_eq!(staged(&world), 0, "{word}, at its first attempt");
        world.work_to_the_end(&manager).await;
        let query = manager.slow_query_done(id).await.unwrap();
        assert!(query.done && query.files.is_empty());
        let status = if word == "nothing" {
            Status::Success
        } else {
            Status::Failed
        };
        assert_eq!(query.status, status, "{word}");
        assert_eq!(staged(&world), 0, "{word}");
    }
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aborted_query_leaves_nothing_staged() {
    let world = World::new().await;
    let gate = Gate::new();
    let processor = || {
        let gate = gate.clone();
        queries(move |cx, heeds| {
            let gate = gate.clone();
            async move {
                let mut file = cx.create_file("report.txt").await?;
                file.write(b"text").await?;
                cx.finish_file(file).await?;
                if heeds == Value::Bool(true) {
                    gate.open(1);
                    gate.pass().await;
                    cx.cancel().cancelled().await;
                    return Err(RowFailure::retry("stopped"));
                }
                gate.pass().await;
                Ok(Value::Null)
            }
            .boxed()
        })
    };
    let manager = || world.builder().slow_query("bank", "ask", processor());
    let twice = settings(|s| s.max_attempts = 2);
    let patient = manager().settings("bank", "ask", Kind::Query, twice);
    let patient = patient.build().unwrap();
    let id = ask(&patient, "ask", "true").await;
    let (stop, ran) = run(&patient);
    gate.entered(1).await;
    let query = patient.slow_query_abort(id, LONG).await.unwrap();
    assert_eq!((query.status, query.done), (Status::Aborted, true));
    assert_eq!(staged(&world), 0, "it heeded the abort");
    stop.cancel();
    ran.await.unwrap().unwrap();
    world.end(&patient).await;

    let hasty = settings(|s| s.abort_grace = Duration::ZERO);
    let hasty = manager().settings("bank", "ask", Kind::Query, hasty);
    let hasty = hasty.build().unwrap();
    let id = ask(&hasty, "ask", "false").await;
    let goes_on = ask(&hasty, "ask", "false").await;
    let (stop, ran) = run(&hasty);
    gate.entered(2).await;
    let query = hasty.slow_query_abort(id, LONG).await.unwrap();
    assert_eq!((query.status, query.done), (Status::Aborted, true));
    let of = |id: BatchId| world.folder().join(".staging").join(id.to_string());
    assert!(of(id).exists(), "it was cut off, and could remove nothing");
    // Of a batch that this store does not know.
    let strange = of(BatchId::new());
    std::fs::create_dir(&strange).unwrap();

    let other = world.builder().build().unwrap();
    world.work(&other).await;
    assert!(!of(id).exists(), "a worker's look finds it");
    assert!(of(goes_on).exists() && strange.exists());
    other.stop().await.unwrap();
    gate.open(1);
    let done = hasty.wait_done(goes_on, Some(LONG)).await.unwrap();
    assert_eq!((done.status, done.files.len()), (Status::Success, 1));
    stop.cancel();
    ran.await.unwrap().unwrap();
    world.end(&hasty).await;
    assert!(!of(goes_on).exists());
}
