//! The lines that go to a child and come back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::{Line, Message, OutcomeStatus, RowOutcome, codes};
use crate::processor::context::Lines;
use crate::processor::desk::Work;

/// What `later` means without a delay.
const LATER: Duration = Duration::from_secs(1);
/// Longer delays are cut: sums of times must stay possible.
const MAX_DELAY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// So many characters of what a child said go to the log.
const SAID: usize = 200;

/// What the lines of a task's rows have in common.
pub(super) struct Asks {
    head: String,
    middle: String,
    tail: String,
}

impl Asks {
    pub(super) fn new(work: &Work) -> Self {
        let batch = &work.task.batch;
        // A text cannot fail to become JSON.
        let json = |text: &str| serde_json::to_string(text).unwrap_or_default();
        Self {
            head: format!("{{\"batch\":\"{}\",\"line\":", batch.id),
            middle: format!(",\"attempt\":{},\"key\":", work.task.claim.attempt),
            tail: format!(
                ",\"app\":{},\"op\":{},\"context\":{},\"input\":",
                json(batch.key.app.as_str()),
                json(batch.key.op.as_str()),
                // Line breaks can only stand between its tokens.
                batch.context.get().replace(['\n', '\r'], " "),
            ),
        }
    }

    /// Appends a row's line.
    pub(super) fn write(&self, to: &mut Vec<u8>, line: Line, key: &str, input: &str) {
        to.extend(self.head.as_bytes());
        to.extend(line.to_string().as_bytes());
        to.extend(self.middle.as_bytes());
        // A key is made of a UUID, a slash and a number.
        to.push(b'"');
        to.extend(key.as_bytes());
        to.push(b'"');
        to.extend(self.tail.as_bytes());
        to.extend(input.as_bytes());
        to.extend(b"}\n");
    }
}

/// A child's answer to a row.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    pub(super) line: Line,
    #[serde(borrow, default)]
    pub(super) key: Option<Cow<'a, str>>,
    status: Word,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    messages: Option<Vec<Message>>,
    #[serde(borrow, default)]
    files: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    /// Languages without integers write `1500.0`.
    #[serde(default)]
    delay_ms: Option<f64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Success,
    Failed,
    Retry,
    Later,
}

/// Reads an answer; keys that it does not know are nothing to it.
///
/// # Errors
/// Why it is none.
pub(super) fn read(text: &str) -> Result<Answer<'_>, String> {
    let answer: Answer<'_> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    match answer.delay_ms {
        Some(delay) if delay < 0.0 => Err(format!("delay_ms is {delay}")),
        _ => Ok(answer),
    }
}

impl Answer<'_> {
    pub(super) fn into_outcome(self) -> RowOutcome {
        let delay = self.delay_ms.map(|ms| {
            // Not below zero, and far below what does not fit.
            Duration::try_from_secs_f64(ms / 1000.0)
                .unwrap_or(MAX_DELAY)
                .min(MAX_DELAY)
        });
        let status = match self.status {
            Word::Success => OutcomeStatus::Success,
            Word::Failed => OutcomeStatus::Failed,
            Word::Retry => OutcomeStatus::Retry(delay),
            Word::Later => OutcomeStatus::Later(delay.unwrap_or(LATER)),
        };
        let mut messages = self.messages.unwrap_or_default();
        if messages.is_empty() && matches!(self.status, Word::Failed | Word::Retry) {
            let text = "could not be processed";
            messages.push(Message::own(codes::PROCESSING_ERROR, text));
        }
        let mut lines = Lines::default();
        for (name, text) in self.files.unwrap_or_default() {
            lines.write(&name, &text);
        }
        lines.into_outcome(RowOutcome {
            status,
            result: self.result.map(|json| json.get().to_owned()),
            messages,
            files: Vec::new(),
            staged: Vec::new(),
        })
    }
}

/// What a child said, for the log.
pub(super) fn cut(said: &[u8]) -> String {
    // A character has 4 bytes at most.
    let start = said.get(..4 * SAID).unwrap_or(said);
    let text = String::from_utf8_lossy(start);
    text.chars().take(SAID).collect()
}
