//! What is damaged of one batch is that batch's alone: the others of the same transaction go on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::sql::change;
use crate::model::BatchId;
use crate::store::StoreError;

/// Batches in which this process has met damage, so that each is told once.
#[derive(Clone, Default)]
pub(super) struct Damage(Arc<Mutex<BTreeSet<BatchId>>>);

impl Damage {
    /// Runs one batch's step among those of others. `None`: something of the batch is damaged, and
    /// the step alone was undone.
    pub(super) fn apart<T>(
        &self,
        c: &Connection,
        id: BatchId,
        step: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        change(c, "savepoint apart", [])?;
        let done = match step() {
            Ok(done) => Some(done),
            Err(error) => {
                self.met_or(id, error)?;
                change(c, "rollback to apart", [])?;
                None
            }
        };
        change(c, "release apart", [])?;
        Ok(done)
    }

    /// Tells once of a batch that is left as it is; an error that says nothing of it is returned.
    pub(super) fn met_or(&self, id: BatchId, error: StoreError) -> Result<(), StoreError> {
        if !is_the_batchs(&error) {
            return Err(error);
        }
        if self.batches().insert(id) {
            tracing::error!(batch = %id, %error, "something of the batch is damaged; it is left as it is, the others go on; `rowmill doctor` says more");
        }
        Ok(())
    }

    /// In how many batches damage was met.
    pub(super) fn count(&self) -> usize {
        self.batches().len()
    }

    fn batches(&self) -> std::sync::MutexGuard<'_, BTreeSet<BatchId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says something of what is stored of a batch, and nothing of the file or the disk.
fn is_the_batchs(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt(_) | StoreError::NotFound(_) => true,
        // A stored number that is beyond what it can be.
        StoreError::Unavailable { source, .. } => source
            .downcast_ref::<rusqlite::Error>()
            .is_some_and(|error| {
                use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange};
                matches!(
                    error,
                    FromSqlConversionFailure(..) | IntegralValueOutOfRange(..)
                )
            }),
        _ => false,
    }
}
