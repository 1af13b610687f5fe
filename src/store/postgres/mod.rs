//! The store in a PostgreSQL database.
//!
//! Every step is one transaction at READ COMMITTED that locks what it leaves; every read is one at
//! REPEATABLE READ. Nothing here waits for user code or for another service while it holds a lock.

/// The text of `sql/postgres_alone/NAME.sql`: what has no counterpart on SQLite.
macro_rules! alone {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/sql/postgres_alone/",
            $name,
            ".sql"
        ))
    };
}

/// Makes a step in a transaction of its own; again from its beginning where others were in the way, where its
/// connection was lost before anything was answered on it, or where the answer to its commit was lost.
macro_rules! step {
    ($store:expr, $tx:ident => $step:expr) => {
        step!($store, false, $tx => $step)
    };
    ($store:expr, $again:expr, $tx:ident => $step:expr) => {
        async move {
            let kept = $store.pool.status().max_size;
            let mut tries = $crate::store::postgres::doubt::Tries::new($again, kept);
            loop {
                let failed = match $store.begin().await {
                    Ok(begun) => {
                        let $tx = begun.again(tries.is_again());
                        match $step.await {
                            Ok(done) => match $tx.commit().await {
                                Ok(committed) => break Ok((done, committed)),
                                Err(error) => tries.lost_commit(error),
                            },
                            Err(error) => {
                                let heard = $tx.is_heard();
                                let error = $tx.undo_for(&$store.begin.write, error).await;
                                if tries.was_kept(heard, &error) {
                                    continue;
                                }
                                error
                            }
                        }
                    }
                    Err(error) => error,
                };
                if let Some(failed) = tries.over(failed).await {
                    break Err(failed);
                }
            }
        }
    };
}

/// As `step`, and then tells of it and looks at the batches that may have ended.
macro_rules! write {
    ($store:expr, $now:expr, $tx:ident => $step:expr) => {
        async move {
            let (done, committed) = step!($store, $tx => $step).await?;
            $store.after(committed, $now).await;
            Ok::<_, $crate::store::StoreError>(done)
        }
    };
}

/// Reads in one transaction of its own: what it sees is of one moment.
///
/// It changes nothing, and is made again where its connection was lost: all that are kept may have been, since
/// they were last used, and a new one comes after them.
macro_rules! read {
    ($store:expr, $tx:ident => $step:expr) => {
        async move {
            let mut kept = $store.pool.status().max_size;
            loop {
                let $tx = $store.begin_read().await?;
                let failed = match $step.await {
                    Ok(done) => {
                        $tx.end_read();
                        break Ok::<_, $crate::store::StoreError>(done);
                    }
                    Err(error) => $tx.undo_for(&$store.begin.read, error).await,
                };
                let again = $crate::store::postgres::errors::is_unknown(&failed)
                    || $crate::store::postgres::errors::is_without_begin(&failed);
                if kept == 0 || !again {
                    break Err(failed);
                }
                kept -= 1;
            }
        }
    };
}

mod address;
mod append;
mod at_once;
mod backend;
mod bundle;
mod claim;
mod connect;
mod db;
mod doctor;
mod doubt;
mod errors;
mod front;
mod grants;
mod join;
mod lent;
mod liveness;
mod migrate;
mod own;
mod piece;
mod plans;
mod ready;
mod record;
mod session;
mod tls;
mod together;
mod transact;
mod tx;
mod wake;
mod whole;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadpool_postgres::Pool;

use super::slots::FreeSlots;
use super::steps::damage::Damage;
use super::steps::discard::{self, InTheWay, Leftover};
use super::steps::end;
use super::{Fut, Schema, StoreError};
use crate::clock::{Clock as _, Measured, Seldom};
use crate::model::{BatchId, OpId, Timestamp};
use doubt::Doubts;
use liveness::Seen;
use session::Session;
use together::Together;
use tx::{Committed, Tx};
use wake::Waker;

pub use address::Address;
pub(crate) use connect::Line;
pub use connect::Options;
pub(crate) use join::submit_within;
pub use piece::PieceTx;
pub(crate) use piece::{Said, Trouble, said};
pub use tls::{Root, Tls, Trust};

/// Where everything lives, unless it is said.
const SCHEMA: &str = "rowmill";
/// A statement of ours that runs longer than this is ended by the server.
const STATEMENT: &str = "60s";
/// What holds a worker's slot waits no longer for a lock.
const BRIEF: &str = "1s";
/// An abort waits so long for claims that hold some of its tasks, and looks again so often.
const HOLDS: Duration = Duration::from_millis(20);
const HELD: u32 = 100;
/// The longest time that a setting of the server takes.
const SETTABLE: Duration = Duration::from_millis(2_147_483_647);

/// The store in a PostgreSQL database.
pub struct PostgresStore {
    pool: Pool,
    session: Session,
    waker: Arc<Waker>,
    damage: Damage,
    options: Options,
    /// How the server is asked, beside a connection, to end a statement.
    tls: Tls,
    begin: Begin,
    /// Parts of which nobody knows whether they are recorded.
    doubts: Doubts,
    /// The server's time.
    clock: Arc<Measured>,
    /// What was seen of workers.
    seen: Mutex<Seen>,
    /// A worker has entered, and nobody has looked for the dead since.
    fresh: AtomicBool,
    /// Rows and bytes of a task of each op, by what the last claim took.
    sizes: Mutex<HashMap<OpId, (u64, u64)>>,
    /// Where claims begin to look.
    fronts: front::Fronts,
    /// When batches that nobody asked about were last looked for.
    swept: Mutex<Seldom>,
    /// Queries that wait to be stored.
    together: Together,
    /// Tasks that stand together.
    bundles: bundle::Known,
    /// Slots of this process's workers that a query may fill.
    slots: FreeSlots,
}

/// How transactions begin.
struct Begin {
    write: String,
    /// As `write`, waiting for a lock for `BRIEF`.
    brief: String,
    read: String,
    /// What holds for whoever is gone within a transaction.
    guards: String,
    /// How its commit is acknowledged.
    durable: String,
    /// Statements are kept under names in the server's session, which is one's own for longer than a transaction.
    named: bool,
    /// A connection of the pool writes nothing outside of a transaction, so that nobody waits for one's beginning.
    guarded: bool,
}

impl PostgresStore {
    /// Connects, makes the schema where there is none, and brings an older one up to date.
    ///
    /// Where a pooler gives each transaction another session of the server, no statement is given a name. Without
    /// [`Options::session`] a worker then lives by its heartbeat alone, and looks for changes instead of hearing of them.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the schema is newer than this program, or is older and brought up to date by
    /// hand, where the server acknowledges what is not durable (`synchronous_commit = off`), or where
    /// [`Options::session`] is a pooler's;
    /// [`StoreError::Unavailable`] where the server cannot be reached or refuses.
    pub async fn open(options: Options) -> Result<Self, StoreError> {
        let mut options = options.checked()?;
        let (first, is_pooler) = options.first().await?;
        let guarded = options.is_guarded(is_pooler);
        let pool = options.pool_of(guarded)?;
        let durability = migrate::durability(&first).await?;
        migrate::migrate(&first, &options.schema, options.migrate).await?;
        drop(first);
        options.lockless = is_pooler && options.session.is_none();
        let waker = Waker::new();
        let clock = Arc::new(Measured::new());
        let started = Session::start(options.clone(), Arc::clone(&waker), Arc::clone(&clock));
        let session = started.await?;
        // Who stands still within a transaction holds nobody up for longer than it takes to be found dead.
        let guards = format!(
            "set local idle_in_transaction_session_timeout to {}{watch}",
            options.heartbeat.min(SETTABLE).as_millis(),
            watch = if session.watches {
                "; set local client_connection_check_interval to '1s'"
            } else {
                ""
            },
        );
        // Whatever a session was left with, by a pooler's other clients or by a processor.
        let durable = format!("set local synchronous_commit to '{durability}'");
        let settings = format!(
            "set local search_path to \"{}\"; set local statement_timeout to '{STATEMENT}'; {guards}; {durable}; {}",
            options.schema,
            plans::ours(),
        );
        // What can fail comes within the transaction.
        let write = format!(
            "begin; set transaction isolation level read committed, read write; {settings}"
        );
        Ok(Self {
            pool,
            session,
            waker,
            damage: Damage::default(),
            tls: options.tls(),
            options,
            begin: Begin {
                brief: format!("{write}; set local lock_timeout to '{BRIEF}'"),
                write,
                read: format!("begin isolation level repeatable read read only; {settings}"),
                guards,
                durable,
                named: !is_pooler,
                guarded,
            },
            doubts: Doubts::default(),
            clock,
            seen: Mutex::default(),
            fresh: AtomicBool::new(false),
            sizes: Mutex::default(),
            fronts: front::Fronts::default(),
            swept: Mutex::default(),
            together: Together::new(),
            bundles: bundle::Known::default(),
            slots: FreeSlots::default(),
        })
    }

    /// What a database's schema has and lacks; changes nothing.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn schema(options: &Options) -> Result<Schema, StoreError> {
        let options = options.clone().checked()?;
        let (first, _) = options.first().await?;
        migrate::schema_of(&first, &options.schema).await
    }

    /// Makes the schema where there is none, and brings an older one up to date, also where others may not.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn migrate(options: &Options) -> Result<(), StoreError> {
        let options = options.clone().checked()?;
        let (first, _) = options.first().await?;
        migrate::durability(&first).await?;
        migrate::migrate(&first, &options.schema, true).await
    }

    async fn begin(&self) -> Result<Tx, StoreError> {
        self.begin_by(&self.begin.write).await
    }

    /// Begins one that waits for nobody's lock for long.
    async fn begin_brief(&self) -> Result<Tx, StoreError> {
        self.begin_by(&self.begin.brief).await
    }

    async fn begin_by(&self, settings: &str) -> Result<Tx, StoreError> {
        let Begin { named, guarded, .. } = self.begin;
        if guarded {
            Tx::begin(&self.pool, settings, named).await
        } else {
            Tx::begun(&self.pool, settings, named).await
        }
    }

    async fn begin_read(&self) -> Result<Tx, StoreError> {
        Tx::begin(&self.pool, &self.begin.read, self.begin.named).await
    }

    /// Now, by the server's clock.
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Tells of what was committed, and looks whether batches have ended by it. What is missed here
    /// the keeper finds.
    async fn after(&self, done: Committed, now: Timestamp) {
        if done.wrote {
            self.waker.wake();
        }
        for id in done.later {
            match step!(self, tx => end::settle_now(&tx, id, now)).await {
                Ok(((), settled)) if settled.wrote => self.waker.wake(),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(batch = %id, %error, "whether it has ended is asked again by the keeper");
                }
            }
        }
    }

    /// Aborts a batch. What claims that are under way held is ended when they are through; what they hold for long
    /// ends with the next claim that meets it.
    async fn abort_now(&self, id: BatchId, by: String, now: Timestamp) -> Result<(), StoreError> {
        write!(self, now, tx => end::abort(&tx, id, &by, now)).await?;
        for _ in 0..HELD {
            // The abort is made, whatever this look comes to.
            let Ok(false) = write!(self, now, tx => end::abort_rest(&tx, id, now)).await else {
                break;
            };
            tokio::time::sleep(HOLDS).await;
        }
        Ok(())
    }

    /// Removes what is left of an abandoned load, a step a piece: others commit in between.
    async fn discard_rest(&self, left: Leftover, now: Timestamp) -> Result<(), StoreError> {
        while !write!(self, now, tx => left.remove(&tx, discard::DISCARD)).await? {}
        Ok(())
    }

    /// Submits; a silent load under an id of it goes first, in pieces of its own.
    async fn over_silent<'a, T>(
        &'a self,
        now: Timestamp,
        submit: impl Fn() -> Fut<'a, T> + Send + Sync,
    ) -> Result<T, StoreError> {
        loop {
            let id = match submit().await {
                Err(StoreError::SubmitInProgress(id)) => id,
                done => return done,
            };
            let most = discard::DISCARD;
            match write!(self, now, tx => discard::take_silent(&tx, id, most, now)).await? {
                InTheWay::Gone => {}
                InTheWay::Left(left) => self.discard_rest(left, now).await?,
                InTheWay::Stays => return Err(StoreError::SubmitInProgress(id)),
            }
        }
    }
}
