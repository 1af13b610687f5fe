//! Opening the file: settings, whose it is, the schema.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::errors::sqlite_error;
use crate::store::{Schema, StoreError};

mod migrations {
    refinery::embed_migrations!("migrations/sqlite");
}

/// "rowm": says in the file's header whose it is.
const APPLICATION_ID: i64 = 0x726F_776D;
/// The rules of writing that this program keeps; a file may ask for newer ones.
const WRITER: i64 = 1;
/// Waiting for a lock; beyond it the file is reported as unavailable.
const BUSY: Duration = Duration::from_secs(30);

/// Where the database is and how it is opened.
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) path: PathBuf,
    pub(super) migrate: bool,
}

impl Options {
    /// A file that is made where there is none.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            migrate: true,
        }
    }

    /// Refuses an older schema instead of bringing it up to date.
    #[must_use]
    pub fn migrate_by_hand(mut self) -> Self {
        self.migrate = false;
        self
    }

    /// The folder with the workers' locks, beside the database.
    pub(super) fn workers_dir(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push("-workers");
        name.into()
    }
}

pub(super) fn connect(path: &Path, write: bool) -> Result<Connection, StoreError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if write {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|e| StoreError::unavailable(format!("opening {}", path.display()), e))?;
    connection.set_prepared_statement_cache_capacity(256);
    connection
        .busy_timeout(BUSY)
        // Without it a statement whose value is compared with a partial index's condition is planned
        // anew whenever the value is bound anew: at every use.
        .and_then(|()| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true))
        .and_then(|_| {
            // Readers look at little at a time, and there are several of them.
            let kib = if write { 16_384 } else { 4_096 };
            connection.execute_batch(&format!(
                "pragma cache_size = -{kib}; pragma temp_store = memory;"
            ))
        })
        .map_err(sqlite_error(format_args!("opening {}", path.display())))?;
    if !write {
        connection
            .execute_batch("pragma query_only = on")
            .map_err(sqlite_error("setting up a reader"))?;
    }
    Ok(connection)
}

/// SQLite says of a folder or device that it cannot be opened, or tries to.
fn refuse_what_is_no_file(path: &Path) -> Result<(), StoreError> {
    match path.metadata() {
        Ok(found) if !found.is_file() => Err(StoreError::unavailable(
            format!("opening {}", path.display()),
            "it is a folder or a device; name a file with --database",
        )),
        _ => Ok(()),
    }
}

/// Opens a file to look at it: nothing of it can be changed.
pub(super) fn inspect(path: &Path) -> Result<Connection, StoreError> {
    refuse_what_is_no_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|e| StoreError::unavailable(format!("opening {}", path.display()), e))?;
    connection
        .busy_timeout(BUSY)
        .and_then(|()| connection.execute_batch("pragma cache_size = -4096"))
        .map_err(sqlite_error(format_args!("opening {}", path.display())))?;
    Ok(connection)
}

/// The file itself, whatever link was named: beside it lie its WAL and its workers' locks.
pub(super) fn resolve(path: &Path) -> PathBuf {
    if let Ok(resolved) = path.canonicalize() {
        return resolved;
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    match (
        parent.unwrap_or(Path::new(".")).canonicalize(),
        path.file_name(),
    ) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// Opens the writing connection and brings the schema up to date, alone among processes.
pub(super) fn prepare(options: &Options) -> Result<Connection, StoreError> {
    let path = &options.path;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty())
        && !parent.is_dir()
    {
        return Err(StoreError::unavailable(
            format!("opening {}", path.display()),
            "its folder does not exist; make it, or name another file with --database",
        ));
    }
    refuse_what_is_no_file(path)?;
    refuse_network_file_system(path)?;
    let dir = options.workers_dir();
    std::fs::create_dir_all(&dir)
        .map_err(|e| StoreError::unavailable(format!("making {}", dir.display()), e))?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("migrate"))
        .map_err(|e| {
            StoreError::unavailable(format!("opening the lock in {}", dir.display()), e)
        })?;
    lock.lock()
        .map_err(|e| StoreError::unavailable("waiting for another process's migration", e))?;

    let mut connection = connect(path, true)?;
    let marked = whose(&connection, path)?;
    let mode: String = connection
        .query_row("pragma journal_mode = wal", [], |r| r.get(0))
        .map_err(sqlite_error("switching to WAL"))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(StoreError::Unusable(format!(
            "{} cannot be kept in WAL mode (it is in {mode}); is its file system a local one?",
            path.display()
        )));
    }
    connection
        .execute_batch(
            "pragma synchronous = full; pragma wal_autocheckpoint = 0; pragma journal_size_limit = 134217728;
             pragma foreign_keys = off;",
        )
        .map_err(sqlite_error("setting up the writer"))?;
    if !marked {
        // Marked before anything is made in it, so that what is half made is still known as ours.
        connection
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(sqlite_error("marking the database"))?;
    }
    let schema = schema(&mut connection, path)?;
    if !schema.pending.is_empty() {
        if !options.migrate && !schema.applied.is_empty() {
            return Err(StoreError::Unusable(format!(
                "{} has an older schema and migrate = \"manual\"; run `rowmill migrate`",
                path.display()
            )));
        }
        migrations::migrations::runner()
            .run(&mut connection)
            .map_err(|e| {
                // The migration's own text would bury what went wrong.
                let text = e.to_string();
                let first = text.lines().next().unwrap_or_default().to_owned();
                StoreError::unavailable("bringing the schema up to date", first)
            })?;
    }
    may_write(&connection, path)?;
    Ok(connection)
}

/// Refuses a file that asks for newer rules of writing than this program keeps.
pub(super) fn may_write(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let min_writer: i64 = connection
        .query_row(
            "select cast(value as integer) from meta where key = 'min_writer'",
            [],
            |r| r.get(0),
        )
        .map_err(sqlite_error("reading who may write"))?;
    if min_writer > WRITER {
        return Err(StoreError::Unusable(format!(
            "{} is written by newer programs than this one; use a newer rowmill",
            path.display()
        )));
    }
    Ok(())
}

/// Refuses a file that another program made; false for one in which nothing was made yet.
pub(super) fn whose(connection: &Connection, path: &Path) -> Result<bool, StoreError> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |r| r.get::<_, i64>(0))
            .map_err(sqlite_error("reading the file's header"))
    };
    let id = number("pragma application_id")?;
    if id == APPLICATION_ID {
        return Ok(true);
    }
    if id == 0 && number("select count(*) from sqlite_schema")? == 0 {
        return Ok(false);
    }
    Err(StoreError::Unusable(format!(
        "{} is a database of another program; name another file with --database",
        path.display()
    )))
}

/// Refuses a connection of somebody else's to a file that is not as this program writes it.
pub(super) fn is_current(connection: &Connection) -> Result<(), StoreError> {
    let path = Path::new(connection.path().unwrap_or_default());
    let known = migrations::migrations::runner();
    let known = known.get_migrations().iter().map(|m| m.version()).max();
    let schema = || {
        connection.query_row(
            "select max(version) from refinery_schema_history",
            [],
            |r| r.get::<_, Option<i64>>(0),
        )
    };
    if whose(connection, path)? && schema().map_err(sqlite_error("reading the schema"))? == known {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "{} is no rowmill database of this program's schema",
        path.display()
    )))
}

/// What the file has, compared with what this program knows.
pub(super) fn schema(connection: &mut Connection, path: &Path) -> Result<Schema, StoreError> {
    let known = migrations::migrations::runner();
    let known = known.get_migrations();
    let newest = known.iter().map(|m| m.version()).max().unwrap_or(0);
    let has_history: bool = connection
        .query_row(
            "select exists (select 1 from sqlite_schema where name = 'refinery_schema_history')",
            [],
            |r| r.get(0),
        )
        .map_err(sqlite_error("reading the schema"))?;
    let mut applied: Vec<(i64, String)> = Vec::new();
    if has_history {
        let mut statement = connection
            .prepare("select version, name from refinery_schema_history order by version")
            .map_err(sqlite_error("reading the schema's history"))?;
        let found = statement
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
            .map_err(sqlite_error("reading the schema's history"))?;
        for entry in found {
            applied.push(entry.map_err(sqlite_error("reading the schema's history"))?);
        }
    }
    if let Some((version, name)) = applied.iter().find(|(v, _)| *v > newest) {
        return Err(StoreError::Unusable(format!(
            "{} has schema {version} ({name}), newer than this program's {newest}; use a newer rowmill",
            path.display()
        )));
    }
    let pending = known
        .iter()
        .filter(|m| !applied.iter().any(|(v, _)| *v == m.version()))
        .map(|m| m.name().to_owned())
        .collect();
    Ok(Schema {
        applied: applied.into_iter().map(|(_, name)| name).collect(),
        pending,
    })
}

/// WAL needs memory that all processes share, which a network file system does not give.
pub(super) fn refuse_network_file_system(path: &Path) -> Result<(), StoreError> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let dir = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let Ok(name) = std::ffi::CString::new(dir.as_os_str().as_bytes()) else {
            return Ok(());
        };
        let mut info = std::mem::MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: `name` ends in NUL and `info` has room for what is written.
        let answered = unsafe { libc::statfs(name.as_ptr(), info.as_mut_ptr()) } == 0;
        if answered {
            // SAFETY: statfs returned 0, so it filled `info`.
            let kind = unsafe { info.assume_init() }.f_type;
            // NFS, SMB, CIFS, SMB2, AFS, Ceph, 9p: statfs(2)'s table of magic numbers.
            const NETWORK: [i64; 7] = [
                0x6969,
                0x517B,
                0xFF53_4D42,
                0xFE53_4D42,
                0x5346_414F,
                0x00C3_6400,
                0x0102_1997,
            ];
            // Its type is another on other platforms.
            #[allow(clippy::useless_conversion)]
            let kind = i64::from(kind);
            if NETWORK.contains(&kind) {
                return Err(StoreError::Unusable(format!(
                    "{} is on a network file system, where SQLite cannot share it safely; put it on a local disk",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}
