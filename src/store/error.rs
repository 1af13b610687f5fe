//! Why a step was not made.

use tokio_postgres::error::SqlState;

use crate::model::{BatchId, Line, Timestamp, WorkerNo};

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
    /// The load's loader was silent for so long that what it had loaded was removed.
    #[error(
        "the submission of batch {0} was silent for 60 s and was removed; nothing of it was stored, submit again"
    )]
    SubmitLost(BatchId),
    /// Another append to the batch is being loaded.
    #[error(
        "another append to batch {0} is being loaded; try again when its loader has ended or been silent for 60 s"
    )]
    AppendInProgress(BatchId),
    /// The append's loader was silent for so long that what it had loaded was removed.
    #[error(
        "the append to batch {0} was silent for 60 s and was removed; nothing of it was added, append again"
    )]
    AppendLost(BatchId),
    /// The append's key was used before with other content.
    #[error("append key {key:?} was used before in batch {id} with other content")]
    AppendDuplicate {
        /// To which batch.
        id: BatchId,
        /// The key.
        key: String,
    },
    /// An append's line does not rise above the line before it, or is beyond the last that there is.
    #[error("line {line} after line {last}: lines rise to at most {}", Line::MAX)]
    BadLine {
        /// The line.
        line: i64,
        /// The batch's last line until then.
        last: i64,
    },
    /// The batch was retried, or purged, while the rows of another retry were chosen.
    #[error("batch {0} was retried or purged meanwhile; ask again")]
    Retried(BatchId),
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
    /// It says only that another statement of its transaction has failed before.
    pub(in crate::store) fn is_aftermath(&self) -> bool {
        let Self::Unavailable { source, .. } = self else {
            return false;
        };
        let code = source.downcast_ref().and_then(tokio_postgres::Error::code);
        code == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
    }

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
