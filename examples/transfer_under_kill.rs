//! Money moved in the processor's transaction, while its worker is killed again and again.
//!
//! Every transfer happens exactly once if its row succeeded, and not at all if it failed: the sum
//! over all accounts never changes. Run with: `cargo run --release --example transfer_under_kill`

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rowmill::model::{JobKey, Kind, NewBatch, OpSettings};
use rowmill::sqlite::{TransactionalProcessor, Tx, rusqlite::Connection};
use rowmill::{CancellationToken, Client, JobManager, Message, NewRow, Status, Store};
use rowmill::{ObjectStore, RowCx, RowFailure};

const TRANSFERS: u32 = 20_000;
const ACCOUNTS: u32 = 100;
const KILLS: u32 = 20;

struct Transfer;

impl TransactionalProcessor for Transfer {
    type Block = ();
    type Context = ();
    type Input = (u32, u32, i64);
    type Output = ();

    fn process(
        &self,
        tx: &mut Tx<'_>,
        cx: &mut RowCx<'_, (), ()>,
        (from, to, cents): (u32, u32, i64),
    ) -> Result<(), RowFailure> {
        let change = "update accounts set cents = cents + ?2 where id = ?1";
        tx.execute(change, (from, -cents))?;
        tx.execute("insert into transfers values (?1)", [cx.line().0])?;
        // What was taken and noted is undone: this row has no effect.
        if cents > 95 {
            return Err(Message::new("too_much", 101).into());
        }
        tx.execute(change, (to, cents))?;
        Ok(())
    }
}

async fn work(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // However often a row happens to run when its worker is killed, it is not taken for the cause.
    let settings = OpSettings {
        max_lost: 2 * KILLS,
        ..OpSettings::default()
    };
    let manager = JobManager::builder(Store::sqlite(folder.join("rowmill.db")).await?)
        .objects(ObjectStore::folder(folder.join("files")))
        .transactional("bank", "transfer", Transfer)
        .settings("bank", "transfer", Kind::Batch, settings)
        .build()?;
    Ok(manager.run(CancellationToken::new()).await?)
}

fn worker(folder: &Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).arg(folder).spawn()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = std::env::args_os().nth(1) {
        return work(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rowmill.db");
    let client = Client::new(Store::sqlite(&file).await?);
    let bank = Connection::open(&file)?;
    bank.execute_batch(
        "create table accounts (id integer primary key, cents integer not null);
         create table transfers (line integer not null);",
    )?;
    for id in 0..ACCOUNTS {
        bank.execute("insert into accounts values (?1, 100000)", [id])?;
    }
    let rows = (0..TRANSFERS).map(|n| {
        let (from, to) = (n % ACCOUNTS, n * 7 % ACCOUNTS);
        NewRow::json(&(from, to, n % 100))
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let new = NewBatch::new(JobKey::new("bank", "transfer", Kind::Batch)?);
    let id = client.batch_submit(new, rows).await?.id;

    let mut kills = 0;
    for n in 1..=KILLS {
        let mut child = worker(folder.path())?;
        let batch = client.wait_done(id, Some(Duration::from_millis((n * 13 % 97 + 20).into())));
        let done = batch.await?.done;
        child.kill()?;
        child.wait()?;
        kills += u32::from(!done);
    }
    let mut last = worker(folder.path())?;
    let batch = client.wait_done(id, None).await?;
    last.kill()?;
    last.wait()?;

    let one = |sql: &str| bank.query_row(sql, [], |r| r.get::<_, i64>(0));
    let sum = one("select sum(cents) from accounts")?;
    let (made, twice) = (
        one("select count(*) from transfers")?,
        one("select count(*) - count(distinct line) from transfers")?,
    );
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
