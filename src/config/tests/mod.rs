//! Each rule of the configuration, named by what a user sees.

mod ops;
mod s3;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// A folder with a `rowmill.toml`, an environment and flags.
struct Given {
    folder: tempfile::TempDir,
    env: BTreeMap<&'static str, String>,
    cli: Overrides,
}

/// The configuration file `text`, and nothing else.
fn file(text: &str) -> Given {
    let given = nothing();
    fs::write(given.path(), text).expect("the file is written");
    given
}

/// No file, no environment and no flags.
fn nothing() -> Given {
    Given {
        folder: tempfile::tempdir().expect("a folder is made"),
        env: BTreeMap::new(),
        cli: Overrides::default(),
    }
}

/// What is said of this file, all of it.
pub(super) fn ops_refused(text: &str) -> String {
    let given = file(text).env("N", "x");
    given.load().unwrap_err().to_string()
}

impl Given {
    fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.insert(name, value.to_owned());
        self
    }

    fn database(mut self, url: &str) -> Self {
        self.cli.database = Some(url.to_owned());
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(DEFAULT_FILE)
    }

    /// A path in the file's folder, as a text.
    fn beside(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("the folder is UTF-8").to_owned()
    }

    fn load(&self) -> Result<Config, ConfigError> {
        let env = |name: &str| self.env.get(name).cloned();
        load_in(self.folder.path(), self.cli.clone(), &env)
    }

    #[track_caller]
    fn good(&self) -> Config {
        match self.load() {
            Ok(config) => config,
            Err(error) => panic!("refused:\n{error}"),
        }
    }

    /// What is wrong, a line each, the file as `F`.
    #[track_caller]
    fn wrong(&self) -> Vec<String> {
        let Err(error) = self.load() else {
            panic!("was not refused");
        };
        let path = self.beside(DEFAULT_FILE);
        let text = error.to_string().replace(&path, "F");
        text.lines().map(str::to_owned).collect()
    }

    /// The report, a line each, the file as `F`.
    fn report(&self) -> Vec<String> {
        let path = self.beside(DEFAULT_FILE);
        let lines = self.good().report();
        let texts = lines.iter().map(ReportLine::to_string);
        texts.map(|text| text.replace(&path, "F")).collect()
    }
}

#[test]
fn without_anything_the_defaults_are_in_force() {
    let config = nothing().good();
    assert_eq!(config.file, Setting::by_default(None));
    assert_eq!(config.dir, PathBuf::from("."));
    assert_eq!(
        config.database,
        Setting::by_default("sqlite:rowmill.db".to_owned())
    );
    assert_eq!(
        config.objects,
        Setting::by_default("file:rowmill-files".to_owned())
    );
    assert_eq!(config.migrate, Setting::by_default(Migrate::Auto));
    assert_eq!(config.max_row_bytes, Setting::by_default(1_048_576));
    assert_eq!(config.max_input_bytes, Setting::by_default(None));
    assert_eq!(config.ops, []);
}

#[test]
fn an_empty_file_is_a_configuration() {
    let given = file("");
    let config = given.good();
    assert_eq!(config.file.value, Some(given.path()));
    assert_eq!(config.dir, given.folder.path());
    assert_eq!(
        config.database,
        Setting::by_default("sqlite:rowmill.db".to_owned())
    );
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let given = file("database = \"sqlite:/file.db\"");
    let database = given.good().database;
    assert_eq!(database.value, "sqlite:/file.db");
    assert_eq!(
        database.origin,
        Origin::File {
            path: given.path(),
            line: 1,
            env: None
        }
    );

    let given = given.env("ROWMILL_DATABASE", "sqlite:/env.db");
    let database = given.good().database;
    assert_eq!(database.value, "sqlite:/env.db");
    assert_eq!(database.origin, Origin::Env("ROWMILL_DATABASE".to_owned()));

    let given = given.database("sqlite:/flag.db");
    let database = given.good().database;
    assert_eq!(database.value, "sqlite:/flag.db");
    assert_eq!(database.origin, Origin::Flag("--database".to_owned()));
}

#[test]
fn every_top_level_key_is_an_environment_variable_too() {
    let config = nothing()
        .env("ROWMILL_DATABASE", "sqlite:a.db")
        .env("ROWMILL_OBJECTS", "file:b")
        .env("ROWMILL_MIGRATE", "manual")
        .env("ROWMILL_MAX_ROW_BYTES", "100")
        .env("ROWMILL_MAX_INPUT_BYTES", "200")
        .good();
    assert_eq!(config.database.value, "sqlite:a.db");
    assert_eq!(config.objects.value, "file:b");
    assert_eq!(config.migrate.value, Migrate::Manual);
    assert_eq!(config.max_row_bytes.value, 100);
    assert_eq!(config.max_input_bytes.value, Some(200));
}

#[test]
fn an_empty_environment_variable_counts_as_not_set() {
    let config = nothing().env("ROWMILL_DATABASE", "").good();
    assert_eq!(config.database.origin, Origin::Default);
}

#[test]
fn a_mistake_in_a_variable_or_flag_names_it() {
    let wrong = nothing()
        .env("ROWMILL_MIGRATE", "never")
        .env("ROWMILL_MAX_ROW_BYTES", "1 MiB")
        .database("rowmill.db")
        .wrong();
    assert_eq!(
        wrong,
        [
            "ROWMILL_MIGRATE: must be \"auto\" or \"manual\", not \"never\"",
            "ROWMILL_MAX_ROW_BYTES: must be a whole number, 0 or more, not \"1 MiB\"",
            "--database: must be sqlite:PATH or postgres://HOST/DATABASE, such as sqlite:rowmill.db",
        ]
    );
}

#[test]
fn the_file_may_be_named_by_flag_or_environment() {
    let mut given = nothing();
    let other = given.folder.path().join("other.toml");
    fs::write(&other, "max_row_bytes = 7").expect("the file is written");
    given.cli.config = Some(other.clone());
    let file = given.good().file;
    assert_eq!(file.value, Some(other));
    assert_eq!(file.origin, Origin::Flag("--config".to_owned()));

    let name = given.beside("other.toml");
    given.cli.config = None;
    let config = given.env("ROWMILL_CONFIG", &name).good();
    assert_eq!(config.max_row_bytes.value, 7);
    assert_eq!(config.file.origin, Origin::Env("ROWMILL_CONFIG".to_owned()));
}

#[test]
fn a_named_file_that_is_not_there_is_refused() {
    let mut given = nothing();
    given.cli.config = Some("/no/such.toml".into());
    let [wrong] = &given.wrong()[..] else {
        panic!("one mistake");
    };
    assert!(
        wrong.starts_with("--config: cannot read /no/such.toml: "),
        "{wrong}"
    );

    given.cli.config = None;
    let wrong = given.env("ROWMILL_CONFIG", "/no/such.toml").wrong();
    assert!(
        wrong[0].starts_with("ROWMILL_CONFIG: cannot read /no/such.toml: "),
        "{wrong:?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_not_skipped() {
    let given = nothing();
    fs::create_dir(given.path()).expect("a folder in its place");
    assert!(
        given.wrong()[0].starts_with("cannot read F: "),
        "{:?}",
        given.wrong()
    );
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_their_lines() {
    let wrong = file(
        "databse = \"sqlite:x.db\"\n\
         migrate = \"sometimes\"\n\
         max_row_bytes = 0\n\
         [ops.\"a/b\"]\n\
         max_attempts = 0\n\
         timeuot = \"5m\"\n\
         [ops.noslash]\n",
    )
    .env("ROWMILL_REDIS", "http://:hunter2@cache")
    .database("mysql://u:hunter2@db")
    .wrong();
    assert_eq!(
        wrong,
        [
            "F:1: databse: unknown key; is it database?",
            "F:2: migrate: must be \"auto\" or \"manual\", not \"sometimes\"",
            "F:3: max_row_bytes: must be 1 to 268435456 bytes, not \"0\"",
            "F:5: ops.\"a/b\".max_attempts: must be 1 to 32767, and is 0",
            "F:6: ops.\"a/b\".timeuot: unknown key; is it timeout?",
            "F:7: ops.noslash: must be an app and an op with a slash between them, in quotes: [ops.\"app/op\"]",
            "ROWMILL_REDIS: must be redis://HOST, or the URLs of a cluster's servers between commas",
            "--database: must be sqlite:PATH or postgres://HOST/DATABASE, such as sqlite:rowmill.db",
        ]
    );
}

#[test]
fn what_is_no_toml_is_refused_with_its_line_and_without_its_text() {
    let wrong = file("\ndatabase = \"postgres://u:hunter2@db\nmigrate = \"auto\"\n").wrong();
    assert!(wrong[0].starts_with("F:2: "), "{wrong:?}");
    assert!(!wrong.join("\n").contains("hunter2"), "{wrong:?}");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let wrong = file("migrate = \"auto\"\nmigrate = \"manual\"\n").wrong();
    assert_eq!(wrong, ["F:2: migrate: duplicate key"]);
}

#[test]
fn an_unknown_key_names_the_nearest_or_the_place_where_it_belongs() {
    let wrong = file(
        "listen = \"x\"\n\
         timeout = \"5m\"\n\
         [ops.\"a/b\"]\n\
         window = 3\n\
         cap = \"1h\"\n\
         migrate = \"auto\"\n",
    )
    .wrong();
    assert_eq!(
        wrong,
        [
            "F:1: listen: unknown key; known here: database, database_session, objects, migrate, max_row_bytes, max_input_bytes, s3, redis, redis_prefix, redis_timeout, status_ttl, ops",
            "F:2: timeout: unknown key here: it belongs in [ops.\"app/op\"]",
            "F:4: ops.\"a/b\".window: unknown key here: it belongs in handler = { … }",
            "F:5: ops.\"a/b\".cap: unknown key here: it belongs in backoff = { … }",
            "F:6: ops.\"a/b\".migrate: unknown key here: it belongs before the first [table] of the file",
        ]
    );
}

#[test]
fn what_a_later_version_reads_is_refused_and_never_ignored() {
    let wrong = file(
        "[rickover]\n\
         app = \"jobs\"\n",
    )
    .wrong();
    let keys = ["rickover"];
    assert_eq!(wrong.len(), keys.len(), "{wrong:?}");
    for (wrong, key) in wrong.iter().zip(keys) {
        assert!(wrong.contains(&format!(" {key}: ")), "{wrong}");
        assert!(wrong.contains("is not in this version yet"), "{wrong}");
    }

    let mut given = nothing()
        .env("ROWMILL_SERVER", "http://x")
        .env("ROWMILL_TOKEN", "hunter2");
    given.cli.token = Some("hunter2".to_owned());
    assert_eq!(
        given.wrong(),
        [
            "ROWMILL_SERVER: is not in this version yet",
            "ROWMILL_TOKEN: is not in this version yet",
            "--token: is not in this version yet",
        ]
    );
}

#[test]
fn where_statuses_are_copied_to_is_said_by_flag_variable_and_file() {
    let config = file("redis = \"redis://:p@a:1, redis://b:2\"\nredis_timeout = \"2ms\"\nredis_prefix = \"mine\"\n")
        .env("ROWMILL_STATUS_TTL", "30s")
        .good();
    let cache = &config.cache;
    let urls = Some("redis://:p@a:1, redis://b:2".to_owned());
    assert_eq!(cache.redis.value, urls);
    assert_eq!(cache.timeout.value, Duration::from_millis(2));
    assert_eq!(
        (cache.prefix.value.as_str(), cache.ttl.value),
        ("mine", Duration::from_secs(30))
    );
    let shown = format!("{config:?}");
    assert!(!shown.contains(":p@"), "{shown}");

    let mut given = file("redis = \"redis-cluster://a\"\n");
    given.cli.redis = Some("rediss://c".to_owned());
    assert_eq!(
        given.good().cache.redis.value.as_deref(),
        Some("rediss://c")
    );
    assert_eq!(nothing().good().cache.redis.value, None);
}

#[test]
fn a_cache_that_cannot_be_is_refused() {
    let wrong = file(
        "redis = \"cache:6379\"\n\
         redis_prefix = \"a b\"\n\
         redis_timeout = \"1m\"\n\
         status_ttl = \"0s\"\n",
    )
    .wrong();
    assert_eq!(
        wrong,
        [
            "F:1: redis: must be redis://HOST, or the URLs of a cluster's servers between commas",
            "F:2: redis_prefix: must be 1 to 100 of A-Z a-z 0-9 - _ . : /, not \"a b\"",
            "F:3: redis_timeout: must be 1ms to 10s, not \"1m\"",
            "F:4: status_ttl: must be 1ms to 1h, not \"0s\"",
        ]
    );
}
