//! Appends through the library: files joined, repeats, what is left when one fails.

use std::io::{Cursor, Read};
use std::sync::mpsc;

use futures_util::FutureExt;
use rowmill::ingest::Options;
use rowmill::model::{NewBatch, Status};
use rowmill::{AppendOptions, Appended, BatchId, Client, ErrorKind, JobManager, NewRow};
use serde_json::{Value, json};

use super::world::{World, code, inputs, key, numbers, query, raw, read, rows, rows_of};

const RELEASE: AppendOptions = AppendOptions {
    key: None,
    release: true,
};

fn keyed(key: &str) -> AppendOptions {
    AppendOptions {
        key: Some(key.to_owned()),
        release: false,
    }
}

fn held() -> NewBatch {
    NewBatch {
        context: raw("{}"),
        hold: true,
        ..NewBatch::new(key("post"))
    }
}

/// A manager whose processor writes each row's input to a file.
fn manager(world: &World) -> JobManager {
    let processor = rows(|cx, input| {
        let line = format!("{} {input}", cx.line());
        cx.write_line("all.txt", &line);
        async { Ok(Value::Null) }.boxed()
    });
    let builder = world.builder().batch("bank", "post", processor);
    builder.build().unwrap()
}

async fn submit_csv(client: &Client, text: &'static str) -> BatchId {
    let submitted = client.batch_submit_reader(held(), text.as_bytes(), Options::csv());
    submitted.await.unwrap().batch.id
}

async fn append_csv(client: &Client, id: BatchId, text: &'static str) -> Appended {
    let append = client.batch_append_reader(
        id,
        text.as_bytes(),
        Options::csv(),
        AppendOptions::default(),
    );
    append.await.unwrap()
}

fn span(appended: &Appended) -> (u64, Option<u32>, Option<u32>, bool) {
    let Appended {
        rows,
        first_line,
        last_line,
        repeated,
        ..
    } = appended;
    (*rows, *first_line, *last_line, *repeated)
}

/// So many rows of about 1.5 kB each, from a number on.
fn large(from: u32, count: u32) -> Vec<NewRow> {
    let padding = "x".repeat(1500);
    let row = |n: u32| NewRow {
        line: None,
        input: raw(&json!({"n": n, "padding": padding}).to_string()),
    };
    (from..from + count).map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_appended_to_is_worked_off_in_the_order_of_its_lines() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = manager.batch_submit(held(), numbers(2)).await.unwrap().id;
    for (n, line) in [(10, 3), (11, 4), (12, 5)] {
        let appended = manager.batch_append(id, inputs(&[json!(n)]), AppendOptions::default());
        let appended = appended.await.unwrap();
        assert_eq!(span(&appended), (1, Some(line), Some(line), false));
        assert_eq!(appended.batch.status, Status::Wait);
    }
    world.work(&manager).await;
    assert_eq!(
        manager.batch_status(id).await.unwrap().counts.pending,
        5,
        "it is held"
    );
    let last = manager
        .batch_append(id, inputs(&[json!(13)]), RELEASE)
        .await
        .unwrap();
    assert_eq!(
        (last.batch.status, last.batch.counts.rows),
        (Status::Queued, 6)
    );
    world.work(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 6));
    assert_eq!(
        read(&manager, &batch, "all.txt").await,
        "1 1\n2 2\n3 10\n4 11\n5 12\n6 13\n"
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_go_on_as_if_the_files_were_joined() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit_csv(&manager, "a,b\n1,2\n\n3,4\n").await;
    // Its header is its line 1, and it has a blank one.
    let appended = append_csv(&manager, id, "b,a\n6,5\n\n8,7\n").await;
    assert_eq!(span(&appended), (2, Some(6), Some(8), false));
    assert_eq!((appended.intake.rows, appended.intake.blank), (2, 1));
    let seen = rows_of(&manager, id).await;
    let seen: Vec<(u32, &str)> = seen.iter().map(|r| (r.line.0, r.input.get())).collect();
    assert_eq!(
        seen,
        [
            (2, r#"{"a":"1","b":"2"}"#),
            (4, r#"{"a":"3","b":"4"}"#),
            (6, r#"{"b":"6","a":"5"}"#),
            (8, r#"{"b":"8","a":"7"}"#)
        ]
    );
    assert_eq!(appended.batch.columns, Some(vec!["a".into(), "b".into()]));
    let more = append_csv(&manager, id, "c,a\n9,10\n").await;
    let columns = Some(vec!["a".into(), "b".into(), "c".into()]);
    assert_eq!((more.first_line, more.batch.columns), (Some(10), columns));
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_csv_without_a_header_has_the_batchs_columns() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit_csv(&manager, "a,b\n1,2\n").await;
    let plain = Options {
        header: false,
        ..Options::csv()
    };
    let text = "3,4\nonly\n";
    let append = manager.batch_append_reader(id, text.as_bytes(), plain, AppendOptions::default());
    let appended = append.await.unwrap();
    assert_eq!(span(&appended), (2, Some(3), Some(4), false));
    assert_eq!(
        appended.intake.first_rejected[0].0, 2,
        "a line of the input"
    );
    let seen = rows_of(&manager, id).await;
    assert_eq!(seen[1].input.get(), r#"{"a":"3","b":"4"}"#);
    assert_eq!(
        (seen[2].status, code(&seen[2]).as_str()),
        (Status::Failed, "field_count")
    );
    manager.wait_off(id).await.unwrap();
    world.work(&manager).await;
    let counts = manager.batch_done(id).await.unwrap().counts;
    assert_eq!((counts.success, counts.failed), (2, 1));
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_append_counts_once_however_often_it_is_made() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = manager.batch_submit(held(), numbers(2)).await.unwrap().id;
    for repeated in [false, true] {
        let appended = manager.batch_append(id, large(0, 3000), AppendOptions::default());
        let appended = appended.await.unwrap();
        assert_eq!(span(&appended), (3000, Some(3), Some(3002), repeated));
        assert_eq!(appended.batch.counts.rows, 3002);
    }
    let other = manager
        .batch_append(id, large(1, 3000), keyed("k"))
        .await
        .unwrap();
    assert_eq!(span(&other), (3000, Some(3003), Some(6002), false));
    let again = manager
        .batch_append(id, large(1, 3000), keyed("k"))
        .await
        .unwrap();
    assert!(again.repeated);
    let refused = manager
        .batch_append(id, large(2, 3000), keyed("k"))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Conflict, "duplicate")
    );
    let facts = world.facts();
    assert_eq!(facts.appends.len(), 2);

    manager.wait_off(id).await.unwrap();
    let late = manager.batch_append(id, large(3, 3000), AppendOptions::default());
    let late = late.await.unwrap_err();
    assert_eq!(
        (late.kind(), late.code()),
        (ErrorKind::Conflict, "wrong_state")
    );
    let again = manager.batch_append(id, large(1, 3000), AppendOptions::default());
    assert!(
        again.await.unwrap().repeated,
        "a repeat of the latest is answered still"
    );
    world.work(&manager).await;
    assert_eq!(manager.batch_done(id).await.unwrap().counts.success, 6002);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_with_and_without_lines_may_be_mixed() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = manager.batch_submit(held(), numbers(2)).await.unwrap().id;
    let mixed = |from: u32| {
        let mut rows = large(0, 4000);
        rows[2000].line = Some(from);
        rows
    };
    let refused = manager.batch_append(id, mixed(2002), AppendOptions::default());
    let refused = refused.await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Invalid, "bad_line")
    );
    assert!(world.facts().appends.is_empty());
    for (from, repeated) in [(5000, false), (5000, true)] {
        let appended = manager.batch_append(id, mixed(from), AppendOptions::default());
        let appended = appended.await.unwrap();
        assert_eq!(span(&appended), (4000, Some(3), Some(6999), repeated));
    }
    let lines = rows_of(&manager, id).await;
    let lines = lines.into_iter().map(|r| r.line.0);
    assert!(lines.eq((1..=2002).chain(5000..7000)));
    for line in [0, 7, 6999] {
        let row = NewRow {
            line: Some(line),
            input: raw("1"),
        };
        let refused = manager.batch_append(id, [row], AppendOptions::default());
        assert_eq!(refused.await.unwrap_err().code(), "bad_line");
    }
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_of_no_rows_changes_nothing_or_releases() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = manager.batch_submit(held(), numbers(1)).await.unwrap().id;
    let nothing = manager
        .batch_append(id, [], AppendOptions::default())
        .await
        .unwrap();
    assert_eq!(span(&nothing), (0, None, None, false));
    assert_eq!(nothing.batch.status, Status::Wait);
    let file = manager.batch_append_reader(id, "a\n\n".as_bytes(), Options::csv(), RELEASE);
    assert_eq!(file.await.unwrap_err().code(), "no_rows");
    assert_eq!(manager.batch_status(id).await.unwrap().status, Status::Wait);
    for _ in 0..2 {
        let released = manager.batch_append(id, [], RELEASE).await.unwrap();
        assert_eq!(released.batch.status, Status::Queued);
    }
    world.work(&manager).await;
    let ended = manager.batch_append(id, [], RELEASE).await.unwrap_err();
    assert_eq!(ended.code(), "wrong_state");
    assert!(world.facts().appends.is_empty());
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_appended_to_is_refused() {
    let world = World::new().await;
    let manager = manager(&world);
    let append = |id, options| manager.batch_append(id, numbers(1), options);
    let missing = append(BatchId::new(), AppendOptions::default()).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    let asked = NewBatch {
        hold: true,
        ..NewBatch::new(query("ask"))
    };
    let asked = manager.slow_query_submit(asked, raw("1")).await.unwrap().id;
    let refused = append(asked, AppendOptions::default()).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Invalid, "wrong_kind")
    );
    let id = manager.batch_submit(held(), numbers(1)).await.unwrap().id;
    for key in [String::new(), "k".repeat(501)] {
        assert_eq!(append(id, keyed(&key)).await.unwrap_err().code(), "bad_key");
    }
    world.end(&manager).await;
}

/// Gives text, then waits at a gate, then fails.
struct Fails {
    text: Cursor<Vec<u8>>,
    here: mpsc::SyncSender<()>,
    go: mpsc::Receiver<()>,
}

impl Read for Fails {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        match self.text.read(to)? {
            0 => {
                let _ = self.here.send(());
                let _ = self.go.recv();
                Err(std::io::Error::other("the pipe broke"))
            }
            some => Ok(some),
        }
    }
}

/// A reader of several pieces, where it waits, and what lets it fail.
fn breaking() -> (Fails, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let text = format!("n\n{}", format!("{}\n", "x".repeat(1000)).repeat(8000));
    let (here, came) = mpsc::sync_channel(1);
    let (open, go) = mpsc::channel();
    let text = Cursor::new(text.into_bytes());
    (Fails { text, here, go }, came, open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_input_breaks_leaves_nothing() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit_csv(&manager, "n\n1\n").await;
    let (reader, _came, open) = breaking();
    drop(open);
    let broken = manager.batch_append_reader(id, reader, Options::csv(), RELEASE);
    let broken = broken.await.unwrap_err();
    assert_eq!(
        (broken.kind(), broken.code()),
        (ErrorKind::Invalid, "unreadable_input")
    );
    let facts = world.facts();
    assert!(facts.appends.is_empty());
    assert_eq!(facts.blocks.len(), 1);
    let appended = append_csv(&manager, id, "n\n2\n").await;
    assert_eq!(span(&appended), (1, Some(4), Some(4), false));
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_is_dropped_makes_place_at_once() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit_csv(&manager, "n\n1\n").await;
    let (reader, came, open) = breaking();
    let client = manager.client().clone();
    let appending = tokio::spawn(async move {
        let append = client.batch_append_reader(id, reader, Options::csv(), RELEASE);
        append.await.map(drop)
    });
    tokio::task::spawn_blocking(move || came.recv().unwrap())
        .await
        .unwrap();
    // Its first piece was read; whether it was stored, the next look tells.
    while world.facts().appends.is_empty() {
        tokio::task::yield_now().await;
    }
    appending.abort();
    assert!(appending.await.unwrap_err().is_cancelled());
    // No second of the clock goes by: it is not its silence that makes place.
    let appended = loop {
        let append = manager.batch_append(id, numbers(1), AppendOptions::default());
        match append.await {
            Ok(appended) => break appended,
            Err(refused) => assert_eq!(refused.code(), "append_in_progress"),
        }
    };
    assert_eq!(span(&appended), (1, Some(3), Some(3), false));
    drop(open);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_appends_and_releases_is_kept() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = manager.batch_submit(held(), numbers(1)).await.unwrap().id;
    let ann = manager.client().acting_as("ann");
    ann.batch_append(id, numbers(2), RELEASE).await.unwrap();
    let audit = world.facts().audit;
    let told: Vec<(&str, &str)> = audit.iter().map(|a| (a.0.as_str(), a.1.as_str())).collect();
    assert_eq!(told, [("ann", "append"), ("ann", "release")]);
    assert_eq!(world.facts().appends[0].by, "ann");
    world.end(&manager).await;
}
