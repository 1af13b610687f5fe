//! What is damaged of one batch is that batch's alone: the others of the same transaction go on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::db::{Db, Savepoint};
use crate::model::BatchId;
use crate::store::StoreError;

/// Batches in which this process has met damage, so that each is told once.
#[derive(Clone, Default)]
pub(in crate::store) struct Damage(Arc<Mutex<BTreeSet<BatchId>>>);

impl Damage {
    /// Runs one batch's step among those of others. `None`: something of the batch is damaged, and
    /// the step alone was undone.
    pub(in crate::store) async fn apart<T>(
        &self,
        c: &impl Db,
        id: BatchId,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<Option<T>, StoreError> {
        c.savepoint(Savepoint::Begin).await?;
        let done = match step.await {
            Ok(done) => Some(done),
            Err(error) => {
                self.met_or(id, error)?;
                c.savepoint(Savepoint::Undo).await?;
                None
            }
        };
        c.savepoint(Savepoint::End).await?;
        Ok(done)
    }

    /// Tells once of a batch that is left as it is; an error that says nothing of it is returned.
    pub(in crate::store) fn met_or(
        &self,
        id: BatchId,
        error: StoreError,
    ) -> Result<(), StoreError> {
        if !is_the_batchs(&error) {
            return Err(error);
        }
        if self.batches().insert(id) {
            tracing::error!(batch = %id, %error, "something of the batch is damaged; it is left as it is, the others go on; `rowmill doctor` says more");
        }
        Ok(())
    }

    /// In how many batches damage was met.
    pub(in crate::store) fn count(&self) -> usize {
        self.batches().len()
    }

    fn batches(&self) -> std::sync::MutexGuard<'_, BTreeSet<BatchId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says something of what is stored of a batch, and nothing of the database.
fn is_the_batchs(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt(_) | StoreError::NotFound(_))
}
