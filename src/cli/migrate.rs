//! `migrate`: brings the database's schema up to date, or says what would be applied.

use serde::Serialize;

use super::args::Migrate;
use super::exit::Failure;
use super::output;
use super::session::Session;
use crate::config;
use crate::error::Error;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Schema, StoreError};

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
    if let Some(role) = &args.grants {
        return grants(session, role);
    }
    let (database, before, now) = match session.postgres()? {
        Some(options) => of_server(session, options, args.dry_run).await?,
        None => of_file(session, args.dry_run).await?,
    };
    let answer = match now {
        None => Answer {
            database,
            has: before.applied,
            applied: Vec::new(),
            pending: before.pending,
        },
        Some(now) => Answer {
            database,
            has: now.applied,
            applied: before.pending,
            pending: now.pending,
        },
    };
    if session.json {
        return output::print_json(&answer);
    }
    output::print(&text(&answer))
}

/// A database with what it had, and what it has where it was brought up to date.
type Schemas = (String, Schema, Option<Schema>);

async fn of_file(session: &Session, dry_run: bool) -> Result<Schemas, Failure> {
    let path = session.database().to_owned();
    let options = Options::new(&path);
    let before = schema(options.clone()).await?;
    let now = if dry_run {
        None
    } else {
        drop(SqliteStore::open(options.clone()).await?);
        Some(schema(options).await?)
    };
    Ok((path.display().to_string(), before, now))
}

async fn of_server(
    session: &Session,
    options: postgres::Options,
    dry_run: bool,
) -> Result<Schemas, Failure> {
    let shown = config::mask(&session.config.database.value);
    let before = PostgresStore::schema(&options).await?;
    let now = if dry_run {
        None
    } else {
        PostgresStore::migrate(&options).await?;
        Some(PostgresStore::schema(&options).await?)
    };
    Ok((shown, before, now))
}

/// Prints what a role without the right to change tables needs.
fn grants(session: &Session, role: &str) -> Result<(), Failure> {
    let Some(options) = session.postgres()? else {
        let text = "--grants is for a PostgreSQL database: a file knows no roles";
        return Err(Failure::invalid("usage", text));
    };
    output::print(&options.grants(role).map_err(Error::from)?)
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
