//! transact: the application's writes and what they came to, in one transaction.

use rusqlite::Connection;

use super::db::now as run;
use super::errors::corrupt;
use super::tx::{Guest, Tx};
use super::writer::Kept;
use crate::model::{Timestamp, WorkerNo};
use crate::probe;
use crate::store::steps::record::{held, record};
use crate::store::{ClaimRef, Piece, Recorded, StoreError, Transacted};

pub(super) fn transact(
    c: &Connection,
    guest: &Guest,
    worker: WorkerNo,
    claim: &ClaimRef,
    piece: Piece,
    now: Timestamp,
) -> Result<Kept<Transacted>, StoreError> {
    // Nobody else writes until this transaction ends, so what is found here holds at its commit.
    if run(held(c, worker, claim))?.is_none() {
        return Ok(Kept::Undo(Transacted::Fenced));
    }
    let Piece::Sqlite(piece) = piece else {
        return Err(StoreError::Unusable(
            "this op's processor is written for PostgreSQL, and the database is SQLite".into(),
        ));
    };
    let part = piece(&mut Tx::new(c, guest));
    let Some(part) = part.filter(|_| !c.is_autocommit()) else {
        return Ok(Kept::Undo(Transacted::Undone));
    };
    match run(record(c, worker, &[part], now))?.as_slice() {
        [Recorded::Done] => {
            probe::at("piece_before_commit");
            Ok(Kept::Keep(Transacted::Done))
        }
        _ => Err(corrupt(
            "a task was lost within the transaction that held it",
        )),
    }
}
