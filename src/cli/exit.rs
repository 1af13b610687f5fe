//! How a command ends, and the one place where that becomes an exit code and an error's words.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::shown;
use super::signals::Signal;
use crate::error::{Error, ErrorKind};
use crate::model::{Batch, BatchId, Status};

/// How a command that did not fail has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It answered.
    Answered,
    /// It waited for a batch, in which rows failed, were aborted or expired.
    RowsFailed,
    /// It looked, and something is to be repaired.
    ToRepair,
    /// A signal ended it; the user has been told how the work goes on.
    Interrupted(Signal),
}

impl Ending {
    /// The ending of a command that waited for a batch.
    pub(super) fn of(batch: &Batch) -> Self {
        if batch.done && batch.status == Status::Success {
            Self::Answered
        } else {
            Self::RowsFailed
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// With the batch that it is about, where there is one.
    Error(Error, Option<BatchId>),
    /// A mistake in the arguments that the user has read already.
    Told,
    /// Whoever read stdout wants no more.
    NobodyReads,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error, None)
    }
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Self {
        Error::from(error).into()
    }
}

impl From<crate::model::IdError> for Failure {
    fn from(error: crate::model::IdError) -> Self {
        Error::from(error).into()
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        let text = error.to_string();
        Error::with(ErrorKind::Invalid, "bad_configuration", text, error).into()
    }
}

impl Failure {
    /// What was given cannot be used.
    pub(super) fn invalid(code: &'static str, text: impl Into<String>) -> Self {
        Error::invalid(code, text).into()
    }

    /// What could not be written or read while `what`.
    pub(super) fn io(what: impl std::fmt::Display, error: std::io::Error) -> Self {
        let text = format!("{what}: {error}");
        Error::with(ErrorKind::Unavailable, "unavailable", text, error).into()
    }
}

/// Adds the batch that an error is about.
pub(super) trait About<T> {
    fn about(self, id: BatchId) -> Result<T, Failure>;
}

impl<T> About<T> for Result<T, Error> {
    fn about(self, id: BatchId) -> Result<T, Failure> {
        self.map_err(|error| Failure::Error(error, Some(id)))
    }
}

/// The exit code of the contract.
pub(super) fn code(ended: &Result<Ending, Failure>) -> ExitCode {
    let code = match ended {
        Ok(Ending::Answered) | Err(Failure::NobodyReads) => 0,
        Ok(Ending::RowsFailed | Ending::ToRepair) => 1,
        Ok(Ending::Interrupted(signal)) => signal.exit_code(),
        Err(Failure::Told) => 2,
        Err(Failure::Error(error, _)) => match error.kind() {
            ErrorKind::Invalid => 2,
            ErrorKind::NotFound | ErrorKind::Conflict => 3,
            ErrorKind::Unavailable => 4,
            ErrorKind::Internal => 5,
        },
    };
    ExitCode::from(code)
}

/// Says what went wrong: a line for people, or one problem+json line.
pub(super) fn tell(failure: &Failure, json: bool) {
    let Failure::Error(error, batch) = failure else {
        return;
    };
    let (status, title) = match error.kind() {
        ErrorKind::Invalid => (400, "Cannot be used"),
        ErrorKind::NotFound => (404, "Not found"),
        ErrorKind::Conflict => (409, "Conflict"),
        ErrorKind::Unavailable => (503, "Unavailable"),
        ErrorKind::Internal => (500, "Internal error"),
    };
    let detail = error.to_string();
    if json {
        tell_problem(status, title, &detail, error.code(), *batch);
        return;
    }
    // What it names may be somebody else's: a file, a column, an id.
    let mut lines = detail.lines().map(shown::clean);
    let mut text = format!("error: {}\n", lines.next().as_deref().unwrap_or(title));
    for line in lines {
        text.push_str(&format!("       {line}\n"));
    }
    say(&text);
}

/// Writes one problem+json line.
pub(super) fn tell_problem(
    status: u16,
    title: &str,
    detail: &str,
    id: &str,
    batch: Option<BatchId>,
) {
    #[derive(Serialize)]
    struct Problem<'a> {
        r#type: String,
        title: &'a str,
        status: u16,
        detail: &'a str,
        id: &'a str,
        instance: Option<String>,
    }
    let problem = Problem {
        r#type: format!("urn:rowmill:error:{id}"),
        title,
        status,
        detail,
        id,
        instance: batch.map(|batch| format!("/v1/batches/{batch}")),
    };
    if let Ok(line) = serde_json::to_string(&problem) {
        say(&format!("{line}\n"));
    }
}

/// Writes to stderr; where even that is closed there is nobody left to tell.
pub(super) fn say(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
