//! What the command line means: configuration in force, store, client, worker.

use std::path::Path;

use super::args::Global;
use super::exit::Failure;
use super::{known, shown};
use crate::cache::{RedisOptions, StatusCache};
use crate::client::Client;
use crate::config::{self, CacheConfig, Config, Handler, Migrate, OpConfig};
use crate::error::{Error, ErrorKind};
use crate::manager::{Builder, JobManager};
use crate::model::{JobKey, Kind};
use crate::processor::command::CommandSpec;
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Store, postgres};

/// One command with its configuration.
pub(super) struct Session {
    pub(super) config: Config,
    pub(super) json: bool,
    /// The application's parts.
    builder: Builder,
    /// The program with the flags that say which database: what a hint begins with.
    again: String,
}

impl Session {
    pub(super) fn load(
        global: &Global,
        builder: Builder,
        program: String,
        json: bool,
    ) -> Result<Self, Failure> {
        let mut config = config::load(global.overrides(), &|name| std::env::var(name).ok())?;
        known::merge(&mut config, builder.registry());
        let mut again = quoted(&program);
        let path = global.config.as_ref().map(|p| p.to_string_lossy());
        for (flag, value) in [
            ("--config", path.as_deref()),
            ("--database", global.database.as_deref()),
            ("--objects", global.objects.as_deref()),
        ] {
            if let Some(value) = value {
                // A hint is shown to others as easily as it is typed again.
                again.push_str(&format!(" {flag} {}", quoted(&config::mask(value))));
            }
        }
        Ok(Self {
            config,
            json,
            builder,
            again,
        })
    }

    /// A command of this program for the user to type.
    pub(super) fn command(&self, rest: impl std::fmt::Display) -> String {
        format!("{} {rest}", self.again)
    }

    /// Says something on stderr that is no error, beside a progress bar; in the log where stderr is for programs.
    pub(super) fn note(&self, text: &str) {
        if self.json {
            let told: Vec<&str> = text.lines().map(str::trim).collect();
            tracing::warn!("{}", told.join("; "));
        } else {
            // Names in it may be somebody else's.
            let lines = text.lines().map(|line| shown::clean(line) + "\n");
            super::progress::say(&lines.collect::<String>());
        }
    }

    /// The address of a database that is no file.
    pub(super) fn server(&self) -> Option<&str> {
        let url = self.config.database.value.as_str();
        url.starts_with("postgres:").then_some(url)
    }

    /// The database's file.
    pub(super) fn database(&self) -> &Path {
        let url = self.config.database.value.as_str();
        Path::new(url.strip_prefix("sqlite:").unwrap_or(url))
    }

    /// How the database is opened.
    pub(super) fn options(&self) -> Options {
        let options = Options::new(self.database());
        match self.config.migrate.value {
            Migrate::Auto => options,
            Migrate::Manual => options.migrate_by_hand(),
        }
    }

    /// How a PostgreSQL database is opened, where it is one.
    pub(super) fn postgres(&self) -> Result<Option<postgres::Options>, Failure> {
        let Some(url) = self.server() else {
            return Ok(None);
        };
        let mut options = postgres::Options::new(url).map_err(Error::from)?;
        if let Some(url) = &self.config.database_session.value {
            options.session = Some(postgres::Address::new(url).map_err(Error::from)?);
        }
        Ok(Some(match self.config.migrate.value {
            Migrate::Auto => options,
            Migrate::Manual => options.migrate_by_hand(),
        }))
    }

    async fn store(&self) -> Result<Store, Failure> {
        if let Some(options) = self.postgres()? {
            return Ok(Store::postgres_by(options).await?);
        }
        Ok(Store::new(SqliteStore::open(self.options()).await?))
    }

    /// The Redis that statuses are copied to, where there is one.
    pub(super) fn redis(&self) -> Option<RedisOptions> {
        let CacheConfig { redis, timeout, .. } = &self.config.cache;
        let urls = redis.value.as_ref()?;
        Some(RedisOptions::new(urls).response(timeout.value))
    }

    /// Where statuses are copied to; one that does not answer is a warning.
    async fn cache(&self) -> Result<StatusCache, Failure> {
        let CacheConfig {
            redis: _,
            prefix,
            timeout: _,
            ttl,
        } = &self.config.cache;
        let cache = match self.redis() {
            None => StatusCache::memory(),
            Some(options) => StatusCache::redis_by(options).await.map_err(Error::from)?,
        };
        Ok(cache.open_for(ttl.value).prefix(&prefix.value))
    }

    /// A client that may submit; makes the database where there is none.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let builder = self.builder(None)?;
        let store = self.store().await?;
        let manager = builder.store(store).cache(self.cache().await?).build()?;
        let user = std::env::var("USER").unwrap_or_default();
        Ok(manager.client().acting_as(&user))
    }

    /// A client for what is there: a database that is not is not made for a question.
    pub(super) async fn reader(&self) -> Result<Client, Failure> {
        if self.server().is_some() {
            return self.client().await;
        }
        let path = self.database();
        let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let has_folder = folder.is_none_or(Path::is_dir);
        if has_folder && matches!(path.try_exists(), Ok(false)) {
            let text = format!(
                "there is no batch yet: the database {} does not exist; name another with --database",
                path.display()
            );
            return Err(Error::new(ErrorKind::NotFound, "not_found", text).into());
        }
        self.client().await
    }

    /// A worker of every op that this process can work on, or of one op alone.
    pub(super) async fn worker(&self, only: Option<&JobKey>) -> Result<JobManager, Failure> {
        let builder = self.builder(only)?;
        let store = self.store().await?;
        Ok(builder.store(store).cache(self.cache().await?).build()?)
    }

    /// The application's parts with the configuration's; everything but the store.
    pub(super) fn builder(&self, only: Option<&JobKey>) -> Result<Builder, Failure> {
        let mut builder = self.builder.clone().objects(self.object_store());
        let mut mistakes = Vec::new();
        for op in &self.config.ops {
            let key = JobKey::new(&op.app, &op.op, op.kind)?;
            let registered = builder.registry_mut().has(&key);
            match &op.handler {
                Some(_) if registered => mistakes.push(format!(
                    "{}: {} has a handler here and a processor in this program; remove one",
                    self.place(op),
                    op.name(),
                )),
                Some(handler) => {
                    let spec = self.command_of(op, handler);
                    builder = builder.command(&op.app, &op.op, op.kind, spec).settings(
                        &op.app,
                        &op.op,
                        op.kind,
                        op.settings.clone(),
                    );
                }
                None if registered => {
                    mistakes.extend(self.unfit(op, &key));
                    builder = builder.settings(&op.app, &op.op, op.kind, op.settings.clone());
                }
                // The processor is in another program.
                None => {}
            }
        }
        if !mistakes.is_empty() {
            return Err(Failure::invalid("bad_registration", mistakes.join("\n")));
        }
        if let Some(key) = only {
            if !builder.registry_mut().has(key) {
                return Err(self.no_handler(key));
            }
            builder.registry_mut().retain(key);
        }
        Ok(builder)
    }

    /// Every op with its settings in force: those of the file, then those that this program alone has.
    pub(super) fn ops(&self) -> Vec<OpConfig> {
        known::all(&self.config, self.builder.registry())
    }

    /// What a section says that does not fit what the program set and it leaves.
    fn unfit(&self, op: &OpConfig, key: &JobKey) -> Vec<String> {
        let program = self.builder.registry().settings_of(key);
        if program.is_none_or(|program| !program.check().is_empty()) {
            // The program's own mistakes are told as such.
            return Vec::new();
        }
        let (place, name) = (self.place(op), op.name());
        let wrong = op.settings.check().into_iter();
        wrong
            .map(|(key, why)| format!("{place}: {name}.{key}: {why}"))
            .collect()
    }

    /// Whether the commands of the ops, or of one, can be started: told before anything is done.
    pub(super) fn check_commands(&self, only: Option<&JobKey>) -> Result<(), Failure> {
        let mut mistakes = Vec::new();
        for op in &self.config.ops {
            let wanted = only.is_none_or(|key| op.is(key.app.as_str(), key.op.as_str()));
            let Some(handler) = op.handler.as_ref().filter(|_| wanted) else {
                continue;
            };
            if let Err(why) = self.command_of(op, handler).check() {
                let place = self.place(op);
                mistakes.push(format!("{place}: {}.handler.command: {why}", op.name()));
            }
        }
        if mistakes.is_empty() {
            return Ok(());
        }
        Err(Failure::invalid("bad_handler", mistakes.join("\n")))
    }

    fn command_of(&self, op: &OpConfig, handler: &Handler) -> CommandSpec {
        let Handler::Command {
            command,
            shown: _,
            window,
        } = handler;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let children = op.settings.local_concurrency.map(usize::try_from);
        CommandSpec {
            command: command.clone(),
            dir: self.config.dir.clone(),
            window: *window,
            children: children.and_then(Result::ok).unwrap_or(cores),
        }
    }

    /// Refuses to submit to an op of the other kind; one that nobody knows here may be elsewhere.
    pub(super) fn refuse_other_kind(&self, key: &JobKey) -> Result<(), Failure> {
        let registry = self.builder.clone();
        let other = match key.kind {
            Kind::Batch => Kind::Query,
            Kind::Query => Kind::Batch,
        };
        let known = |kind| {
            let key = JobKey {
                kind,
                ..key.clone()
            };
            let (app, op) = (key.app.as_str(), key.op.as_str());
            registry.knows(&key) || self.config.op(app, op).is_some_and(|op| op.kind == kind)
        };
        if known(key.kind) || !known(other) {
            return Ok(());
        }
        let text = match other {
            Kind::Query => format!(
                "{key} answers slow queries and takes no file; use {}",
                self.command(format_args!(
                    "query submit --app {} --op {} --input JSON",
                    quoted(key.app.as_str()),
                    key.op
                ))
            ),
            Kind::Batch => format!(
                "{key} takes batches and answers no slow queries; use {}",
                self.command(format_args!(
                    "submit FILE --app {} --op {}",
                    quoted(key.app.as_str()),
                    key.op
                ))
            ),
        };
        Err(Failure::invalid("wrong_kind", text))
    }

    fn no_handler(&self, key: &JobKey) -> Failure {
        let op = self.config.op(key.app.as_str(), key.op.as_str());
        let text = match op {
            Some(op) => format!(
                "{}: {} has no handler, and this program has no processor for it",
                self.place(op),
                op.name()
            ),
            None => format!(
                "no op {key} is configured{} add [ops.\"{key}\"] with a handler to {}",
                match known::meant_here(self, key) {
                    near if near.is_empty() => ";".to_owned(),
                    near => format!("{near} Else"),
                },
                self.config.file.value.as_deref().map_or_else(
                    || config::DEFAULT_FILE.to_owned(),
                    |path| path.display().to_string()
                )
            ),
        };
        Failure::invalid("unknown_op", text)
    }

    /// Where an op is configured.
    fn place(&self, op: &OpConfig) -> String {
        match &self.config.file.value {
            Some(path) => format!("{}:{}", path.display(), op.line),
            None => format!("line {}", op.line),
        }
    }
}

/// A word as a shell reads it back.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::processor::{BatchProcessor, RowCx, RowFailure};

    struct Same;

    impl BatchProcessor for Same {
        type Block = ();
        type Context = ();
        type Input = i64;
        type Output = i64;

        async fn process(&self, _: &mut RowCx<'_, (), ()>, n: i64) -> Result<i64, RowFailure> {
            Ok(n)
        }
    }

    /// A program with the processor `a/b` and this configuration file.
    fn session(text: &str) -> Session {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b.toml");
        std::fs::write(&path, text).unwrap();
        let args = ["rowmill", "config", "check", "--config"].map(OsString::from);
        let args = args.into_iter().chain([path.into()]).collect();
        let global = super::super::args::parse(args).unwrap().global;
        let builder = Builder::new().batch("a", "b", Same);
        Session::load(&global, builder, "rowmill".to_owned(), false).unwrap()
    }

    fn refused(session: &Session, op: Option<&str>) -> Option<String> {
        let key = op.map(|op| JobKey::new("a", op, Kind::Batch).unwrap());
        match session.builder(key.as_ref()) {
            Ok(_) => None,
            Err(Failure::Error(error, _)) => Some(error.to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_op_with_a_handler_and_a_processor_is_a_mistake() {
        let session = session("[ops.\"a/B\"]\nhandler = { command = [\"true\"] }\n");
        let told = refused(&session, None).unwrap();
        assert!(
            told.contains("a b.toml:1: ops.\"a/B\" has a handler here"),
            "{told}"
        );
    }

    #[test]
    fn an_op_without_a_handler_sets_how_a_processor_runs() {
        let session = session("[ops.\"a/b\"]\nblock_rows = 7\n[ops.\"a/c\"]\nparallel = 2\n");
        let key = JobKey::new("a", "b", Kind::Batch).unwrap();
        let mut builder = session.builder(Some(&key)).unwrap();
        let settings = builder.registry_mut().settings_of(&key).unwrap();
        assert_eq!(settings.block_rows, 7);
        assert!(
            refused(&session, Some("c"))
                .unwrap()
                .contains("has no handler")
        );
        assert!(
            refused(&session, Some("d"))
                .unwrap()
                .contains("no op a/d is configured")
        );
    }

    #[test]
    fn a_hint_can_be_typed_as_it_is() {
        let hint = session("").command("status x");
        assert!(hint.starts_with("rowmill --config '/"), "{hint}");
        assert!(hint.ends_with("/a b.toml' status x"), "{hint}");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
