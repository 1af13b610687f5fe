//! rowmill by its library: one batch of the file's rows, or with `queries` a slow query of each, or with the name of an op
//! in `effects` rows that write a table; one worker, everything else as it is by default.

mod effects;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};

use rowmill::model::{JobKey, Kind, NewBatch};
use rowmill::{
    BatchId, BatchProcessor, BoxError, CancellationToken, Client, JobManager, NewQuery,
    ObjectStore, QueryCx, RowCx, RowFailure, SlowQueryProcessor, Store, ingest::Options,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[allow(dead_code)]
pub struct Posting {
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

impl SlowQueryProcessor for Post {
    type Block = ();
    type Context = ();
    type Input = Posting;
    type Output = Posted;

    async fn query(&self, _: &mut QueryCx<'_, (), ()>, row: Posting) -> Result<Posted, RowFailure> {
        Ok(Posted {
            balance: row.amount,
        })
    }

    fn wants_ends(&self) -> bool {
        false
    }
}

/// A query of each row: so many a call, so many calls at once.
async fn submit_queries(
    client: &Client,
    rows: File,
    (each, callers): (usize, usize),
) -> Result<(), BoxError> {
    let key = JobKey::new("bench", "query", Kind::Query)?;
    let mut lines = BufReader::new(rows).lines();
    let calls = std::iter::from_fn(|| {
        let call: Vec<_> = lines.by_ref().take(each).collect();
        (!call.is_empty()).then_some(call)
    });
    let calls = calls.map(|call| {
        let key = key.clone();
        async move {
            let mut queries = Vec::with_capacity(call.len());
            for line in call {
                queries.push(NewQuery {
                    query: NewBatch::new(key.clone()),
                    input: RawValue::from_string(line?)?,
                });
            }
            client.slow_query_submit_many(queries).await?;
            Ok::<_, BoxError>(())
        }
    });
    let submitted = stream::iter(calls).buffered(callers);
    submitted.try_for_each(|()| async { Ok(()) }).await
}

/// Waits until no query is queued or runs.
async fn all_ended(client: &Client) -> Result<(), BoxError> {
    loop {
        let began = Instant::now();
        let ops = client.ops().await?;
        if ops.iter().all(|op| op.queued.tasks + op.running.tasks == 0) {
            return Ok(());
        }
        // It counts all that is left: what is measured is not to be the measure.
        tokio::time::sleep(Duration::from_millis(2).max(began.elapsed() * 9)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let way = std::env::args().nth(1).unwrap_or_else(|| "post".into());
    let queries = way == "queries";
    let each = std::env::args().nth(2).map_or(Ok(1), |n| n.parse())?;
    let callers = std::env::args().nth(3).map_or(Ok(1), |n| n.parse())?;
    let folder = tempfile::tempdir()?;
    let url = std::env::var("PEER_URL")?;
    let store = Store::postgres_url(&url).await?;
    let written = std::env::var("PEER_ROWS")?;
    effects::make_table(&url, way.starts_with("updates").then_some(&*written)).await?;
    let manager = JobManager::builder(store)
        .objects(ObjectStore::folder(folder.path()))
        .batch("bench", "post", Post)
        .slow_query("bench", "query", Post)
        .transactional("bench", "effects", effects::EachRow::inserts(true))
        .settings("bench", "effects", Kind::Batch, effects::beside())
        .transactional("bench", "effects-in-turn", effects::EachRow::inserts(false))
        .set_based("bench", "effects-of-a-block", effects::Block::inserts())
        .transactional("bench", "updates", effects::EachRow::updates())
        .settings("bench", "updates", Kind::Batch, effects::beside())
        .set_based("bench", "updates-of-a-block", effects::Block::updates())
        .build()?;
    let client = manager.client();
    // What an application does when it starts for the first time: its ops are known from then on.
    let at_once = CancellationToken::new();
    at_once.cancel();
    manager.clone().run(at_once).await?;
    let mut batch: Option<BatchId> = None;
    println!("ready");
    for told in std::io::stdin().lines() {
        let began = Instant::now();
        match told?.as_str() {
            "submit" => {
                let rows = File::open(std::env::var("PEER_ROWS")?)?;
                if queries {
                    submit_queries(&client, rows, (each, callers)).await?;
                } else {
                    let new = NewBatch::new(JobKey::new("bench", &way, Kind::Batch)?);
                    let submitted = manager.batch_submit_reader(new, rows, Options::jsonl());
                    batch = Some(submitted.await?.batch.id);
                }
                println!("submitted {}", began.elapsed().as_secs_f64());
            }
            "process" => {
                let worker = manager.clone();
                let _working =
                    tokio::spawn(async move { worker.run(CancellationToken::new()).await });
                match batch {
                    Some(id) => drop(manager.wait_done(id, None).await?),
                    None => all_ended(&client).await?,
                }
                println!("processed {}", began.elapsed().as_secs_f64());
            }
            _ => break,
        }
    }
    Ok(())
}
