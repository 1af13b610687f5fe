//! One connection of the store's own: the locks that it holds, what it hears, and the server's time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Connection, Row, Statement};

use super::connect::{Line, Options};
use super::errors::postgres_error;
use super::wake::Waker;
use super::{SCHEMA, STATEMENT};
use crate::clock::Measured;
use crate::model::{Timestamp, WorkerNo};
use crate::store::StoreError;
use crate::store::steps::db::{Us, time};

/// The first half of the key of every worker's lock: it meets no other use of advisory locks.
const LIVES: i32 = 0x726F_776D;
/// The channel on which changes are told.
pub(super) const CHANNEL: &str = "rowmill";
/// A worker's lock is waited for no longer.
const LOCKED: &str = "2s";
/// A connection that answers later is lost.
pub(super) const LATE: Duration = Duration::from_secs(5);
/// Connecting again takes no longer, or the next try would come too late for those who look for the dead.
pub(super) const REACH: Duration = Duration::from_secs(2);

/// A statement whose client is gone is ended by the server.
pub(super) const WATCH: &str = "set client_connection_check_interval to '1s'";

/// A connection that holds locks.
pub(super) struct Own {
    client: Line,
    kind: Kind,
    /// The server's start and its timeline: a lock of an earlier one is gone, whoever lives.
    pub(super) incarnation: Arc<str>,
    /// The server can look, while a statement runs, whether its client is still there.
    pub(super) watches: bool,
    /// The server's address, as it sees it.
    pub(super) at: Option<String>,
    /// The first half of a lock's key.
    lives: i32,
    clock: Arc<Measured>,
}

/// What it is on the server's side.
enum Kind {
    /// A session of its own, with the statement of its beat.
    Session { beat: Statement, pid: i32 },
    /// One that a caller's pool has made, on which nothing is set for longer than a transaction: what it is begins with
    /// these words. It holds locks if it is its own, which is looked at each time.
    Made { begin: String, pid: i32 },
    /// Somebody's behind a pooler, another in each transaction: it can hold and hear nothing.
    Pooled { begin: String },
}

/// What the server says of this connection.
pub(super) struct Look {
    /// Workers of which it was noted that they live.
    pub(super) noted: Vec<WorkerNo>,
    /// Workers that were taken for dead.
    pub(super) ended: Vec<WorkerNo>,
}

async fn in_time<T>(
    most: Duration,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = || StoreError::unavailable("asking the store's own connection", "no answer in time");
    let asked = tokio::time::timeout(most, asked).await;
    asked.map_err(|_| late())?
}

impl Options {
    /// The first half of the key of a worker's lock: each schema of a database numbers its own workers.
    pub(super) fn lives(&self) -> i32 {
        if self.schema == SCHEMA {
            return LIVES;
        }
        // FNV-1a: the same in every release.
        let hash = self.schema.bytes().fold(0x811C_9DC5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        LIVES ^ hash.cast_signed()
    }
}

impl Own {
    /// Connects and listens, in this time; a standby is not the server.
    pub(super) async fn connect(
        options: &Options,
        waker: &Arc<Waker>,
        clock: &Arc<Measured>,
        most: Duration,
    ) -> Result<Self, StoreError> {
        in_time(most, Self::reach(options, waker, clock)).await
    }

    async fn reach(
        options: &Options,
        waker: &Arc<Waker>,
        clock: &Arc<Measured>,
    ) -> Result<Self, StoreError> {
        let failed = || postgres_error("connecting to PostgreSQL");
        let own = Arc::new(AtomicI32::new(0));
        let drive =
            |connection| tokio::spawn(drive(connection, Arc::clone(waker), Arc::clone(&own)));
        let client = options.own(drive).await?;
        let found = client.query_typed_one(alone!("session"), &[]).await;
        let found = found.map_err(failed())?;
        let of = || {
            Ok((
                (found.try_get(0)?, found.try_get(1)?),
                (found.try_get(2)?, found.try_get(3)?),
            ))
        };
        let ((pid, incarnation), (standby, at)): ((i32, String), (bool, Option<String>)) =
            of().map_err(failed())?;
        own.store(pid, Ordering::Relaxed);
        if standby {
            let text = "the server is a standby, which is not written to";
            return Err(StoreError::unavailable("connecting to PostgreSQL", text));
        }
        let schema = &options.schema;
        let begin = format!(
            "begin; set local search_path to \"{schema}\"; set local statement_timeout to '{STATEMENT}'; set local lock_timeout to '{LOCKED}'; set local synchronous_commit to off; set local jit to off"
        );
        let (kind, watches) = if options.lockless {
            (Kind::Pooled { begin }, false)
        } else if options.is_made_by_pool() {
            (Kind::Made { begin, pid }, false)
        } else {
            // A beat asks for no disk: a slow one is no death. The server, too, is to notice that this end is gone.
            let settings = format!(
                "set search_path to \"{schema}\"; set statement_timeout to '{STATEMENT}'; set lock_timeout to '{LOCKED}'; set synchronous_commit to off; set jit to off;
                 set tcp_keepalives_idle to 5; set tcp_keepalives_interval to 5; set tcp_keepalives_count to 3; set tcp_user_timeout to '20s';
                 listen {CHANNEL}"
            );
            client.batch_execute(&settings).await.map_err(failed())?;
            // Some systems cannot.
            let watches = client.batch_execute(WATCH).await.is_ok();
            let beat = client.prepare(alone!("beat")).await.map_err(failed())?;
            (Kind::Session { beat, pid }, watches)
        };
        let own = Self {
            client,
            kind,
            incarnation: incarnation.into(),
            watches,
            at,
            lives: options.lives(),
            clock: Arc::clone(clock),
        };
        own.look(&BTreeSet::new(), false).await?;
        Ok(own)
    }

    /// What is noted of the server in a worker's record: nothing where no lock is held, so that nobody looks for one.
    pub(super) fn noted(&self) -> Arc<str> {
        match self.kind {
            Kind::Session { .. } | Kind::Made { .. } => Arc::clone(&self.incarnation),
            Kind::Pooled { .. } => "".into(),
        }
    }

    fn holds(&self) -> bool {
        !matches!(self.kind, Kind::Pooled { .. })
    }

    /// Takes a worker's lock; with `again`, from a connection that was lost and that the server still has.
    pub(super) async fn lock(&self, worker: WorkerNo, again: bool) -> Result<(), StoreError> {
        let failed = || postgres_error("taking a worker's lock");
        let key = i32::try_from(worker.0)
            .map_err(|e| StoreError::unavailable("taking a worker's lock", e))?;
        if !self.holds() {
            return Ok(());
        }
        let asked = async {
            if again {
                let lives = i64::from(self.lives);
                let params: [(&(dyn ToSql + Sync), Type); 2] =
                    [(&lives, Type::INT8), (&worker.0, Type::INT8)];
                let ended = self.client.query_typed(alone!("end_own"), &params).await;
                ended.map_err(failed())?;
            }
            let lock = format!("select pg_advisory_lock({}, {key})", self.lives);
            let lock = match &self.kind {
                Kind::Made { begin, .. } => format!("{begin}; {lock}; commit"),
                Kind::Session { .. } | Kind::Pooled { .. } => lock,
            };
            let taken = self.client.batch_execute(&lock).await;
            taken.map_err(failed())
        };
        in_time(LATE, asked).await
    }

    pub(super) async fn unlock(&self, worker: WorkerNo) -> Result<(), StoreError> {
        let failed = || postgres_error("letting go of a worker's lock");
        let key = i32::try_from(worker.0)
            .map_err(|e| StoreError::unavailable("letting go of a worker's lock", e))?;
        if !self.holds() {
            return Ok(());
        }
        let unlock = format!("select pg_advisory_unlock({}, {key})", self.lives);
        let asked = async {
            let done = self.client.batch_execute(&unlock).await;
            done.map_err(failed())
        };
        in_time(LATE, asked).await
    }

    /// Looks whether the session is what it was and holds the locks of `lives`, measures the server's time,
    /// and with `beats` notes that they live.
    pub(super) async fn look(
        &self,
        lives: &BTreeSet<WorkerNo>,
        beats: bool,
    ) -> Result<Look, StoreError> {
        let failed = || postgres_error("looking at the store's own connection");
        let beats: Vec<i64> = lives.iter().filter(|_| beats).map(|w| w.0).collect();
        let asked_at = Instant::now();
        let found = in_time(LATE, self.beat(&beats)).await?;
        let answered_at = Instant::now();
        if let Kind::Session { pid: mine, .. } | Kind::Made { pid: mine, .. } = &self.kind {
            let (pid, held): (i32, Vec<i64>) = (
                found.try_get(0).map_err(failed())?,
                found.try_get(4).map_err(failed())?,
            );
            if pid != *mine || lives.iter().any(|worker| !held.contains(&worker.0)) {
                return Err(StoreError::unavailable(
                    "looking at the store's own connection",
                    "its session is another or has lost a lock: a pooler that gives sessions to transactions cannot be used for it",
                ));
            }
        }
        let now: Timestamp = time(found.try_get::<_, Us>(1).map_err(failed())?);
        self.clock.measured(now, asked_at, answered_at);
        let list = |at: usize| -> Result<Vec<WorkerNo>, StoreError> {
            let list: Vec<i64> = found.try_get(at).map_err(failed())?;
            Ok(list.into_iter().map(WorkerNo).collect())
        };
        Ok(Look {
            noted: list(2)?,
            ended: list(3)?,
        })
    }

    /// Notes that these live.
    async fn beat(&self, lives: &[i64]) -> Result<Row, StoreError> {
        let failed = || postgres_error("looking at the store's own connection");
        let (noted, key) = (self.noted(), i64::from(self.lives));
        let noted = &*noted;
        match &self.kind {
            Kind::Session { beat, .. } => {
                let params: [&(dyn ToSql + Sync); 3] = [&lives, &noted, &key];
                let found = self.client.query_one(beat, &params).await;
                found.map_err(failed())
            }
            Kind::Made { begin, .. } | Kind::Pooled { begin } => {
                let begun = self.client.batch_execute(begin).await;
                begun.map_err(failed())?;
                let server = self.client.query_typed_one(alone!("session"), &[]).await;
                let server: String = server.and_then(|row| row.try_get(1)).map_err(failed())?;
                if server != *self.incarnation {
                    return Err(StoreError::unavailable(
                        "looking at the store's own connection",
                        "the server is another",
                    ));
                }
                let params: [(&(dyn ToSql + Sync), Type); 3] = [
                    (&lives, Type::INT8_ARRAY),
                    (&noted, Type::TEXT),
                    (&key, Type::INT8),
                ];
                let found = self.client.query_typed_one(alone!("beat"), &params).await;
                let found = found.map_err(failed())?;
                let done = self.client.batch_execute("commit").await;
                done.map_err(failed())?;
                Ok(found)
            }
        }
    }

    /// Tells others of a change.
    pub(super) async fn tell(&self) -> Result<(), StoreError> {
        let told = async {
            let told = self
                .client
                .batch_execute(&format!("notify {CHANNEL}"))
                .await;
            told.map_err(postgres_error("telling of a change"))
        };
        in_time(LATE, told).await
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&mut self) {
        self.client.ended().await;
    }
}

/// Reads what the server says until the connection ends.
async fn drive<S, T>(mut connection: Connection<S, T>, waker: Arc<Waker>, pid: Arc<AtomicI32>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
    while let Some(message) = messages.next().await {
        match message {
            // This process has looked when it changed something.
            Ok(AsyncMessage::Notification(told))
                if told.process_id() == pid.load(Ordering::Relaxed) => {}
            Ok(AsyncMessage::Notification(_)) => waker.heard(),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the store's own connection is lost");
                break;
            }
        }
    }
    // Whatever was told while nobody listened is looked for.
    waker.heard();
}
