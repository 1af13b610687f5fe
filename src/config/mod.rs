//! Configuration: one TOML file, the environment and flags, and where each value came from.
//!
//! A flag wins over the environment, the environment over the file, the file over the default. Of an op
//! whose processor is in the program, each key of the file wins over what the program set.
//! Every mistake is found before anything runs, and all are reported together, each with its
//! file, line and key. A string of the file may be `env:NAME`; what the variable holds is a
//! secret, and no message, report or `Debug` form shows it.
//!
//! A value of the file that a flag or a variable replaces is not judged, beyond its type: the
//! variable of a `database = "env:NAME"` need not be set where `--database` is given. A variable
//! of ours that is empty counts as not set.

mod cache;
mod live;
mod mask;
mod mistake;
mod ops;
mod place;
mod reader;
mod report;
mod s3;
mod server;
mod setting;
mod suggest;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use toml::de::DeTable;

pub use cache::CacheConfig;
pub(crate) use cache::{OPEN_FOR, PREFIX, RESPONSE};
pub use live::{LIVE_KEYS, LiveSettings};
pub(crate) use mask::mask;
pub use mistake::{ConfigError, Mistake};
pub use ops::{Handler, OpConfig};
pub use report::ReportLine;
pub(crate) use report::settings_report;
pub use s3::{S3Config, Sse};
pub(crate) use server::{SERVER, SSLMODES, Server, with_port};
pub use setting::{Origin, Setting};
pub(crate) use suggest::suggest;

use place::Place;
use reader::{Env, Given, Reader, Table, Want};

/// The file that is read where none is named and it exists.
pub const DEFAULT_FILE: &str = "rowmill.toml";

const NOT_YET: &str = "is not in this version yet";
const MIB: u64 = 1024 * 1024;
const MAX_ROW_BYTES: u64 = 256 * MIB;

const TOP_KEYS: &[&str] = &[
    "database",
    "database_session",
    "objects",
    "migrate",
    "max_row_bytes",
    "max_input_bytes",
    "s3",
    "redis",
    "redis_prefix",
    "redis_timeout",
    "status_ttl",
    "ops",
];
/// Keys of the file that a later version reads.
const KEYS_TO_COME: &[&str] = &["rickover"];
/// Settings that a later version takes from the environment.
const VARIABLES_TO_COME: &[&str] = &["server", "token"];

/// What the command line says. It has no `Debug` form: it may hold a password.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `--config FILE`
    pub config: Option<PathBuf>,
    /// `--database URL`
    pub database: Option<String>,
    /// `--objects URL`
    pub objects: Option<String>,
    /// `--redis URL`
    pub redis: Option<String>,
    /// `--server URL`, which is not in this version yet.
    pub server: Option<String>,
    /// `--token`, which is not in this version yet.
    pub token: Option<String>,
}

/// The configuration in force. Its `Debug` form is its [`Config::report`], which shows no secret.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// The configuration file, where there is one.
    pub file: Setting<Option<PathBuf>>,
    /// Where handlers run: the file's folder, or the current one where there is no file.
    pub dir: PathBuf,
    /// `sqlite:PATH`, a relative path of the file already starting at its folder; or `postgres://…`.
    pub database: Setting<String>,
    /// The address of the same server without a pooler in between, for locks and for hearing of changes.
    pub database_session: Setting<Option<String>>,
    /// `file:PATH`, the folder of output files, likewise; or `s3://BUCKET/PREFIX`.
    pub objects: Setting<String>,
    /// How a bucket is reached, where output files are in one.
    pub s3: S3Config,
    /// What to do with a database whose schema is older.
    pub migrate: Setting<Migrate>,
    /// The longest row that is taken, in bytes.
    pub max_row_bytes: Setting<u64>,
    /// The longest input that is taken, in bytes, where there is a limit.
    pub max_input_bytes: Setting<Option<u64>>,
    /// Where statuses are copied to.
    pub cache: CacheConfig,
    /// The ops, in the order of the file.
    pub ops: Vec<OpConfig>,
}

/// What to do with a database whose schema is older than the program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// Every command that opens it brings it up to date, under a lock.
    Auto,
    /// Only `rowmill migrate` does; the others refuse to work.
    Manual,
}

impl Migrate {
    /// The word that users write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
        }
    }
}

impl Config {
    /// The op of that name; an op's case does not count, an app's does.
    #[must_use]
    pub fn op(&self, app: &str, op: &str) -> Option<&OpConfig> {
        self.ops.iter().find(|config| config.is(app, op))
    }
}

/// Reads flags, environment and file.
///
/// # Errors
/// Everything that is wrong with them, each with its place. A named file that is not there is an
/// error; `rowmill.toml` need not exist.
pub fn load(cli: Overrides, env: Env<'_>) -> Result<Config, ConfigError> {
    load_in(Path::new(""), cli, env)
}

/// The same with the folder in which `rowmill.toml` is looked for.
fn load_in(folder: &Path, cli: Overrides, env: Env<'_>) -> Result<Config, ConfigError> {
    let Overrides {
        config,
        database,
        objects,
        redis,
        server,
        token,
    } = cli;
    let mut mistakes = Vec::new();
    let file = find(folder, config, env);
    let text = read_text(&file).unwrap_or_else(|mistake| {
        mistakes.push(mistake);
        String::new()
    });
    let path = file.value.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    let mut reader = Reader::new(path, &text, env, mistakes);

    let (mut document, broken) = DeTable::parse_recoverable(&text);
    if !broken.is_empty() {
        // What was saved from a broken file would be judged by keys in the wrong tables.
        document.get_mut().clear();
        reader.refuse_syntax(&text, &broken);
    }
    let root = Table::root(document.get_ref());
    reader.only(
        &root,
        TOP_KEYS,
        &[
            (KEYS_TO_COME, NOT_YET),
            (ops::KEYS, ops::BELONGS),
            (s3::KEYS, "unknown key here: it belongs in [s3]"),
        ],
    );
    for key in VARIABLES_TO_COME {
        let name = variable(key);
        if from_env(env, &name).is_some() {
            reader.refuse(Origin::Env(name), key, NOT_YET);
        }
    }
    for (key, flag) in [("server", server), ("token", token)] {
        if flag.is_some() {
            reader.refuse(Origin::Flag(format!("--{key}")), key, NOT_YET);
        }
    }

    let dir = path.parent().unwrap_or(Path::new(""));
    let database = top(&mut reader, &root, "database", Want::Text, database, env);
    let session = top(
        &mut reader,
        &root,
        "database_session",
        Want::Text,
        None,
        env,
    );
    let objects = top(&mut reader, &root, "objects", Want::Text, objects, env);
    let migrate = top(&mut reader, &root, "migrate", Want::Text, None, env);
    let max_row_bytes = top(&mut reader, &root, "max_row_bytes", Want::Whole, None, env);
    let max_input_bytes = top(
        &mut reader,
        &root,
        "max_input_bytes",
        Want::Whole,
        None,
        env,
    );
    let cache = CacheConfig::read(&mut reader, &root, redis, env);
    let config = Config {
        cache,
        database: Place::DATABASE.read(&mut reader, database, dir),
        database_session: setting(session, None, |given| {
            place::session(&mut reader, given).map(Some)
        }),
        objects: Place::OBJECTS.read(&mut reader, objects, dir),
        s3: s3::read(&mut reader, &root, env),
        migrate: setting(migrate, Migrate::Auto, |given| {
            let words = [Migrate::Auto, Migrate::Manual].map(|word| (word.as_str(), word));
            reader.word(given, &words)
        }),
        max_row_bytes: setting(max_row_bytes, MIB, |given| {
            bytes(&mut reader, given, MAX_ROW_BYTES)
        }),
        max_input_bytes: setting(max_input_bytes, None, |given| {
            bytes(&mut reader, given, u64::MAX).map(Some)
        }),
        ops: ops::read(&mut reader, &root),
        dir: if dir.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            dir.to_owned()
        },
        file,
    };
    let mistakes = reader.into_mistakes();
    if mistakes.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::new(mistakes))
    }
}

/// The configuration file: the one that is named, else the usual one where it exists.
fn find(folder: &Path, flag: Option<PathBuf>, env: Env<'_>) -> Setting<Option<PathBuf>> {
    let (value, origin) = if let Some(path) = flag {
        (Some(path), Origin::Flag("--config".to_owned()))
    } else if let Some(path) = from_env(env, "ROWMILL_CONFIG") {
        (Some(path.into()), Origin::Env("ROWMILL_CONFIG".to_owned()))
    } else {
        let path = folder.join(DEFAULT_FILE);
        // One that cannot be looked at is not skipped: reading it says why.
        let there = path.try_exists().unwrap_or(true);
        (there.then_some(path), Origin::Default)
    };
    Setting { value, origin }
}

fn read_text(file: &Setting<Option<PathBuf>>) -> Result<String, Mistake> {
    let Some(path) = &file.value else {
        return Ok(String::new());
    };
    std::fs::read_to_string(path).map_err(|error| Mistake {
        origin: file.origin.clone(),
        key: String::new(),
        text: format!("cannot read {}: {error}", path.display()),
    })
}

/// The environment variable of a top-level key.
fn variable(key: &str) -> String {
    format!("ROWMILL_{}", key.to_uppercase())
}

fn from_env(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|text| !text.is_empty())
}

/// What is in force for a top-level key, from the flag, the environment or the file.
///
/// The file's value is of the right type even where it is not in force.
fn top(
    reader: &mut Reader<'_>,
    root: &Table<'_>,
    key: &str,
    want: Want,
    flag: Option<String>,
    env: Env<'_>,
) -> Option<Given> {
    let written = reader.raw(root, key, want);
    let given = |text, origin| Given {
        key: key.to_owned(),
        text,
        origin,
    };
    if let Some(text) = flag {
        return Some(given(text, Origin::Flag(format!("--{key}"))));
    }
    let name = variable(key);
    if let Some(text) = from_env(env, &name) {
        return Some(given(text, Origin::Env(name)));
    }
    reader.resolve(written?)
}

/// The value that was given, else the default; the caller has noted what cannot be read.
fn setting<T>(
    given: Option<Given>,
    default: T,
    read: impl FnOnce(&Given) -> Option<T>,
) -> Setting<T> {
    match given.and_then(|given| Some((read(&given)?, given.origin))) {
        Some((value, origin)) => Setting { value, origin },
        None => Setting::by_default(default),
    }
}

fn bytes(reader: &mut Reader<'_>, given: &Given, most: u64) -> Option<u64> {
    let bytes = reader.whole(given)?;
    if (1..=most).contains(&bytes) {
        return Some(bytes);
    }
    let wants = if most == u64::MAX {
        "1 or more bytes".to_owned()
    } else {
        format!("1 to {most} bytes")
    };
    reader.refuse_value(given, &wants);
    None
}
