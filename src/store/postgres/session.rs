//! The store's own connection, kept: what is asked of it, and what is done when it is lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::connect::{self, Options};
use super::own::{LATE, Own};
use super::wake::{Waker, jittered};
use crate::clock::Measured;
use crate::model::WorkerNo;
use crate::store::StoreError;

/// A lost connection is tried again after this, and later each time.
const AGAIN: Duration = Duration::from_millis(50);
/// Others have to be back before anybody who was cut off, too, takes them for dead.
const AGAIN_MOST: Duration = Duration::from_secs(1);
/// Of the tries to connect so many are made for a word in the log.
const SAID: u32 = 30;
/// Changes are told to other processes at most so often.
const TELL: Duration = Duration::from_millis(5);
/// How often it is looked whether the connection is what it was, and what time it is there.
const CHECK: Duration = Duration::from_secs(1);
/// Whoever did not look for so long was frozen, or cut off without a word.
const GAP: Duration = Duration::from_secs(5);
/// What is looked at although nobody told of a change: one who was killed tells nothing.
const POLL: Duration = Duration::from_secs(5);
/// What is asked of the connection and not done yet.
const ASKED: usize = 256;

enum Ask {
    Take(WorkerNo, oneshot::Sender<Result<Arc<str>, StoreError>>),
    Drop(WorkerNo),
    Here(oneshot::Sender<()>),
    Beat(WorkerNo, oneshot::Sender<Result<Beat, StoreError>>),
}

/// What came of a beat.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Noted,
    /// The worker's record was in use: it is noted by the next one.
    Later,
    /// The worker was taken for dead.
    Ended,
}

/// A connection that holds all the locks it should.
#[derive(Clone)]
pub(super) struct Whole {
    pub(super) incarnation: Arc<str>,
    /// Since when it has been so without a break, and without a gap in its looks.
    pub(super) since: Instant,
    /// It was not so before: what cut this process off or froze it may have done so to others.
    pub(super) again: bool,
    last: Instant,
}

/// Asks the connection; it ends when this is dropped, and every lock with it.
pub(super) struct Session {
    asks: mpsc::Sender<Ask>,
    whole: Arc<Mutex<Option<Whole>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A worker's life: let go of where the worker does not enter.
pub(super) struct Life<'a> {
    session: &'a Session,
    pub(super) worker: WorkerNo,
    kept: bool,
}

impl Life<'_> {
    /// The worker has entered.
    pub(super) fn keep(mut self) -> WorkerNo {
        self.kept = true;
        self.worker
    }
}

impl Drop for Life<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.session.let_go(self.worker);
        }
    }
}

impl Session {
    pub(super) async fn start(
        options: Options,
        waker: Arc<Waker>,
        clock: Arc<Measured>,
    ) -> Result<Self, StoreError> {
        let first = Own::connect(&options, &waker, &clock).await?;
        let now = Instant::now();
        let whole = Arc::new(Mutex::new(Some(Whole {
            incarnation: Arc::clone(&first.incarnation),
            since: now,
            again: false,
            last: now,
        })));
        let (asks, inbox) = mpsc::channel(ASKED);
        let keeper = Keeper {
            options,
            waker,
            clock,
            whole: Arc::clone(&whole),
            lives: BTreeSet::new(),
            inbox,
        };
        let task = tokio::spawn(keeper.run(first));
        Ok(Self { asks, whole, task })
    }

    /// Takes the lock that is a worker's life, before its record is seen; returns where the server is.
    pub(super) async fn take(&self, worker: WorkerNo) -> Result<(Life<'_>, Arc<str>), StoreError> {
        // Made before the lock is: whoever stops waiting for it lets go of it.
        let life = Life {
            session: self,
            worker,
            kept: false,
        };
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Take(worker, reply)).await?;
        let incarnation = answered(answer, connect::WAIT).await??;
        Ok((life, incarnation))
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
        answered(answer, connect::WAIT).await
    }

    /// Notes that a worker lives; an error where its lock is lost and not taken again yet.
    pub(super) async fn beat(&self, worker: WorkerNo) -> Result<Beat, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Beat(worker, reply)).await?;
        answered(answer, 2 * LATE).await?
    }

    /// The connection, where it holds all that it should and was seen to a moment ago.
    pub(super) fn whole(&self) -> Option<Whole> {
        let whole = of(&self.whole).clone();
        whole.filter(|whole| whole.last.elapsed() <= GAP)
    }

    async fn ask(&self, ask: Ask) -> Result<(), StoreError> {
        let sent = tokio::time::timeout(connect::WAIT, self.asks.send(ask)).await;
        sent.map_err(|_| lost())?.map_err(|_| ended())
    }
}

fn of(whole: &Mutex<Option<Whole>>) -> MutexGuard<'_, Option<Whole>> {
    whole.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer of the connection; nobody waits for it for ever.
async fn answered<T>(answer: oneshot::Receiver<T>, most: Duration) -> Result<T, StoreError> {
    let answered = tokio::time::timeout(most, answer).await;
    answered.map_err(|_| lost())?.map_err(|_| ended())
}

fn lost() -> StoreError {
    StoreError::unavailable("asking the store's own connection", "it is lost")
}

fn ended() -> StoreError {
    StoreError::unavailable("asking the store's own connection", "it has ended")
}

/// Keeps the connection: the task behind a [`Session`].
struct Keeper {
    options: Options,
    waker: Arc<Waker>,
    clock: Arc<Measured>,
    whole: Arc<Mutex<Option<Whole>>>,
    lives: BTreeSet<WorkerNo>,
    inbox: mpsc::Receiver<Ask>,
}

impl Keeper {
    async fn run(mut self, first: Own) {
        let mut own = first;
        loop {
            let lost = self.serve(own).await;
            *of(&self.whole) = None;
            let Some(why) = lost else { return };
            tracing::warn!(error = %why, "the store's own connection is lost; connecting again");
            // Who waits for a change looks for itself meanwhile.
            self.waker.heard();
            let Some(again) = self.back().await else {
                return;
            };
            own = again;
            let now = Instant::now();
            *of(&self.whole) = Some(Whole {
                incarnation: Arc::clone(&own.incarnation),
                since: now,
                again: true,
                last: now,
            });
            tracing::info!("the store's own connection is back");
            self.waker.heard();
        }
    }

    /// Serves until the connection is lost; none when the store is gone.
    async fn serve(&mut self, mut own: Own) -> Option<StoreError> {
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut poll_at = tokio::time::Instant::now() + jittered(POLL);
        loop {
            let done = tokio::select! {
                ask = self.inbox.recv() => match ask {
                    None => return None,
                    Some(ask) => self.answer(&own, ask).await,
                },
                () = self.waker.told() => {
                    let told = own.tell().await;
                    tokio::time::sleep(TELL).await;
                    told
                }
                _ = check.tick() => {
                    let looked = own.look(&self.lives, None).await;
                    looked.map(|_| self.seen())
                }
                () = own.ended() => Err(lost()),
                () = tokio::time::sleep_until(poll_at) => {
                    poll_at = tokio::time::Instant::now() + jittered(POLL);
                    self.waker.heard();
                    Ok(())
                }
            };
            if let Err(error) = done {
                return Some(error);
            }
        }
    }

    /// The connection has just been seen to be what it was.
    fn seen(&self) {
        let now = Instant::now();
        if let Some(whole) = &mut *of(&self.whole) {
            if now.duration_since(whole.last) > GAP {
                tracing::warn!("this process stood still; it takes nobody for dead for a while");
                whole.since = now;
                whole.again = true;
            }
            whole.last = now;
        }
    }

    /// Answers; an error is one of the connection.
    async fn answer(&mut self, own: &Own, ask: Ask) -> Result<(), StoreError> {
        match ask {
            Ask::Take(worker, reply) => {
                own.lock(worker, false).await?;
                self.lives.insert(worker);
                // Whoever does not wait any more has asked to let go of it, or will.
                drop(reply.send(Ok(Arc::clone(&own.incarnation))));
            }
            Ask::Drop(worker) => {
                if self.lives.remove(&worker) {
                    own.unlock(worker).await?;
                }
            }
            Ask::Here(reply) => drop(reply.send(())),
            Ask::Beat(worker, reply) => {
                let looked = own.look(&self.lives, Some(worker)).await?;
                self.seen();
                let beat = if looked.ended.contains(&worker.0) {
                    Beat::Ended
                } else if looked.noted.contains(&worker.0) {
                    Beat::Noted
                } else {
                    Beat::Later
                };
                drop(reply.send(Ok(beat)));
            }
        }
        Ok(())
    }

    /// Connects again and takes every lock again; none when the store is gone.
    async fn back(&mut self) -> Option<Own> {
        let (mut pause, mut tries) = (AGAIN, 0_u32);
        loop {
            let lives = self.lives.clone();
            let (options, waker, clock) = (
                self.options.clone(),
                Arc::clone(&self.waker),
                Arc::clone(&self.clock),
            );
            let attempt = async move {
                let own = Own::connect(&options, &waker, &clock).await?;
                for worker in &lives {
                    own.lock(*worker, true).await?;
                }
                Ok::<_, StoreError>((own, lives))
            };
            let mut attempt = attempt.boxed();
            let tried = loop {
                tokio::select! {
                    tried = &mut attempt => break tried,
                    ask = self.inbox.recv() => self.refuse(ask?),
                }
            };
            match tried {
                Ok((own, held)) => {
                    // What was let go of meanwhile; where that fails the connection is lost again.
                    for gone in held.difference(&self.lives) {
                        drop(own.unlock(*gone).await);
                    }
                    return Some(own);
                }
                Err(error) => {
                    if tries.is_multiple_of(SAID) {
                        tracing::warn!(%error, "the store's own connection; trying again");
                    }
                    tries += 1;
                }
            }
            // Nobody hears of changes now: who waits for one looks for itself.
            self.waker.heard();
            let mut pausing = tokio::time::sleep(jittered(pause)).boxed();
            loop {
                tokio::select! {
                    () = &mut pausing => break,
                    ask = self.inbox.recv() => self.refuse(ask?),
                }
            }
            pause = (pause * 2).min(AGAIN_MOST);
        }
    }

    /// Answers while there is no connection.
    fn refuse(&mut self, ask: Ask) {
        match ask {
            Ask::Take(_, reply) => drop(reply.send(Err(lost()))),
            Ask::Drop(worker) => drop(self.lives.remove(&worker)),
            // What it held is let go of with it.
            Ask::Here(reply) => drop(reply.send(())),
            Ask::Beat(_, reply) => drop(reply.send(Err(lost()))),
        }
    }
}
