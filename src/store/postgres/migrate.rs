//! The schema: made and brought up to date by one process at a time, in a place of its own.
//!
//! One transaction does it all, and everything that it needs ends with it: behind a pooler nothing else is one's own.

use jiff::Timestamp;
use refinery::Migration;
use tokio_postgres::Client;

use super::errors::postgres_error;
use crate::store::{Schema, StoreError};

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// The advisory lock under which one process at a time changes the schema.
const LOCK: i64 = 0x726F_776D_696C_6C00;
/// The rules of writing that this program keeps; a schema may ask for newer ones.
const WRITER: i64 = 1;

/// How the server acknowledges commits; refuses one that acknowledges what a crash of it takes back.
pub(super) async fn durability(client: &Client) -> Result<String, StoreError> {
    let failed = || postgres_error("asking how commits are acknowledged");
    let asked = "select current_setting('synchronous_commit')";
    let asked = client.query_typed_one(asked, &[]).await;
    let setting: String = asked.map_err(failed())?.try_get(0).map_err(failed())?;
    if setting == "off" {
        return Err(StoreError::Unusable(
            "synchronous_commit is off for this user and database: what is acknowledged would be lost in a crash; set it to on"
                .to_owned(),
        ));
    }
    Ok(setting)
}

fn failed() -> impl FnOnce(tokio_postgres::Error) -> StoreError {
    postgres_error("bringing the schema up to date")
}

/// Makes the schema where there is none, and applies what is missing, where that is not left to a person.
pub(super) async fn migrate(client: &Client, schema: &str, may: bool) -> Result<(), StoreError> {
    // Whoever finds it up to date needs no right to change it, and waits for nobody.
    let found = schema_of(client, schema).await?;
    if !found.pending.is_empty() {
        if !may {
            let what = match found.applied.last() {
                None => format!("the database has no schema {schema:?}"),
                Some(last) => format!("the schema {schema:?} is older than this program ({last})"),
            };
            return Err(StoreError::Unusable(format!(
                "{what} and migrate = \"manual\"; run `rowmill migrate`"
            )));
        }
        bring_up(client, schema).await?;
    }
    may_write(client, schema).await
}

/// Refuses a database whose schema is not there, or is older or newer than this program.
pub(super) async fn is_current(client: &Client, schema: &str) -> Result<(), StoreError> {
    let found = schema_of(client, schema).await?;
    if found.pending.is_empty() {
        return Ok(());
    }
    Err(StoreError::Unusable(match found.applied.last() {
        None => "this database has no schema of rowmill's".to_owned(),
        Some(last) => format!("the schema {schema:?} is older than this program ({last})"),
    }))
}

/// What a schema has and lacks; one that is not there lacks all.
pub(super) async fn schema_of(client: &Client, schema: &str) -> Result<Schema, StoreError> {
    let asked = format!("select to_regclass('\"{schema}\".schema_history') is not null");
    let found = client.query_typed_one(&asked, &[]).await;
    let has_history: bool = found.map_err(failed())?.try_get(0).map_err(failed())?;
    let mut applied = Vec::new();
    if has_history {
        let asked = format!(
            "select version::bigint, name::text, checksum::text from \"{schema}\".schema_history order by version"
        );
        for row in client.query_typed(&asked, &[]).await.map_err(failed())? {
            applied.push(Applied {
                version: row.try_get(0).map_err(failed())?,
                name: row.try_get(1).map_err(failed())?,
                checksum: row.try_get(2).map_err(failed())?,
            });
        }
    }
    let known = known();
    let newest = known.last().map_or(0, Migration::version);
    if let Some(newer) = applied.iter().find(|one| one.version > newest) {
        return Err(StoreError::Unusable(format!(
            "the schema {schema:?} is newer than this program: it has version {}, and this program knows {newest}",
            newer.version,
        )));
    }
    for one in &applied {
        let same = known.iter().find(|m| m.version() == one.version);
        if same.is_none_or(|m| m.name() != one.name || m.checksum().to_string() != one.checksum) {
            return Err(StoreError::Unusable(format!(
                "the schema {schema:?} was made otherwise than by this program: its step {} is another",
                one.version
            )));
        }
    }
    let has = |m: &Migration| applied.iter().any(|one| one.version == m.version());
    let (has, lacks): (Vec<Migration>, Vec<Migration>) = known.into_iter().partition(has);
    let names = |all: Vec<Migration>| all.iter().map(ToString::to_string).collect();
    Ok(Schema {
        applied: names(has),
        pending: names(lacks),
    })
}

struct Applied {
    version: i64,
    name: String,
    checksum: String,
}

/// The migrations, in their order.
fn known() -> Vec<Migration> {
    let mut known = embedded::migrations::runner().get_migrations().clone();
    known.sort();
    known
}

/// The name of the newest migration.
pub(super) fn newest() -> String {
    known().last().map(ToString::to_string).unwrap_or_default()
}

async fn bring_up(client: &Client, schema: &str) -> Result<(), StoreError> {
    let done = apply(client, schema).await;
    if done.is_err() {
        // What went wrong is told; the transaction ends with the connection at the latest.
        drop(client.batch_execute("rollback").await);
    }
    done
}

async fn apply(client: &Client, schema: &str) -> Result<(), StoreError> {
    // Whoever comes second waits here, and finds what the first has done.
    let begin = format!(
        "begin; select pg_advisory_xact_lock({LOCK}); create schema if not exists \"{schema}\"; set local search_path to \"{schema}\";
         create table if not exists schema_history (version bigint primary key, name varchar(255), applied_on varchar(255), checksum varchar(255))"
    );
    client.batch_execute(&begin).await.map_err(failed())?;
    let pending = schema_of(client, schema).await?.pending;
    for migration in known() {
        if !pending.contains(&migration.to_string()) {
            continue;
        }
        let sql = migration.sql().unwrap_or_default();
        let applied = client.batch_execute(sql).await;
        let failed = || postgres_error(format!("applying {migration}"));
        applied.map_err(failed())?;
        // As refinery writes it.
        let (version, name, sum) = (migration.version(), migration.name(), migration.checksum());
        let note = format!(
            "insert into schema_history (version, name, applied_on, checksum) values ({version}, '{name}', '{}', '{sum}')",
            Timestamp::now()
        );
        client.batch_execute(&note).await.map_err(failed())?;
    }
    client.batch_execute("commit").await.map_err(failed())
}

/// Refuses a schema that asks for newer rules of writing than this program keeps.
async fn may_write(client: &Client, schema: &str) -> Result<(), StoreError> {
    let failed = || postgres_error("reading who may write");
    let asked = format!("select value::bigint from \"{schema}\".meta where key = 'min_writer'");
    let found = client
        .query_typed_opt(&asked, &[])
        .await
        .map_err(failed())?;
    let min: i64 = match found {
        Some(row) => row.try_get(0).map_err(failed())?,
        None => 0,
    };
    if min > WRITER {
        return Err(StoreError::Unusable(format!(
            "the schema {schema:?} is written by newer programs than this one; use a newer rowmill"
        )));
    }
    Ok(())
}
