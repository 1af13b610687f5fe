//! The statuses of one store's batches: read from their copy, or from the store with a copy left behind.
//!
//! What is read may be older than what somebody has changed since. So a copy of what was *read* is
//! left only where none is, and one of what was *changed* replaces what is there. A reader that
//! took longer than the shortest time to live leaves none: what it would have met may be gone.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::value::{self, GONE};
use super::{CacheBackend, Entry, FINAL_TIMES, StatusCache};
use crate::model::{Batch, BatchId};
use crate::store::{Ended, Store, StoreError};

/// A longer text is not kept: on its way it would hold up others for milliseconds.
const LONGEST: usize = 256 << 10;

/// A store's statuses and their copies: cheap to clone.
#[derive(Clone)]
pub(crate) struct Statuses {
    store: Store,
    cache: StatusCache,
    /// Read once: a store that is restored under a running process is none that goes on.
    epoch: Arc<OnceCell<String>>,
}

/// What a copy is left for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Read,
    Changed,
}

impl Statuses {
    pub(crate) fn new(store: Store, cache: StatusCache) -> Self {
        Self {
            store,
            cache,
            epoch: Arc::default(),
        }
    }

    /// Whether anybody else sees the copies.
    pub(crate) fn is_shared(&self) -> bool {
        let backend = self.cache.backend.as_ref();
        backend.is_some_and(|backend| backend.is_shared())
    }

    /// The backend and what its keys begin with; `None` where there is no cache, or no epoch can be read.
    async fn open(&self) -> Option<(&dyn CacheBackend, String)> {
        let backend = self.cache.backend.as_deref()?;
        let epoch = self
            .epoch
            .get_or_try_init(|| self.store.epoch())
            .await
            .ok()?;
        Some((backend, format!("{}:{epoch}", self.cache.prefix)))
    }

    /// The copy of a status that cannot change any more, and where others see it, of an open one.
    async fn copy(&self, id: BatchId, open: bool) -> Option<Batch> {
        let (backend, root) = self.open().await?;
        let mut keys = vec![final_key(&root, id)];
        if open && backend.is_shared() {
            keys.push(open_key(&root, id));
        }
        let found = backend.get(&keys).await;
        // Beside a final one that cannot be read, or was taken away, an open one is from before.
        value::decode(id, found.iter().flatten().next()?)
    }

    /// The status: a copy of it, at most so old as copies of open ones may be.
    pub(crate) async fn batch(&self, id: BatchId) -> Result<Option<Batch>, StoreError> {
        match self.copy(id, true).await {
            Some(batch) => Ok(Some(batch)),
            None => self.read(id).await,
        }
    }

    /// The status as it is now: a copy only where it cannot change any more.
    pub(crate) async fn now(&self, id: BatchId) -> Result<Option<Batch>, StoreError> {
        match self.copy(id, false).await {
            Some(batch) => Ok(Some(batch)),
            None => self.read(id).await,
        }
    }

    /// The status of one that has ended, by a copy or by the store.
    pub(crate) async fn end(&self, id: BatchId) -> Result<Ended, StoreError> {
        if let Some(batch) = self.copy(id, false).await {
            return Ok(Ended::Yes(Box::new(batch)));
        }
        let began = Instant::now();
        let ended = self.store.ended(id).await?;
        if let Ended::Yes(batch) = &ended {
            self.known(batch, began).await;
        }
        Ok(ended)
    }

    /// The status as the store has it.
    pub(crate) async fn read(&self, id: BatchId) -> Result<Option<Batch>, StoreError> {
        let began = Instant::now();
        let batch = self.store.batch(id).await?;
        if let Some(batch) = &batch {
            self.known(batch, began).await;
        }
        Ok(batch)
    }

    /// Leaves a copy of a status that the store had, or was given, since then.
    pub(crate) async fn known(&self, batch: &Batch, since: Instant) {
        if since.elapsed() < self.cache.open_for {
            self.leave(batch, Why::Read).await;
        }
    }

    /// The status as the store has it, by whoever has just changed it.
    pub(crate) async fn changed(&self, id: BatchId) -> Result<Option<Batch>, StoreError> {
        let batch = self.store.batch(id).await?;
        match &batch {
            Some(batch) => self.leave(batch, Why::Changed).await,
            None => self.forget(&[id]).await,
        }
        Ok(batch)
    }

    /// Batches that may have ended with what was just recorded; no failure of theirs is anybody's.
    pub(crate) async fn ended(&self, ids: &[BatchId]) {
        // Where nobody else sees the copies, whoever asks first leaves one.
        if !self.is_shared() {
            return;
        }
        for id in ids {
            let began = Instant::now();
            let read = self.store.batch(*id).await;
            if let Ok(Some(batch)) = read
                && batch.done
                && began.elapsed() < self.cache.open_for
            {
                self.leave(&batch, Why::Read).await;
            }
        }
    }

    async fn leave(&self, batch: &Batch, why: Why) {
        let Some((backend, root)) = self.open().await else {
            return;
        };
        let open_for = self.cache.open_for;
        let (key, ttl) = if batch.done {
            (
                final_key(&root, batch.id),
                open_for.saturating_mul(FINAL_TIMES),
            )
        } else if backend.is_shared() {
            (open_key(&root, batch.id), open_for)
        } else {
            return;
        };
        let over = why == Why::Changed;
        let text = value::encode(batch).filter(|text| text.len() <= LONGEST);
        let (value, ttl) = match text {
            Some(text) => (text.into(), ttl),
            // What is there is older than the change.
            None if over => (GONE.into(), open_for),
            None => return,
        };
        let entry = Entry {
            key,
            value,
            ttl,
            over,
        };
        backend.put(entry).await;
    }

    /// Takes copies away: what was read before comes back neither now nor later.
    ///
    /// A mark stands in their place for as long as a reader of what was may still be on its way.
    pub(crate) async fn forget(&self, ids: &[BatchId]) {
        let Some((backend, root)) = self.open().await else {
            return;
        };
        let keys = ids
            .iter()
            .flat_map(|id| [final_key(&root, *id), open_key(&root, *id)]);
        let marks = keys.map(|key| {
            backend.put(Entry {
                key,
                value: GONE.into(),
                ttl: self.cache.open_for,
                over: true,
            })
        });
        futures_util::future::join_all(marks).await;
    }

    /// The batch that carries an external id in its app.
    pub(crate) async fn named(
        &self,
        app: &str,
        external_id: &str,
    ) -> Result<Option<BatchId>, StoreError> {
        let open = self.open().await;
        if let Some((backend, root)) = &open {
            let key = [name_key(root, app, external_id)];
            let found = backend.get(&key).await.into_iter().flatten().next();
            if let Some(id) = found.and_then(|id| id.parse().ok()) {
                return Ok(Some(id));
            }
        }
        let (app, name) = (app.to_owned(), external_id.to_owned());
        let began = Instant::now();
        let id = self.store.find_external(app.clone(), name).await?;
        if let Some(id) = id
            && began.elapsed() < self.cache.open_for
        {
            self.name(&app, external_id, id, false).await;
        }
        Ok(id)
    }

    /// Keeps which batch carries an external id; who has just submitted it knows best.
    pub(crate) async fn name(&self, app: &str, external_id: &str, id: BatchId, over: bool) {
        if let Some((backend, root)) = self.open().await {
            let entry = Entry {
                key: name_key(&root, app, external_id),
                value: id.to_string().into(),
                ttl: self.cache.open_for.saturating_mul(FINAL_TIMES),
                over,
            };
            backend.put(entry).await;
        }
    }
}

/// The braces put a batch's keys on one server of a cluster.
fn final_key(root: &str, id: BatchId) -> String {
    format!("{root}:{{{id}}}:final")
}

fn open_key(root: &str, id: BatchId) -> String {
    format!("{root}:{{{id}}}:open")
}

/// A name may be long, and somebody's own: its hash is neither.
fn name_key(root: &str, app: &str, external_id: &str) -> String {
    let hash = Sha256::new()
        .chain_update(app)
        .chain_update([0])
        .chain_update(external_id)
        .finalize();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{root}:name:{hex}")
}
