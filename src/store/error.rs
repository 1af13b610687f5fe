//! Why a step was not made.

use crate::model::{BatchId, Timestamp, WorkerNo};

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such batch.
    #[error("there is no batch {0}")]
    NotFound(BatchId),
    /// The batch is in a state that forbids the step.
    #[error("batch {id} is {found}, and must be {needs}")]
    WrongState {
        /// Which batch.
        id: BatchId,
        /// The state that was found.
        found: &'static str,
        /// The state that the step needs.
        needs: &'static str,
    },
    /// The batch was purged: only its counts are left.
    #[error(
        "batch {id} was purged at {at}: its rows, files and history are gone; its counts are left"
    )]
    Purged {
        /// Which batch.
        id: BatchId,
        /// When.
        at: Timestamp,
    },
    /// The same id or external id was submitted before with other content.
    #[error("{what} was submitted before with other content, as batch {existing}")]
    Duplicate {
        /// `batch id …` or `external id …`.
        what: String,
        /// The batch that is there.
        existing: BatchId,
    },
    /// The same id is being loaded by another submitter.
    #[error(
        "batch {0} is being submitted; try again when its loader has ended or been silent for 60 s"
    )]
    SubmitInProgress(BatchId),
    /// The worker was declared dead and its tasks were taken over.
    #[error("worker {0} was declared dead; its tasks were taken over")]
    Fenced(WorkerNo),
    /// The database is newer than this program, or not ours.
    #[error("{0}")]
    Unusable(String),
    /// The database cannot be opened, read or written.
    #[error("{what}: {source}")]
    Unavailable {
        /// What was being done.
        what: String,
        /// The cause, for the operator.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored breaks an invariant.
    #[error("the store is not as it must be: {0}")]
    Corrupt(String),
}

impl StoreError {
    pub(crate) fn unavailable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable {
            what: what.into(),
            source: source.into(),
        }
    }
}
