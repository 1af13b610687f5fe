//! A cache in this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lru::LruCache;

use super::{CacheBackend, Entry};

/// Statuses that are kept.
const MOST: usize = 10_000;
/// Bytes of them, with their keys.
const MOST_BYTES: usize = 32 << 20;

/// What was asked for last stays, up to a number and a size.
pub struct Memory {
    kept: Mutex<Kept>,
    most: usize,
    most_bytes: usize,
}

struct Kept {
    entries: LruCache<String, Item>,
    bytes: usize,
}

struct Item {
    value: Arc<str>,
    /// `None` is so far away that it has no moment.
    until: Option<Instant>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::bounded(MOST, MOST_BYTES)
    }
}

impl Memory {
    /// At most so many texts, and so many bytes of them with their keys.
    #[must_use]
    pub fn bounded(most: usize, most_bytes: usize) -> Self {
        Self {
            kept: Mutex::new(Kept {
                entries: LruCache::unbounded(),
                bytes: 0,
            }),
            most,
            most_bytes,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, key: &str, now: Instant) -> Option<Arc<str>> {
        self.kept().live(key, now)
    }

    fn keep(&self, entry: Entry, now: Instant) {
        let Entry {
            key,
            value,
            ttl,
            over,
        } = entry;
        let mut kept = self.kept();
        if !over && kept.live(&key, now).is_some() {
            return;
        }
        kept.remove(&key);
        let size = size(&key, &value);
        // Without this one large text would drive out all others, and then itself.
        if size > self.most_bytes {
            return;
        }
        let until = now.checked_add(ttl);
        kept.entries.put(key, Item { value, until });
        kept.bytes += size;
        while kept.entries.len() > self.most || kept.bytes > self.most_bytes {
            let Some((key, item)) = kept.entries.pop_lru() else {
                break;
            };
            kept.bytes = kept.bytes.saturating_sub(self::size(&key, &item.value));
        }
    }
}

fn size(key: &str, value: &str) -> usize {
    key.len() + value.len()
}

impl Kept {
    fn live(&mut self, key: &str, now: Instant) -> Option<Arc<str>> {
        let item = self.entries.get(key)?;
        if item.until.is_none_or(|until| now < until) {
            return Some(Arc::clone(&item.value));
        }
        self.remove(key);
        None
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, item)) = self.entries.pop_entry(key) {
            self.bytes = self.bytes.saturating_sub(size(&key, &item.value));
        }
    }
}

impl CacheBackend for Memory {
    fn get<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Vec<Option<Arc<str>>>> {
        let now = Instant::now();
        let found = keys.iter().map(|key| self.look(key, now)).collect();
        std::future::ready(found).boxed()
    }

    fn put(&self, entry: Entry) -> BoxFuture<'_, ()> {
        self.keep(entry, Instant::now());
        std::future::ready(()).boxed()
    }

    fn is_shared(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(key: &str, value: &str, over: bool) -> Entry {
        Entry {
            key: key.to_owned(),
            value: value.into(),
            ttl: Duration::from_secs(10),
            over,
        }
    }

    #[test]
    fn what_was_asked_for_longest_ago_goes_first() {
        let now = Instant::now();
        let memory = Memory::bounded(2, 1000);
        memory.keep(entry("a", "1", false), now);
        memory.keep(entry("b", "2", false), now);
        assert_eq!(memory.look("a", now).as_deref(), Some("1"));
        memory.keep(entry("c", "3", false), now);
        assert_eq!(memory.look("b", now), None);
        assert_eq!(memory.look("a", now).as_deref(), Some("1"));
        assert_eq!(memory.look("c", now).as_deref(), Some("3"));
    }

    #[test]
    fn bytes_are_bounded_and_counted_back() {
        let now = Instant::now();
        let memory = Memory::bounded(100, 20);
        memory.keep(entry("a", "123456789", false), now);
        memory.keep(entry("b", "123456789", false), now);
        assert_eq!(memory.kept().bytes, 20);
        memory.keep(entry("c", "1", false), now);
        assert_eq!((memory.look("a", now), memory.kept().bytes), (None, 12));
        memory.keep(entry("b", "12", true), now);
        assert_eq!(memory.kept().bytes, 5);
        memory.keep(entry("d", &"x".repeat(20), false), now);
        assert_eq!((memory.look("d", now), memory.kept().bytes), (None, 5));
    }

    #[test]
    fn what_is_there_is_replaced_only_by_what_says_so() {
        let now = Instant::now();
        let memory = Memory::default();
        memory.keep(entry("a", "1", false), now);
        memory.keep(entry("a", "2", false), now);
        assert_eq!(memory.look("a", now).as_deref(), Some("1"));
        memory.keep(entry("a", "3", true), now);
        assert_eq!(memory.look("a", now).as_deref(), Some("3"));
    }

    #[test]
    fn a_text_is_gone_after_its_time() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let memory = Memory::default();
        memory.keep(entry("a", "1", false), at(0));
        assert_eq!(memory.look("a", at(9_999)).as_deref(), Some("1"));
        assert_eq!(memory.look("a", at(10_000)), None);
        assert_eq!(memory.kept().bytes, 0);
        memory.keep(entry("a", "2", false), at(10_000));
        assert_eq!(memory.look("a", at(10_001)).as_deref(), Some("2"));
    }
}
