//! Which processor works on what. Mistakes are collected and told all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{CommandProcessor, CommandSpec};
use super::erased::{InitializerOf, PerRow, is_unit};
use super::per_chunk::PerChunk;
use super::per_piece::{PerPiece, Set};
use super::per_query::PerQuery;
use super::written::Transactional;
use super::{
    BatchProcessor, ChunkProcessor, ErasedInitializer, ErasedProcessor, Initializer, SetProcessor,
    SlowQueryProcessor,
};
use crate::model::{AppName, Delivery, JobKey, Kind, OpSettings};
use crate::store::Dialect;

/// A mistake in what was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake(pub String);

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A processor with its settings.
#[derive(Clone)]
pub(crate) struct OpRegistered {
    pub(crate) key: JobKey,
    pub(crate) processor: Arc<dyn ErasedProcessor>,
    /// The same for another database.
    other: Option<Arc<dyn ErasedProcessor>>,
    pub(crate) settings: Arc<OpSettings>,
}

impl OpRegistered {
    /// Whether this one is for a database that those which are here are not for.
    fn is_for_another(&self, processor: &dyn ErasedProcessor) -> bool {
        let (here, there) = (self.processor.written_for(), processor.written_for());
        self.other.is_none() && here.is_some() && there.is_some() && here != there
    }
}

/// An app with its initializer, if it has one.
pub(crate) type AppEntry = (AppName, Option<Arc<dyn ErasedInitializer>>);

/// An application's initializers and processors.
///
/// ```
/// use rowmill::{BatchProcessor, Registry, RowCx, RowFailure};
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
/// let registry = Registry::new().batch("math", "double", Double).batch("math", "Double", Double);
/// assert_eq!(registry.mistakes().len(), 1, "the op is registered twice");
/// ```
#[derive(Default, Clone)]
pub struct Registry {
    initializers: BTreeMap<AppName, Arc<dyn ErasedInitializer>>,
    ops: BTreeMap<JobKey, OpRegistered>,
    mistakes: Vec<Mistake>,
}

impl Registry {
    /// Nothing registered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers what opens an app's init block.
    #[must_use]
    pub fn initializer(mut self, app: &str, initializer: impl Initializer) -> Self {
        match app.parse::<AppName>() {
            Err(error) => self.mistake(error.to_string()),
            Ok(app) if self.initializers.contains_key(&app) => {
                self.mistake(format!(
                    "initializer already registered for this app: app={app}"
                ));
            }
            Ok(app) => {
                let initializer = Arc::new(InitializerOf(initializer));
                self.initializers.insert(app, initializer);
            }
        }
        self
    }

    /// Registers a processor of rows.
    #[must_use]
    pub fn batch(self, app: &str, op: &str, processor: impl BatchProcessor) -> Self {
        self.op(app, op, Kind::Batch, Arc::new(PerRow(processor)))
    }

    /// Registers a processor of chunks.
    #[must_use]
    pub fn chunk(self, app: &str, op: &str, processor: impl ChunkProcessor) -> Self {
        self.op(app, op, Kind::Batch, Arc::new(PerChunk(processor)))
    }

    /// Registers a processor whose writes commit with its rows' outcomes: a
    /// [`sqlite::TransactionalProcessor`](crate::sqlite::TransactionalProcessor) or a
    /// [`postgres::TransactionalProcessor`](crate::postgres::TransactionalProcessor).
    ///
    /// An op may have one of each: the one that is written for the store's database is used.
    #[must_use]
    pub fn transactional<D>(self, app: &str, op: &str, processor: impl Transactional<D>) -> Self {
        self.op(app, op, Kind::Batch, processor.erased().0)
    }

    /// Registers a processor of whole sets of rows whose writes commit with their outcomes, on PostgreSQL.
    #[must_use]
    pub fn set_based(self, app: &str, op: &str, processor: impl SetProcessor) -> Self {
        let processor = PerPiece::new(Set(processor));
        self.op(app, op, Kind::Batch, Arc::new(processor))
    }

    /// Registers a processor of slow queries.
    #[must_use]
    pub fn slow_query(self, app: &str, op: &str, processor: impl SlowQueryProcessor) -> Self {
        self.op(app, op, Kind::Query, Arc::new(PerQuery(processor)))
    }

    /// Registers a command whose children run the rows.
    #[must_use]
    pub fn command(mut self, app: &str, op: &str, kind: Kind, spec: CommandSpec) -> Self {
        for mistake in spec.mistakes() {
            self.mistake(format!("{app}/{op}: {mistake}"));
        }
        self.op(app, op, kind, Arc::new(CommandProcessor::new(spec)))
    }

    /// Sets how the rows of an op run; it must be registered before.
    #[must_use]
    pub fn settings(mut self, app: &str, op: &str, kind: Kind, settings: OpSettings) -> Self {
        for (field, problem) in settings.check() {
            self.mistake(format!("{app}/{op}: {field}: {problem}"));
        }
        match JobKey::new(app, op, kind) {
            Err(error) => self.mistake(error.to_string()),
            Ok(key) => match self.ops.get_mut(&key) {
                Some(op) => op.settings = Arc::new(settings),
                None => self.mistake(format!(
                    "settings for {key}, of which no {} processor is registered",
                    kind.as_str()
                )),
            },
        }
        self
    }

    pub(crate) fn op(
        mut self,
        app: &str,
        op: &str,
        kind: Kind,
        processor: Arc<dyn ErasedProcessor>,
    ) -> Self {
        match JobKey::new(app, op, kind) {
            Err(error) => self.mistake(error.to_string()),
            Ok(key) => match self.ops.get_mut(&key) {
                Some(there) if there.is_for_another(&*processor) => there.other = Some(processor),
                Some(_) => self.mistake(format!(
                    "{} processor already registered for {key}",
                    kind.as_str()
                )),
                None => {
                    let entry = OpRegistered {
                        key: key.clone(),
                        processor,
                        other: None,
                        settings: Arc::default(),
                    };
                    self.ops.insert(key, entry);
                }
            },
        }
        self
    }

    /// Takes of each op the processor that is written for this database; mistakes are ops that have none.
    pub(crate) fn choose(&mut self, dialect: Dialect) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (key, op) in &mut self.ops {
            let fits = |p: &Arc<dyn ErasedProcessor>| p.written_for().is_none_or(|d| d == dialect);
            if fits(&op.processor) {
                continue;
            }
            match op.other.take().filter(fits) {
                Some(other) => op.processor = other,
                None => mistakes.push(Mistake(format!(
                    "{key} is transactional, and its processor is not written for {dialect}, which the database is"
                ))),
            }
        }
        mistakes
    }

    fn mistake(&mut self, text: String) {
        self.mistakes.push(Mistake(text));
    }

    /// Everything that is wrong: double registrations, names that cannot be, processors without
    /// their app's initializer or of another block type.
    #[must_use]
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.clone();
        for (key, op) in &self.ops {
            if op.processor.written_for().is_some() && op.settings.delivery == Delivery::AtMostOnce
            {
                mistakes.push(Mistake(format!(
                    "{key} is transactional: its effects are there exactly once; leave out delivery"
                )));
            }
            let (wants, name) = op.processor.block();
            match self.initializers.get(&key.app) {
                None if is_unit(wants) => {}
                None => mistakes.push(Mistake(format!(
                    "{key} needs an init block of type {name}, and app {} has no initializer",
                    key.app
                ))),
                Some(initializer) if initializer.block().0 == wants || is_unit(wants) => {}
                Some(initializer) => mistakes.push(Mistake(format!(
                    "{key} needs an init block of type {name}, and the initializer of app {} makes {}",
                    key.app,
                    initializer.block().1
                ))),
            }
        }
        mistakes
    }

    /// Whether a processor is registered for it.
    #[must_use]
    pub fn has(&self, key: &JobKey) -> bool {
        self.ops.contains_key(key)
    }

    /// Whether nothing is registered.
    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Forgets every op but one.
    pub(crate) fn retain(&mut self, only: &JobKey) {
        self.ops.retain(|key, _| key == only);
    }

    pub(crate) fn ops(&self) -> impl Iterator<Item = &OpRegistered> {
        self.ops.values()
    }

    pub(crate) fn settings_of(&self, key: &JobKey) -> Option<Arc<OpSettings>> {
        self.ops.get(key).map(|op| Arc::clone(&op.settings))
    }

    pub(crate) fn apps(&self) -> Vec<AppEntry> {
        let mut apps: BTreeMap<AppName, Option<Arc<dyn ErasedInitializer>>> = BTreeMap::new();
        for key in self.ops.keys() {
            apps.entry(key.app.clone())
                .or_insert_with(|| self.initializers.get(&key.app).cloned());
        }
        apps.into_iter().collect()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.ops.keys().map(ToString::to_string))
            .finish()
    }
}
