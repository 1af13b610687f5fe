//! Lists of batches: what is asked for, and the place at which a list goes on.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{AppName, Batch, BatchId, IdError, Kind, OpName, Status, Timestamp};

/// Which batches a list has: those that fit everything that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchFilter {
    /// Of this application.
    pub app: Option<AppName>,
    /// Of this operation, in any application.
    pub op: Option<OpName>,
    /// Batches or slow queries alone.
    pub kind: Option<Kind>,
    /// In this status, as it is seen.
    pub status: Option<Status>,
    /// Acknowledged at this time or after it.
    pub created_after: Option<Timestamp>,
    /// Acknowledged before this time.
    pub created_before: Option<Timestamp>,
    /// Retries of this batch.
    pub parent: Option<BatchId>,
    /// Carrying this external id, in any application.
    pub external_id: Option<String>,
}

impl BatchFilter {
    /// Whether a batch fits everything that is set.
    #[must_use]
    pub fn fits(&self, batch: &Batch) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        let Self {
            app,
            op,
            kind,
            status,
            created_after,
            created_before,
            parent,
            external_id,
        } = self;
        is(app.as_ref(), &batch.app)
            && is(op.as_ref(), &batch.op)
            && is(kind.as_ref(), &batch.kind)
            && is(status.as_ref(), &batch.status)
            && created_after.is_none_or(|at| batch.created_at >= at)
            && created_before.is_none_or(|at| batch.created_at < at)
            && parent.is_none_or(|parent| batch.parent == Some(parent))
            && external_id
                .as_ref()
                .is_none_or(|id| batch.external_id.as_ref() == Some(id))
    }
}

/// A place in the list of all batches, newest first: behind one of them.
///
/// ```
/// # use rowmill::model::{BatchId, Cursor, Timestamp};
/// let cursor = Cursor { created_at: Timestamp::UNIX_EPOCH, id: BatchId::new() };
/// assert_eq!(cursor.to_string().parse::<Cursor>()?, cursor);
/// assert!("nonsense".parse::<Cursor>().is_err());
/// # Ok::<(), rowmill::model::IdError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When that batch was acknowledged.
    pub created_at: Timestamp,
    /// Its key.
    pub id: BatchId,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}",
            self.created_at.as_microsecond(),
            self.id.0.simple()
        )
    }
}

impl FromStr for Cursor {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let read = || {
            let (at, id) = text.split_once('.')?;
            Some(Self {
                created_at: Timestamp::from_microsecond(at.parse().ok()?).ok()?,
                id: id.parse().ok()?,
            })
        };
        read().ok_or_else(|| IdError {
            what: "after",
            text: text.chars().take(100).collect(),
            rule: "must be the `next` of a page",
        })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Some batches of a list, newest first.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BatchesPage {
    /// The batches; there may be fewer than were asked for, or none, and more behind them.
    pub data: Vec<Batch>,
    /// Where the list goes on; `None` at its end.
    pub next: Option<Cursor>,
}
