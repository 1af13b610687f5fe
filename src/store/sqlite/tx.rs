//! The open transaction as an application meets it: its statements, and what is kept from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{CachedStatement, Connection, ErrorCode, Params, Row, ffi};

use super::errors::sqlite_error;
use super::sql::change;
use crate::store::StoreError;

/// What is ours in the file: an application reads it and never writes it.
const OURS: [&str; 16] = [
    "meta",
    "ops",
    "apps",
    "workers",
    "batches",
    "blocks",
    "queue",
    "attempts",
    "files",
    "notices",
    "external_ids",
    "audit",
    "appends",
    "worker_ops",
    "batchrows",
    "refinery_schema_history",
];

/// Steps of SQLite's machine between two looks at the clock: some ten microseconds.
const LOOK: i32 = 1000;

/// Whether the application's code runs on the writing connection, and until when it may.
pub(super) struct Guest {
    here: AtomicBool,
    since: Instant,
    /// Microseconds after `since`.
    until: AtomicU64,
}

impl Guest {
    /// Watches a connection from now on.
    pub(super) fn watch(connection: &mut Connection) -> Result<Arc<Self>, StoreError> {
        let guest = Arc::new(Self {
            here: AtomicBool::new(false),
            since: Instant::now(),
            until: AtomicU64::new(u64::MAX),
        });
        let (asked, timed) = (Arc::clone(&guest), Arc::clone(&guest));
        let may = move |asks: AuthContext<'_>| {
            if asked.here.load(Ordering::Relaxed) && is_refused(&asks) {
                Authorization::Deny
            } else {
                Authorization::Allow
            }
        };
        connection
            .authorizer(Some(may))
            .and_then(|()| connection.progress_handler(LOOK, Some(move || timed.is_over())))
            .map_err(sqlite_error("watching the writer"))?;
        Ok(guest)
    }

    /// The application's code runs until what is returned is dropped.
    fn enter(&self, limit: Duration) -> Visit<'_> {
        let until = self.since.elapsed().saturating_add(limit).as_micros();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Relaxed);
        self.here.store(true, Ordering::Relaxed);
        Visit(self)
    }

    /// The store's own code runs until what is returned is dropped.
    fn leave(&self) -> Absence<'_> {
        Absence(self, self.here.swap(false, Ordering::Relaxed))
    }

    fn is_over(&self) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != u64::MAX && self.since.elapsed().as_micros() > u128::from(until)
    }
}

struct Visit<'a>(&'a Guest);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.here.store(false, Ordering::Relaxed);
        self.0.until.store(u64::MAX, Ordering::Relaxed);
    }
}

struct Absence<'a>(&'a Guest, bool);

impl Drop for Absence<'_> {
    fn drop(&mut self) {
        self.0.here.store(self.1, Ordering::Relaxed);
    }
}

/// What an application may not do. Something temporary would stay on this connection, for every batch
/// of this process and of no other; by its name it would hide one of our tables from our statements.
fn is_refused(asks: &AuthContext<'_>) -> bool {
    match asks.action {
        AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::CreateTempTrigger { .. } => true,
        AuthAction::CreateVtable { .. } => asks.database_name == Some("temp"),
        ref action => is_ours(action),
    }
}

/// What only the store may do: begin, end and undo transactions, reach for other files, write its tables.
fn is_ours(action: &AuthAction<'_>) -> bool {
    let table = match action {
        AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Pragma { .. } => return true,
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::DropTable { table_name }
        | AuthAction::DropIndex { table_name, .. }
        | AuthAction::DropTrigger { table_name, .. }
        | AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. } => table_name,
        AuthAction::DropView { view_name } => view_name,
        _ => return false,
    };
    OURS.iter().any(|ours| ours.eq_ignore_ascii_case(table))
}

/// The open transaction in which a row's outcome is recorded.
///
/// Its calls wait for nothing but the disk. What is written through it is there if and only if the
/// row's outcome is `success`. It cannot be ended, undone or left: `commit`, `rollback`, `savepoint`,
/// `pragma` and `attach` are refused, and so is making anything temporary, and writing rowmill's own
/// tables, which can be read.
/// Foreign keys are enforced, deferred ones at the row's end; one to a table of rowmill's holds only
/// until rowmill removes what it points to.
///
/// ```
/// # use rowmill::{RowFailure, sqlite::Tx};
/// fn credit(tx: &mut Tx<'_>, account: &str, cents: i64) -> Result<(), RowFailure> {
///     let changed = tx.execute("update accounts set cents = cents + ?2 where name = ?1", (account, cents))?;
///     assert!(changed <= 1, "a name is unique");
///     Ok(())
/// }
/// ```
pub struct Tx<'a> {
    connection: &'a Connection,
    guest: &'a Guest,
    /// An error that is no row's fault.
    trouble: Option<String>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(connection: &'a Connection, guest: &'a Guest) -> Self {
        Self {
            connection,
            guest,
            trouble: None,
        }
    }

    /// Runs a statement that changes something; returns how many records it changed.
    ///
    /// # Errors
    /// SQLite's. The statement is then undone and the transaction goes on, unless SQLite has given
    /// it up (a full disk, `or rollback`, a time-out): every later call fails then, whatever the row
    /// comes to.
    pub fn execute(&mut self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.call(|c| theirs(c, sql)?.execute(params))
    }

    /// Reads the first record of a statement, if there is one.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub fn query_one<T>(
        &mut self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        self.call(|c| {
            let mut statement = theirs(c, sql)?;
            let mut rows = statement.query(params)?;
            rows.next()?.map(read).transpose()
        })
    }

    /// Reads all records of a statement.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    pub fn query_all<T>(
        &mut self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.call(|c| theirs(c, sql)?.query_map(params, read)?.collect())
    }

    /// The rowid of the record that was inserted last.
    #[must_use]
    pub fn last_insert_rowid(&self) -> i64 {
        self.connection.last_insert_rowid()
    }

    /// After SQLite has given the transaction up, a statement would commit by itself.
    fn call<T>(
        &mut self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if self.is_lost() {
            return Err(lost());
        }
        let answer = run(self.connection);
        if let Err(error) = &answer {
            use ErrorCode::{DiskFull, OutOfMemory, SystemIoFailure};
            if let Some(DiskFull | OutOfMemory | SystemIoFailure) = error.sqlite_error_code() {
                self.trouble = Some(error.to_string());
            }
        }
        if self.is_lost() {
            return Err(answer.err().unwrap_or_else(lost));
        }
        answer
    }

    /// What kept a statement from working and would keep any other: the disk, the memory.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether SQLite has given the transaction up.
    pub(crate) fn is_lost(&self) -> bool {
        self.connection.is_autocommit()
    }

    /// Runs a row of the application's; whatever it wrote is undone unless it says to keep it.
    ///
    /// Its statements are interrupted after `limit`. False where what it wrote cannot be kept:
    /// a deferred constraint is violated.
    pub(crate) fn row<T>(
        &mut self,
        limit: Duration,
        run: impl FnOnce(&mut Self) -> (bool, T),
    ) -> Result<(bool, T), StoreError> {
        change(self.connection, "savepoint app_row", [])?;
        let visit = self.guest.enter(limit);
        let (keep, answer) = run(self);
        drop(visit);
        if self.is_lost() {
            return Ok((false, answer));
        }
        let keep = keep && !self.is_violated();
        if !keep {
            change(self.connection, "rollback to app_row", [])?;
        }
        change(self.connection, "release app_row", [])?;
        Ok((keep, answer))
    }

    /// Whether a deferred foreign key is violated now.
    fn is_violated(&self) -> bool {
        let (mut now, mut most) = (0, 0);
        // SAFETY: the handle is that of an open connection and is used on its own thread, for one
        // call that writes two integers.
        let code = unsafe {
            let op = ffi::SQLITE_DBSTATUS_DEFERRED_FKS;
            ffi::sqlite3_db_status(self.connection.handle(), op, &mut now, &mut most, 0)
        };
        code != ffi::SQLITE_OK || now != 0
    }

    /// Lets the store's own code work in the transaction in between.
    pub(crate) fn ours<T>(&self, run: impl FnOnce(&Connection) -> T) -> T {
        let _absence = self.guest.leave();
        run(self.connection)
    }
}

/// A statement of the application's. SQLite asks whether it may be run when it is made, so one that
/// the store has made and kept must never be handed out for it: no text of the store's ends like this.
fn theirs<'c>(c: &'c Connection, sql: &str) -> rusqlite::Result<CachedStatement<'c>> {
    c.prepare_cached(&format!("{sql}\n-- the application's"))
}

fn lost() -> rusqlite::Error {
    let code = ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK);
    let text = "the transaction is gone: SQLite has rolled it back".to_owned();
    rusqlite::Error::SqliteFailure(code, Some(text))
}

#[cfg(test)]
mod tests {
    use super::super::sql::{all, one};
    use super::*;

    #[test]
    fn whatever_a_new_file_has_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let options = super::super::Options::new(dir.path().join("rowmill.db"));
        let c = super::super::open::prepare(&options).unwrap();
        let sql = "select name from sqlite_schema where type in ('table', 'view') and name not like 'sqlite_%' order by name";
        let found: Vec<String> = all(&c, sql, [], |r| r.get(0)).unwrap();
        let mut ours = OURS.map(str::to_owned);
        ours.sort_unstable();
        assert_eq!(found, ours);
    }

    #[test]
    fn an_application_cannot_end_the_transaction_or_write_what_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let options = super::super::Options::new(dir.path().join("rowmill.db"));
        let mut c = super::super::open::prepare(&options).unwrap();
        c.execute_batch("create table mine (n integer); create table other (n integer); begin")
            .unwrap();
        let guest = Guest::watch(&mut c).unwrap();
        let mut tx = Tx::new(&c, &guest);
        let limit = Duration::from_secs(60);
        let refused = [
            "commit",
            "rollback",
            "end",
            "savepoint x",
            "release app_row",
            "rollback to app_row",
            "attach ':memory:' as other",
            "pragma foreign_keys = off",
            "delete from queue",
            "update Batches set state = 4",
            "insert into meta values ('a', 'b')",
            "drop table audit",
            "drop view batchrows",
            "alter table queue add column x",
            "create trigger t after insert on queue begin delete from mine; end",
        ];
        let (kept, ()) = tx
            .row(limit, |tx| {
                for sql in refused {
                    let error = tx.execute(sql, []).expect_err(sql).to_string();
                    assert!(error.contains("not authorized"), "{sql}: {error}");
                }
                let fires = "create trigger t after insert on other begin delete from queue; end";
                tx.execute(fires, []).unwrap();
                let insert = tx.execute("insert into other values (1)", []);
                assert!(insert.unwrap_err().to_string().contains("not authorized"));
                tx.execute("insert into mine values (1)", []).unwrap();
                (true, ())
            })
            .unwrap();
        assert!(kept && !tx.is_lost());
        let count = one(&c, "select count(*) from mine", [], |r| r.get::<_, i64>(0));
        assert_eq!(count.unwrap(), Some(1));
    }

    fn watched(dir: &tempfile::TempDir) -> (Connection, Arc<Guest>) {
        let options = super::super::Options::new(dir.path().join("rowmill.db"));
        let mut c = super::super::open::prepare(&options).unwrap();
        c.execute_batch("create table mine (n integer); begin")
            .unwrap();
        let guest = Guest::watch(&mut c).unwrap();
        (c, guest)
    }

    #[test]
    fn a_statement_of_the_stores_is_refused_after_the_store_has_run_it() {
        let dir = tempfile::tempdir().unwrap();
        let (c, guest) = watched(&dir);
        let mut tx = Tx::new(&c, &guest);
        let limit = Duration::from_secs(60);
        let ours = "delete from queue where batch = 1";
        change(&c, ours, []).unwrap();
        // The store has run each of its own statements about a row once.
        tx.row(limit, |_| (false, ())).unwrap();
        let (kept, ()) = tx
            .row(limit, |tx| {
                tx.execute("insert into mine values (1)", []).unwrap();
                for sql in [
                    "rollback to app_row",
                    "release app_row",
                    "savepoint app_row",
                    ours,
                ] {
                    let answer = tx.execute(sql, []);
                    let error = answer.expect_err(sql).to_string();
                    assert!(error.contains("not authorized"), "{sql}: {error}");
                }
                (true, ())
            })
            .unwrap();
        assert!(kept);
        let count = one(&c, "select count(*) from mine", [], |r| r.get::<_, i64>(0));
        assert_eq!(count.unwrap(), Some(1));
    }

    #[test]
    fn a_panic_of_the_stores_own_code_leaves_the_application_no_more_than_it_had() {
        let dir = tempfile::tempdir().unwrap();
        let (c, guest) = watched(&dir);
        let mut tx = Tx::new(&c, &guest);
        tx.row(Duration::from_secs(60), |tx| {
            let down = std::panic::AssertUnwindSafe(|| tx.ours(|_| panic!("down")));
            std::panic::catch_unwind(down).unwrap_err();
            let answer = tx.execute("delete from queue", []);
            let error = answer.expect_err("it is ours").to_string();
            assert!(error.contains("not authorized"), "{error}");
            (true, ())
        })
        .unwrap();
    }

    #[test]
    fn nothing_temporary_hides_or_watches_what_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let (c, guest) = watched(&dir);
        let mut tx = Tx::new(&c, &guest);
        let refused = [
            "create temp table queue (n integer)",
            "create temp table other (n integer)",
            "create temp view queue as select 1 as n",
            "create temp trigger t after insert on main.queue begin insert into mine values (1); end",
            "create temp trigger t after insert on main.mine begin select 1; end",
            "create virtual table temp.queue using fts5(n)",
        ];
        let ran = tx.row(Duration::from_secs(60), |tx| {
            for sql in refused {
                let answer = tx.execute(sql, []);
                let error = answer.expect_err(sql).to_string();
                assert!(error.contains("not authorized"), "{sql}: {error}");
            }
            tx.execute("insert into mine values (1)", []).unwrap();
            (true, ())
        });
        assert!(ran.unwrap().0);
    }
}
