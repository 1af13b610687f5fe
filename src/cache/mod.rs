//! Copies of statuses, so that asking again and again costs the database nothing.
//!
//! Nothing here is the truth: every copy may be missing at any moment, and a fault of the cache is a
//! miss. What stands in it, under which keys and for how long: `docs/cache.md`.

mod memory;
mod redis;
mod statuses;
mod value;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config::{OPEN_FOR, PREFIX};

pub use memory::Memory;
pub use redis::{RedisHealth, RedisOptions};
pub(crate) use statuses::Statuses;

/// A final status is a copy for so many times as long.
const FINAL_TIMES: u32 = 100;

/// Why a cache could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CacheError(String);

/// A text to keep under a key.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The text.
    pub value: Arc<str>,
    /// It is gone after this.
    pub ttl: Duration,
    /// It replaces what is there; else it is dropped where anything is.
    pub over: bool,
}

/// Where copies are kept. No call fails or waits for long: a fault is a miss, and the backend's own to tell.
pub trait CacheBackend: Send + Sync + 'static {
    /// What stands under these keys, in their order.
    fn get<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Vec<Option<Arc<str>>>>;

    /// Keeps a text. One with [`Entry::over`] that could not be written must not leave the older
    /// text behind for ever: the key is removed as soon as that can be.
    fn put(&self, entry: Entry) -> BoxFuture<'_, ()>;

    /// Whether other processes see what is kept: only then may a status that is still open be.
    fn is_shared(&self) -> bool;
}

/// Where statuses are copied to: cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rowmill::model::{JobKey, Kind, NewBatch};
/// use rowmill::{Client, NewRow, StatusCache, Store};
/// # let dir = tempfile::tempdir()?;
/// # let store = Store::sqlite(dir.path().join("rowmill.db")).await?;
/// // One that is down is a warning in the log, and costs the calls nothing.
/// let cache = StatusCache::redis("redis://127.0.0.1:1").await?;
/// let client = Client::new(store).cached(cache);
/// let new = NewBatch::new(JobKey::new("bank", "post", Kind::Batch)?);
/// let batch = client.batch_submit(new, [NewRow::json(&1)?]).await?;
/// assert!(!client.batch_done(batch.id).await?.done);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct StatusCache {
    backend: Option<Arc<dyn CacheBackend>>,
    open_for: Duration,
    prefix: Arc<str>,
}

impl StatusCache {
    /// In this process: final statuses alone, 10,000 of them or 32 MiB.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(Memory::default())
    }

    /// None: every question goes to the database.
    #[must_use]
    pub fn none() -> Self {
        Self {
            backend: None,
            open_for: OPEN_FOR,
            prefix: PREFIX.into(),
        }
    }

    /// In Redis: one server, or a cluster where several URLs are given, between commas or spaces, or
    /// one that begins with `redis-cluster:`.
    ///
    /// A server that does not answer is a warning, and is tried again in the background.
    ///
    /// # Errors
    /// [`CacheError`] where the URL cannot be one.
    pub async fn redis(url: &str) -> Result<Self, CacheError> {
        Self::redis_by(RedisOptions::new(url)).await
    }

    /// As [`StatusCache::redis`], with what else there is to say.
    ///
    /// # Errors
    /// As [`StatusCache::redis`].
    pub async fn redis_by(options: RedisOptions) -> Result<Self, CacheError> {
        Ok(Self::new(redis::Redis::open(options).await?))
    }

    /// A cache of any make.
    pub fn new(backend: impl CacheBackend) -> Self {
        Self {
            backend: Some(Arc::new(backend)),
            ..Self::none()
        }
    }

    /// For how long an open status is a copy, 5 s unless said otherwise; a final one is for 100 times that.
    #[must_use]
    pub fn open_for(mut self, open_for: Duration) -> Self {
        // Redis knows no time to live below a millisecond.
        self.open_for = open_for.max(Duration::from_millis(1));
        self
    }

    /// What every key begins with, `rowmill` unless said otherwise.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }
}

impl std::fmt::Debug for StatusCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StatusCache")
    }
}
