//! Steps inside a transaction that somebody else has open.

use rusqlite::{Connection, Savepoint, Transaction};

use super::db::now as run;
use super::errors::sqlite_error;
use super::open;
use super::sql::change;
use super::tx::Tx;
use crate::model::{Block, NewBatch, Timestamp};
use crate::store::steps::discard::{self, InTheWay};
use crate::store::steps::single::Known;
use crate::store::steps::submit;
use crate::store::{StoreError, Submitted};

/// An open transaction on rowmill's SQLite file: rusqlite's, or the one of a transactional processor.
///
/// It is implemented here alone.
pub trait Joined: sealed::Sealed {}

impl<T: sealed::Sealed> Joined for T {}

mod sealed {
    use super::{Connection, StoreError};

    pub trait Sealed {
        /// Runs steps of the store's on the transaction's connection.
        fn join<T>(
            &self,
            run: impl FnOnce(&Connection) -> Result<T, StoreError>,
        ) -> Result<T, StoreError>;
    }
}

impl sealed::Sealed for Tx<'_> {
    fn join<T>(
        &self,
        run: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.ours(run)
    }
}

impl sealed::Sealed for Transaction<'_> {
    fn join<T>(
        &self,
        run: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        open::is_current(self)?;
        run(self)
    }
}

impl sealed::Sealed for Savepoint<'_> {
    fn join<T>(
        &self,
        run: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        open::is_current(self)?;
        run(self)
    }
}

/// As [`submit::submit`], undone as a whole where it fails; the transaction is its owner's.
pub(crate) fn submit_within(
    tx: &impl Joined,
    batch: &NewBatch,
    blocks: &[Block],
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Submitted, StoreError> {
    tx.join(|c| {
        if c.is_autocommit() {
            return Err(StoreError::unavailable(
                "submitting inside a transaction",
                "the transaction is gone",
            ));
        }
        change(c, "savepoint rowmill_submit", [])?;
        let submit = || {
            run(submit::submit(
                c,
                &mut Known::default(),
                batch,
                blocks,
                hash,
                now,
            ))
        };
        let done = match submit() {
            // The transaction is its owner's: a silent load goes within it, or not at all.
            Err(StoreError::SubmitInProgress(id)) => {
                match run(discard::take_silent(c, id, i64::MAX, now)) {
                    Ok(InTheWay::Stays) => Err(StoreError::SubmitInProgress(id)),
                    Ok(_) => submit(),
                    Err(error) => Err(error),
                }
            }
            done => done,
        };
        if done.is_err() && !c.is_autocommit() {
            change(c, "rollback to rowmill_submit", [])?;
        }
        if !c.is_autocommit() {
            c.execute_batch("release rowmill_submit")
                .map_err(sqlite_error("submitting inside a transaction"))?;
        }
        done
    })
}
