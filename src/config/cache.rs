//! The keys of the status cache.

use std::time::Duration;

use super::reader::{Env, Given, Reader, Table, Want};
use super::report::{ReportLine, line, or_none};
use super::{Setting, setting, top};
use crate::model::format_duration;

/// What every key begins with, unless said otherwise.
pub(crate) const PREFIX: &str = "rowmill";
/// An answer may take so long, unless said otherwise.
pub(crate) const RESPONSE: Duration = Duration::from_millis(5);
/// An open status is a copy for so long, unless said otherwise: C of `docs/cache.md`.
pub(crate) const OPEN_FOR: Duration = Duration::from_secs(5);
/// What a URL of Redis begins with.
const SCHEMES: [&str; 8] = [
    "redis:",
    "rediss:",
    "redis-cluster:",
    "rediss-cluster:",
    "redis+unix:",
    "unix:",
    "valkey:",
    "valkeys:",
];
/// An answer that may take longer than this holds up who asks more than the database would.
const SLOWEST: Duration = Duration::from_secs(10);
/// An open status that is older than this answers nobody's question.
const OLDEST: Duration = Duration::from_secs(3600);

/// Where statuses are copied to, and for how long.
#[derive(Clone, PartialEq)]
pub struct CacheConfig {
    /// One URL, or those of a cluster between commas; none is this process's memory.
    pub redis: Setting<Option<String>>,
    /// What every key begins with.
    pub prefix: Setting<String>,
    /// How long a call waits for an answer.
    pub timeout: Setting<Duration>,
    /// For how long an open status is a copy; a final one is for 100 times that.
    pub ttl: Setting<Duration>,
}

impl CacheConfig {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        root: &Table<'_>,
        redis: Option<String>,
        env: Env<'_>,
    ) -> Self {
        let redis = top(reader, root, "redis", Want::Text, redis, env);
        let prefix = top(reader, root, "redis_prefix", Want::Text, None, env);
        let timeout = top(reader, root, "redis_timeout", Want::Duration, None, env);
        let ttl = top(reader, root, "status_ttl", Want::Duration, None, env);
        Self {
            redis: setting(redis, None, |given| urls(reader, given).map(Some)),
            prefix: setting(prefix, PREFIX.to_owned(), |given| word(reader, given)),
            timeout: setting(timeout, RESPONSE, |given| within(reader, given, SLOWEST)),
            ttl: setting(ttl, OPEN_FOR, |given| within(reader, given, OLDEST)),
        }
    }

    pub(super) fn report(&self) -> [ReportLine; 4] {
        let Self {
            redis,
            prefix,
            timeout,
            ttl,
        } = self;
        [
            line("redis", redis, or_none(redis.value.as_ref())),
            line("redis_prefix", prefix, prefix.value.clone()),
            line("redis_timeout", timeout, format_duration(timeout.value)),
            line("status_ttl", ttl, format_duration(ttl.value)),
        ]
    }
}

/// No message repeats the value: it may hold a password that is not where one is looked for.
fn urls(reader: &mut Reader<'_>, given: &Given) -> Option<String> {
    let mut urls = given.text.split([',', ' ']).filter(|url| !url.is_empty());
    let known = |url: &str| SCHEMES.iter().any(|scheme| url.starts_with(scheme));
    if urls.clone().next().is_some() && urls.all(known) {
        return Some(given.text.clone());
    }
    let text = "must be redis://HOST, or the URLs of a cluster's servers between commas";
    reader.refuse(given.origin.clone(), &given.key, text);
    None
}

fn word(reader: &mut Reader<'_>, given: &Given) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    if (1..=100).contains(&given.text.len()) && given.text.chars().all(plain) {
        return Some(given.text.clone());
    }
    reader.refuse_value(given, "1 to 100 of A-Z a-z 0-9 - _ . : /");
    None
}

fn within(reader: &mut Reader<'_>, given: &Given, most: Duration) -> Option<Duration> {
    let duration = reader.duration(given)?;
    if (Duration::from_millis(1)..=most).contains(&duration) {
        return Some(duration);
    }
    let wants = format!("1ms to {}", format_duration(most));
    reader.refuse_value(given, &wants);
    None
}
