//! The schema: made and brought up to date by one process at a time, in a place of its own.

use tokio_postgres::Client;

use super::errors::postgres_error;
use crate::store::StoreError;

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// The advisory lock under which one process at a time changes the schema.
const LOCK: i64 = 0x726F_776D_696C_6C00;

/// Refuses a server that acknowledges commits which a crash of it takes back.
pub(super) async fn is_durable(client: &Client) -> Result<(), StoreError> {
    let asked = client.query_one("show synchronous_commit", &[]).await;
    let asked = asked.map_err(postgres_error("asking how commits are acknowledged"))?;
    let setting: String = asked
        .try_get(0)
        .map_err(postgres_error("asking how commits are acknowledged"))?;
    if setting == "off" {
        return Err(StoreError::Unusable(
            "synchronous_commit is off for this user and database: what is acknowledged would be lost in a crash; set it to on"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Refuses a database that has no schema of this program's in its search path, or an older or newer one.
pub(super) async fn is_current(client: &Client) -> Result<(), StoreError> {
    let failed = || postgres_error("looking at the schema");
    let there = "select to_regclass('schema_history') is not null";
    let there = client.query_one(there, &[]).await.map_err(failed())?;
    let mut version = None;
    if there.try_get(0).map_err(failed())? {
        let last = "select max(version)::bigint from schema_history";
        let last = client.query_one(last, &[]).await.map_err(failed())?;
        version = last.try_get::<_, Option<i64>>(0).map_err(failed())?;
    }
    let runner = embedded::migrations::runner();
    let newest = runner
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max();
    if version.is_some() && version == newest {
        return Ok(());
    }
    Err(StoreError::Unusable(match version {
        None => "this database has no schema of rowmill's".to_owned(),
        Some(there) => format!(
            "the schema has version {there}, and this program works with version {}",
            newest.unwrap_or(0)
        ),
    }))
}

/// Makes the schema where there is none, and applies what is missing.
pub(super) async fn migrate(client: &mut Client, schema: &str) -> Result<(), StoreError> {
    let failed = || postgres_error("bringing the schema up to date");
    let lock = client.query("select pg_advisory_lock($1)", &[&LOCK]).await;
    lock.map_err(failed())?;
    let done = apply(client, schema).await;
    let unlocked = client
        .query("select pg_advisory_unlock($1)", &[&LOCK])
        .await;
    done?;
    unlocked.map_err(failed())?;
    Ok(())
}

async fn apply(client: &mut Client, schema: &str) -> Result<(), StoreError> {
    let failed = || postgres_error("bringing the schema up to date");
    let place =
        format!("create schema if not exists \"{schema}\"; set search_path to \"{schema}\"");
    client.batch_execute(&place).await.map_err(failed())?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name("schema_history");
    let newest = runner
        .get_migrations()
        .iter()
        .map(refinery::Migration::version)
        .max();
    let unusable =
        |e: refinery::Error| StoreError::unavailable("bringing the schema up to date", e);
    let has_history = "select to_regclass('schema_history') is not null";
    let has_history = client.query_one(has_history, &[]).await;
    let has_history: bool = has_history.map_err(failed())?.get(0);
    let applied = if has_history {
        let last = runner.get_last_applied_migration_async(client).await;
        last.map_err(unusable)?.map(|m| m.version())
    } else {
        None
    };
    if applied > newest {
        return Err(StoreError::Unusable(format!(
            "the schema {schema:?} is newer than this program: it has version {}, and this program knows {}",
            applied.unwrap_or(0),
            newest.unwrap_or(0),
        )));
    }
    if applied < newest {
        runner.run_async(client).await.map_err(unusable)?;
    }
    Ok(())
}
