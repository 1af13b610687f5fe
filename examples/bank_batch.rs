//! Posts credits and debits from a CSV: bad rows fail with a reason, the others go on.
//!
//! Run with: `cargo run --release --example bank_batch`; with arguments it is `rowmill` itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use rowmill::{Batch, BatchProcessor, BoxError, Builder, DoneCx, InitBlock, Initializer, Message};
use rowmill::{RowCx, RowFailure, model::AppName};
use tokio::sync::Mutex;

const RUN: &str = "run examples/data/transactions.csv --app bank --op post \
    --database sqlite:target/bank_batch/rowmill.db --objects file:target/bank_batch/files";

/// Balances in cents, shared by all rows of the app.
#[derive(Clone)]
struct Accounts(Arc<Mutex<BTreeMap<&'static str, i64>>>);

impl InitBlock for Accounts {}

/// Opens the accounts before the first row.
impl Initializer for Accounts {
    type Block = Accounts;

    async fn init(&self, _: &AppName) -> Result<Accounts, BoxError> {
        Ok(self.clone())
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
        let Some(cents) = cents(&row.amount) else {
            return Err(bad(101, "bad_amount", "amount", &row.amount));
        };
        let (file, change) = match row.r#type.as_str() {
            "credit" => ("credit.csv", cents),
            "debit" => ("debit.csv", -cents),
            other => return Err(bad(102, "unknown_type", "type", other)),
        };
        let mut accounts = cx.block().0.lock().await;
        let Some(balance) = accounts.get_mut(row.account.as_str()) else {
            return Err(bad(103, "no_such_account", "account", &row.account));
        };
        let Some(after) = balance.checked_add(change).filter(|after| *after >= 0) else {
            return Err(bad(104, "not_covered", "amount", &row.amount));
        };
        *balance = after;
        drop(accounts);
        let text = row.text.replace('"', "\"\"");
        let line = format!("{},{},{},\"{text}\"", cx.line(), row.account, money(cents));
        cx.write_line(file, &line);
        Ok(after)
    }

    async fn mark_done(&self, _: &DoneCx<'_, Accounts>, batch: &Batch) -> Result<(), BoxError> {
        eprintln!("told: batch {} has ended: {}", batch.id, batch.status);
        Ok(())
    }
}

fn bad(msgid: u32, errcode: &str, field: &str, value: &str) -> RowFailure {
    Message::new(errcode, msgid).field(field).val(value).into()
}

/// Reads `12`, `12.5` or `12.50` as cents; money is never a float.
fn cents(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|c| c.is_ascii_digit());
    let readable = digits(whole) && digits(part) && part.len() <= 2;
    let cents = format!("{whole}{part:0<2}");
    readable.then(|| cents.parse().ok()).flatten()
}

fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn main() -> ExitCode {
    let opening = [("ACC001", 100_000), ("ACC002", 50_000), ("ACC003", 25_000)];
    let accounts = Accounts(Arc::new(Mutex::new(opening.into())));
    let builder = Builder::new()
        .initializer("bank", accounts.clone())
        .batch("bank", "post", Post);
    if std::env::args_os().len() > 1 {
        return rowmill::cli::run(builder);
    }
    drop(std::env::set_current_dir(env!("CARGO_MANIFEST_DIR")));
    drop(std::fs::remove_dir_all("target/bank_batch"));
    drop(std::fs::create_dir_all("target/bank_batch"));
    let args = RUN.split_whitespace().map(OsString::from);
    let exit = rowmill::cli::run_with(builder, std::env::args_os().chain(args));
    for (account, cents) in accounts.0.blocking_lock().iter() {
        println!("{account} {:>10}", money(*cents));
    }
    // Exit code 1 says that rows failed, which is what is shown here.
    Some(exit)
        .filter(|e| *e != ExitCode::from(1))
        .unwrap_or_default()
}
