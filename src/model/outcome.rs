//! What happened to a row, and how one line of an attempt's body says it.

mod written;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) use self::written::FilesOf;
use super::{FileName, Status};

/// rowmill's own message codes, as `(errcode, msgid)`.
pub mod codes {
    /// An error of the processor that is nobody else's.
    pub const PROCESSING_ERROR: (&str, u32) = ("processing_error", 10);
    /// The processor panicked.
    pub const PANIC: (&str, u32) = ("panic", 11);
    /// The row took longer than the op allows.
    pub const TIMED_OUT: (&str, u32) = ("timed_out", 12);
    /// The row was running whenever its worker died.
    pub const WORKER_LOST: (&str, u32) = ("worker_lost", 13);
    /// The processor returned without an outcome for the row.
    pub const NO_OUTCOME: (&str, u32) = ("no_outcome", 14);
    /// The input does not fit the processor's type.
    pub const BAD_INPUT: (&str, u32) = ("bad_input", 15);
    /// The row named an output file that cannot be.
    pub const BAD_FILE_NAME: (&str, u32) = ("bad_file_name", 16);
    /// The row was running when its batch was aborted.
    pub const INTERRUPTED: (&str, u32) = ("interrupted", 17);
    /// The row's outcome is larger than what is recorded of a row.
    pub const OUTCOME_TOO_LARGE: (&str, u32) = ("outcome_too_large", 18);
    /// The row's processor ended the transaction that it was handed.
    pub const TRANSACTION_ENDED: (&str, u32) = ("transaction_ended", 19);
    /// The row's time had passed before it began.
    pub const EXPIRED: (&str, u32) = ("expired", 30);
    /// The messages of every expired row; the view `batchrows` gives the same text.
    pub(crate) const EXPIRED_MESSAGES: &str =
        r#"[{"msgid":30,"errcode":"expired","text":"the batch expired before the row could end"}]"#;
}

/// What the row's owner reads: a stable code, and text without an internal error.
///
/// ```
/// # use rowmill::model::Message;
/// let message = Message::new("no_such_account", 101).field("account").val("ACC007");
/// assert_eq!(
///     serde_json::to_string(&message).unwrap(),
///     r#"{"msgid":101,"errcode":"no_such_account","field":"account","vals":["ACC007"]}"#,
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The number under which the application keeps the text in its languages.
    pub msgid: u32,
    /// The stable code that programs compare.
    pub errcode: String,
    /// The field of the input that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// Values for the text's places.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub vals: Vec<String>,
    /// Text for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
}

impl Message {
    /// A message of the application's own.
    #[must_use]
    pub fn new(errcode: impl Into<String>, msgid: u32) -> Self {
        Self {
            msgid,
            errcode: errcode.into(),
            field: None,
            vals: Vec::new(),
            text: None,
        }
    }

    /// A message of rowmill's own.
    #[must_use]
    pub fn own((errcode, msgid): (&str, u32), text: impl Into<String>) -> Self {
        Self::new(errcode, msgid).text(text)
    }

    /// Names the field of the input that it is about.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds a value.
    #[must_use]
    pub fn val(mut self, val: impl Into<String>) -> Self {
        self.vals.push(val.into());
        self
    }

    /// Gives the text for people.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}

/// What a row came to in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeStatus {
    /// Final: it succeeded.
    Success,
    /// Final: it failed.
    Failed,
    /// One failure: it goes again, after this delay or the op's back-off.
    Retry(Option<Duration>),
    /// Nothing is wrong: it goes again after this delay.
    Later(Duration),
    /// Final: it was running when its batch was aborted and did not finish in time.
    Aborted,
}

impl OutcomeStatus {
    /// Whether the row has ended with it.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Retry(_) | Self::Later(_))
    }
}

/// A file that a slow query has streamed to the object store and that is published at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Its logical name.
    pub name: String,
    /// How the object store finds it.
    pub handle: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// A row's outcome as its processor made it.
#[derive(Debug, Clone, PartialEq)]
pub struct RowOutcome {
    /// Final, or to go again.
    pub status: OutcomeStatus,
    /// One JSON text, or nothing.
    pub result: Option<String>,
    /// What the row's owner reads.
    pub messages: Vec<Message>,
    /// Text for output files: whole lines.
    pub files: Vec<(FileName, String)>,
    /// Files that it has streamed.
    pub staged: Vec<StagedFile>,
}

impl RowOutcome {
    /// Success with a result.
    #[must_use]
    pub fn success(result: Option<String>) -> Self {
        Self {
            status: OutcomeStatus::Success,
            result,
            messages: Vec::new(),
            files: Vec::new(),
            staged: Vec::new(),
        }
    }

    /// Anything but success, with one message.
    #[must_use]
    pub fn of(status: OutcomeStatus, message: Message) -> Self {
        Self {
            status,
            result: None,
            messages: vec![message],
            files: Vec::new(),
            staged: Vec::new(),
        }
    }
}

/// Appends the outcome's line, with its line feed, to an attempt's body.
///
/// Line breaks between a result's tokens become spaces: a body has one line a row.
///
/// ```
/// # use rowmill::model::{RowOutcome, encode_outcome};
/// let mut body = String::new();
/// encode_outcome(&mut body, &RowOutcome::success(Some(r#"{"balance":"1.10"}"#.into())));
/// assert_eq!(body, "{\"result\":{\"balance\":\"1.10\"}}\n");
/// ```
pub fn encode_outcome(body: &mut String, outcome: &RowOutcome) {
    let mut open = '{';
    let mut key = |body: &mut String, name: &str| {
        body.push(open);
        open = ',';
        body.push('"');
        body.push_str(name);
        body.push_str("\":");
    };
    let (word, delay) = match outcome.status {
        OutcomeStatus::Success => (None, None),
        OutcomeStatus::Failed => (Some("failed"), None),
        OutcomeStatus::Aborted => (Some("aborted"), None),
        OutcomeStatus::Retry(delay) => (Some("retry"), delay),
        OutcomeStatus::Later(delay) => (Some("later"), Some(delay)),
    };
    if let Some(word) = word {
        key(body, "status");
        let _ = write!(body, "\"{word}\"");
    }
    if let Some(delay) = delay {
        key(body, "delay_ms");
        let _ = write!(body, "{}", delay.as_millis());
    }
    if let Some(result) = &outcome.result {
        key(body, "result");
        push_one_line(body, result);
    }
    if !outcome.messages.is_empty() {
        key(body, "messages");
        push_json(body, &outcome.messages);
    }
    if !outcome.files.is_empty() {
        key(body, "files");
        let files: BTreeMap<&str, &str> = outcome
            .files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        push_json(body, &files);
    }
    if !outcome.staged.is_empty() {
        key(body, "staged");
        push_json(body, &outcome.staged);
    }
    if open == '{' {
        body.push('{');
    }
    body.push_str("}\n");
}

fn push_json(body: &mut String, value: &impl Serialize) {
    // Strings, numbers and maps with string keys cannot fail to serialise.
    body.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()));
}

/// Appends a JSON text with its line breaks (which can only stand between tokens) as spaces.
pub(super) fn push_one_line(body: &mut String, json: &str) {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        body.push_str(json);
    } else {
        body.extend(
            json.chars()
                .map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }),
        );
    }
}

/// One line of an attempt's body, read back but for what went to files.
#[derive(Debug, Deserialize)]
pub struct OutcomeLine<'a> {
    #[serde(default)]
    status: Word,
    /// The result as it was written.
    #[serde(borrow, default)]
    pub result: Option<&'a RawValue>,
    /// The messages as they were written.
    #[serde(borrow, default)]
    pub messages: Option<&'a RawValue>,
    /// The row was redacted.
    #[serde(default)]
    pub redacted: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    #[default]
    Success,
    Failed,
    Aborted,
    Retry,
    Later,
}

impl Word {
    fn status(self) -> Option<Status> {
        match self {
            Self::Success => Some(Status::Success),
            Self::Failed => Some(Status::Failed),
            Self::Aborted => Some(Status::Aborted),
            Self::Retry | Self::Later => None,
        }
    }
}

impl OutcomeLine<'_> {
    /// The row's final status; `None` if it was to go again.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status.status()
    }
}

/// Reads one line of an attempt's body but for what went to files.
///
/// # Errors
/// The line is not one that [`encode_outcome`] wrote; what went to files is not looked at.
pub fn decode_outcome(line: &str) -> Result<OutcomeLine<'_>, serde_json::Error> {
    serde_json::from_str(line)
}

/// One line of an attempt's body with nothing left in it but how the row ended, and that it was redacted.
///
/// # Errors
/// The line is not one that [`encode_outcome`] wrote.
pub(crate) fn redact_outcome(line: &str) -> Result<String, serde_json::Error> {
    Ok(match decode_outcome(line)?.status {
        Word::Success => r#"{"redacted":true}"#,
        Word::Failed => r#"{"status":"failed","redacted":true}"#,
        Word::Aborted => r#"{"status":"aborted","redacted":true}"#,
        Word::Retry => r#"{"status":"retry","redacted":true}"#,
        Word::Later => r#"{"status":"later","redacted":true}"#,
    }
    .to_owned())
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedAs {
    /// Every row has an outcome, or a task of its own for another go.
    Finished,
    /// Given back by its worker.
    Released,
    /// Its worker died.
    Lost,
    /// Its batch was aborted.
    Aborted,
    /// Its batch expired.
    Expired,
    /// Refused at intake.
    Rejected,
}

impl EndedAs {
    /// How the store writes it.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Finished => 1,
            Self::Released => 2,
            Self::Lost => 3,
            Self::Aborted => 4,
            Self::Expired => 5,
            Self::Rejected => 6,
        }
    }

    /// Reads what the store wrote.
    #[must_use]
    pub const fn from_code(code: i64) -> Option<Self> {
        Some(match code {
            1 => Self::Finished,
            2 => Self::Released,
            3 => Self::Lost,
            4 => Self::Aborted,
            5 => Self::Expired,
            6 => Self::Rejected,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_reads_back_as_it_was_written() {
        let outcome = RowOutcome {
            status: OutcomeStatus::Failed,
            result: Some("[1.10,\n1e200000]".to_owned()),
            messages: vec![Message::own(codes::BAD_INPUT, "no \"amount\"")],
            files: vec![("a.csv".parse().unwrap(), "x\ny\n".to_owned())],
            staged: Vec::new(),
        };
        let mut body = String::new();
        encode_outcome(&mut body, &outcome);
        assert_eq!(body.matches('\n').count(), 1);
        let line = decode_outcome(body.trim_end()).unwrap();
        assert_eq!(line.status(), Some(Status::Failed));
        assert_eq!(line.result.unwrap().get(), "[1.10, 1e200000]");
        assert!(body.contains(r#""files":{"a.csv":"x\ny\n"}"#), "{body}");
    }

    #[test]
    fn success_without_a_result_is_an_empty_object() {
        let mut body = String::new();
        encode_outcome(&mut body, &RowOutcome::success(None));
        assert_eq!(body, "{}\n");
        assert_eq!(
            decode_outcome("{}").unwrap().status(),
            Some(Status::Success)
        );
    }
}
