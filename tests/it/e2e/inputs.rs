//! Inputs that a processor takes as they are.

use futures_util::FutureExt;
use rowmill::ingest::Options;
use rowmill::{BatchProcessor, NewBatch, RawJson, RowCx, RowFailure};

use super::world::{World, ask, key, queries, rows_of};

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
