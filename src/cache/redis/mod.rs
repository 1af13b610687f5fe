//! A cache in Redis that everybody shares: one server, or a cluster.

mod breaker;
mod health;
mod link;
mod options;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Cmd, ErrorKind, RedisError, Value};

use super::{CacheBackend, CacheError, Entry};
use breaker::Breaker;
pub use health::RedisHealth;
use link::Link;
pub use options::RedisOptions;

/// Redis counts its times to live up to the year 292 million.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Errors that say of the server, and not of the one write, that it does not serve.
const NOT_SERVING: [&str; 6] = [
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOAUTH",
    "WRONGPASS",
    "READONLY",
];

pub(super) struct Redis {
    breaker: Arc<Breaker>,
    response: Duration,
    /// It answers, and takes no writes: full, or not allowed.
    refuses: AtomicBool,
}

/// Why there is no answer.
enum Fault {
    /// Nothing was asked: it is known not to answer.
    Down,
    /// It took too long.
    Late,
    /// It does not serve.
    Gone(RedisError),
    /// It serves, and refuses this.
    Refused(RedisError),
}

impl Redis {
    pub(super) async fn open(options: RedisOptions) -> Result<Self, CacheError> {
        let response = options.response;
        let target = options.target()?;
        Ok(Self {
            breaker: Breaker::open(target, response).await,
            response,
            refuses: AtomicBool::new(false),
        })
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, (u64, Fault)> {
        let Some((mut link, turn)) = self.breaker.link() else {
            return Err((0, Fault::Down));
        };
        match tokio::time::timeout(self.response, link.ask(command)).await {
            Ok(Ok(value)) => {
                self.breaker.answered();
                Ok(value)
            }
            Ok(Err(error)) if is_refusal(&error) => Err((turn, Fault::Refused(error))),
            Ok(Err(error)) => Err((turn, Fault::Gone(error))),
            Err(_) => Err((turn, Fault::Late)),
        }
    }

    /// Writes; true where it was written, or something was there that is not to be replaced.
    async fn write(&self, entry: &Entry) -> Result<(), (u64, Fault)> {
        let ms = entry.ttl.min(LONGEST).as_millis().max(1);
        let mut command = redis::cmd("SET");
        command.arg(&entry.key).arg(entry.value.as_bytes());
        command.arg("PX").arg(u64::try_from(ms).unwrap_or(u64::MAX));
        if !entry.over {
            command.arg("NX");
        }
        self.ask(&command).await.map(drop)
    }

    async fn put_entry(&self, entry: Entry) {
        let (turn, fault) = match self.write(&entry).await {
            Ok(()) => {
                if self.refuses.swap(false, Ordering::Relaxed) {
                    tracing::info!("the status cache refuses nothing any more");
                }
                return;
            }
            Err(failed) => failed,
        };
        let Entry { key, over, .. } = entry;
        match fault {
            Fault::Refused(error) => {
                self.refused(&error);
                // A full server still removes.
                if over && let Err((turn, fault)) = self.ask(redis::cmd("DEL").arg(&key)).await {
                    self.breaker.owe(key);
                    self.failed(turn, fault, true);
                }
            }
            fault => {
                if over {
                    self.breaker.owe(key);
                }
                self.failed(turn, fault, over);
            }
        }
    }

    /// A fault is told, and nobody waits for the server until it is back.
    fn failed(&self, turn: u64, fault: Fault, at_once: bool) {
        match fault {
            Fault::Down => {}
            Fault::Late => self.breaker.late(turn, at_once),
            Fault::Gone(error) => self.breaker.down(turn, &error.to_string()),
            Fault::Refused(error) => self.refused(&error),
        }
    }

    fn refused(&self, error: &RedisError) {
        if !self.refuses.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the status cache refuses what it is asked; statuses come from the database");
        }
    }
}

/// The server answers, and will not do this.
fn is_refusal(error: &RedisError) -> bool {
    let not_serving = error.code().is_some_and(|code| NOT_SERVING.contains(&code));
    let told = matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
    told && !not_serving && !error.is_cluster_error()
}

fn texts(value: Value) -> Vec<Option<Arc<str>>> {
    let found: Vec<Option<Vec<u8>>> = redis::from_redis_value(value).unwrap_or_default();
    let text = |bytes| String::from_utf8(bytes).ok().map(Arc::from);
    found
        .into_iter()
        .map(|bytes| bytes.and_then(text))
        .collect()
}

impl CacheBackend for Redis {
    fn get<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Vec<Option<Arc<str>>>> {
        async move {
            match self.ask(redis::cmd("MGET").arg(keys)).await {
                Ok(value) => texts(value),
                Err((turn, fault)) => {
                    self.failed(turn, fault, false);
                    Vec::new()
                }
            }
        }
        .boxed()
    }

    fn put(&self, entry: Entry) -> BoxFuture<'_, ()> {
        self.put_entry(entry).boxed()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
