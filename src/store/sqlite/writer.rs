//! The one thread of a process that writes: whatever waits is committed together.
//!
//! Each step runs in a savepoint of its own, so that its error is its own; a step that is alone has
//! the transaction for that. Statements that write say `or fail`: SQLite need not be able to undo
//! one of them by itself, because the step is undone as a whole. Between two commits the file is let
//! go of, in turn with other processes ([`Turnstile`]).

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::errors::sqlite_error;
use super::sql::change;
use super::watch::Waker;
use crate::store::StoreError;

/// Whether a commit must be on the disk before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// It must survive a power failure: everything that is acknowledged to someone.
    Disk,
    /// It must survive the death of any process: who runs what. A power failure ends every worker,
    /// and a claim that was lost with them is a claim that nobody holds.
    Process,
}

impl Durability {
    pub(super) fn of(soft: bool) -> Self {
        if soft { Self::Process } else { Self::Disk }
    }
}

type Step = Box<dyn FnOnce(&Connection) -> Ran + Send>;
type Ending = Box<dyn FnOnce(Option<StoreError>) + Send>;

/// A step that has run and is not committed yet.
struct Ran {
    /// What it wrote must go.
    undo: bool,
    ending: Ending,
}

struct Job {
    step: Step,
    durability: Durability,
    /// It has a transaction of its own, which it may lose.
    alone: bool,
    keys: Keys,
}

/// Whether SQLite enforces foreign keys. An application's key to one of our records must not keep us
/// from removing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Where the application writes.
    Enforced,
    /// Where records are removed.
    Off,
    /// Where none is: each change has SQLite prepare all statements anew.
    AsTheyAre,
}

/// What a step that is alone came to.
pub(super) enum Kept<T> {
    /// What it wrote is to be committed.
    Keep(T),
    /// What it wrote must go; the transaction may be gone already.
    Undo(T),
}

/// Sends steps to the writer's thread.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

/// Steps that share a commit at most; more only lengthen the first one's wait.
const GROUP: usize = 256;
/// Steps that may wait; a sender beyond that waits itself.
const WAITING: usize = 1024;

impl Writer {
    /// Starts the thread; it ends when the last sender is gone.
    pub(super) fn start(
        mut connection: Connection,
        turnstile: Turnstile,
        waker: Arc<Waker>,
    ) -> std::io::Result<Self> {
        let (jobs, mut inbox) = mpsc::channel::<Job>(WAITING);
        std::thread::Builder::new()
            .name("rowmill-writer".to_owned())
            .spawn(move || {
                let mut group: Vec<Job> = Vec::new();
                let mut settings = Settings {
                    durability: Durability::Disk,
                    foreign_keys: false,
                };
                let mut put_off = None;
                while let Some(first) = put_off.take().or_else(|| inbox.blocking_recv()) {
                    let joins = !first.alone;
                    group.push(first);
                    while joins
                        && group.len() < GROUP
                        && let Ok(next) = inbox.try_recv()
                    {
                        if next.alone {
                            put_off = Some(next);
                            break;
                        }
                        group.push(next);
                    }
                    let before = connection.total_changes();
                    commit(&mut connection, &turnstile, &mut settings, &mut group);
                    // A step that found nothing to do must not set everyone looking again.
                    if connection.total_changes() != before {
                        waker.wake();
                    }
                }
            })?;
        Ok(Self { jobs })
    }

    /// Makes a step and waits for its commit.
    pub(super) async fn step<T: Send + 'static>(
        &self,
        durability: Durability,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let kept = move |connection: &Connection| step(connection).map(Kept::Keep);
        self.send(durability, Keys::Off, kept).await
    }

    /// Makes a step that removes nothing, between steps that are alone.
    pub(super) async fn between<T: Send + 'static>(
        &self,
        durability: Durability,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let kept = move |connection: &Connection| step(connection).map(Kept::Keep);
        self.send(durability, Keys::AsTheyAre, kept).await
    }

    /// Makes a step in a transaction of its own, which it may lose or give up.
    pub(super) async fn alone<T: Send + 'static>(
        &self,
        durability: Durability,
        step: impl FnOnce(&Connection) -> Result<Kept<T>, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.send(durability, Keys::Enforced, step).await
    }

    async fn send<T: Send + 'static>(
        &self,
        durability: Durability,
        keys: Keys,
        step: impl FnOnce(&Connection) -> Result<Kept<T>, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let step: Step = Box::new(move |connection| {
            let (undo, outcome) = match step(connection) {
                Ok(Kept::Keep(done)) => (false, Ok(done)),
                Ok(Kept::Undo(done)) => (true, Ok(done)),
                Err(error) => (true, Err(error)),
            };
            Ran {
                undo,
                ending: Box::new(move |failure| {
                    let outcome = match failure {
                        Some(failure) => Err(failure),
                        None => outcome,
                    };
                    // A caller that is gone does not want the answer.
                    drop(reply.send(outcome));
                }),
            }
        });
        let closed = || StoreError::unavailable("the writer has ended", "no thread");
        let job = Job {
            step,
            durability,
            alone: keys == Keys::Enforced,
            keys,
        };
        self.jobs.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

fn commit(
    connection: &mut Connection,
    turnstile: &Turnstile,
    settings: &mut Settings,
    group: &mut Vec<Job>,
) {
    let wanted = settings.wanted(group);
    let mut endings: Vec<Ending> = Vec::with_capacity(group.len());
    let result = (|| {
        let _turn = turnstile.take().map_err(|e| {
            StoreError::unavailable("waiting for the turn to write the database", e)
        })?;
        settings.change(connection, wanted)?;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sqlite_error("beginning a transaction"))?;
        let alone = group.len() == 1;
        for job in group.drain(..) {
            if !alone {
                change(&transaction, "savepoint step", [])?;
            }
            let ran = run(&transaction, job.step);
            endings.push(ran.ending);
            if alone && ran.undo {
                // SQLite has undone it by itself where its disk is full or a statement was interrupted.
                if transaction.is_autocommit() {
                    return Ok(());
                }
                return transaction
                    .rollback()
                    .map_err(sqlite_error("undoing a step"));
            }
            if ran.undo {
                change(&transaction, "rollback to step", [])?;
            }
            if !alone {
                change(&transaction, "release step", [])?;
            }
        }
        transaction.commit().map_err(sqlite_error("committing"))
    })();
    match result {
        Ok(()) => {
            for ending in endings {
                ending(None);
            }
        }
        Err(failure) => {
            // Whoever asked is told, and says it in its own words.
            tracing::debug!(error = %failure, steps = endings.len() + group.len(), "nothing was committed");
            // Those whose step had not run are answered by their dropped sender.
            group.clear();
            let text = failure.to_string();
            for ending in endings {
                ending(Some(StoreError::unavailable(
                    "nothing was committed",
                    text.clone(),
                )));
            }
        }
    }
}

/// What SQLite lets nobody change within a transaction.
struct Settings {
    durability: Durability,
    foreign_keys: bool,
}

impl Settings {
    /// What these steps need.
    fn wanted(&self, group: &[Job]) -> Self {
        let soft = group.iter().all(|j| j.durability == Durability::Process);
        let has = |keys| group.iter().any(|j| j.keys == keys);
        Self {
            durability: Durability::of(soft),
            foreign_keys: has(Keys::Enforced) || (self.foreign_keys && !has(Keys::Off)),
        }
    }

    fn change(&mut self, connection: &Connection, to: Self) -> Result<(), StoreError> {
        let set = |pragma: &str| {
            connection
                .execute_batch(pragma)
                .map_err(sqlite_error("setting up a transaction"))
        };
        if self.durability != to.durability {
            set(match to.durability {
                Durability::Disk => "pragma synchronous = full",
                Durability::Process => "pragma synchronous = normal",
            })?;
            self.durability = to.durability;
        }
        if self.foreign_keys != to.foreign_keys {
            set(if to.foreign_keys {
                "pragma foreign_keys = on"
            } else {
                "pragma foreign_keys = off"
            })?;
            self.foreign_keys = to.foreign_keys;
        }
        Ok(())
    }
}

fn run(connection: &Connection, step: Step) -> Ran {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step(connection)));
    ran.unwrap_or_else(|_| Ran {
        undo: true,
        // Its sender was dropped in the panic, which answers its caller.
        ending: Box::new(|_| ()),
    })
}

/// Lets processes write in turn.
///
/// SQLite's own busy handler is not fair: a process that commits back to back starves the others.
/// Whoever wants to write takes `next`, then `now`, then lets go of `next`; so the one that
/// waits for `now` gets it before the one that just had it can stand in line again. Both fall with
/// their process.
pub(super) struct Turnstile {
    next: File,
    now: File,
}

impl Turnstile {
    pub(super) fn open(dir: &Path) -> std::io::Result<Self> {
        let open = |name: &str| {
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(dir.join(name))
        };
        Ok(Self {
            next: open("turn-next")?,
            now: open("turn-now")?,
        })
    }

    pub(super) fn take(&self) -> std::io::Result<Turn<'_>> {
        self.next.lock()?;
        let taken = self.now.lock();
        self.next.unlock()?;
        taken?;
        Ok(Turn(&self.now))
    }
}

pub(super) struct Turn<'a>(&'a File);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Where this fails the file is closed at the process's end, which lets go as well.
        drop(self.0.unlock());
    }
}
