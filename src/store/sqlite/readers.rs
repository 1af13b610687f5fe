//! Reading connections, beside the writer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::open;
use crate::store::StoreError;

/// Reads that run at the same moment; more of them wait.
const READERS: usize = 4;

#[derive(Clone)]
pub(super) struct Readers {
    path: PathBuf,
    slots: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            slots: Arc::new(Semaphore::new(READERS)),
            idle: Arc::default(),
        }
    }

    /// Reads in one transaction of its own.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let failed = |e: &dyn std::fmt::Display| {
            StoreError::unavailable("reading the database", e.to_string())
        };
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|e| failed(&e))?;
        let readers = self.clone();
        tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let taken = readers.lock().pop();
            let connection = match taken {
                Some(connection) => connection,
                None => open::connect(&readers.path, false)?,
            };
            connection.execute_batch("begin")?;
            let read = step(&connection);
            // A connection whose transaction cannot be ended is closed instead of used again.
            if connection.execute_batch("rollback").is_ok() {
                readers.lock().push(connection);
            }
            read
        })
        .await
        .map_err(|e| failed(&e))?
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
