//! Scores payments a task at a time: one look at the limits for all rows, and a bad row alone.
//!
//! Run with: `cargo run --example chunk`

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use rowmill::ingest::Options;
use rowmill::model::{JobKey, Kind, NewBatch};
use rowmill::{ChunkCx, ChunkOut, ChunkProcessor, InputRow, Message, RowFailure};
use rowmill::{JobManager, ObjectStore, Store};

const PAYMENTS: &str = "\
account,cents
ACC1,1000
ACC2,70000
ACC1,9100
ACC3,5
ACC2,much
";

#[derive(serde::Deserialize)]
struct Payment {
    account: String,
    cents: String,
}

struct Score;

/// What an account may pay a day, as one query for all accounts of a chunk would tell.
fn limits<'a>(accounts: impl Iterator<Item = &'a str>) -> BTreeMap<String, u64> {
    accounts
        .filter(|account| *account != "ACC3")
        .map(|account| (account.to_owned(), 10_000))
        .collect()
}

impl ChunkProcessor for Score {
    type Block = ();
    type Context = ();
    type Input = Payment;
    type Output = u64;

    async fn process(
        &self,
        _: &ChunkCx<'_, (), ()>,
        rows: Vec<InputRow<Payment>>,
        out: &mut ChunkOut<u64>,
    ) -> Result<(), RowFailure> {
        let limits = limits(rows.iter().map(|row| row.input.account.as_str()));
        println!("{} rows, {} limits in one look", rows.len(), limits.len());
        for (at, row) in rows.iter().enumerate() {
            let Payment { account, cents } = &row.input;
            let Ok(cents) = cents.parse::<u64>() else {
                out.failure(at, Message::new("bad_amount", 101).field("cents").into());
                continue;
            };
            match limits.get(account) {
                None => out.failure(at, Message::new("no_such_account", 102).val(account).into()),
                Some(limit) => out.success(at, &(cents * 100 / limit)),
            }
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let manager = JobManager::builder(Store::sqlite(folder.path().join("rowmill.db")).await?)
        .objects(ObjectStore::folder(folder.path().join("files")))
        .chunk("bank", "score", Score)
        .build()?;
    let new = NewBatch::new(JobKey::new("bank", "score", Kind::Batch)?);
    let submission = manager
        .batch_submit_reader(new, PAYMENTS.as_bytes(), Options::csv())
        .await?;
    let id = submission.batch.id;
    while !manager.tick().await?.is_idle() {}

    let mut rows = std::pin::pin!(manager.rows(id, None));
    while let Some(row) = rows.try_next().await? {
        let said = row.result.or(row.messages);
        println!(
            "line {}: {} {}",
            row.line,
            row.status,
            said.map_or_else(String::new, |json| json.get().to_owned())
        );
    }
    manager.stop().await?;
    Ok(())
}
