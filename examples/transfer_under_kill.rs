//! Money moved in the processor's transaction, while one of two workers is killed again and again.
//!
//! Every transfer happens exactly once if its row succeeded, and not at all if it failed: the sum over all accounts
//! never changes. On a SQLite file: `cargo run --release --example transfer_under_kill`; on PostgreSQL, where
//! connections are reset and the server restarts, too:
//! `… -- --database postgres://USER@HOST/DATABASE --restart 'systemctl restart postgresql'`. Who is killed, and when,
//! is random; `--seed N` chooses as the run did that printed N.

use std::time::{Duration, Instant};

use rowmill::model::{JobKey, Kind, NewBatch, OpSettings};
use rowmill::{BoxError, CancellationToken, Client, JobManager, NewRow, ObjectStore, Status};

#[path = "transfer_under_kill/bank.rs"]
mod bank;
#[path = "transfer_under_kill/disturbance.rs"]
mod disturbance;
use bank::{Bank, OnFile, OnServer};
use disturbance::{Asked, Dice, Worker, shell};

const TRANSFERS: i32 = 20_000;
const ACCOUNTS: i32 = 100;
const KILLS: u32 = 20;
const LONG: Duration = Duration::from_secs(600);

async fn work(at: &str, files: &str) -> Result<(), BoxError> {
    // However often a row happens to run when its worker is killed, it is not taken for the cause.
    let settings = OpSettings {
        max_lost: 2 * KILLS,
        ..OpSettings::default()
    };
    let manager = JobManager::builder(bank::store(at).await?)
        .objects(ObjectStore::folder(files))
        .transactional("bank", "transfer", OnFile)
        .transactional("bank", "transfer", OnServer)
        .settings("bank", "transfer", Kind::Batch, settings)
        .build()?;
    Ok(manager.run(CancellationToken::new()).await?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rowmill.db");
    let files = folder.path().join("files").display().to_string();
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [what, at, files] = &args[..]
        && what == "work"
    {
        return work(at, files).await;
    }
    let asked = Asked::read(&args)?;
    let at = asked.database.unwrap_or(file.display().to_string());
    let client = Client::new(bank::store(&at).await?);
    let bank = Bank::open(&at)?;
    bank.prepare(ACCOUNTS).await?;
    let rows = (0..TRANSFERS).map(|n| NewRow::json(&(n % ACCOUNTS, n * 7 % ACCOUNTS, n % 100)));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let new = NewBatch::new(JobKey::new("bank", "transfer", Kind::Batch)?);
    let id = client.batch_submit(new, rows).await?.id;

    let (mut dice, began) = (Dice(asked.seed), Instant::now());
    let (mut kills, mut resets, mut restarts) = (0, 0, 0);
    let mut workers = [Worker::start(&at, &files)?, Worker::start(&at, &files)?];
    let batch = loop {
        let pause = dice.pause();
        match client.wait_done(id, Some(pause)).await {
            Ok(batch) if batch.done => break batch,
            Ok(_) => {}
            Err(error) if began.elapsed() > LONG => return Err(error.into()),
            // A server that restarts is away for a moment.
            Err(_) => tokio::time::sleep(pause).await,
        }
        if kills < KILLS {
            workers[usize::from(dice.roll(2) == 0)].kill()?;
            kills += 1;
            if dice.roll(3) == 0 {
                resets += bank.reset().await?;
            }
            if let Some(command) = &asked.restart
                && restarts < 3
                && dice.roll(4) == 0
            {
                shell(command)?;
                restarts += 1;
            }
        }
        workers.iter_mut().try_for_each(Worker::revive)?;
    };
    drop(workers);

    let sum = bank
        .number("select cast(sum(cents) as bigint) from demo_accounts")
        .await?;
    let made = bank.number("select count(*) from demo_transfers").await?;
    let lines = "select count(distinct line) from demo_transfers";
    let twice = made - bank.number(lines).await?;
    eprintln!(
        "seed {}: a worker was killed {kills} times, {resets} connections were reset",
        asked.seed
    );
    let not = if restarts == 0 { "not " } else { "" };
    eprintln!("the server was {not}restarted ({restarts} times)");
    println!(
        "{}: {} of {TRANSFERS} rows succeeded",
        batch.status, batch.counts.success
    );
    println!("transfers made: {made}, of these twice: {twice}");
    println!("sum over all accounts: {sum} cents, as before");
    assert_eq!(
        (batch.status, twice, sum),
        (Status::Failed, 0, i64::from(ACCOUNTS) * 100_000)
    );
    assert_eq!(u64::try_from(made)?, batch.counts.success);
    Ok(())
}
