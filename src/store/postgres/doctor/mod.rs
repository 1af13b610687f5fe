//! doctor: looks at the server, at the schema and at what is in it, and says what is wrong; changes nothing.
//!
//! Every read is a short transaction of its own, behind a pooler too.

mod pieces;
mod schema;
mod server;

use tokio_postgres::types::{ToSql, Type};

use super::errors::postgres_error;
use super::{Options, PostgresStore, migrate};
use crate::model::{Timestamp, WorkerNo};
use crate::store::steps::doctor::{Words, looks};
use crate::store::{Check, Diagnosis, StoreError};
use pieces::Pieces;

const WORDS: Words = Words {
    report: "restore the database from a backup, and report it with this text: it must not happen",
    unread: "make the server answer, and give this role what `rowmill migrate --grants ROLE` prints",
};
const REACH: &str = "start the server, or correct its address in `database`; `psql` with the same address tells more";

impl PostgresStore {
    /// Looks at everything. What cannot be read is a finding, except what makes the database none of ours.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the schema is newer than this program, or not this program's.
    pub async fn doctor(options: &Options, now: Timestamp) -> Result<Diagnosis, StoreError> {
        let options = options.clone().checked()?;
        let mut found = Diagnosis::default();
        let (first, is_pooler) = match options.first().await {
            Ok(first) => first,
            Err(error @ StoreError::Unusable(_)) => return Err(error),
            Err(error) => {
                let check = Check::repair("server", error.to_string(), REACH);
                found.checks.push(check);
                return Ok(found);
            }
        };
        let schema = match migrate::schema_of(&first, &options.schema).await {
            Ok(schema) => schema,
            Err(error @ StoreError::Unusable(_)) => return Err(error),
            Err(error) => {
                found.checks.push(WORDS.unread("schema", &error));
                return Ok(found);
            }
        };
        let pieces = Pieces::new(first, &options.schema);
        server::looks(&pieces, now, &options, &mut found.checks).await;
        found.checks.push(server::pooler(&options, is_pooler).await);
        found.checks.push(schema::version(&schema));
        if schema.applied.is_empty() || !schema.pending.is_empty() {
            // What is in it is looked at by statements that know the newest schema alone.
            return Ok(found);
        }
        found.checks.push(schema::drift(&pieces).await);
        let dead = dead(&pieces, &options).await;
        looks(&pieces, dead, now, &WORDS, &mut found).await;
        Ok(found)
    }
}

/// Workers that have not ended and do not live; also those that have and still own tasks.
async fn dead(c: &Pieces, options: &Options) -> Result<Vec<WorkerNo>, StoreError> {
    let failed = || postgres_error("looking for dead workers");
    let key = i64::from(options.lives());
    let silence = options.heartbeat.as_secs_f64();
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&key, Type::INT8), (&silence, Type::FLOAT8)];
    let locks = c.ask(alone!("locks"), &params).await?;
    let locks = locks.first().ok_or_else(|| {
        StoreError::unavailable("looking for dead workers", "nothing is said of locks")
    })?;
    let held: Vec<i64> = locks.try_get(0).map_err(failed())?;
    let mut dead = Vec::new();
    for row in c.ask(alone!("dead"), &[(&silence, Type::FLOAT8)]).await? {
        let no: i64 = row.try_get(0).map_err(failed())?;
        let heard: bool = row.try_get(2).map_err(failed())?;
        if !heard || !held.contains(&no) {
            dead.push(WorkerNo(no));
        }
    }
    Ok(dead)
}
