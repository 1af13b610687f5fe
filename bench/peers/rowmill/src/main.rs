//! rowmill by its library: one batch of the file's rows, one worker, everything else as it is by default.

use std::fs::File;
use std::time::Instant;

use rowmill::model::{JobKey, Kind, NewBatch};
use rowmill::{
    BatchProcessor, BoxError, CancellationToken, JobManager, ObjectStore, RowCx, RowFailure, Store,
    ingest::Options,
};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[allow(dead_code)]
struct Posting {
    account: String,
    amount: String,
    r#type: String,
    r#ref: String,
}

#[derive(Serialize)]
struct Posted {
    balance: String,
}

struct Post;

impl BatchProcessor for Post {
    type Block = ();
    type Context = ();
    type Input = Posting;
    type Output = Posted;

    async fn process(&self, _: &mut RowCx<'_, (), ()>, row: Posting) -> Result<Posted, RowFailure> {
        Ok(Posted {
            balance: row.amount,
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let store = Store::postgres_url(&std::env::var("PEER_URL")?).await?;
    let manager = JobManager::builder(store)
        .objects(ObjectStore::folder(folder.path()))
        .batch("bench", "post", Post)
        .build()?;
    let mut batch = None;
    println!("ready");
    for told in std::io::stdin().lines() {
        let began = Instant::now();
        match told?.as_str() {
            "submit" => {
                let rows = File::open(std::env::var("PEER_ROWS")?)?;
                let new = NewBatch::new(JobKey::new("bench", "post", Kind::Batch)?);
                let submitted = manager.batch_submit_reader(new, rows, Options::jsonl());
                batch = Some(submitted.await?.batch.id);
                println!("submitted {}", began.elapsed().as_secs_f64());
            }
            "process" => {
                let id = batch.ok_or("nothing was submitted")?;
                let worker = manager.clone();
                let _working =
                    tokio::spawn(async move { worker.run(CancellationToken::new()).await });
                manager.wait_done(id, None).await?;
                println!("processed {}", began.elapsed().as_secs_f64());
            }
            _ => break,
        }
    }
    Ok(())
}
