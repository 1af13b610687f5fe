//! apalis on PostgreSQL: one task a row; the result is kept with the task.
//! `peer BATCH_SIZE PARALLEL` (1: tasks run on all cores)

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_postgres::{Config, *};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Posting {
    account: String,
    amount: String,
    r#type: String,
    r#ref: String,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Posted {
    balance: String,
}

const CALL: usize = 10_000;
static WORKED: AtomicUsize = AtomicUsize::new(0);

async fn post(row: Posting) -> Result<Posted, BoxDynError> {
    WORKED.fetch_add(1, Ordering::Relaxed);
    Ok(Posted {
        balance: row.amount,
    })
}

#[tokio::main]
async fn main() -> Result<(), BoxDynError> {
    let args: Vec<String> = std::env::args().collect();
    let batch_size: Option<usize> = args[1].parse().ok().filter(|size| *size > 0);
    let parallel = args[2] == "1";
    let pool = PgPoolOptions::new().max_connections(20);
    let pool = pool.connect(&std::env::var("PEER_URL")?).await?;
    PostgresStorage::setup(&pool).await?;
    let mut config = Config::default().queue("posting");
    if let Some(size) = batch_size {
        config = config.batch_size(size).lock_tasks(false);
    }
    let mut backend = PostgresStorage::new(&pool).with_config(config.persist_results(true));
    let mut count = 0;
    println!("ready");
    for told in std::io::stdin().lines() {
        let began = Instant::now();
        match told?.as_str() {
            "submit" => {
                let mut rows = BufReader::new(File::open(std::env::var("PEER_ROWS")?)?).lines();
                loop {
                    let mut tasks: Vec<Posting> = Vec::with_capacity(CALL);
                    for row in rows.by_ref().take(CALL) {
                        tasks.push(serde_json::from_str(&row?)?);
                    }
                    if tasks.is_empty() {
                        break;
                    }
                    count += tasks.len();
                    backend.push_bulk(tasks).await?;
                }
                println!("submitted {}", began.elapsed().as_secs_f64());
            }
            "process" => {
                let worker = WorkerBuilder::new("peer").backend(backend.clone());
                let worker: std::pin::Pin<Box<dyn Future<Output = ()>>> = if parallel {
                    let worker = worker.parallelize(tokio::spawn).build(post);
                    Box::pin(async move { drop(worker.run().await) })
                } else {
                    let worker = worker.build(post);
                    Box::pin(async move { drop(worker.run().await) })
                };
                let done = async {
                    while WORKED.load(Ordering::Relaxed) < count {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    // Results are recorded a little later, many at once.
                    let open = "select exists (select from apalis.jobs where status <> 'Done')";
                    while sqlx::query_scalar::<_, bool>(open).fetch_one(&pool).await? {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Ok::<_, BoxDynError>(())
                };
                tokio::select! {
                    () = worker => return Err("the worker ended".into()),
                    ended = done => ended?,
                }
                println!("processed {}", began.elapsed().as_secs_f64());
            }
            _ => break,
        }
    }
    std::process::exit(0)
}
