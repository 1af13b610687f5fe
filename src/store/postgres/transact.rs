//! transact: the application's writes and what they came to, in one transaction.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::PostgresStore;
use super::db::only;
use super::errors::{final_word, postgres_error};
use super::tx::Tx;
use crate::model::{Timestamp, WorkerNo};
use crate::probe;
use crate::store::steps::db::corrupt;
use crate::store::steps::record::{held, record};
use crate::store::{ClaimRef, Piece, Recorded, StoreError, Transacted};

/// What is set within the transaction of a piece: it is gone with it.
const MARK: &str = "rowmill";

async fn mark(tx: &Tx, with: &str) -> Result<(), StoreError> {
    let set = only!("piece_begins").postgres;
    let set = tx.client()?.query(set, &[&with]).await;
    set.map_err(postgres_error("marking a piece"))?;
    Ok(())
}

/// The mark, where the transaction is still the one that was begun; an aborted one is an error.
async fn marked(tx: &Tx) -> Result<Option<String>, StoreError> {
    let asked = only!("piece_ended").postgres;
    let found = tx.client()?.query_one(asked, &[]).await;
    let failed = || postgres_error("looking whether a piece left its transaction as it was");
    found.map_err(failed())?.try_get(0).map_err(failed())
}

impl PostgresStore {
    pub(super) async fn transact_now(
        &self,
        worker: WorkerNo,
        claim: ClaimRef,
        piece: Piece,
        now: Timestamp,
    ) -> Result<Transacted, StoreError> {
        let Piece::Postgres(piece) = piece else {
            return Err(StoreError::Unusable(
                "this op's processor is written for SQLite, and the database is PostgreSQL".into(),
            ));
        };
        let tx = self.begin().await?;
        // The task's record is locked until this transaction ends: nobody takes it over before.
        if held(&tx, worker, &claim).await?.is_none() {
            tx.rollback().await;
            return Ok(Transacted::Fenced);
        }
        mark(&tx, MARK).await?;
        let ran = AssertUnwindSafe(piece(tx.client()?)).catch_unwind().await;
        let Ok(ran) = ran else {
            tx.rollback().await;
            // The panic's text has gone to the log.
            return Err(StoreError::unavailable("running a piece", "it panicked"));
        };
        let Some(part) = ran else {
            tx.rollback().await;
            return Ok(Transacted::Undone);
        };
        if marked(&tx).await?.as_deref() != Some(MARK) {
            return Err(corrupt(
                "a piece ended the transaction that it was given: what it wrote is there, and no outcome is",
            ));
        }
        let recorded = record(&tx, worker, &[part], now).await;
        match recorded.map_err(final_word)?.as_slice() {
            [Recorded::Done] => {
                probe::at("piece_before_commit");
                let done = tx.commit().await?;
                self.after(done, now).await;
                Ok(Transacted::Done)
            }
            _ => Err(corrupt(
                "a task was lost within the transaction that held it",
            )),
        }
    }
}
