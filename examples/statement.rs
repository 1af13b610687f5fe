//! A slow query that writes a statement: streamed to a file, published when the query has succeeded.
//!
//! Run with: `cargo run --example statement`

use rowmill::model::{JobKey, Kind, NewBatch};
use rowmill::{JobManager, Message, ObjectStore, QueryCx, RawJson, RowFailure, SlowQueryProcessor};
use rowmill::{Store, model::Batch};
use tokio::io::AsyncReadExt as _;

#[derive(serde::Deserialize)]
struct Ask {
    account: String,
    days: u32,
}

#[derive(serde::Serialize)]
struct Answer {
    bookings: u32,
    cents: i64,
}

struct Statement;

impl SlowQueryProcessor for Statement {
    type Block = ();
    type Context = ();
    type Input = Ask;
    type Output = Answer;

    async fn query(&self, cx: &mut QueryCx<'_, (), ()>, ask: Ask) -> Result<Answer, RowFailure> {
        if ask.account != "ACC1" {
            return Err(Message::new("no_such_account", 101).field("account").into());
        }
        let mut file = cx.create_file("statement.csv").await?;
        file.write(b"day,cents\n").await?;
        let mut cents = 0;
        for day in 1..=ask.days {
            let booked = i64::from(day) * 250 - 600;
            cents += booked;
            file.write(format!("{day},{booked}\n").as_bytes()).await?;
        }
        cx.finish_file(file).await?;
        let bookings = ask.days;
        Ok(Answer { bookings, cents })
    }

    async fn mark_done(
        &self,
        _: &rowmill::DoneCx<'_, ()>,
        query: &Batch,
    ) -> Result<(), rowmill::BoxError> {
        println!("told: the query is {}", query.status);
        Ok(())
    }
}

async fn ask(manager: &JobManager, input: &str) -> Result<Batch, Box<dyn std::error::Error>> {
    let new = NewBatch::new(JobKey::new("bank", "statement", Kind::Query)?);
    let input = RawJson::from_string(input.to_owned())?;
    let id = manager.slow_query_submit(new, input).await?.id;
    let early = manager.slow_query_done(id).await?;
    println!("asked for {}: {}", early.id, early.status);
    while !manager.tick().await?.is_idle() {}
    Ok(manager.slow_query_done(id).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let manager = JobManager::builder(Store::sqlite(folder.path().join("rowmill.db")).await?)
        .objects(ObjectStore::folder(folder.path().join("files")))
        .slow_query("bank", "statement", Statement)
        .build()?;

    let query = ask(&manager, r#"{"account":"ACC1","days":4}"#).await?;
    if let Some(Some(result)) = &query.result {
        println!("{}: {result}", query.status);
    }
    for file in &query.files {
        let mut text = String::new();
        manager
            .open_file(file)
            .await?
            .read_to_string(&mut text)
            .await?;
        print!("{} ({} bytes)\n{text}", file.name, file.size);
    }

    let query = ask(&manager, r#"{"account":"ACC9","days":4}"#).await?;
    if let Some(Some(messages)) = &query.messages {
        println!("{}: {messages}, {} files", query.status, query.files.len());
    }
    manager.stop().await?;
    Ok(())
}
