//! The store in a PostgreSQL database.
//!
//! Every step is one transaction at READ COMMITTED that locks what it leaves; every read is one at
//! REPEATABLE READ. Nothing here waits for user code or for another service while it holds a lock.

/// Makes a step in a transaction of its own; again from its beginning where others were in the way.
macro_rules! step {
    ($store:expr, $tx:ident => $step:expr) => {
        async move {
            let mut tries = 0;
            loop {
                let $tx = $store.begin().await?;
                let failed = match $step.await {
                    Ok(done) => match $tx.commit().await {
                        Ok(committed) => break Ok((done, committed)),
                        Err(error) => error,
                    },
                    Err(error) => {
                        $tx.rollback().await;
                        error
                    }
                };
                tries += 1;
                if tries >= $crate::store::postgres::TRIES
                    || !$crate::store::postgres::errors::is_in_the_way(&failed)
                {
                    break Err($crate::store::postgres::errors::final_word(failed));
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
macro_rules! read {
    ($store:expr, $tx:ident => $step:expr) => {
        async move {
            let $tx = $store.begin_read().await?;
            match $step.await {
                Ok(done) => {
                    $tx.end_read();
                    Ok::<_, $crate::store::StoreError>(done)
                }
                Err(error) => {
                    $tx.rollback().await;
                    Err(error)
                }
            }
        }
    };
}

mod append;
mod backend;
mod claim;
mod connect;
mod db;
mod errors;
mod liveness;
mod migrate;
mod record;
mod session;
mod transact;
mod tx;
mod wake;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use deadpool_postgres::Pool;

use super::steps::damage::Damage;
use super::steps::discard::{self, InTheWay, Leftover};
use super::steps::end;
use super::{Fut, StoreError};
use crate::model::{OpId, Timestamp, WorkerNo};
use errors::postgres_error;
use session::Session;
use tx::{Committed, Tx};
use wake::Waker;

pub use connect::Options;
pub(crate) use connect::client;

/// A statement of ours that runs longer than this is ended by the server.
const STATEMENT: &str = "60s";
/// A step that others are in the way of is made again so often.
const TRIES: u32 = 10;

/// The store in a PostgreSQL database.
pub struct PostgresStore {
    pool: Pool,
    session: Session,
    waker: Arc<Waker>,
    damage: Damage,
    options: Options,
    begin: Begin,
    /// Workers whose lock was free, and since when.
    free: Mutex<HashMap<WorkerNo, Instant>>,
    /// When it was last noted that workers of this process live.
    heard: Mutex<HashMap<WorkerNo, Instant>>,
    /// Rows and bytes of a task of each op, by what the last claim took.
    sizes: Mutex<HashMap<OpId, (u64, u64)>>,
    /// When batches that nobody asked about were last looked for.
    swept: Mutex<Option<Instant>>,
}

/// How transactions begin.
struct Begin {
    write: String,
    read: String,
}

impl PostgresStore {
    /// Connects, makes the schema where there is none, and brings an older one up to date.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the schema is newer than this program, or the server acknowledges
    /// what is not durable (`synchronous_commit = off`);
    /// [`StoreError::Unavailable`] where the server cannot be reached or refuses.
    pub async fn open(options: Options) -> Result<Self, StoreError> {
        let options = options.checked()?;
        let pool = connect::pool(&options)?;
        Self::migrate(&options).await?;
        let waker = Waker::new();
        let session = Session::start(options.clone(), Arc::clone(&waker)).await?;
        let settings = format!(
            "set local search_path to \"{}\"; set local statement_timeout to '{STATEMENT}'; set local jit to off",
            options.schema
        );
        Ok(Self {
            pool,
            session,
            waker,
            damage: Damage::default(),
            options,
            begin: Begin {
                write: format!("begin; {settings}"),
                read: format!("begin isolation level repeatable read read only; {settings}"),
            },
            free: Mutex::default(),
            heard: Mutex::default(),
            sizes: Mutex::default(),
            swept: Mutex::default(),
        })
    }

    async fn migrate(options: &Options) -> Result<(), StoreError> {
        let connected = options.config.connect(connect::tls(&options.config)?).await;
        let (mut client, connection) =
            connected.map_err(postgres_error("connecting to PostgreSQL"))?;
        let driver = tokio::spawn(connection);
        let done = match migrate::is_durable(&client).await {
            Ok(()) => migrate::migrate(&mut client, &options.schema).await,
            Err(error) => Err(error),
        };
        drop(client);
        // It ends with its client; how the connection ended says nothing of what was done.
        drop(driver.await);
        done
    }

    async fn begin(&self) -> Result<Tx, StoreError> {
        Tx::begin(&self.pool, &self.begin.write).await
    }

    async fn begin_read(&self) -> Result<Tx, StoreError> {
        Tx::begin_read(&self.pool, &self.begin.read).await
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
