//! Inputs that a processor takes as they are, and those that let others wait.

use std::io::Read;
use std::sync::mpsc;

use futures_util::FutureExt;
use rowmill::ingest::Options;
use rowmill::{BatchProcessor, NewBatch, RawJson, RowCx, RowFailure};

use super::world::{LONG, World, ask, key, numbers, queries, rows_of, submit};

/// Gives every row back as it came.
struct Echo;

impl BatchProcessor for Echo {
    type Block = ();
    type Context = Box<RawJson>;
    type Input = Box<RawJson>;
    type Output = Box<RawJson>;

    async fn process(
        &self,
        _: &mut RowCx<'_, (), Box<RawJson>>,
        input: Box<RawJson>,
    ) -> Result<Box<RawJson>, RowFailure> {
        Ok(input)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_of_raw_json_gets_and_gives_every_byte() {
    let world = World::new().await;
    let manager = world.builder().batch("bank", "post", Echo).build().unwrap();
    let digits = "9".repeat(100);
    let deep = format!(
        "{}{}",
        "{\"a\":".repeat(499),
        "[1]".to_owned() + &"}".repeat(499)
    );
    let texts = [
        "1e400",
        digits.as_str(),
        r#"{"b":1.10,"a":-0,"b":"\ud800\u0000"}"#,
        r#"[ 1 ,	{ } ]"#,
        "\"\u{2028}\"",
        deep.as_str(),
    ];
    let file: String = texts.iter().map(|text| format!("\t{text} \n")).collect();
    let reader = std::io::Cursor::new(file);
    let new = NewBatch::new(key("post"));
    let submitted = manager.batch_submit_reader(new, reader, Options::jsonl());
    let id = submitted.await.unwrap().batch.id;
    world.work(&manager).await;
    let rows = rows_of(&manager, id).await;
    assert_eq!(rows.len(), texts.len());
    for (row, text) in rows.iter().zip(texts) {
        assert_eq!(row.input.get(), text);
        assert_eq!(
            row.result.as_ref().unwrap().get(),
            text,
            "{:?}",
            row.messages
        );
    }
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_may_answer_with_any_json() {
    let world = World::new().await;
    let echo = queries(|_, input| async { Ok(input) }.boxed());
    let manager = world.builder().slow_query("bank", "ask", echo);
    let manager = manager.build().unwrap();
    for text in ["[1,[2]]", "\"a text\"", "7", "false", "{\"a\":1}", "[]"] {
        let id = ask(&manager, "ask", text).await;
        world.work(&manager).await;
        let query = manager.slow_query_done(id).await.unwrap();
        assert_eq!(query.result.unwrap().unwrap().get(), text);
    }
    world.end(&manager).await;
}

/// Rows that come when they are sent; the end, when the sender is gone.
struct Sent(mpsc::Receiver<&'static [u8]>);

impl Read for Sent {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let Ok(mut text) = self.0.recv() else {
            return Ok(0);
        };
        text.read(buf)
    }
}

/// As many inputs that are slow to come as there are threads for what blocks.
#[test]
fn a_slow_input_holds_no_thread_that_reads_wait_for() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(1);
    let runtime = runtime.enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        let manager = world.builder().batch("bank", "post", Echo).build().unwrap();
        let (sender, inbox) = mpsc::channel();
        sender.send(b"1\n".as_slice()).unwrap();
        let slow =
            manager.batch_submit_reader(NewBatch::new(key("post")), Sent(inbox), Options::jsonl());
        let mut slow = std::pin::pin!(slow);
        assert!(futures_util::poll!(&mut slow).is_pending());
        let id = submit(&manager, "post", numbers(1)).await;
        let read = tokio::time::timeout(LONG, manager.batch_status(id)).await;
        assert_eq!(read.expect("nothing keeps it").unwrap().counts.rows, 1);
        sender.send(b"2\n".as_slice()).unwrap();
        drop(sender);
        assert_eq!(slow.await.unwrap().batch.counts.rows, 2);
        world.end(&manager).await;
    });
    // What waits for it would keep the test from ending.
    runtime.shutdown_background();
}
