//! Moves the WAL into the database beside the writer, so that no commit pays for it.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::errors::sqlite_error;
use super::watch::Waker;
use super::writer::Turnstile;
use crate::store::StoreError;

/// The WAL is moved over when so much of it has not been.
const STEP: u64 = 16 << 20;
/// Above this the writers are made to wait once, so that the WAL begins anew: in its file, which is not made longer again.
const LIMIT: u64 = 64 << 20;
/// What the WAL holds of a page besides it.
const HEAD: u64 = 24;
const LOOK: Duration = Duration::from_millis(100);
/// The writers wait no longer than this for those who still read what was in the WAL; it is tried again when it has grown.
const READERS: Duration = Duration::from_millis(50);
/// Above this readers follow each other so closely that there is always one: they are waited for for longer.
const FULL: u64 = 512 << 20;
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts the thread; it ends with the store.
pub(super) fn start(
    connection: Connection,
    turnstile: Turnstile,
    waker: &Arc<Waker>,
) -> std::io::Result<()> {
    let waker = Arc::downgrade(waker);
    std::thread::Builder::new()
        .name("rowmill-checkpoint".to_owned())
        .spawn(move || {
            let mut tried = 0;
            while waker.strong_count() > 0 {
                std::thread::sleep(LOOK);
                if let Err(error) = look(&connection, &turnstile, &mut tried) {
                    tracing::warn!(%error, "the WAL could not be moved into the database; trying again");
                }
            }
        })?;
    Ok(())
}

/// Moves what is to be moved, if there is enough of it that was not there when it was last tried: a reader may keep it all.
fn look(connection: &Connection, turnstile: &Turnstile, tried: &mut u64) -> Result<(), StoreError> {
    let page: u64 = connection
        .query_row("pragma page_size", [], |r| r.get(0))
        .map_err(sqlite_error("reading the size of a page"))?;
    let wal = checkpoint(connection, "noop")?;
    if wal.pages < *tried {
        *tried = 0;
    }
    let bytes = |pages: u64| pages * (page + HEAD);
    if bytes(wal.pages.saturating_sub(wal.moved.max(*tried))) < STEP {
        return Ok(());
    }
    if bytes(wal.pages) < LIMIT {
        checkpoint(connection, "passive")?;
    } else {
        let full = bytes(wal.pages) >= FULL;
        let readers = if full { PATIENCE } else { READERS };
        begin_anew(connection, turnstile, readers)?;
    }
    *tried = wal.pages;
    Ok(())
}

/// Pages in the WAL, and how many of them are in the database, too.
struct Wal {
    pages: u64,
    moved: u64,
}

fn checkpoint(connection: &Connection, how: &str) -> Result<Wal, StoreError> {
    let read = |r: &Row<'_>| {
        // -1 where there is no WAL.
        let pages = |at| r.get::<_, i64>(at).map(|n| u64::try_from(n).unwrap_or(0));
        let (pages, moved) = (pages(1)?, pages(2)?);
        Ok(Wal { pages, moved })
    };
    connection
        .query_row(&format!("pragma wal_checkpoint({how})"), [], read)
        .map_err(sqlite_error("moving the WAL into the database"))
}

/// Moves all of it. What can be moved beside the writers is moved first: they wait for the rest alone, in turn, and are not
/// asleep when it is done.
fn begin_anew(
    connection: &Connection,
    turnstile: &Turnstile,
    readers: Duration,
) -> Result<(), StoreError> {
    connection
        .busy_timeout(readers)
        .map_err(sqlite_error("setting how long to wait for readers"))?;
    checkpoint(connection, "passive")?;
    checkpoint(connection, "passive")?;
    let turn = turnstile.take();
    let _turn =
        turn.map_err(|e| StoreError::unavailable("waiting for the turn to write the database", e))?;
    checkpoint(connection, "restart").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
        writer: Connection,
        moves: Connection,
        tried: u64,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let open = || {
                let opened = Connection::open(dir.path().join("rowmill.db")).expect("a file");
                opened.busy_timeout(READERS).expect("a time");
                opened
            };
            let (writer, moves) = (open(), open());
            let made =
                "pragma journal_mode = wal; pragma wal_autocheckpoint = 0; create table t (b blob)";
            writer.execute_batch(made).expect("a table");
            let tried = 0;
            Self {
                dir,
                writer,
                moves,
                tried,
            }
        }

        fn turnstile(&self) -> Turnstile {
            Turnstile::open(self.dir.path()).expect("a turnstile")
        }

        fn write(&self, mib: u32) {
            let sql =
                "with recursive n (n) as (select 1 union all select n + 1 from n where n < ?1)
                       insert into t select zeroblob(1 << 20) from n";
            self.writer.execute(sql, [mib]).expect("written");
        }

        fn look(&mut self) -> Wal {
            let turnstile = self.turnstile();
            look(&self.moves, &turnstile, &mut self.tried).expect("looked");
            self.wal()
        }

        fn wal(&self) -> Wal {
            checkpoint(&self.moves, "noop").expect("a WAL")
        }

        /// Somebody who reads what the WAL holds now.
        fn reader(&self) -> Connection {
            let reader = Connection::open(self.dir.path().join("rowmill.db")).expect("a file");
            reader.execute_batch("begin").expect("begun");
            let read = reader.query_row("select count(*) from t", [], |_| Ok(()));
            read.expect("a snapshot");
            reader
        }
    }

    #[test]
    fn little_of_the_wal_stays_where_it_is_and_much_is_moved() {
        let mut scene = Scene::new();
        scene.write(10);
        assert_eq!(scene.look().moved, 0);
        scene.write(10);
        let wal = scene.look();
        assert_eq!((wal.moved, wal.pages > 5_000), (wal.pages, true));
        scene.write(1);
        let wal = scene.look();
        assert!(wal.moved < wal.pages, "too little of it");
    }

    #[test]
    fn a_long_wal_begins_anew_and_its_file_grows_no_longer() {
        let mut scene = Scene::new();
        let file = scene.dir.path().join("rowmill.db-wal");
        let size = || std::fs::metadata(&file).expect("a WAL").len();
        scene.write(70);
        scene.look();
        let before = size();
        for _ in 0..3 {
            scene.write(40);
            assert!(scene.wal().pages < 11_000, "from its beginning");
            scene.look();
            scene.write(25);
            scene.look();
        }
        assert_eq!(size(), before);
    }

    #[test]
    fn while_somebody_reads_what_a_long_wal_holds_the_writers_wait_once_and_not_again() {
        let mut scene = Scene::new();
        scene.write(40);
        let reader = scene.reader();
        scene.write(40);
        let wal = scene.look();
        assert!(wal.moved < wal.pages, "the reader needs it");
        // Whoever has the turn would be waited for.
        let turnstile = scene.turnstile();
        let turn = turnstile.take().expect("a turn");
        assert_eq!(scene.look().pages, wal.pages);
        drop(turn);
        drop(reader);
        scene.write(20);
        scene.look();
        scene.write(1);
        assert!(scene.wal().pages < 1_000, "it began anew");
    }
}
