//! Output files: in the order of the lines, with the bytes that the rows wrote.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rowmill::files::{ObjectBackend, StageError, Staged, Staging};
use rowmill::model::{BatchId, Kind, Message, Status};
use rowmill::{ObjectStore, RowFailure};
use serde_json::{Value, json};

use super::world::{
    Tally, World, ask, code, count, inputs, numbers, queries, read, rows, rows_of, settings, submit,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_stand_in_the_order_of_the_rows_whatever_ran_first() {
    let world = World::new().await;
    let tally = Tally::default();
    let processor = rows(move |cx, input| {
        let n = input.as_i64().unwrap();
        cx.write_line("all.csv", &format!("{n}"));
        cx.write_line(
            if n % 2 == 0 { "even.csv" } else { "odd.csv" },
            &format!("{n}\n"),
        );
        let first = count(&tally, &input) == 1;
        async move {
            match n % 4 {
                1 if first => Err(RowFailure::retry("busy")),
                0 => Err(Message::new("bad", 1).into()),
                _ => Ok(Value::Null),
            }
        }
        .boxed()
    });
    let small = settings(|s| {
        s.block_rows = 3;
        s.max_attempts = 2;
    });
    let manager = world.builder().batch("bank", "post", processor);
    let manager = manager
        .settings("bank", "post", Kind::Batch, small)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(20)).await;
    world.work_to_the_end(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!((batch.counts.success, batch.counts.failed), (15, 5));
    let lines = |step: usize, from| {
        (from..=20)
            .step_by(step)
            .map(|n: u32| format!("{n}\n"))
            .collect::<String>()
    };
    assert_eq!(
        read(&manager, &batch, "all.csv").await,
        lines(1, 1),
        "failed rows write, retried ones once"
    );
    assert_eq!(read(&manager, &batch, "even.csv").await, lines(2, 2));
    assert_eq!(read(&manager, &batch, "odd.csv").await, lines(2, 1));
    assert_eq!(
        batch
            .files
            .iter()
            .map(|f| f.name.as_str())
            .collect::<Vec<_>>(),
        ["all.csv", "even.csv", "odd.csv"]
    );
    assert_eq!(batch.files[0].key, format!("bank/post/{id}/all.csv"));
    assert_eq!(batch.files[0].content_type, "text/csv");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_kept_as_it_is_and_ends_in_a_line_feed() {
    let world = World::new().await;
    let processor = rows(|cx, input| {
        cx.write_line("a.txt", input.as_str().unwrap());
        async { Ok(Value::Null) }.boxed()
    });
    let manager = world
        .builder()
        .batch("bank", "post", processor)
        .build()
        .unwrap();
    let texts = [
        "  blanks  ",
        "",
        "two\nlines",
        "\u{2028}\"é\"\\",
        "ended\n",
        "\n",
        "cr\r\n",
        " ",
    ];
    let id = submit(&manager, "post", inputs(&texts.map(Value::from))).await;
    world.work(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    let whole = "  blanks  \ntwo\nlines\n\u{2028}\"é\"\\\nended\n\ncr\r\n \n";
    assert_eq!(read(&manager, &batch, "a.txt").await, whole);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_name_fails_its_row_and_nothing_else() {
    let world = World::new().await;
    let processor = rows(|cx, input| {
        cx.write_line("good.csv", "x");
        cx.write_line(input.as_str().unwrap(), "y");
        async { Ok(Value::Null) }.boxed()
    });
    let manager = world
        .builder()
        .batch("bank", "post", processor)
        .build()
        .unwrap();
    let names = ["../a", "a/b", ".hidden", "a*", "é.csv", "fine.csv"];
    let id = submit(&manager, "post", inputs(&names.map(Value::from))).await;
    world.work(&manager).await;
    let rows = rows_of(&manager, id).await;
    assert!(
        rows[..5]
            .iter()
            .all(|r| r.status == Status::Failed && code(r) == "bad_file_name")
    );
    assert_eq!(rows[5].status, Status::Success);
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!(read(&manager, &batch, "good.csv").await, "x\n");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_file_is_published_only_if_its_query_succeeds() {
    let world = World::new().await;
    let processor = queries(|cx, input| {
        async move {
            cx.write_line("lines.txt", "a line");
            for text in ["first", "second"] {
                let mut file = cx.create_file("report.txt").await?;
                file.write(text.as_bytes()).await?;
                cx.finish_file(file).await?;
            }
            let mut lost = cx.create_file("lost.txt").await?;
            lost.write(b"never ended").await?;
            match input.as_str().unwrap() {
                "good" => Ok(Value::Null),
                "failed" => Err(Message::new("bad", 1).into()),
                _ => panic!("broken"),
            }
        }
        .boxed()
    });
    let manager = world
        .builder()
        .slow_query("bank", "ask", processor)
        .build()
        .unwrap();
    for word in ["good", "failed", "panic"] {
        let id = ask(&manager, "ask", &format!("\"{word}\"")).await;
        world.work(&manager).await;
        let query = manager.slow_query_done(id).await.unwrap();
        assert!(query.done);
        let names: Vec<&str> = query.files.iter().map(|f| f.name.as_str()).collect();
        if word == "good" {
            assert_eq!(names, ["lines.txt", "report.txt"]);
            assert_eq!(
                read(&manager, &query, "report.txt").await,
                "second",
                "the later replaces the earlier"
            );
        } else {
            assert_eq!(names, ["lines.txt"]);
        }
        assert!(
            !world
                .folder()
                .join(".staging")
                .join(id.to_string())
                .exists(),
            "nothing is left behind"
        );
    }
    let bad =
        queries(|cx, _| async move { cx.create_file("../x").await.map(|_| Value::Null) }.boxed());
    let manager = world
        .builder()
        .slow_query("bank", "bad", bad)
        .build()
        .unwrap();
    let id = ask(&manager, "bad", "1").await;
    world.work(&manager).await;
    let query = manager.slow_query_done(id).await.unwrap();
    assert_eq!(query.status, Status::Failed);
    let messages = query.messages.flatten().unwrap();
    assert!(messages.get().contains("bad_file_name"), "{messages}");
    world.end(&manager).await;
}

/// An object store that does as another one, but fails at the start of its first `failures` publishes.
struct Flaky {
    under: ObjectStore,
    /// Publishes that are made and then fail: the answer is lost.
    after: bool,
    /// It panics instead.
    panics: bool,
    failures: Arc<AtomicU32>,
}

type Fut<'a, T> = BoxFuture<'a, Result<T, StageError>>;

impl ObjectBackend for Flaky {
    fn stage(&self, batch: BatchId) -> Fut<'_, Box<dyn Staging>> {
        self.under.stage(batch)
    }

    fn publish<'a>(&'a self, staged: &'a Staged, key: &'a str) -> Fut<'a, ()> {
        async move {
            let fails = self
                .failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if self.after || fails.is_err() {
                self.under.publish(staged, key).await?;
            }
            match fails {
                Err(_) => Ok(()),
                Ok(_) if self.panics => panic!("the object store is broken"),
                Ok(_) => Err(StageError {
                    what: "publishing".to_owned(),
                    source: std::io::Error::other("the object store is down"),
                }),
            }
        }
        .boxed()
    }

    fn unstage<'a>(&'a self, batch: BatchId, staged: &'a [Staged]) -> Fut<'a, ()> {
        self.under.unstage(batch, staged)
    }

    fn staged(&self) -> Fut<'_, Vec<BatchId>> {
        self.under.staged()
    }

    fn clear(&self, batch: BatchId) -> Fut<'_, ()> {
        self.under.clear(batch)
    }

    fn open<'a>(&'a self, key: &'a str) -> Fut<'a, Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
        self.under.open(key)
    }

    fn remove<'a>(&'a self, folder: &'a str) -> Fut<'a, ()> {
        self.under.remove(folder)
    }

    fn size<'a>(&'a self, key: &'a str) -> Fut<'a, Option<u64>> {
        self.under.size(key)
    }

    fn place(&self, key: &str) -> String {
        self.under.place(key)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_that_is_down_delays_the_end_and_fails_nothing() {
    for (after, panics) in [(false, false), (true, false), (true, true)] {
        let world = World::new().await;
        let flaky = ObjectStore::new(Flaky {
            under: ObjectStore::folder(world.folder()),
            after,
            panics,
            failures: Arc::new(AtomicU32::new(3)),
        });
        let batches = rows(|cx, input| {
            cx.write_line("a.csv", &input.to_string());
            cx.write_line("b.csv", &input.to_string());
            async { Ok(Value::Null) }.boxed()
        });
        let answers = queries(|cx, _| {
            async move {
                let mut file = cx.create_file("a.csv").await?;
                file.write(b"1\n").await?;
                cx.finish_file(file).await?;
                Ok(Value::Null)
            }
            .boxed()
        });
        let manager = world
            .builder()
            .objects(flaky)
            .batch("bank", "post", batches)
            .slow_query("bank", "ask", answers);
        let manager = manager.build().unwrap();
        let id = submit(&manager, "post", numbers(3)).await;
        let query = ask(&manager, "ask", "1").await;
        manager.tick().await.unwrap();
        let batch = manager.batch_done(id).await.unwrap();
        assert_eq!((batch.done, batch.counts.success), (false, 3));
        world.work_to_the_end(&manager).await;
        let batch = manager.batch_done(id).await.unwrap();
        assert_eq!(batch.status, Status::Success);
        assert_eq!(read(&manager, &batch, "a.csv").await, "1\n2\n3\n");
        assert_eq!(read(&manager, &batch, "b.csv").await, "1\n2\n3\n");
        let query = manager.batch_done(query).await.unwrap();
        assert_eq!(read(&manager, &query, "a.csv").await, "1\n");
        world.end(&manager).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_outcomes_that_cannot_be_read_are_not_published_until_all_of_them_can() {
    let world = World::new().await;
    let objects = ObjectStore::new(Flaky {
        under: ObjectStore::folder(world.folder()),
        after: false,
        panics: false,
        failures: Arc::new(AtomicU32::new(1)),
    });
    let processor = rows(|cx, input| {
        cx.write_line("a.csv", &input.to_string());
        async { Ok(Value::Null) }.boxed()
    });
    let small = settings(|s| s.block_rows = 7);
    let manager = world
        .builder()
        .objects(objects)
        .batch("bank", "post", processor)
        .settings("bank", "post", Kind::Batch, small)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(30)).await;
    world.work(&manager).await;
    // Between the last row's end and the next try something happens to what was recorded of the last but one block.
    let damage = |from: &str, to: &str| {
        let sql = "update attempts set body = replace(body, ?2, ?3) where batch = ?1 and no = 3";
        let params = (id.0.as_bytes().as_slice(), from, to);
        assert_eq!(world.db().execute(sql, params).unwrap(), 1);
    };
    damage("\"files\":", "\"files\":,");
    let published = world.folder().join(format!("bank/post/{id}/a.csv"));
    for _ in 0..3 {
        world.kit().advance(3_600);
        world.work(&manager).await;
        let batch = manager.batch_done(id).await.unwrap();
        assert_eq!((batch.done, batch.counts.success), (false, 30));
        assert!(!published.exists(), "not a part of it");
    }
    damage("\"files\":,", "\"files\":");
    world.work_to_the_end(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!(batch.status, Status::Success);
    let all: String = (1..=30).map(|n| format!("{n}\n")).collect();
    assert_eq!(read(&manager, &batch, "a.csv").await, all);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_assembled_twice_have_the_same_bytes() {
    let world = World::new().await;
    let mut sums = Vec::new();
    for failures in [0, 1] {
        let objects = ObjectStore::new(Flaky {
            under: ObjectStore::folder(world.folder()),
            after: true,
            panics: false,
            failures: Arc::new(AtomicU32::new(failures)),
        });
        let processor = rows(|cx, input| {
            cx.write_line("a.csv", &format!("{input}, é"));
            async { Ok(json!({"files": {"b.csv": "no file"}, "staged": []})) }.boxed()
        });
        let manager = world
            .builder()
            .objects(objects)
            .batch("bank", "post", processor);
        let small = settings(|s| s.block_rows = 7);
        let manager = manager
            .settings("bank", "post", Kind::Batch, small)
            .build()
            .unwrap();
        let id = submit(&manager, "post", numbers(30)).await;
        world.work_to_the_end(&manager).await;
        let batch = manager.batch_done(id).await.unwrap();
        assert_eq!(
            batch.files.len(),
            1,
            "a result that looks like a file is none"
        );
        sums.push((batch.files[0].size, batch.files[0].sha256.clone()));
        read(&manager, &batch, "a.csv").await;
        world.end(&manager).await;
    }
    assert_eq!(sums[0], sums[1]);
    assert_eq!(sums[0].1.len(), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_there_when_the_batch_has_ended_and_not_before() {
    let world = World::new().await;
    let processor = rows(|cx, _| {
        cx.write_line("a.csv", "x");
        async { Ok(Value::Null) }.boxed()
    });
    let manager = world
        .builder()
        .batch("bank", "post", processor)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(2)).await;
    let early = manager.files(id).await.unwrap_err();
    assert_eq!(
        (early.kind(), early.code()),
        (rowmill::ErrorKind::Conflict, "wrong_state")
    );
    world.work(&manager).await;
    assert_eq!(manager.files(id).await.unwrap().len(), 1);
    world.end(&manager).await;
}
