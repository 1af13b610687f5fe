//! The open transaction of a piece, as its rows and the record of what they came to share it.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, Transaction};
use futures_util::future::{join, join3};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Statement};

use super::db::only;
use super::errors::{is_conflict, is_lost, postgres_error};
use super::lent;
use super::plans;
use super::ready::{Ready, ask};
use super::tls::Tls;
use super::tx::{Committed, Link};
use super::{Begin, Options, SETTABLE, STATEMENT};
use crate::model::{BatchId, WorkerNo};
use crate::store::steps::db::{Sql, corrupt, sql};
use crate::store::steps::end::has_open_rows;
use crate::store::steps::record::task;
use crate::store::{ClaimRef, StoreError};

/// A lock is waited for no longer, and no longer than a quarter of the time that a row has: a statement may wait for two.
const LOCK: Duration = Duration::from_secs(2);
/// A connection keeps so many statements, its own and those of applications; then it begins anew.
const STATEMENTS: usize = 1_000;
/// An interrupt may come late, and end what is asked next.
const ROLLBACKS: u32 = 3;

/// Why rows could not be kept, or undone.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A statement of theirs failed, or a check that it had put off.
    Sql(tokio_postgres::Error),
    /// Others were in their way.
    InTheWay,
    /// The connection is lost, and the transaction with it.
    Lost,
    /// They ended the transaction themselves.
    Ended,
}

/// The open transaction of a piece: rows run in it one run after the other, and a run is kept or undone.
pub struct PieceTx<'t> {
    tx: Transaction<'t>,
    /// Whose connection it is.
    pool: Option<Pool>,
    /// The application's statements that were asked for in it, at hand.
    statements: Mutex<HashMap<Box<str>, Statement>>,
    tls: &'t Tls,
    /// Statements of ours are prepared under names, and kept.
    named: bool,
    guards: &'t str,
    read: &'t str,
    durable: &'t str,
    /// A statement of it was ended from here; that may reach the server late.
    interrupted: &'t AtomicBool,
    /// Where rowmill's own tables are.
    schema: &'t str,
    wrote: AtomicBool,
    later: Mutex<BTreeSet<BatchId>>,
    /// The transaction's number: a processor cannot set it, and another transaction has another.
    mark: OnceLock<String>,
    /// Ends a run, and begins the next.
    keep: OnceLock<String>,
    /// The application ended the transaction itself; whether what it had written then is there.
    ended: OnceLock<bool>,
}

impl<'t> PieceTx<'t> {
    /// The transaction that is handed to the application.
    #[must_use]
    pub fn transaction(&self) -> &tokio_postgres::Transaction<'t> {
        &self.tx
    }

    /// Prepares a statement of the application's; the connection keeps it where it keeps its own.
    ///
    /// # Errors
    /// The server's: whatever comes next in the transaction fails, too.
    pub async fn prepare(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if !self.named {
            return self.tx.prepare(sql).await;
        }
        if let Some(kept) = self.statements().get(sql) {
            return Ok(kept.clone());
        }
        let cache = &self.tx.statement_cache;
        if cache.size() >= STATEMENTS {
            cache.clear();
            self.statements().clear();
        }
        match self.tx.prepare_cached(sql).await {
            Ok(statement) => {
                self.statements().insert(sql.into(), statement.clone());
                Ok(statement)
            }
            Err(error) => {
                // The place that was meant for it would stay.
                cache.remove(sql, &[]);
                Err(error)
            }
        }
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<Box<str>, Statement>> {
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Statements that connections keep may not be what they were: they are prepared again.
    pub(crate) fn forget(&self) {
        match &self.pool {
            Some(pool) => pool.manager().statement_caches.clear(),
            None => self.tx.statement_cache.clear(),
        }
    }

    pub(super) async fn begin(
        object: &'t mut Object,
        options: &'t Options,
        begin: &'t Begin,
        tls: &'t Tls,
        interrupted: &'t AtomicBool,
        isolation: IsolationLevel,
    ) -> Result<Self, StoreError> {
        let failed = || postgres_error("beginning a piece");
        let pool = Object::pool(object);
        let tx = object.build_transaction().isolation_level(isolation);
        let tx = tx.read_only(false).start().await.map_err(failed())?;
        Ok(Self {
            tx,
            pool,
            statements: Mutex::default(),
            tls,
            named: begin.named,
            guards: &begin.guards,
            read: &begin.read,
            durable: &begin.durable,
            interrupted,
            schema: &options.schema,
            wrote: AtomicBool::new(false),
            later: Mutex::default(),
            mark: OnceLock::new(),
            keep: OnceLock::new(),
            ended: OnceLock::new(),
        })
    }

    /// What holds for our own statements.
    fn ours(&self) -> String {
        format!(
            "set local search_path to \"{}\"; set local statement_timeout to '{STATEMENT}'; {}; {}",
            self.schema,
            self.durable,
            plans::ours()
        )
    }

    /// Takes the task, and makes all as the application knows it: its search path, and a savepoint for its first run.
    /// False where the task is not the worker's.
    ///
    /// All of it is sent before the first of it is answered.
    pub(super) async fn hand_over(
        &self,
        worker: WorkerNo,
        claim: &ClaimRef,
        statement: Duration,
    ) -> Result<bool, StoreError> {
        let failed = || postgres_error("handing a piece over");
        let lock = LOCK.min(statement / 4).as_millis().max(1);
        let ours = format!(
            "{}; set local lock_timeout to {lock}; {}",
            self.guards,
            self.ours()
        );
        // A row that takes too long is interrupted from here; the server's own time-out is for the case that this cannot be.
        let statement = statement.saturating_add(Duration::from_secs(1));
        let statement = statement.min(SETTABLE).as_millis();
        let theirs = format!(
            "set local search_path to default; set local statement_timeout to {statement}; {}; savepoint rowmill_run",
            plans::theirs()
        );
        let sent = async {
            // What the connection has not prepared yet is waited for while the settings are ours.
            self.prepared(sql!("record_task")).await?;
            self.prepared(only!("piece")).await?;
            let asked = join3(
                task(self, worker, claim),
                ask(self, only!("piece"), &[]),
                self.tx.batch_execute(&theirs),
            );
            Ok::<_, StoreError>(asked.await)
        };
        let (set, sent) = join(self.tx.batch_execute(&ours), sent).await;
        set.map_err(failed())?;
        let (held, begun, handed) = sent?;
        // The task's record is locked until this transaction ends: nobody takes it over before.
        if held?.is_none() {
            return Ok(false);
        }
        let begun = begun?;
        handed.map_err(failed())?;
        let begun = begun
            .first()
            .ok_or_else(|| corrupt("nothing is said of a transaction"))?;
        let mark: String = begun.try_get(0).map_err(failed())?;
        let deferred: Option<String> = begun.try_get(1).map_err(failed())?;
        // What was put off is checked, and put off again where that is the constraint's own way.
        let again =
            deferred.map_or_else(String::new, |d| format!("set constraints {d} deferred; "));
        let keep = format!(
            "set constraints all immediate; {again}release savepoint rowmill_run; savepoint rowmill_run"
        );
        // Set once, here.
        let _ = (self.mark.set(mark), self.keep.set(keep));
        Ok(true)
    }

    /// Takes the transaction back for what is recorded; false where it is another, or none.
    pub(super) async fn take_back(&self) -> Result<bool, StoreError> {
        let failed = || postgres_error("taking a piece back");
        let settings = format!("set local role to default; {}", self.ours());
        let (set, ended) = join(self.tx.batch_execute(&settings), self.look()).await;
        set.map_err(failed())?;
        Ok(!self.look_again(ended).await?)
    }

    /// An interrupt that comes late ends a look, and says nothing of the transaction: where that is open, it has
    /// aborted it, and the next look fails, too.
    async fn look_again(&self, mut ended: Result<bool, StoreError>) -> Result<bool, StoreError> {
        for _ in 1..ROLLBACKS {
            if ended.is_ok() {
                break;
            }
            ended = self.look().await;
        }
        ended
    }

    /// Looks whether rows that gave up had ended the transaction; false where that cannot be seen.
    pub(super) async fn was_ended(&self) -> bool {
        if self.tx.client().is_closed() {
            return false;
        }
        let ended = self.look().await;
        self.look_again(ended).await.is_ok()
    }

    /// The transaction's number.
    pub(super) fn number(&self) -> Option<String> {
        self.mark.get().cloned()
    }

    /// Looks whether the application ended the transaction; one that an error has aborted is still the one that it was.
    async fn has_ended(&self) -> bool {
        self.look().await.unwrap_or(false)
    }

    /// Whether the transaction is another than it was, or none. An error: nobody can say.
    async fn look(&self) -> Result<bool, StoreError> {
        let (is_ours, kept) = looked(self, self.mark.get()).await?;
        if !is_ours {
            let _ = self.ended.set(kept);
        }
        Ok(!is_ours)
    }

    /// Whether what was written is there, where the application ended the transaction itself.
    pub(super) fn ended(&self) -> Option<bool> {
        self.ended.get().copied()
    }

    async fn trouble(&self, error: tokio_postgres::Error) -> Trouble {
        if is_lost(&error) || self.tx.client().is_closed() {
            return Trouble::Lost;
        }
        if self.has_ended().await {
            return Trouble::Ended;
        }
        match error.code() {
            Some(code) if is_conflict(code) => Trouble::InTheWay,
            _ => Trouble::Sql(error),
        }
    }

    /// Keeps what the run's rows wrote: what they had put off is checked now, so that it is theirs. The next run begins.
    pub(crate) async fn keep(&self) -> Result<(), Trouble> {
        let keep = self.keep.get().map_or("", String::as_str);
        match self.tx.batch_execute(keep).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.trouble(error).await),
        }
    }

    /// Undoes what the run's rows wrote. The next run begins.
    pub(crate) async fn undo(&self) -> Result<(), Trouble> {
        let mut tries = 0;
        loop {
            let undone = self.tx.batch_execute("rollback to savepoint rowmill_run");
            let Err(error) = undone.await else {
                return Ok(());
            };
            tries += 1;
            let late = error.code() == Some(&SqlState::QUERY_CANCELED);
            if !late || tries >= ROLLBACKS {
                return Err(self.trouble(error).await);
            }
        }
    }

    /// Ends the statement that runs, if there is one.
    pub(crate) async fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
        lent::interrupt(self.tx.cancel_token(), self.tls).await;
    }

    /// Leaves the connection to nobody else.
    pub(crate) async fn leave(&self) {
        if !self.tx.client().is_closed() {
            self.interrupt().await;
        }
    }

    /// Whether what is asked next may be ended by an interrupt that was meant for what came before.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Commits, and looks in the same breath whether the batch that it may have ended goes on: pieces end one by one,
    /// and most are not a batch's last. An error of the way to the server says that nothing is known of the commit.
    pub(super) async fn commit(self) -> Result<Committed, StoreError> {
        let failed = || postgres_error("committing a piece");
        let wrote = self.wrote.load(Ordering::Relaxed);
        let mut later = std::mem::take(&mut *Link::later(&self));
        let Some(&batch) = later.first() else {
            self.tx.commit().await.map_err(failed())?;
            return Ok(Committed { wrote, later });
        };
        // What the connection has not prepared yet is waited for before.
        self.prepared(sql!("end_open_rows")).await?;
        let look = join(
            self.tx.batch_execute(self.read),
            has_open_rows(&self, batch),
        );
        let (done, (begun, open)) = join(self.tx.batch_execute("COMMIT"), look).await;
        done.map_err(failed())?;
        // Where it could not begin, nobody knows whose tables were looked at.
        if begun.is_ok() && matches!(open, Ok(true)) {
            later.remove(&batch);
        }
        // What looked ends when it is dropped: nobody waits for it.
        Ok(Committed { wrote, later })
    }

    /// Undoes all of it; false where the connection is lost.
    pub(super) async fn rollback(self) -> bool {
        self.tx.rollback().await.is_ok()
    }
}

impl Link for PieceTx<'_> {
    fn link(&self) -> Result<&Client, StoreError> {
        Ok(self.tx.client())
    }

    async fn prepared(&self, sql: Sql) -> Result<Ready, StoreError> {
        if !self.named {
            return Ok(Ready::Unnamed(sql.postgres));
        }
        let statement = self.tx.prepare_cached(sql.postgres).await;
        statement
            .map(Ready::Named)
            .map_err(postgres_error(sql.name))
    }

    fn wrote(&self) -> &AtomicBool {
        &self.wrote
    }

    fn later(&self) -> MutexGuard<'_, BTreeSet<BatchId>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the transaction is the one of this number, and whether that one was committed.
async fn looked(link: &impl Link, number: Option<&String>) -> Result<(bool, bool), StoreError> {
    let found = ask(link, only!("mark"), &[(&number, Type::TEXT)]).await?;
    let found = found
        .first()
        .ok_or_else(|| corrupt("nothing is said of a transaction"))?;
    let failed = || postgres_error("looking at a transaction");
    let is_ours = found.try_get(0).map_err(failed())?;
    Ok((is_ours, found.try_get(1).map_err(failed())?))
}

/// Whether the transaction of this number was committed; it is over.
pub(super) async fn was_committed(link: &impl Link, number: &String) -> Result<bool, StoreError> {
    Ok(looked(link, Some(number)).await?.1)
}

/// What an error of a row's says of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Others were in its way.
    InTheWay,
    /// The connection is lost.
    Lost,
    /// A statement before it had failed.
    Aborted,
    /// A statement that was kept gives something else by now.
    Stale,
}

/// Looks through an error's causes for one of the database that is nobody's own.
pub(crate) fn said(error: &(dyn std::error::Error + 'static)) -> Option<Said> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            if is_lost(error) {
                return Some(Said::Lost);
            }
            let code = error.code()?;
            if is_conflict(code) {
                return Some(Said::InTheWay);
            }
            let by = error.as_db_error().and_then(|db| db.routine());
            if *code == SqlState::FEATURE_NOT_SUPPORTED && by == Some("RevalidateCachedQuery") {
                return Some(Said::Stale);
            }
            let aborted = *code == SqlState::IN_FAILED_SQL_TRANSACTION;
            return aborted.then_some(Said::Aborted);
        }
        next = error.source();
    }
    None
}
