//! Moves the WAL into the database beside the writer, so that no commit pays for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::watch::Waker;

/// The WAL is moved over when it has grown by so much since the last time.
const STEP: u64 = 16 << 20;
/// Above this the writer is made to wait once, so that the WAL begins anew.
const LIMIT: u64 = 128 << 20;
const LOOK: Duration = Duration::from_millis(100);

/// Starts the thread; it ends with the store.
pub(super) fn start(
    connection: Connection,
    path: &Path,
    waker: &Arc<Waker>,
) -> std::io::Result<()> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let wal = PathBuf::from(wal);
    let waker = Arc::downgrade(waker);
    std::thread::Builder::new()
        .name("rowmill-checkpoint".to_owned())
        .spawn(move || {
            let mut moved = 0;
            while waker.strong_count() > 0 {
                std::thread::sleep(LOOK);
                // The file's size alone: no descriptor of it is opened, whose closing would drop SQLite's locks.
                let size = std::fs::metadata(&wal).map_or(0, |m| m.len());
                if size < moved {
                    moved = 0;
                }
                if size < moved + STEP {
                    continue;
                }
                let how = if size > LIMIT { "restart" } else { "passive" };
                let done = connection.query_row(&format!("pragma wal_checkpoint({how})"), [], |r| {
                    r.get::<_, i64>(0)
                });
                match done {
                    Ok(_) => moved = size,
                    Err(error) => {
                        tracing::warn!(%error, "the WAL could not be moved into the database; trying again");
                    }
                }
            }
        })?;
    Ok(())
}
