//! JobManager: collects the parts, reports every mistake at once, and runs the engine.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::cache::{StatusCache, Statuses};
use crate::client::Client;
use crate::clock::Clock;
use crate::engine::{Engine, Parts, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::files::ObjectStore;
use crate::model::{BatchId, JobKey, Kind, OpSettings};
use crate::processor::command::CommandSpec;
use crate::processor::{
    BatchProcessor, ChunkProcessor, Initializer, Mistake, Registry, SetProcessor,
    SlowQueryProcessor, Transactional,
};
use crate::store::{Store, StoreError};

/// A worker that cannot begin anew tries again after this.
const ENTER: Duration = Duration::from_secs(1);

/// A worker in this process, and the client to it: cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use rowmill::{BatchProcessor, JobManager, NewRow, RowCx, RowFailure, Store, model::{JobKey, Kind, NewBatch}};
/// struct Double;
/// impl BatchProcessor for Double {
///     type Block = ();
///     type Context = ();
///     type Input = i64;
///     type Output = i64;
///     async fn process(&self, _: &mut RowCx<'_, (), ()>, n: i64) -> Result<i64, RowFailure> {
///         Ok(n * 2)
///     }
/// }
/// # let dir = tempfile::tempdir()?;
/// let store = Store::sqlite(dir.path().join("rowmill.db")).await?;
/// let manager = JobManager::builder(store).batch("math", "double", Double).build()?;
/// let rows = [NewRow::json(&21)?];
/// let batch = manager.batch_submit(NewBatch::new(JobKey::new("math", "double", Kind::Batch)?), rows).await?;
/// manager.tick().await?;
/// assert_eq!(manager.batch_done(batch.id).await?.counts.success, 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct JobManager {
    client: Client,
    parts: Parts,
    engine: Arc<Mutex<Option<Engine>>>,
}

impl JobManager {
    /// Collects the parts of a manager.
    #[must_use]
    pub fn builder(store: Store) -> Builder {
        Builder::new().store(store)
    }

    /// Works until `shutdown`, then stops gracefully: nothing more starts, running rows may finish
    /// for the grace period, what is left goes back to the queue at once.
    ///
    /// Ends the worker: running again enters as a new one. Where others look for a worker's heartbeat
    /// (PostgreSQL), one that stood still or was cut off for so long that they took it for dead drops what it
    /// had and goes on as a new one. **Cancellation:** dropped instead of shut down, it is a worker that died:
    /// others take over what it held.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the store cannot be entered or left; [`ErrorKind::Conflict`]
    /// (`fenced`) where this worker was declared dead although it held its life: run again, it enters as a new one.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<()> {
        let mut slot = self.engine.lock().await;
        let engine = match slot.take() {
            Some(engine) => engine,
            None => Engine::start(self.parts.clone(), None).await?,
        };
        self.run_on(engine, None, &shutdown).await
    }

    /// As [`JobManager::run`], for one batch alone: other batches of its op wait for other workers.
    ///
    /// # Errors
    /// As [`JobManager::run`]; also where the store refuses for some seconds what it is asked.
    pub async fn run_batch(&self, batch: BatchId, shutdown: CancellationToken) -> Result<()> {
        let engine = Engine::start(self.parts.clone(), Some(batch)).await?;
        self.run_on(engine, Some(batch), &shutdown).await
    }

    async fn run_on(
        &self,
        mut engine: Engine,
        only: Option<BatchId>,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        loop {
            let ran = engine.run(shutdown).await;
            let stopped = engine.stop().await;
            if !self.comes_back(&ran) {
                stopped?;
                return Ok(ran?);
            }
            // A worker that is gone in the database needs no more than that.
            if let Err(error) = stopped {
                tracing::debug!(%error, "a worker that was declared dead");
            }
            tracing::warn!("goes on as a new worker");
            engine = loop {
                match Engine::start(self.parts.clone(), only).await {
                    Ok(engine) => break engine,
                    Err(error) => tracing::warn!(%error, "a worker could not enter; trying again"),
                }
                tokio::select! {
                    () = tokio::time::sleep(ENTER) => {}
                    () = shutdown.cancelled() => return Ok(()),
                }
            };
        }
    }

    /// Whether a worker that was declared dead begins anew: where silence is death it stood still or was
    /// cut off; elsewhere something is wrong that somebody has to see.
    fn comes_back<T>(&self, ran: &std::result::Result<T, StoreError>) -> bool {
        matches!(ran, Err(StoreError::Fenced(_))) && self.parts.store.heartbeat().is_some()
    }

    /// One turn by hand: takes over, claims once for each op, works, records, closes, tells; returns
    /// when all of that is done.
    ///
    /// The first turn enters as a worker, [`JobManager::stop`] leaves. **Cancellation:** what a turn that
    /// is dropped began is finished by the next one, or by the stop.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the store cannot be entered, or refuses for some seconds what
    /// it is asked; [`ErrorKind::Conflict`] (`fenced`) where this worker was declared dead although it held its
    /// life: then call [`JobManager::stop`], after which a turn enters as a new worker.
    pub async fn tick(&self) -> Result<Tick> {
        let mut slot = self.engine.lock().await;
        loop {
            let engine = match &mut *slot {
                Some(engine) => engine,
                empty => empty.insert(Engine::start(self.parts.clone(), None).await?),
            };
            let ran = engine.tick().await;
            if !self.comes_back(&ran) {
                return Ok(ran?);
            }
            // Whoever turns by hand may let much time go by in between.
            if let Some(dead) = slot.take() {
                dead.stop().await?;
            }
            tracing::warn!("goes on as a new worker");
        }
    }

    /// Turns until nothing is ready or running, or until `shutdown`: what `work --once` does.
    ///
    /// Call [`JobManager::stop`] after it: rows that run at the shutdown are stopped there.
    /// **Cancellation:** as [`JobManager::tick`].
    ///
    /// # Errors
    /// As [`JobManager::tick`].
    pub async fn run_until_idle(&self, shutdown: &CancellationToken) -> Result<()> {
        let mut idle = 0;
        while idle < 2 && !shutdown.is_cancelled() {
            // A turn that is dropped leaves what it began to the stop.
            let tick = tokio::select! {
                tick = self.tick() => tick?,
                () = shutdown.cancelled() => break,
            };
            idle = if tick.is_idle() { idle + 1 } else { 0 };
        }
        Ok(())
    }

    /// Leaves, if a turn was made by hand. **Cancellation:** as [`JobManager::run`].
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the store cannot be written.
    pub async fn stop(&self) -> Result<()> {
        match self.engine.lock().await.take() {
            Some(engine) => Ok(engine.stop().await?),
            None => Ok(()),
        }
    }

    /// The client alone.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

impl Deref for JobManager {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// The parts of a [`JobManager`].
#[derive(Clone)]
pub struct Builder {
    store: Option<Store>,
    objects: Option<ObjectStore>,
    cache: Option<StatusCache>,
    clock: Option<Arc<dyn Clock>>,
    registry: Registry,
    grace: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// No parts; [`crate::cli::run`] adds store and object store from its configuration.
    #[must_use]
    pub fn new() -> Self {
        Self {
            store: None,
            objects: None,
            cache: None,
            clock: None,
            registry: Registry::new(),
            grace: Duration::from_secs(30),
        }
    }

    /// Where everything is kept.
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Where output files go; the folder `rowmill-files` unless said otherwise.
    #[must_use]
    pub fn objects(mut self, objects: ObjectStore) -> Self {
        self.objects = Some(objects);
        self
    }

    /// Where statuses are copied to; this process's memory unless said otherwise.
    #[must_use]
    pub fn cache(mut self, cache: StatusCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Where the time comes from; the store's own clock unless said otherwise: this machine's on SQLite, the
    /// server's on PostgreSQL. All workers of a store have the same.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// How long rows may go on after a stop; 30 s unless said otherwise.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Registers what opens an app's init block.
    #[must_use]
    pub fn initializer(mut self, app: &str, initializer: impl Initializer) -> Self {
        self.registry = self.registry.initializer(app, initializer);
        self
    }

    /// Registers a processor of rows.
    #[must_use]
    pub fn batch(mut self, app: &str, op: &str, processor: impl BatchProcessor) -> Self {
        self.registry = self.registry.batch(app, op, processor);
        self
    }

    /// Registers a processor of chunks.
    #[must_use]
    pub fn chunk(mut self, app: &str, op: &str, processor: impl ChunkProcessor) -> Self {
        self.registry = self.registry.chunk(app, op, processor);
        self
    }

    /// Registers a processor whose writes commit with its rows' outcomes: one for SQLite, one for PostgreSQL, or
    /// one after the other both for the same op.
    #[must_use]
    pub fn transactional<D>(
        mut self,
        app: &str,
        op: &str,
        processor: impl Transactional<D>,
    ) -> Self {
        self.registry = self.registry.transactional(app, op, processor);
        self
    }

    /// Registers a processor of whole sets of rows whose writes commit with their outcomes, on PostgreSQL.
    #[must_use]
    pub fn set_based(mut self, app: &str, op: &str, processor: impl SetProcessor) -> Self {
        self.registry = self.registry.set_based(app, op, processor);
        self
    }

    /// Registers a processor of slow queries.
    #[must_use]
    pub fn slow_query(mut self, app: &str, op: &str, processor: impl SlowQueryProcessor) -> Self {
        self.registry = self.registry.slow_query(app, op, processor);
        self
    }

    /// Registers a command whose children run the rows.
    #[must_use]
    pub fn command(mut self, app: &str, op: &str, kind: Kind, spec: CommandSpec) -> Self {
        self.registry = self.registry.command(app, op, kind, spec);
        self
    }

    /// Sets how the rows of an op run; it must be registered before.
    ///
    /// In [`crate::cli::run`] each key that the op's section of the configuration file holds wins over these,
    /// and what is set in the database over both.
    #[must_use]
    pub fn settings(mut self, app: &str, op: &str, kind: Kind, settings: OpSettings) -> Self {
        self.registry = self.registry.settings(app, op, kind, settings);
        self
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Whether something works on it here.
    pub(crate) fn knows(&self, key: &JobKey) -> bool {
        self.registry.has(key)
    }

    /// Everything that is wrong with the parts.
    #[must_use]
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = self.registry.mistakes();
        match &self.store {
            Some(store) => mistakes.extend(self.registry.clone().choose(store.dialect())),
            None => mistakes.push(Mistake("there is no store".to_owned())),
        }
        mistakes
    }

    /// Builds the manager; nothing runs yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with every mistake, a line each.
    pub fn build(mut self) -> Result<JobManager> {
        let mistakes = self.mistakes();
        let Some(store) = self.store.filter(|_| mistakes.is_empty()) else {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            return Err(Error::new(
                ErrorKind::Invalid,
                "bad_registration",
                lines.join("\n"),
            ));
        };
        let objects = self
            .objects
            .unwrap_or_else(|| ObjectStore::folder("rowmill-files"));
        self.registry.choose(store.dialect());
        let registry = Arc::new(self.registry);
        let clock = self.clock.unwrap_or_else(|| store.clock());
        let cache = self.cache.unwrap_or_else(StatusCache::memory);
        let statuses = Statuses::new(store.clone(), cache);
        Ok(JobManager {
            client: Client {
                store: store.clone(),
                statuses: statuses.clone(),
                objects: objects.clone(),
                clock: Arc::clone(&clock),
                registry: Arc::clone(&registry),
                by: Arc::from(""),
            },
            parts: Parts {
                store,
                statuses,
                objects,
                clock,
                registry,
                grace: self.grace,
            },
            engine: Arc::default(),
        })
    }
}
