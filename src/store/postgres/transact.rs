//! transact: the application's writes and what they came to, in one transaction.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;

use super::PostgresStore;
use super::connect;
use super::doubt::Tries;
use super::errors::{final_word, is_in_the_way, is_unknown};
use super::lent::Lent;
use super::piece::{PieceTx, was_committed};
use super::record::record_now;
use super::tx::Committed;
use crate::model::{Timestamp, WorkerNo};
use crate::probe;
use crate::store::steps::db::{Db as _, corrupt};
use crate::store::steps::record::{self, held};
use crate::store::{ClaimRef, Piece, PostgresPiece, Recorded, StoreError, Transacted};

/// What became of a piece on its connection.
enum Made {
    Committed(Committed),
    /// Nothing of it is there, and the connection is as it was.
    Undone(Transacted),
    /// The connection is to be closed.
    Closed(Transacted),
    /// Nobody knows whether something of it is there; the connection may have others' use where it is as it was.
    InDoubt {
        what: Doubtful,
        stays: bool,
    },
}

/// What may have been committed.
enum Doubtful {
    /// The part of this number: the answer to its commit was lost.
    Part(u32),
    /// The transaction of this number, by the application itself: its rows gave up, and it could not be looked at.
    Transaction(String),
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
        let of = [claim.batch];
        if self.bundles.take(&claim) {
            // Not within the piece: who records the others would wait for its end.
            write!(self, now, tx => tx.loosen(&of)).await?;
        }
        let mut piece = Some(piece);
        let made = self.try_piece(worker, &claim, &mut piece, now).await?;
        if matches!(made, Transacted::Fenced) && piece.is_some() {
            // Its task may stand with others, and nothing here knew of it.
            write!(self, now, tx => tx.loosen(&of)).await?;
            return self.try_piece(worker, &claim, &mut piece, now).await;
        }
        Ok(made)
    }

    /// Makes a piece; it is taken where its task is the worker's.
    async fn try_piece(
        &self,
        worker: WorkerNo,
        claim: &ClaimRef,
        piece: &mut Option<PostgresPiece>,
        now: Timestamp,
    ) -> Result<Transacted, StoreError> {
        let mut lent = Lent::new(connect::get(&self.pool).await?, self.tls.clone());
        let interrupted = AtomicBool::new(false);
        let made = self.make(&mut lent, &interrupted, worker, claim, piece, now);
        let made = made.await;
        // What was meant for a statement of its rows may reach whoever has the connection next.
        let give_back = |lent: Lent| {
            if !interrupted.load(Ordering::Relaxed) {
                lent.give_back();
            }
        };
        match made {
            Ok(Made::Committed(done)) => {
                give_back(lent);
                self.after(done, now).await;
                Ok(Transacted::Done)
            }
            Ok(Made::Undone(what)) => {
                give_back(lent);
                Ok(what)
            }
            Ok(Made::Closed(what)) => Ok(what),
            Ok(Made::InDoubt { what, stays }) => {
                // Whoever looks has a connection of its own, and this one may be the last that there is.
                if stays {
                    give_back(lent);
                } else {
                    drop(lent);
                }
                self.look_up(worker, claim, what, now).await
            }
            Err(error) if is_in_the_way(&error) => match final_word(error) {
                error @ StoreError::Corrupt(_) => Err(error),
                _ => {
                    // It was rolled back when it was dropped: whatever comes next on it comes after that.
                    give_back(lent);
                    Ok(Transacted::InTheWay)
                }
            },
            Err(error) => Err(error),
        }
    }

    async fn make(
        &self,
        lent: &mut Lent,
        interrupted: &AtomicBool,
        worker: WorkerNo,
        claim: &ClaimRef,
        piece: &mut Option<PostgresPiece>,
        now: Timestamp,
    ) -> Result<Made, StoreError> {
        let none = || StoreError::unavailable("running a piece", "it has run");
        let PostgresPiece {
            isolation,
            statement,
            ..
        } = piece.as_ref().ok_or_else(none)?;
        let (isolation, statement) = (*isolation, *statement);
        let tx = PieceTx::begin(
            lent.object()?,
            &self.options,
            &self.begin,
            &self.tls,
            interrupted,
            isolation,
        )
        .await?;
        if !tx.hand_over(worker, claim, statement).await? {
            return Ok(undone(tx, Transacted::Fenced).await);
        }
        let PostgresPiece { run, .. } = piece.take().ok_or_else(none)?;
        let ran = AssertUnwindSafe(run(&tx)).catch_unwind().await;
        let Ok(ran) = ran else {
            // The panic's text has gone to the log.
            return Err(StoreError::unavailable("running a piece", "it panicked"));
        };
        if let Some(kept) = tx.ended() {
            return Ok(Made::Closed(Transacted::Ended { kept }));
        }
        let Some(part) = ran else {
            return gave_up(tx).await;
        };
        if !tx.take_back().await? {
            let kept = tx.ended().unwrap_or(true);
            return Ok(Made::Closed(Transacted::Ended { kept }));
        }
        let number = part.part;
        let recorded = record_now(&tx, &self.bundles, worker, &[part], now).await?;
        if recorded.as_slice() != [Recorded::Done] {
            return Err(corrupt(
                "a task was lost within the transaction that held it",
            ));
        }
        probe::at("piece_before_commit");
        match tx.commit().await {
            Ok(done) => Ok(Made::Committed(done)),
            Err(error) if is_unknown(&error) => {
                tracing::warn!(%error, batch = %claim.batch, "the answer to a commit was lost; looking whether it was made");
                Ok(Made::InDoubt {
                    what: Doubtful::Part(number),
                    stays: false,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether something of a piece was committed, asked under the lock that its transaction held: that is waited for.
    async fn look_up(
        &self,
        worker: WorkerNo,
        claim: &ClaimRef,
        what: Doubtful,
        now: Timestamp,
    ) -> Result<Transacted, StoreError> {
        let mut tries = Tries::in_doubt();
        loop {
            let asked = async {
                let tx = self.begin().await?;
                let ours = held(&tx, worker, claim).await?.is_some();
                let there = match &what {
                    Doubtful::Part(part) => record::is_there(&tx, claim, *part).await?,
                    Doubtful::Transaction(number) => was_committed(&tx, number).await?,
                };
                tx.rollback().await;
                Ok((ours, there))
            };
            let error = match asked.await {
                Ok((ours, there)) => match &what {
                    Doubtful::Part(_) if there => {
                        let (wrote, later) = (true, [claim.batch].into());
                        self.after(Committed { wrote, later }, now).await;
                        return Ok(Transacted::Done);
                    }
                    Doubtful::Transaction(_) if there && ours => {
                        return Ok(Transacted::Ended { kept: true });
                    }
                    _ if ours => return Ok(Transacted::Undone),
                    _ => return Ok(Transacted::Fenced),
                },
                Err(error) => error,
            };
            if let Some(error) = tries.over(error).await {
                return match what {
                    Doubtful::Part(_) => {
                        // Whoever lets go of a task that it may have ended does nothing twice: the store says what is left of it.
                        tracing::error!(%error, batch = %claim.batch, "whether a commit was made cannot be asked; its task is let go");
                        Ok(Transacted::Fenced)
                    }
                    // A processor that ends its transaction is seldom; a server that is gone is not.
                    Doubtful::Transaction(_) => Ok(Transacted::Undone),
                };
            }
        }
    }
}

/// What becomes of a piece whose rows gave up: they may have ended the transaction before.
async fn gave_up(tx: PieceTx<'_>) -> Result<Made, StoreError> {
    let looked = tx.was_ended().await;
    if let Some(true) = tx.ended() {
        return Ok(Made::Closed(Transacted::Ended { kept: true }));
    }
    let number = tx.number().filter(|_| !looked);
    let stays = tx.rollback().await;
    Ok(match number {
        Some(number) => Made::InDoubt {
            what: Doubtful::Transaction(number),
            stays,
        },
        None if stays => Made::Undone(Transacted::Undone),
        None => Made::Closed(Transacted::Undone),
    })
}

/// Undoes all of it.
async fn undone(tx: PieceTx<'_>, what: Transacted) -> Made {
    if tx.rollback().await {
        Made::Undone(what)
    } else {
        Made::Closed(what)
    }
}
