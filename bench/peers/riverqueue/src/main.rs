//! River's client for Rust: one job a row; the result is recorded as the job's output.
//! `peer WORKERS COOLDOWN_MS POLL_MS CALL`

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use riverqueue::migrate::PostgresMigrator;
use riverqueue::sqlx::postgres::PgPoolOptions;
use riverqueue::{BoxError, Client, Job, JobArgs, QueueConfig, WorkContext, WorkOutcome, Workers};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, JobArgs, Serialize)]
#[river(kind = "posting")]
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

static WORKED: AtomicU64 = AtomicU64::new(0);

async fn post(context: WorkContext, job: Job<Posting>) -> Result<WorkOutcome, BoxError> {
    context.record_output(Posted {
        balance: job.args.amount,
    })?;
    WORKED.fetch_add(1, Ordering::Relaxed);
    Ok(WorkOutcome::Complete)
}

async fn submit(client: &Client, call: usize) -> Result<u64, BoxError> {
    let mut rows = BufReader::new(File::open(std::env::var("PEER_ROWS")?)?).lines();
    let mut count = 0;
    loop {
        let mut jobs: Vec<Posting> = Vec::with_capacity(call);
        for row in rows.by_ref().take(call) {
            jobs.push(serde_json::from_str(&row?)?);
        }
        if jobs.is_empty() {
            return Ok(count);
        }
        count += jobs.len() as u64;
        client.insert_many(jobs).await?;
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args[at].parse::<usize>();
    let ms = |at: usize| number(at).map(|ms| Duration::from_millis(ms as u64));
    let (workers, cooldown, poll, call) = (number(1)?, ms(2)?, ms(3)?, number(4)?);
    let pool = PgPoolOptions::new().max_connections(20);
    let pool = pool.connect(&std::env::var("PEER_URL")?).await?;
    PostgresMigrator::new(pool.clone()).migrate_up().await?;
    let mut registry = Workers::new();
    registry.add_fn(post)?;
    let queue = QueueConfig::new(workers).with_fetch_poll_interval(poll);
    let client = Client::builder(pool.clone())
        .workers(registry)
        .fetch_cooldown(cooldown)
        .queue("default", queue)
        .build()?;
    let mut count = 0;
    let mut running = None;
    println!("ready");
    for told in std::io::stdin().lines() {
        let began = Instant::now();
        match told?.as_str() {
            "submit" => {
                count = submit(&client, call).await?;
                println!("submitted {}", began.elapsed().as_secs_f64());
            }
            "process" => {
                running = Some(client.start()?);
                while WORKED.load(Ordering::Relaxed) < count {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                // Ends are recorded a little later, many at once.
                let open = "select exists (select from river_job where state <> 'completed')";
                while riverqueue::sqlx::query_scalar::<_, bool>(open)
                    .fetch_one(&pool)
                    .await?
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                println!("processed {}", began.elapsed().as_secs_f64());
            }
            _ => break,
        }
    }
    drop(running);
    std::process::exit(0)
}
