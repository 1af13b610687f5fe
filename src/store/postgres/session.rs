//! The store's own connection: it holds the locks that are its workers' lives, and hears of changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{AsyncMessage, Client, Connection};

use super::connect::{self, Options};
use super::errors::postgres_error;
use super::wake::Waker;
use crate::model::WorkerNo;
use crate::store::StoreError;

/// The first half of the key of every worker's lock: it meets no other use of advisory locks.
pub(super) const LIVES: i32 = 0x726F_776D;
/// The channel on which changes are told.
pub(super) const CHANNEL: &str = "rowmill";
/// A lost connection is tried again after this, and later each time.
const AGAIN: Duration = Duration::from_millis(50);
const AGAIN_MOST: Duration = Duration::from_secs(5);
/// Changes are told to other processes at most so often.
const TELL: Duration = Duration::from_millis(5);
/// A worker's lock is waited for no longer.
const LOCKED: &str = "5s";
/// What is asked of the connection and not done yet.
const ASKED: usize = 256;

enum Ask {
    Take(WorkerNo, oneshot::Sender<Result<(), StoreError>>),
    Drop(WorkerNo),
    Here(oneshot::Sender<()>),
}

/// Asks the connection; it ends when this is dropped, and every lock with it.
pub(super) struct Session {
    asks: mpsc::Sender<Ask>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    pub(super) async fn start(options: Options, waker: Arc<Waker>) -> Result<Self, StoreError> {
        let first = Open::connect(&options, &waker).await?;
        let (asks, inbox) = mpsc::channel(ASKED);
        let task = tokio::spawn(run(options, waker, first, inbox));
        Ok(Self { asks, task })
    }

    /// Takes the lock that is a worker's life, before its record is seen.
    pub(super) async fn take(&self, worker: WorkerNo) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Take(worker, reply)).await?;
        answered(answer).await?
    }

    /// Lets go of a worker's life.
    pub(super) fn let_go(&self, worker: WorkerNo) {
        let full = self.asks.try_send(Ask::Drop(worker)).is_err();
        if full {
            tracing::warn!(%worker, "the worker's lock is held on until its process ends");
        }
    }

    /// Waits until what was asked before is done.
    pub(super) async fn here(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Here(reply)).await?;
        answered(answer).await
    }

    async fn ask(&self, ask: Ask) -> Result<(), StoreError> {
        let sent = tokio::time::timeout(connect::WAIT, self.asks.send(ask)).await;
        sent.map_err(|_| lost())?.map_err(|_| ended())
    }
}

/// The answer of the connection; while it is lost nobody waits for ever.
async fn answered<T>(answer: oneshot::Receiver<T>) -> Result<T, StoreError> {
    let answered = tokio::time::timeout(connect::WAIT, answer).await;
    answered.map_err(|_| lost())?.map_err(|_| ended())
}

fn lost() -> StoreError {
    StoreError::unavailable("asking the store's own connection", "it is lost")
}

fn ended() -> StoreError {
    StoreError::unavailable("asking the store's own connection", "it has ended")
}

struct Open {
    client: Client,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Open {
    async fn connect(options: &Options, waker: &Arc<Waker>) -> Result<Self, StoreError> {
        let connected = options.config.connect(connect::tls(&options.config)?).await;
        let (client, connection) = connected.map_err(postgres_error("connecting to PostgreSQL"))?;
        let driver = tokio::spawn(drive(connection, Arc::clone(waker)));
        let open = Self { client, driver };
        // A lock that a lost connection still holds is tried again, and not waited for.
        let listen = format!("set lock_timeout to '{LOCKED}'; listen {CHANNEL}");
        let listening = open.client.batch_execute(&listen).await;
        listening.map_err(postgres_error("listening for changes"))?;
        Ok(open)
    }

    async fn lock(&self, worker: WorkerNo) -> Result<(), StoreError> {
        let key = i32::try_from(worker.0)
            .map_err(|e| StoreError::unavailable("taking a worker's lock", e))?;
        let taken = self
            .client
            .query("select pg_advisory_lock($1, $2)", &[&LIVES, &key])
            .await;
        taken.map_err(postgres_error("taking a worker's lock"))?;
        Ok(())
    }

    async fn unlock(&self, worker: WorkerNo) {
        if let Ok(key) = i32::try_from(worker.0) {
            // Where the connection is lost, the lock is lost with it.
            drop(
                self.client
                    .query("select pg_advisory_unlock($1, $2)", &[&LIVES, &key])
                    .await,
            );
        }
    }
}

/// Reads what the server says until the connection ends.
async fn drive<S, T>(mut connection: Connection<S, T>, waker: Arc<Waker>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut messages = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
    while let Some(message) = messages.next().await {
        match message {
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

async fn run(options: Options, waker: Arc<Waker>, first: Open, mut inbox: mpsc::Receiver<Ask>) {
    let mut lives: BTreeSet<WorkerNo> = BTreeSet::new();
    let mut open = Some(first);
    let mut pause = AGAIN;
    loop {
        let Some(now) = open.take() else {
            match Open::connect(&options, &waker).await {
                Ok(again) => {
                    let mut held = true;
                    for worker in &lives {
                        held &= again.lock(*worker).await.is_ok();
                    }
                    if held {
                        tracing::info!("the store's own connection is back");
                        waker.heard();
                        open = Some(again);
                        pause = AGAIN;
                    }
                }
                Err(error) => tracing::warn!(%error, "the store's own connection; trying again"),
            }
            if open.is_none() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MOST);
            }
            continue;
        };
        let lost = tokio::select! {
            ask = inbox.recv() => match ask {
                None => return,
                Some(Ask::Take(worker, reply)) => {
                    let taken = now.lock(worker).await;
                    let lost = taken.is_err();
                    if !lost {
                        lives.insert(worker);
                    }
                    drop(reply.send(taken));
                    lost
                }
                Some(Ask::Drop(worker)) => {
                    lives.remove(&worker);
                    now.unlock(worker).await;
                    false
                }
                Some(Ask::Here(reply)) => {
                    let _gone = reply.send(());
                    false
                }
            },
            () = waker.told() => {
                let told = now.client.batch_execute(&format!("notify {CHANNEL}")).await;
                tokio::time::sleep(TELL).await;
                told.is_err()
            }
            () = closed(&now) => true,
        };
        if lost || now.client.is_closed() {
            tracing::warn!("the store's own connection is lost; connecting again");
        } else {
            open = Some(now);
        }
    }
}

/// How often a connection on which nothing is asked is looked at.
const LOOK: Duration = Duration::from_millis(200);

async fn closed(open: &Open) {
    while !open.client.is_closed() {
        tokio::time::sleep(LOOK).await;
    }
}
