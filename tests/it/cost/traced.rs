//! What SQLite is asked: every connection to a file that is watched notes its statements, what they changed and the pages
//! that went into the log.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};

use rusqlite::ffi;

use super::names;

/// What was asked.
#[derive(Default)]
pub struct Ran {
    /// Reads, and the steps of which one or more share a transaction.
    pub steps: Vec<Step>,
    /// Transactions that wrote something.
    pub commits: u64,
    /// Pages written.
    pub pages: u64,
}

/// A read, or a step.
#[derive(Default, Clone)]
pub struct Step {
    /// How often each statement ran.
    pub statements: BTreeMap<String, u64>,
    /// How many records each statement changed.
    pub records: BTreeMap<String, u64>,
}

type Ledger = Arc<Mutex<Ran>>;

static WATCHED: Mutex<Vec<(PathBuf, Ledger)>> = Mutex::new(Vec::new());

/// Watches all connections to this file that are opened from now on.
pub struct Trace {
    path: PathBuf,
    ledger: Ledger,
}

impl Trace {
    pub fn of(path: &Path) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: `opened` opens and closes nothing, and is there as long as the process.
            let registered = unsafe { rusqlite::auto_extension::register_auto_extension(opened) };
            registered.expect("registered");
        });
        let (path, ledger) = (path.to_owned(), Ledger::default());
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push((path.clone(), Arc::clone(&ledger)));
        Self { path, ledger }
    }

    /// What was asked since this was called last.
    pub fn take(&self) -> Ran {
        std::mem::take(&mut *self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|(path, _)| *path != self.path);
    }
}

/// One connection: what it had changed and written when it was looked at last.
struct Seen {
    ledger: Ledger,
    changes: i64,
    pages: i64,
    /// Pages at the end of the transaction before.
    committed: i64,
    now: Step,
}

unsafe extern "C" fn opened(
    db: *mut ffi::sqlite3,
    _: *mut *mut c_char,
    _: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: SQLite calls it with a connection that is open; the name is its own, and copied.
    let name = unsafe {
        let name = ffi::sqlite3_db_filename(db, c"main".as_ptr());
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    };
    let Some(name) = name else {
        return ffi::SQLITE_OK;
    };
    let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((_, ledger)) = watched.iter().find(|(path, _)| *path == Path::new(&name)) else {
        return ffi::SQLITE_OK;
    };
    let seen = Box::into_raw(Box::new(Seen {
        ledger: Arc::clone(ledger),
        changes: 0,
        pages: 0,
        committed: 0,
        now: Step::default(),
    }));
    let events = ffi::SQLITE_TRACE_PROFILE | ffi::SQLITE_TRACE_CLOSE;
    // SAFETY: `seen` lives until the connection is closed, and is used on the thread that uses the connection.
    unsafe { ffi::sqlite3_trace_v2(db, events, Some(happened), seen.cast()) }
}

unsafe extern "C" fn happened(
    event: c_uint,
    seen: *mut c_void,
    of: *mut c_void,
    _: *mut c_void,
) -> c_int {
    let seen: *mut Seen = seen.cast();
    if event == ffi::SQLITE_TRACE_CLOSE {
        // SAFETY: nothing is traced after it, and it was made by `Box::into_raw`.
        drop(unsafe { Box::from_raw(seen) });
        return 0;
    }
    let statement: *mut ffi::sqlite3_stmt = of.cast();
    let (mut pages, mut most) = (0, 0);
    // SAFETY: the statement has just ended on this thread, and `seen` is this connection's alone.
    let (sql, changes, seen) = unsafe {
        let db = ffi::sqlite3_db_handle(statement);
        let what = ffi::SQLITE_DBSTATUS_CACHE_WRITE;
        ffi::sqlite3_db_status(db, what, &raw mut pages, &raw mut most, 0);
        let sql = CStr::from_ptr(ffi::sqlite3_sql(statement));
        let sql = sql.to_string_lossy();
        (sql, ffi::sqlite3_total_changes64(db), &mut *seen)
    };
    seen.note(sql.trim(), changes, i64::from(pages));
    0
}

impl Seen {
    fn note(&mut self, sql: &str, changes: i64, pages: i64) {
        static TEXTS: OnceLock<HashMap<String, String>> = OnceLock::new();
        let texts = TEXTS.get_or_init(|| names(&["sqlite"]));
        let changed = u64::try_from(changes - self.changes).unwrap_or_default();
        let written = u64::try_from(pages - self.pages).unwrap_or_default();
        (self.changes, self.pages) = (changes, pages);
        let word = sql.split([' ', ';']).next().map(str::to_lowercase);
        let word = word.unwrap_or_default();
        let mut ran = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ran.pages += written;
        if word == "commit" {
            ran.commits += u64::from(pages > self.committed);
            self.committed = pages;
        }
        // Steps that come at the same moment share a transaction, each in a savepoint of this name.
        let borders = ["savepoint step", "release step", "rollback to step"];
        if matches!(word.as_str(), "begin" | "commit" | "rollback" | "pragma")
            || borders.contains(&sql)
        {
            let step = std::mem::take(&mut self.now);
            if !step.statements.is_empty() {
                ran.steps.push(step);
            }
            return;
        }
        let name = texts
            .get(sql)
            .cloned()
            .unwrap_or_else(|| match word.as_str() {
                "savepoint" | "release" | "rollback" => word,
                _ => "application".to_owned(),
            });
        if changed > 0 {
            *self.now.records.entry(name.clone()).or_default() += changed;
        }
        *self.now.statements.entry(name).or_default() += 1;
    }
}
