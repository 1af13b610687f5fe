//! The store's own connection, kept: what is asked of it, and what is done when it is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::connect::{self, Options};
use super::own::{Own, REACH};
use super::wake::Waker;
use super::whole::{Before, GAP, Whole};
use crate::clock::{Measured, between};
use crate::model::WorkerNo;
use crate::store::StoreError;

/// A lost connection is tried again after this, and later each time.
const AGAIN: Duration = Duration::from_millis(50);
/// Others have to be back before anybody who was cut off, too, takes them for dead.
const AGAIN_MOST: Duration = Duration::from_millis(500);
/// One of so many tries to connect is a long one, for a server that is far away or busy.
const LONG: u32 = 8;
/// Of the tries to connect so many are made for a word in the log.
const SAID: u32 = 30;
/// Changes are told to other processes at most so often.
const TELL: Duration = Duration::from_millis(5);
/// How often it is looked whether the connection is what it was, and what time it is there.
const CHECK: Duration = Duration::from_secs(1);
/// Of a heartbeat: so often it is noted that a worker lives.
const NOTES: u32 = 6;
/// What is looked at although nobody told of a change: one who was killed tells nothing.
const POLL: Duration = Duration::from_secs(5);
/// What is asked of the connection and not done yet.
const ASKED: usize = 256;

enum Ask {
    Take(WorkerNo, oneshot::Sender<Result<Arc<str>, StoreError>>),
    Drop(WorkerNo),
    Here(oneshot::Sender<()>),
}

/// What is known of the connection.
#[derive(Default)]
struct Known {
    whole: Option<Whole>,
    /// When it was last noted that workers of this process live.
    noted: BTreeMap<WorkerNo, Instant>,
    /// Those of them that were taken for dead.
    ended: BTreeSet<WorkerNo>,
}

/// Asks the connection; it ends when this is dropped, and every lock with it.
pub(super) struct Session {
    asks: mpsc::Sender<Ask>,
    known: Arc<Mutex<Known>>,
    stop: CancellationToken,
    heartbeat: Duration,
    /// The server can look, while a statement runs, whether its client is still there.
    pub(super) watches: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.cancel();
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
    /// Connects; from then on a thread of its own keeps the connection, so that rows which compute for long
    /// without a pause stop no beat.
    pub(super) async fn start(
        options: Options,
        waker: Arc<Waker>,
        clock: Arc<Measured>,
    ) -> Result<Self, StoreError> {
        let failed = |e: std::io::Error| StoreError::unavailable("starting a thread", e);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (asks, inbox) = mpsc::channel(ASKED);
        let (reply, answer) = oneshot::channel();
        let (stop, known) = (CancellationToken::new(), Arc::<Mutex<Known>>::default());
        let heartbeat = options.heartbeat;
        let keeper = Keeper {
            options,
            waker,
            clock,
            known: Arc::clone(&known),
            lives: BTreeSet::new(),
            inbox,
        };
        let stopped = stop.clone();
        let kept = async move {
            let most = connect::CONNECT;
            let first = Own::connect(&keeper.options, &keeper.waker, &keeper.clock, most);
            match first.await {
                Err(error) => drop(reply.send(Err(error))),
                Ok(own) => {
                    of(&keeper.known).whole = Some(Whole::of(&own));
                    drop(reply.send(Ok(own.watches)));
                    keeper.run(own).await;
                }
            }
        };
        let thread = std::thread::Builder::new().name("rowmill-session".to_owned());
        let spawned = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = kept => {}
                    () = stopped.cancelled() => {}
                }
            });
        });
        spawned.map_err(failed)?;
        let watches = answered(answer, connect::WAIT).await??;
        Ok(Self {
            asks,
            known,
            stop,
            heartbeat,
            watches,
        })
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

    /// Whether others hear of a worker of this process: [`StoreError::Fenced`] where they have taken it for dead.
    pub(super) fn is_heard(&self, worker: WorkerNo) -> Result<(), StoreError> {
        let known = of(&self.known);
        if known.ended.contains(&worker) {
            return Err(StoreError::Fenced(worker));
        }
        let lately = |at: &Instant| at.elapsed() < self.heartbeat / NOTES * 3 / 2;
        let is_whole = known.whole.as_ref().is_some_and(Whole::is_seen);
        if is_whole && known.noted.get(&worker).is_some_and(lately) {
            return Ok(());
        }
        Err(lost())
    }

    /// The connection, where it holds all that it should and was seen to a moment ago.
    pub(super) fn whole(&self) -> Option<Whole> {
        of(&self.known).whole.clone().filter(Whole::is_seen)
    }

    async fn ask(&self, ask: Ask) -> Result<(), StoreError> {
        let sent = tokio::time::timeout(connect::WAIT, self.asks.send(ask)).await;
        sent.map_err(|_| lost())?.map_err(|_| ended())
    }
}

fn of(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
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
    known: Arc<Mutex<Known>>,
    lives: BTreeSet<WorkerNo>,
    inbox: mpsc::Receiver<Ask>,
}

impl Keeper {
    async fn run(mut self, first: Own) {
        let mut own = first;
        loop {
            let before = Before {
                incarnation: Arc::clone(&own.incarnation),
                at: own.at.clone(),
            };
            let lost = self.serve(own).await;
            of(&self.known).whole = None;
            let Some(why) = lost else { return };
            tracing::warn!(error = %why, "the store's own connection is lost; connecting again");
            // Who waits for a change looks for itself meanwhile.
            self.waker.heard();
            let Some(again) = self.back().await else {
                return;
            };
            own = again;
            of(&self.known).whole = Some(Whole::again(&own, &before));
            tracing::info!("the store's own connection is back");
            // Others are told again: a word may have been lost with the old connection.
            self.waker.wake();
        }
    }

    /// Serves until the connection is lost; none when the store is gone.
    async fn serve(&mut self, mut own: Own) -> Option<StoreError> {
        let pause = self.options.heartbeat / NOTES;
        let mut check = tokio::time::interval(CHECK.min(pause));
        let mut note_at = Instant::now() + pause;
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut poll_at = tokio::time::Instant::now() + between(POLL / 2, POLL);
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
                    let due = Instant::now() >= note_at;
                    let looked = self.look(&own, due).await;
                    if due && looked.as_ref().is_ok_and(|all| *all) {
                        note_at = Instant::now() + pause;
                    }
                    looked.map(drop)
                }
                () = own.ended() => Err(lost()),
                () = tokio::time::sleep_until(poll_at) => {
                    poll_at = tokio::time::Instant::now() + between(POLL / 2, POLL);
                    self.waker.heard();
                    Ok(())
                }
            };
            if let Err(error) = done {
                return Some(error);
            }
        }
    }

    /// Looks whether the connection is what it was; with `beats` notes that its workers live, and says
    /// whether that could be noted of all: a record that is in use is not waited for.
    async fn look(&self, own: &Own, beats: bool) -> Result<bool, StoreError> {
        let began = Instant::now();
        let looked = own.look(&self.lives, beats).await?;
        let all = looked.noted.len() + looked.ended.len() >= self.lives.len();
        let known = &mut *of(&self.known);
        for worker in looked.noted {
            known.noted.insert(worker, began);
        }
        known.ended.extend(looked.ended);
        if let Some(whole) = &mut known.whole {
            let now = Instant::now();
            if now.duration_since(whole.last) > GAP {
                tracing::warn!("this process stood still; it takes nobody for dead for a while");
                whole.since = now;
                whole.again = true;
            }
            whole.last = now;
        }
        Ok(all)
    }

    /// A worker has left, or did not enter.
    fn forget(&mut self, worker: WorkerNo) -> bool {
        let mut known = of(&self.known);
        known.noted.remove(&worker);
        known.ended.remove(&worker);
        self.lives.remove(&worker)
    }

    /// Answers; an error is one of the connection.
    async fn answer(&mut self, own: &Own, ask: Ask) -> Result<(), StoreError> {
        match ask {
            Ask::Take(worker, reply) => {
                own.lock(worker, false).await?;
                self.lives.insert(worker);
                of(&self.known).noted.insert(worker, Instant::now());
                // Whoever does not wait any more has asked to let go of it, or will.
                drop(reply.send(Ok(own.noted())));
            }
            Ask::Drop(worker) => {
                if self.forget(worker) {
                    own.unlock(worker).await?;
                }
            }
            Ask::Here(reply) => drop(reply.send(())),
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
            let long = tries % LONG == LONG - 1;
            let most = if long { connect::CONNECT } else { REACH };
            let attempt = async move {
                let own = Own::connect(&options, &waker, &clock, most).await?;
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
            let error = match tried {
                Err(error) => error,
                Ok((own, held)) => {
                    // What was let go of meanwhile; where that fails the connection is lost again.
                    for gone in held.difference(&self.lives) {
                        drop(own.unlock(*gone).await);
                    }
                    // What they run is compared when others hear of them again.
                    match self.look(&own, true).await {
                        Ok(_) => return Some(own),
                        Err(error) => error,
                    }
                }
            };
            if tries.is_multiple_of(SAID) {
                tracing::warn!(%error, "the store's own connection; trying again");
            }
            tries += 1;
            // Nobody hears of changes now: who waits for one looks for itself.
            self.waker.heard();
            let mut pausing = tokio::time::sleep(between(pause / 2, pause)).boxed();
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
            Ask::Drop(worker) => {
                self.forget(worker);
            }
            // What it held is let go of with it.
            Ask::Here(reply) => drop(reply.send(())),
        }
    }
}
