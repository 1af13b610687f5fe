//! `migrate`: brings the database's schema up to date, or says what would be applied.

use serde::Serialize;

use super::args::Migrate;
use super::exit::Failure;
use super::output;
use super::session::Session;
use crate::error::Error;
use crate::store::StoreError;
use crate::store::sqlite::{Options, Schema, SqliteStore};

/// What `migrate --json` prints.
#[derive(Serialize)]
struct Answer {
    database: String,
    /// Migrations that the database has now.
    has: Vec<String>,
    /// Those that this command applied.
    applied: Vec<String>,
    /// Those that are still to be applied.
    pending: Vec<String>,
}

pub(super) async fn run(session: &Session, args: &Migrate) -> Result<(), Failure> {
    session.on_a_file("migrate")?;
    let path = session.database().to_owned();
    let options = Options::new(&path);
    let before = schema(options.clone()).await?;
    let answer = if args.dry_run {
        Answer {
            database: path.display().to_string(),
            has: before.applied,
            applied: Vec::new(),
            pending: before.pending,
        }
    } else {
        drop(SqliteStore::open(options.clone()).await?);
        let now = schema(options).await?;
        Answer {
            database: path.display().to_string(),
            has: now.applied,
            applied: before.pending,
            pending: now.pending,
        }
    };
    if session.json {
        return output::print_json(&answer);
    }
    output::print(&text(&answer))
}

/// Looks beside the runtime: it waits for the file.
async fn schema(options: Options) -> Result<Schema, Failure> {
    let looked = tokio::task::spawn_blocking(move || SqliteStore::schema(&options)).await;
    let looked = looked.map_err(|e| StoreError::unavailable("reading the schema", e));
    Ok(looked.and_then(|schema| schema).map_err(Error::from)?)
}

fn text(answer: &Answer) -> String {
    let Answer {
        database,
        has,
        applied,
        pending,
    } = answer;
    let list = |names: &[String]| -> String { names.iter().map(|n| format!("  {n}\n")).collect() };
    if !applied.is_empty() {
        return format!("{database}: applied\n{}", list(applied));
    }
    if !pending.is_empty() {
        return format!("{database}: to be applied\n{}", list(pending));
    }
    let newest = has.last().map_or("", String::as_str);
    format!("{database}: up to date ({newest})\n")
}
