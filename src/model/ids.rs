//! Strong names for everything that has an identity.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is no id or name; the text is for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}: {rule}")]
pub struct IdError {
    /// What was being read: `batch id`, `app`, `op`, `file name`.
    pub what: &'static str,
    /// What was given, cut to 100 characters.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

fn refused(what: &'static str, text: &str, rule: &'static str) -> IdError {
    IdError {
        what,
        text: text.chars().take(100).collect(),
        rule,
    }
}

/// The key of a batch or of a slow query: a UUID, version 7 when made here.
///
/// Version 7 is ordered by time, so new batches lie side by side in every index; it is made by the
/// client, so that a submit can be repeated without doubling.
///
/// ```
/// # use rowmill::model::BatchId;
/// let a = BatchId::new();
/// let b: BatchId = a.to_string().parse()?;
/// assert_eq!(a, b);
/// let ulid: BatchId = "01arz3ndektsv4rrffq69g5fav".parse()?;
/// assert_eq!(ulid.to_string(), "01563e3a-b5d3-d676-4c61-efb99302bd5b");
/// assert!("nonsense".parse::<BatchId>().is_err());
/// # Ok::<(), rowmill::model::IdError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub Uuid);

impl BatchId {
    /// A new id, later than every id made before it in this process.
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for BatchId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::try_parse(text)
            .ok()
            .or_else(|| from_ulid(text))
            .map(Self)
            .ok_or_else(|| refused("batch id", text, "must be a UUID or a ULID"))
    }
}

/// The same 128 bits written as 26 characters of Crockford's base 32, in either case.
fn from_ulid(text: &str) -> Option<Uuid> {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if text.len() != 26 {
        return None;
    }
    let mut bits = 0_u128;
    for digit in text.bytes() {
        // Crockford reads what looks like a digit as one.
        let digit = match digit.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        let value = DIGITS.iter().position(|d| *d == digit)?;
        // 26 digits hold 130 bits: the first may not use the two beyond 128.
        bits = bits.checked_mul(32)? + u128::try_from(value).ok()?;
    }
    Some(Uuid::from_u128(bits))
}

/// A worker: one start of one process. Numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct WorkerNo(pub i64);

impl fmt::Display for WorkerNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A task within its batch: its block's number, or a random number above 2³² where it was split off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub i64);

/// The random number of one claim: what every later write names, with the worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub i64);

impl Token {
    /// A token that no other claim ever had.
    ///
    /// # Errors
    /// The system's source of randomness cannot be read.
    pub fn random() -> std::io::Result<Self> {
        Ok(Self(random_bits()?))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:x})", self.0)
    }
}

impl TaskId {
    /// An id for a task that is split off another: it meets no block's number and no other split.
    ///
    /// # Errors
    /// The system's source of randomness cannot be read.
    pub fn split() -> std::io::Result<Self> {
        Ok(Self(
            (random_bits()? & 0x3fff_ffff_ffff_ffff) | 0x2000_0000_0000_0000,
        ))
    }

    /// The id of a batch's close task: the last in the batch's order.
    pub const CLOSE: Self = Self(i64::MAX);
}

fn random_bits() -> std::io::Result<i64> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(i64::from_ne_bytes(bytes))
}

/// The store's number for a [`JobKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub i64);

/// A line of the input, from 1 to 2³¹−1; a slow query's is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Line(pub u32);

impl Line {
    /// The last line that a batch may have.
    pub const MAX: Self = Self(i32::MAX as u32);
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An application's name, as written: 1 to 255 characters, no slash, no control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AppName(Arc<str>);

impl AppName {
    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let ok = (1..=255).contains(&text.len())
            && text != "."
            && text != ".."
            && !text
                .chars()
                .any(|c| c == '/' || c == '\\' || c.is_control());
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(refused(
                "app",
                text,
                "must be 1 to 255 bytes without a slash or control character",
            ))
        }
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An operation's name, compared in lower case: `[A-Za-z0-9][A-Za-z0-9._-]{0,254}`, not `job_…`.
///
/// ```
/// # use rowmill::model::OpName;
/// let op: OpName = "GenReport".parse()?;
/// assert_eq!(op.as_str(), "genreport");
/// assert!("job_x".parse::<OpName>().is_err());
/// # Ok::<(), rowmill::model::IdError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct OpName(Arc<str>);

impl OpName {
    /// The name in lower case, as it is compared and stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OpName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let lower = text.to_ascii_lowercase();
        let tail = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let ok = (1..=255).contains(&lower.len())
            && lower
                .as_bytes()
                .first()
                .is_some_and(u8::is_ascii_alphanumeric)
            && lower.bytes().all(tail)
            && !lower.starts_with("job_");
        if ok {
            Ok(Self(lower.into()))
        } else {
            Err(refused(
                "op",
                text,
                "must be 1 to 255 of A-Z a-z 0-9 . _ - beginning with a letter or digit, and not with job_",
            ))
        }
    }
}

impl fmt::Display for OpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an op works on: batches of rows, or one slow query at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Batches of rows.
    Batch,
    /// Slow queries: batches of one row.
    Query,
}

impl Kind {
    /// The word that users see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Query => "query",
        }
    }

    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Batch => 0,
            Self::Query => 1,
        }
    }

    pub(crate) fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(Self::Batch),
            1 => Some(Self::Query),
            _ => None,
        }
    }
}

/// What a processor is registered for: an app, an op and a kind.
///
/// Never a joined string: `ab` + `c` is not `a` + `bc`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey {
    /// The application.
    pub app: AppName,
    /// The operation.
    pub op: OpName,
    /// Batches or slow queries: a pair may have a processor of each.
    pub kind: Kind,
}

impl JobKey {
    /// Reads the names of a key.
    ///
    /// # Errors
    /// A name breaks its rule.
    pub fn new(app: &str, op: &str, kind: Kind) -> Result<Self, IdError> {
        Ok(Self {
            app: app.parse()?,
            op: op.parse()?,
            kind,
        })
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.op)
    }
}

/// A logical output file's name: 1 to 200 of `[A-Za-z0-9._-]`, not starting with a dot.
///
/// ```
/// # use rowmill::model::FileName;
/// assert!("credit.csv".parse::<FileName>().is_ok());
/// assert!("../etc/passwd".parse::<FileName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct FileName(Arc<str>);

impl FileName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` is a file name.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        (1..=200).contains(&text.len())
            && !text.starts_with('.')
            && text
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
    }
}

impl FromStr for FileName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if Self::is_valid(text) {
            Ok(Self(text.into()))
        } else {
            Err(refused(
                "file name",
                text,
                "must be 1 to 200 of A-Z a-z 0-9 . _ - and not begin with a dot",
            ))
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_id_tells_its_time_and_nothing_of_its_machine() {
        let (one, two) = (BatchId::new(), BatchId::new());
        assert!(one < two, "the later one comes later");
        let random = |id: BatchId| id.0.into_bytes()[10..].to_owned();
        assert_eq!((one.0.get_version_num(), two.0.get_version_num()), (7, 7));
        // Where version 1 has the machine's address.
        assert_ne!(random(one), random(two));
    }
}
