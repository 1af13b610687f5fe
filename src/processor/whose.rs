//! What the application's code comes to, and what the log says of it: whose code it was.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RowFailure;
use super::desk::Work;
use crate::model::{Line, Message, OutcomeStatus, RowOutcome, codes};
use crate::store::ClaimedTask;

/// The rows for which the application's code runs. The log names them; a row's owner has its line.
#[derive(Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) task: &'a ClaimedTask,
    /// The row's, or the first one's; none where it is the task that is being looked at.
    pub(super) line: Option<Line>,
    /// How many, where they run together.
    pub(super) rows: Option<usize>,
}

/// An event of the log with the fields that name the rows. They are read where it is written, and only there.
macro_rules! log {
    ($level:ident, $whose:expr, $($more:tt)+) => {{
        let $crate::processor::whose::Whose { task, line, rows } = $whose;
        tracing::$level!(
            batch = %task.batch.id,
            op = %task.batch.key,
            line = line.map(|line| line.0),
            rows,
            attempt = task.claim.attempt,
            $($more)+
        );
    }};
}
pub(super) use log;

impl<'a> Whose<'a> {
    pub(super) fn task(work: &'a Work) -> Self {
        Self {
            task: &work.task,
            line: None,
            rows: None,
        }
    }

    pub(super) fn row(work: &'a Work, place: usize) -> Self {
        Self {
            line: Some(work.line(place)),
            ..Self::task(work)
        }
    }

    pub(super) fn chunk(work: &'a Work, places: &[usize]) -> Self {
        Self {
            line: places.first().map(|place| work.line(*place)),
            rows: Some(places.len()).filter(|rows| *rows > 1),
            ..Self::task(work)
        }
    }

    /// An outcome of success; a result that cannot be JSON is the row's failure.
    pub(super) fn success<O: Serialize>(self, output: &O) -> RowOutcome {
        let written = catch_unwind(AssertUnwindSafe(|| serde_json::to_string(output)));
        match written {
            Ok(Ok(json)) if json == "null" => RowOutcome::success(None),
            Ok(Ok(json)) => RowOutcome::success(Some(json)),
            Ok(Err(error)) => self.failure(RowFailure::Error(Box::new(error))),
            Err(panic) => self.panicked(&*panic),
        }
    }

    /// Reads what an application's type is to hold. Its code may panic as its processor may, and a panic
    /// that belongs to no row would have the rows run again without end.
    pub(super) fn decode<T: DeserializeOwned>(
        self,
        what: &str,
        json: &str,
    ) -> Result<T, RowOutcome> {
        match catch_unwind(|| serde_json::from_str(json)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(bad_input(what, &error)),
            Err(panic) => Err(self.panicked(&*panic)),
        }
    }

    /// What a failure comes to; an error's text goes to the log, never to the row's owner.
    pub(super) fn failure(self, failure: RowFailure) -> RowOutcome {
        let ours = || Message::own(codes::PROCESSING_ERROR, "could not be processed");
        match failure {
            RowFailure::Failed(messages) => RowOutcome {
                messages,
                ..RowOutcome::of(OutcomeStatus::Failed, ours())
            },
            RowFailure::Retry(after, error) => {
                log!(warn, self, %error, "a row is to be tried again");
                RowOutcome::of(OutcomeStatus::Retry(after), ours())
            }
            RowFailure::Later(after) => RowOutcome {
                messages: Vec::new(),
                ..RowOutcome::of(OutcomeStatus::Later(after), ours())
            },
            RowFailure::Error(error) => {
                log!(warn, self, %error, "a row's processing failed");
                RowOutcome::of(OutcomeStatus::Retry(None), ours())
            }
        }
    }

    pub(super) fn panicked(self, panic: &(dyn Any + Send)) -> RowOutcome {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no text");
        log!(error, self, panic = text, "a processor panicked");
        RowOutcome::of(
            OutcomeStatus::Retry(None),
            Message::own(codes::PANIC, "could not be processed"),
        )
    }
}

fn bad_input(what: &str, error: &serde_json::Error) -> RowOutcome {
    // serde's text names fields and types of the input, which is its owner's.
    RowOutcome::of(
        OutcomeStatus::Failed,
        Message::own(codes::BAD_INPUT, format!("{what} does not fit: {error}")),
    )
}

pub(super) fn timed_out() -> RowOutcome {
    RowOutcome::of(
        OutcomeStatus::Retry(None),
        Message::own(codes::TIMED_OUT, "took too long; may still take effect"),
    )
}
