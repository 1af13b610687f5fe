//! Posts credits and debits from a CSV: bad rows fail with a reason, the others go on.
//!
//! Run with: `cargo run --release --example bank_batch`, which starts afresh each time. With
//! arguments it is the `rowmill` command with this processor in it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use rowmill::model::AppName;
use rowmill::{Batch, BatchProcessor, BoxError, Builder, DoneCx, InitBlock, Initializer, Message};
use rowmill::{RowCx, RowFailure};

/// Balances in cents, shared by all rows of the app.
#[derive(Clone)]
struct Accounts(Arc<Mutex<BTreeMap<String, i64>>>);

impl InitBlock for Accounts {}

/// Opens the accounts before the first row.
struct OpenBank(Accounts);

impl Initializer for OpenBank {
    type Block = Accounts;

    async fn init(&self, _: &AppName) -> Result<Accounts, BoxError> {
        Ok(self.0.clone())
    }
}

#[derive(serde::Deserialize)]
struct Transaction {
    account: String,
    r#type: String,
    amount: String,
    text: String,
}

struct Post;

impl BatchProcessor for Post {
    type Block = Accounts;
    type Context = ();
    type Input = Transaction;
    type Output = i64;

    async fn process(
        &self,
        cx: &mut RowCx<'_, Accounts, ()>,
        row: Transaction,
    ) -> Result<i64, RowFailure> {
        let bad =
            |id, code: &str, field: &str, val: &str| Message::new(code, id).field(field).val(val);
        let cents =
            cents(&row.amount).ok_or_else(|| bad(101, "bad_amount", "amount", &row.amount))?;
        let (file, change) = match row.r#type.as_str() {
            "credit" => ("credit.csv", cents),
            "debit" => ("debit.csv", -cents),
            other => return Err(bad(102, "unknown_type", "type", other).into()),
        };
        let balance = {
            let mut accounts = cx.block().0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(balance) = accounts.get_mut(&row.account) else {
                return Err(bad(103, "no_such_account", "account", &row.account).into());
            };
            if *balance + change < 0 {
                return Err(bad(104, "not_covered", "amount", &row.amount).into());
            }
            *balance += change;
            *balance
        };
        let text = row.text.replace('"', "\"\"");
        let line = format!("{},{},{},\"{text}\"", cx.line(), row.account, money(cents));
        cx.write_line(file, &line);
        Ok(balance)
    }

    async fn mark_done(&self, _: &DoneCx<'_, Accounts>, batch: &Batch) -> Result<(), BoxError> {
        println!("told: batch {} has ended: {}", batch.id, batch.status);
        Ok(())
    }
}

/// Reads `12`, `12.5` or `12.50` as cents; money is never a float.
fn cents(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|c| c.is_ascii_digit());
    let readable = digits(whole) && digits(part) && part.len() <= 2;
    let part: i64 = readable.then(|| format!("{part:0<2}").parse().ok())??;
    whole
        .parse::<i64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(part)
}

fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn main() -> ExitCode {
    let opening = [("ACC001", 100_000), ("ACC002", 50_000), ("ACC003", 25_000)];
    let opening = opening.map(|(account, cents)| (account.to_owned(), cents));
    let accounts = Accounts(Arc::new(Mutex::new(opening.into())));
    let builder = Builder::new()
        .initializer("bank", OpenBank(accounts.clone()))
        .batch("bank", "post", Post);
    if std::env::args_os().len() > 1 {
        return rowmill::cli::run(builder);
    }

    let home = env!("CARGO_MANIFEST_DIR");
    let folder = format!("{home}/target/bank_batch");
    drop(std::fs::remove_dir_all(&folder));
    drop(std::fs::create_dir_all(&folder));
    let input = format!("{home}/examples/data/transactions.csv");
    let database = format!("sqlite:{folder}/rowmill.db");
    let objects = format!("file:{folder}/files");
    let run = ["run", &input, "--app", "bank", "--op", "post"];
    let flags = ["--database", &database, "--objects", &objects];
    let args = run.iter().chain(&flags).map(OsString::from);
    let exit = rowmill::cli::run_with(builder, std::env::args_os().chain(args));
    for (account, cents) in accounts
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        println!("{account} {:>10}", money(*cents));
    }
    // Bad rows are what this example shows.
    if exit == ExitCode::from(1) {
        ExitCode::SUCCESS
    } else {
        exit
    }
}
