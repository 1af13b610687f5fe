//! Who lives.
//!
//! A worker's life is a lock on a file of its own, taken before its record is made: whoever gets
//! that lock knows that the worker is dead. It falls with the process, however that ends.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use uuid::Uuid;

use super::sql::{all, sql};
use crate::model::WorkerNo;
use crate::store::StoreError;
use crate::store::steps::ops::Lives;

/// Whether locks are held, each looked at once.
pub(super) struct Locks {
    dir: PathBuf,
    dead: HashMap<String, bool>,
}

impl Locks {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            dead: HashMap::new(),
        }
    }
}

impl Lives for Locks {
    fn lives(&mut self, _worker: WorkerNo, lock: &str) -> Result<bool, StoreError> {
        if let Some(dead) = self.dead.get(lock) {
            return Ok(!dead);
        }
        let dead = is_dead(&self.dir.join(lock))?;
        self.dead.insert(lock.to_owned(), dead);
        Ok(!dead)
    }

    /// A lock of the operating system is lost by death alone.
    fn is_gone(&mut self, worker: WorkerNo, lock: &str) -> Result<bool, StoreError> {
        Ok(!self.lives(worker, lock)?)
    }
}

/// A lock that lives as long as its worker.
pub(super) struct Life {
    pub(super) name: String,
    file: File,
}

impl Life {
    pub(super) fn begin(dir: &Path) -> Result<Self, StoreError> {
        let name = format!("{}.lock", Uuid::now_v7().simple());
        let path = dir.join(&name);
        let failed = |e| StoreError::unavailable(format!("locking {}", path.display()), e);
        let file = File::create(&path).map_err(failed)?;
        file.try_lock().map_err(|e| match e {
            TryLockError::Error(e) => failed(e),
            TryLockError::WouldBlock => failed(std::io::ErrorKind::WouldBlock.into()),
        })?;
        Ok(Self { name, file })
    }

    pub(super) fn end(self, dir: &Path) {
        // The record says that the worker has ended; the file is only litter now.
        drop(std::fs::remove_file(dir.join(&self.name)));
        drop(self.file);
    }
}

/// Workers whose lock can be had; `lives` are those of this process.
pub(super) fn dead(c: &Connection, dir: &Path) -> Result<Vec<WorkerNo>, StoreError> {
    let workers = all(c, sql!("worker_list"), [], |r| {
        Ok((WorkerNo(r.get(0)?), r.get::<_, String>(1)?))
    })?;
    let mut dead = Vec::new();
    for (no, lock) in workers {
        if is_dead(&dir.join(lock))? {
            dead.push(no);
        }
    }
    Ok(dead)
}

/// Whether a worker's lock can be had: nobody holds its life.
fn is_dead(path: &Path) -> Result<bool, StoreError> {
    let failed = |e| StoreError::unavailable(format!("looking at {}", path.display()), e);
    match File::open(path) {
        // The lock is taken before the record is made, and the file goes after the record has ended.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => {
            // Nothing is known of it, and nobody is declared dead for that.
            tracing::warn!(path = %path.display(), %error, "a worker's lock cannot be looked at");
            Ok(false)
        }
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(e)) => Err(failed(e)),
        },
    }
}
