//! The states of batches and tasks, and the one table of who may change them.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What users see of a batch or a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Held: it waits for a release.
    Wait,
    /// Waits for a worker, for its time or for another go.
    Queued,
    /// Runs.
    Inprog,
    /// Ended; every row succeeded.
    Success,
    /// Ended; a row failed.
    Failed,
    /// Ended by an abort.
    Aborted,
    /// Ended because its time had passed.
    Expired,
}

impl Status {
    /// All of them, in the order of a batch's life.
    pub const ALL: [Self; 7] = [
        Self::Wait,
        Self::Queued,
        Self::Inprog,
        Self::Success,
        Self::Failed,
        Self::Aborted,
        Self::Expired,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Queued => "queued",
            Self::Inprog => "inprog",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing can change any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failed | Self::Aborted | Self::Expired
        )
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Status {
    type Err = super::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| super::IdError {
                what: "status",
                text: text.chars().take(100).collect(),
                rule: "must be one of wait queued inprog success failed aborted expired",
            })
    }
}

macro_rules! coded {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant = $code),+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// How the store writes it.
            #[must_use]
            pub const fn code(self) -> i64 { self as i64 }

            /// Reads what the store wrote.
            #[must_use]
            pub const fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// The word used in documents and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

coded! {
    /// The stored state of a batch.
    BatchState {
        /// Being loaded: seen by nobody, because it was not acknowledged.
        Loading = 0 "loading",
        /// Held until it is released.
        Wait = 1 "wait",
        /// Released; no task has been claimed yet.
        Queued = 2 "queued",
        /// A task has been claimed, or it is aborting.
        Inprog = 3 "inprog",
        /// Ended; every row succeeded.
        Success = 4 "success",
        /// Ended; a row failed.
        Failed = 5 "failed",
        /// Ended; a row was aborted.
        Aborted = 6 "aborted",
        /// Ended; a row expired.
        Expired = 7 "expired",
    }
}

coded! {
    /// The state of a task; an ended task has no record.
    TaskState {
        /// Due at a later time.
        Later = 0 "later",
        /// Claimable now.
        Queued = 1 "queued",
        /// Claimed by a worker, under a token.
        Running = 2 "running",
        /// Handed to someone outside until its deadline.
        Parked = 3 "parked",
        /// A close task whose rows have not all ended.
        Waiting = 4 "waiting",
        /// No record any more: its last outcome is in `attempts`.
        Ended = 5 "ended",
    }
}

impl BatchState {
    /// The states in which a batch has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        self.code() >= Self::Success.code()
    }

    /// What users see; `None` while it is being loaded.
    #[must_use]
    pub const fn status(self) -> Option<Status> {
        Some(match self {
            Self::Loading => return None,
            Self::Wait => Status::Wait,
            Self::Queued => Status::Queued,
            Self::Inprog => Status::Inprog,
            Self::Success => Status::Success,
            Self::Failed => Status::Failed,
            Self::Aborted => Status::Aborted,
            Self::Expired => Status::Expired,
        })
    }

    /// How a batch ends, by the rows that did not succeed.
    ///
    /// ```
    /// # use rowmill::model::BatchState;
    /// assert_eq!(BatchState::of_counts(2, 0, 1), BatchState::Aborted);
    /// assert_eq!(BatchState::of_counts(0, 0, 0), BatchState::Success);
    /// ```
    #[must_use]
    pub const fn of_counts(failed: u64, expired: u64, aborted: u64) -> Self {
        if aborted > 0 {
            Self::Aborted
        } else if expired > 0 {
            Self::Expired
        } else if failed > 0 {
            Self::Failed
        } else {
            Self::Success
        }
    }
}

/// One allowed change of state, and the step that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition<S> {
    /// The state it leaves; `None` where it begins.
    pub from: Option<S>,
    /// The state it enters.
    pub to: S,
    /// The steps of the store that make this change.
    pub by: &'static str,
}

const fn t<S>(from: Option<S>, to: S, by: &'static str) -> Transition<S> {
    Transition { from, to, by }
}

/// Every change that a batch's state may make.
pub const BATCH_TRANSITIONS: &[Transition<BatchState>] = {
    use BatchState::{Aborted, Expired, Failed, Inprog, Loading, Queued, Success, Wait};
    &[
        t(None, Loading, "begin_load"),
        t(Some(Loading), Wait, "finish_load, held"),
        t(Some(Loading), Queued, "finish_load"),
        t(Some(Wait), Queued, "release, append, finish_append"),
        t(Some(Queued), Inprog, "claim"),
        t(
            Some(Queued),
            Success,
            "release of a batch without runnable rows",
        ),
        t(
            Some(Queued),
            Failed,
            "release of a batch whose rows were all rejected",
        ),
        t(Some(Queued), Aborted, "abort"),
        t(Some(Wait), Aborted, "abort"),
        t(Some(Queued), Expired, "expire"),
        t(Some(Wait), Expired, "expire"),
        t(Some(Inprog), Success, "record, close"),
        t(Some(Inprog), Failed, "record, close"),
        t(Some(Inprog), Aborted, "abort, record, close"),
        t(Some(Inprog), Expired, "expire, record, close"),
    ]
};

/// Every change that a task's state may make.
pub const TASK_TRANSITIONS: &[Transition<TaskState>] = {
    use TaskState::{Ended, Later, Parked, Queued, Running, Waiting};
    &[
        t(None, Queued, "release, record, split"),
        t(None, Later, "release with a future run_at, record"),
        t(None, Waiting, "release"),
        t(None, Running, "submit_at_once"),
        t(Some(Later), Queued, "wake"),
        t(Some(Queued), Running, "claim"),
        t(Some(Waiting), Queued, "record, abort, expire"),
        t(Some(Running), Ended, "record, close, take_over"),
        t(Some(Running), Queued, "give_back, take_over"),
        t(Some(Running), Later, "close_later"),
        t(Some(Running), Parked, "park"),
        t(Some(Parked), Ended, "record"),
        t(Some(Parked), Queued, "record"),
        t(Some(Parked), Later, "record"),
        t(Some(Queued), Ended, "abort, expire"),
        t(Some(Later), Ended, "abort, expire"),
    ]
};

/// The text of `docs/states.md`, drawn from the tables.
#[must_use]
pub fn states_page() -> String {
    let mut page = String::from(
        "# States\n\nDrawn from the tables in `src/model/states.rs`; a test keeps this page equal to them.\n\
         Every write that changes a state names the state that it leaves; a write that matches nothing is fenced.\n",
    );
    diagram(
        &mut page,
        "Batch",
        BATCH_TRANSITIONS,
        BatchState::as_str,
        |s| s.is_final(),
    );
    diagram(
        &mut page,
        "Task",
        TASK_TRANSITIONS,
        TaskState::as_str,
        |s| s == TaskState::Ended,
    );
    page.push_str(
        "\nA batch is seen as `wait`, `queued`, `inprog`, `success`, `failed`, `aborted` or `expired`; `loading` is \
         seen by nobody.\nA row without an outcome is seen as its task: `queued` for later and queued, `inprog` for \
         running and parked, `wait` while its batch is held.\n",
    );
    page
}

fn diagram<S: Copy>(
    page: &mut String,
    title: &str,
    table: &[Transition<S>],
    name: impl Fn(S) -> &'static str,
    last: impl Fn(S) -> bool,
) {
    let _ = write!(page, "\n## {title}\n\n```mermaid\nstateDiagram-v2\n");
    for change in table {
        let from = change.from.map_or("[*]", &name);
        let _ = writeln!(page, "    {from} --> {}: {}", name(change.to), change.by);
    }
    let mut ends: Vec<&str> = Vec::new();
    for change in table.iter().filter(|c| last(c.to)) {
        if !ends.contains(&name(change.to)) {
            ends.push(name(change.to));
        }
    }
    for end in ends {
        let _ = writeln!(page, "    {end} --> [*]");
    }
    page.push_str("```\n\n| from | to | by |\n| --- | --- | --- |\n");
    for change in table {
        let from = change.from.map_or("-", &name);
        let _ = writeln!(page, "| {from} | {} | {} |", name(change.to), change.by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_as_what_was_written() {
        for state in BatchState::ALL {
            assert_eq!(BatchState::from_code(state.code()), Some(*state));
        }
        for state in TaskState::ALL {
            assert_eq!(TaskState::from_code(state.code()), Some(*state));
        }
        assert_eq!(BatchState::from_code(99), None);
    }

    #[test]
    fn nothing_leaves_a_final_state() {
        assert!(
            BATCH_TRANSITIONS
                .iter()
                .all(|c| !c.from.is_some_and(BatchState::is_final))
        );
        assert!(
            TASK_TRANSITIONS
                .iter()
                .all(|c| c.from != Some(TaskState::Ended))
        );
    }

    #[test]
    fn every_state_is_reached() {
        for state in BatchState::ALL {
            assert!(
                BATCH_TRANSITIONS.iter().any(|c| c.to == *state),
                "{state:?}"
            );
        }
        for state in TaskState::ALL {
            assert!(TASK_TRANSITIONS.iter().any(|c| c.to == *state), "{state:?}");
        }
    }
}
