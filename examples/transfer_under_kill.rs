//! Money moved in the processor's transaction, while its worker is killed again and again.
//!
//! Every transfer happens exactly once if its row succeeded, and not at all if it failed: the sum
//! over all accounts never changes. On a SQLite file: `cargo run --release --example transfer_under_kill`;
//! on PostgreSQL, where connections are reset too: `… -- --database postgres://USER@HOST/DATABASE`.

use std::process::{Child, Command};
use std::time::Duration;

use rowmill::model::{JobKey, Kind, NewBatch, OpSettings};
use rowmill::{BoxError, CancellationToken, Client, JobManager, NewRow, ObjectStore, Status};

#[path = "transfer_under_kill/bank.rs"]
mod bank;
use bank::{Bank, OnFile, OnServer};

const TRANSFERS: i32 = 20_000;
const ACCOUNTS: i32 = 100;
const KILLS: u32 = 20;

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

fn worker(at: &str, files: &str) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["work", at, files]).spawn()
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rowmill.db");
    let files = folder.path().join("files").display().to_string();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let at = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work", at, files] => return work(at, files).await,
        ["--database", at] => at.to_owned(),
        _ => file.display().to_string(),
    };
    let client = Client::new(bank::store(&at).await?);
    let bank = Bank::open(&at).await?;
    bank.run(
        "drop table if exists demo_accounts; drop table if exists demo_transfers;
         create table demo_accounts (id integer primary key, cents bigint not null);
         create table demo_transfers (line bigint not null);",
    )
    .await?;
    for id in 0..ACCOUNTS {
        let account = format!("insert into demo_accounts values ({id}, 100000)");
        bank.run(&account).await?;
    }
    let rows = (0..TRANSFERS).map(|n| NewRow::json(&(n % ACCOUNTS, n * 7 % ACCOUNTS, n % 100)));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let new = NewBatch::new(JobKey::new("bank", "transfer", Kind::Batch)?);
    let id = client.batch_submit(new, rows).await?.id;

    let mut kills = 0;
    for n in 1..=KILLS {
        let mut child = worker(&at, &files)?;
        let pause = Duration::from_millis((n * 13 % 97 + 20).into());
        let done = client.wait_done(id, Some(pause)).await?.done;
        if n.is_multiple_of(4) {
            bank.reset().await?;
        }
        child.kill()?;
        child.wait()?;
        kills += u32::from(!done);
    }
    let mut last = worker(&at, &files)?;
    let batch = client.wait_done(id, None).await?;
    last.kill()?;
    last.wait()?;

    let sum = "select cast(sum(cents) as bigint) from demo_accounts";
    let sum = bank.number(sum).await?;
    let made = bank.number("select count(*) from demo_transfers").await?;
    let lines = "select count(distinct line) from demo_transfers";
    let twice = made - bank.number(lines).await?;
    eprintln!("the worker was killed {kills} times before the end");
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
