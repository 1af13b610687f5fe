//! The store in one SQLite file: WAL, `synchronous = FULL`, one writer with group commit, readers beside it.

mod append;
mod backend;
mod checkpoint;
mod db;
mod doctor;
mod errors;
mod join;
mod liveness;
mod open;
mod readers;
mod sql;
mod transact;
mod tx;
mod watch;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use rusqlite::Connection;

use super::steps::damage::Damage;
use super::steps::discard::{self, InTheWay, Leftover};
use super::steps::take_over;
use super::{Diagnosis, Fut, Schema, StoreError, TakenOver};
use crate::model::{Timestamp, WorkerNo};
use db::now as run;
use liveness::Life;
use readers::Readers;
use watch::Waker;
use writer::{Durability, Turnstile, Writer};

pub use join::Joined;
pub(crate) use join::submit_within;
pub use open::Options;
pub use tx::Tx;

/// The store in one SQLite file.
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    waker: Arc<Waker>,
    workers_dir: PathBuf,
    /// What an application may do on the writer's connection.
    guest: Arc<tx::Guest>,
    damage: Damage,
    /// The locks of the workers of this process.
    lives: Arc<Mutex<HashMap<WorkerNo, Life>>>,
}

impl SqliteStore {
    /// Opens the file, makes it where there is none, and brings an older schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the file is newer than this program or not ours;
    /// [`StoreError::Unavailable`] where it cannot be opened, read or written.
    pub async fn open(options: Options) -> Result<Self, StoreError> {
        tokio::task::spawn_blocking(move || Self::open_now(&options))
            .await
            .map_err(|e| StoreError::unavailable("opening the database", e))?
    }

    fn open_now(options: &Options) -> Result<Self, StoreError> {
        let started = |e| StoreError::unavailable("starting a thread", e);
        let options = &open::Options {
            path: open::resolve(&options.path),
            ..options.clone()
        };
        let mut connection = open::prepare(options)?;
        let guest = tx::Guest::watch(&mut connection)?;
        let waker = Waker::new();
        watch::start(open::connect(&options.path, false)?, &waker).map_err(started)?;
        let workers_dir = options.workers_dir();
        let turnstile = || {
            Turnstile::open(&workers_dir)
                .map_err(|e| StoreError::unavailable("opening the turnstile", e))
        };
        let moves = open::connect(&options.path, true)?;
        checkpoint::start(moves, turnstile()?, &waker).map_err(started)?;
        Ok(Self {
            writer: Writer::start(connection, turnstile()?, Arc::clone(&waker)).map_err(started)?,
            readers: Readers::new(options.path.clone()),
            waker,
            workers_dir,
            guest,
            damage: Damage::default(),
            lives: Arc::default(),
        })
    }

    /// What the file's schema has and what is still to be applied; changes nothing.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn schema(options: &Options) -> Result<Schema, StoreError> {
        if !options.path.exists() {
            let mut empty = Connection::open_in_memory()?;
            return open::schema(&mut empty, &options.path);
        }
        let mut connection = open::connect(&options.path, false)?;
        open::whose(&connection, &options.path)?;
        open::schema(&mut connection, &options.path)
    }

    /// Looks for what is wrong in the file and with what goes on in it; changes nothing.
    ///
    /// Reads all that is stored, in short reads. Of an older schema only the file is looked at.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] where the file is newer than this program or not ours; what else
    /// cannot be read is a finding.
    pub fn doctor(options: &Options, now: Timestamp) -> Result<Diagnosis, StoreError> {
        doctor::doctor(options, now)
    }

    /// A step that must survive a power failure.
    fn write<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Fut<'_, T> {
        self.writer.step(Durability::Disk, step).boxed()
    }

    /// A step that must survive the death of processes.
    fn write_soft<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Fut<'_, T> {
        self.writer.step(Durability::Process, step).boxed()
    }

    /// A step that must survive the death of processes, and where that is asked a power failure.
    fn write_as<T: Send + 'static>(
        &self,
        synced: bool,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Fut<'_, T> {
        if synced {
            self.write(step)
        } else {
            self.write_soft(step)
        }
    }

    fn read<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Fut<'_, T> {
        self.readers.read(step).boxed()
    }

    /// Takes a dead worker over; the file of its lock goes when its record says that it has ended.
    async fn take_over_and_clear(
        &self,
        dead: WorkerNo,
        now: Timestamp,
    ) -> Result<TakenOver, StoreError> {
        let lock = self.read(move |c| run(take_over::lock_of(c, dead))).await?;
        let damage = self.damage.clone();
        let over = self
            .write(move |c| run(take_over::take_over(c, &damage, dead, now)))
            .await?;
        if let Some(lock) = lock {
            // Litter from now on: who finds none knows as much as who gets it.
            drop(std::fs::remove_file(self.workers_dir.join(lock)));
        }
        Ok(over)
    }

    /// Removes what is left of an abandoned load, a step a piece: others commit in between.
    ///
    /// What a crash leaves, the keeper removes.
    async fn discard_rest(&self, left: Leftover) -> Result<(), StoreError> {
        let piece = move |c: &Connection| run(left.remove(c, discard::DISCARD));
        while !self.write_soft(piece).await? {}
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
            let take =
                move |c: &Connection| run(discard::take_silent(c, id, discard::DISCARD, now));
            match self.write_soft(take).await? {
                InTheWay::Gone => {}
                InTheWay::Left(left) => self.discard_rest(left).await?,
                InTheWay::Stays => return Err(StoreError::SubmitInProgress(id)),
            }
        }
    }

    fn lives(&self) -> std::sync::MutexGuard<'_, HashMap<WorkerNo, Life>> {
        self.lives
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
