//! Steps inside a transaction that somebody else has open.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use super::errors::postgres_error;
use super::own::CHANNEL;
use super::ready::Ready;
use super::tx::Link;
use super::{SCHEMA, migrate};
use crate::model::{BatchId, Block, NewBatch, Timestamp};
use crate::store::steps::db::Sql;
use crate::store::steps::discard::{self, InTheWay};
use crate::store::steps::single::Known;
use crate::store::steps::submit;
use crate::store::{StoreError, Submitted};

/// Another may submit the same at the same moment: it is looked for again so often.
const TRIES: u32 = 3;

/// The transaction of another, as the steps see it.
struct Joined<'a> {
    client: &'a Client,
    wrote: AtomicBool,
    later: Mutex<BTreeSet<BatchId>>,
}

impl Joined<'_> {
    async fn run(&self, sql: &str) -> Result<(), StoreError> {
        let done = self.client.batch_execute(sql).await;
        done.map_err(postgres_error("submitting inside a transaction"))
    }
}

impl Link for Joined<'_> {
    fn link(&self) -> Result<&Client, StoreError> {
        Ok(self.client)
    }

    // Its owner's connection keeps nothing of ours, and may have a pooler in between.
    async fn prepared(&self, sql: Sql) -> Result<Ready, StoreError> {
        Ok(Ready::Unnamed(sql.postgres))
    }

    fn wrote(&self) -> &AtomicBool {
        &self.wrote
    }

    fn later(&self) -> MutexGuard<'_, BTreeSet<BatchId>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody else has inserted the same meanwhile.
fn is_there_now(error: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = error else {
        return false;
    };
    let error = source.downcast_ref::<tokio_postgres::Error>();
    error.and_then(tokio_postgres::Error::code) == Some(&SqlState::UNIQUE_VIOLATION)
}

/// As [`submit::submit`], undone as a whole where it fails; the transaction is its owner's. Others are woken by
/// its commit.
pub(crate) async fn submit_within(
    tx: &Transaction<'_>,
    batch: &NewBatch,
    blocks: &[Block],
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    let joined = Joined {
        client: tx.client(),
        wrote: AtomicBool::new(false),
        later: Mutex::default(),
    };
    let failed = || postgres_error("submitting inside a transaction");
    let path = "select current_setting('search_path')";
    let path = tx.query_typed_one(path, &[]).await.map_err(failed())?;
    let path: String = path.try_get(0).map_err(failed())?;
    // What is set behind the savepoint goes with it, where it is undone.
    let begin = format!("savepoint rowmill_submit; set local search_path to \"{SCHEMA}\"");
    joined.run(&begin).await?;
    let mut tries = 0;
    let done = loop {
        let done = once(&joined, batch, blocks, hash, now).await;
        tries += 1;
        match done {
            Err(error) if is_there_now(&error) && tries < TRIES => {
                let again = format!(
                    "rollback to savepoint rowmill_submit; set local search_path to \"{SCHEMA}\""
                );
                joined.run(&again).await?;
            }
            done => break done,
        }
    };
    match done {
        Ok(done) => {
            let set = "select set_config('search_path', $1, true)";
            let set = tx.query_typed(set, &[(&path, Type::TEXT)]).await;
            set.map_err(failed())?;
            joined
                .run(&format!(
                    "release savepoint rowmill_submit; notify {CHANNEL}"
                ))
                .await?;
            Ok(done)
        }
        Err(error) => {
            let undo = "rollback to savepoint rowmill_submit; release savepoint rowmill_submit";
            // Where the connection is lost, all of it is.
            drop(joined.run(undo).await);
            Err(error)
        }
    }
}

async fn once(
    joined: &Joined<'_>,
    batch: &NewBatch,
    blocks: &[Block],
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    migrate::is_current(joined.client, SCHEMA).await?;
    let mut known = Known::default();
    match submit::submit(joined, &mut known, batch, blocks, hash, now).await {
        // The transaction is its owner's: a silent load goes within it, or not at all.
        Err(StoreError::SubmitInProgress(id)) => {
            match discard::take_silent(joined, id, i64::MAX, now).await? {
                InTheWay::Stays => Err(StoreError::SubmitInProgress(id)),
                InTheWay::Gone | InTheWay::Left(_) => {
                    submit::submit(joined, &mut known, batch, blocks, hash, now).await
                }
            }
        }
        done => done,
    }
}
