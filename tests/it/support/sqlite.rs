//! The SQLite store under test, in a folder of its own.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rowmill::Store;
use rowmill::model::{BatchId, BatchState, EndedAs, TaskState};
use rowmill::store::{Part, Piece};
use rusqlite::{Connection, Row};
use tempfile::TempDir;

use super::facts::{AppendFact, BatchFact, BlockFact, Facts, PartFact, SqlRow, TaskFact};
use super::{Harness, Kit};

pub struct Sqlite {
    kit: Kit,
    folder: TempDir,
}

impl Sqlite {
    pub fn path(&self) -> PathBuf {
        self.folder().join("rowmill.db")
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Harness for Sqlite {
    async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::sqlite(folder.path().join("rowmill.db"));
        Self {
            kit: Kit::new(store.await.expect("a store")),
            folder,
        }
    }

    fn kit(&self) -> &Kit {
        &self.kit
    }

    async fn again(&self) -> Store {
        Store::sqlite(self.path()).await.expect("the store again")
    }

    fn make_effects(&self) {
        let c = Connection::open(self.path()).expect("the file");
        c.execute_batch("create table effects (n integer not null)")
            .expect("a table");
    }

    fn piece(&self, n: i64, part: Option<Part>) -> Piece {
        Piece::Sqlite(Box::new(move |tx| {
            tx.execute("insert into effects values (?1)", [n])
                .expect("noted");
            part
        }))
    }

    fn piece_that_panics(&self, n: i64) -> Piece {
        Piece::Sqlite(Box::new(move |tx| {
            tx.execute("insert into effects values (?1)", [n])
                .expect("noted");
            panic!("a piece");
        }))
    }

    fn effects(&self) -> Vec<i64> {
        let c = Connection::open(self.path()).expect("the file");
        all(&c, "select n from effects order by n", |r| r.get(0))
    }

    fn damage(&self, id: BatchId, sql: &str) {
        let c = Connection::open(self.path()).expect("the file");
        c.busy_timeout(std::time::Duration::from_secs(60))
            .expect("set");
        let changed = c.execute(sql, [id.0.as_bytes()]).expect(sql);
        assert!(changed > 0, "nothing to damage: {sql}");
    }

    fn batchrows(&self, id: BatchId) -> Vec<SqlRow> {
        let c = Connection::open(self.path()).expect("the file");
        let sql = "select line, status, input, result, messages, attempt, done_at from batchrows where batch = ?1 order by line";
        let mut statement = c.prepare(sql).expect(sql);
        let rows = statement.query_map([id.to_string()], |r| {
            Ok(SqlRow {
                line: r.get(0)?,
                status: r.get(1)?,
                input: r.get(2)?,
                result: r.get(3)?,
                messages: r.get(4)?,
                attempt: r.get(5)?,
                done_at: r
                    .get::<_, Option<String>>(6)?
                    .map(|at| at.parse().expect("a time")),
            })
        });
        rows.and_then(Iterator::collect).expect(sql)
    }

    fn facts(&self) -> Facts {
        let mut c = Connection::open(self.path()).expect("the file");
        let c = c.transaction().expect("a transaction");
        Facts {
            batches: all(
                &c,
                "select id, state, rows, blocks, given, nsuccess, nfailed, naborted, nexpired, purged_at is not null, purging from batches order by id",
                |r| {
                    Ok(BatchFact {
                        id: id(r, 0)?,
                        state: BatchState::from_code(r.get(1)?).expect("a state"),
                        rows: r.get(2)?,
                        blocks: r.get(3)?,
                        given: r.get(4)?,
                        purged: r.get(9)?,
                        purging: r.get(10)?,
                        counts: match r.get::<_, Option<u64>>(5)? {
                            None => None,
                            Some(success) => Some([success, r.get(6)?, r.get(7)?, r.get(8)?]),
                        },
                    })
                },
            ),
            blocks: all(
                &c,
                "select batch, no, rows from blocks order by batch, no",
                |r| {
                    Ok(BlockFact {
                        batch: id(r, 0)?,
                        no: r.get(1)?,
                        rows: r.get(2)?,
                    })
                },
            ),
            appends: all(
                &c,
                "select batch, first_no, blocks, rows, token is not null, by from appends order by batch, first_no",
                |r| {
                    Ok(AppendFact {
                        batch: id(r, 0)?,
                        first_no: r.get(1)?,
                        blocks: r.get(2)?,
                        rows: r.get(3)?,
                        open: r.get(4)?,
                        by: r.get(5)?,
                    })
                },
            ),
            tasks: all(
                &c,
                "select batch, id, no, what, state, rows, pick, attempt, failures, losses, suspect, due_at, worker, row_now, success, failed from queue order by batch, id",
                |r| {
                    Ok(TaskFact {
                        batch: id(r, 0)?,
                        id: r.get(1)?,
                        no: r.get(2)?,
                        close: r.get::<_, i64>(3)? == 1,
                        state: TaskState::from_code(r.get(4)?).expect("a state"),
                        rows: r.get(5)?,
                        pick: list(r, 6)?,
                        attempt: r.get(7)?,
                        failures: r.get(8)?,
                        losses: r.get(9)?,
                        suspect: r.get(10)?,
                        due_at: r.get(11)?,
                        worker: r.get(12)?,
                        row_now: r.get(13)?,
                        progress: (r.get(14)?, r.get(15)?),
                    })
                },
            ),
            parts: all(
                &c,
                "select batch, no, task, attempt, ended_as, success, failed, ended, ordinals, rest, body from attempts order by rowid",
                |r| {
                    Ok(PartFact {
                        batch: id(r, 0)?,
                        no: r.get(1)?,
                        task: r.get(2)?,
                        attempt: r.get(3)?,
                        ended_as: r
                            .get::<_, Option<i64>>(4)?
                            .map(|code| EndedAs::from_code(code).expect("an end")),
                        success: r.get(5)?,
                        failed: r.get(6)?,
                        ended: r.get(7)?,
                        ordinals: list(r, 8)?,
                        rest: list(r, 9)?,
                        body: r.get(10)?,
                    })
                },
            ),
            left: all(
                &c,
                "select no from workers where ended_at is not null",
                |r| r.get(0),
            )
            .into_iter()
            .collect::<BTreeSet<i64>>(),
            notices: all(&c, "select batch, worker from notices order by id", |r| {
                Ok((id(r, 0)?, r.get(1)?))
            }),
            audit_ops: all(
                &c,
                "select by, what, op, detail from audit where op is not null order by id",
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)),
            ),
            audit: all(&c, "select by, what, batch from audit order by id", |r| {
                let batch = r.get::<_, Option<[u8; 16]>>(2)?;
                Ok((
                    r.get(0)?,
                    r.get(1)?,
                    batch.map(|b| BatchId(uuid::Uuid::from_bytes(b))),
                ))
            }),
        }
    }
}

fn all<T>(c: &Connection, sql: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let mut statement = c.prepare(sql).expect(sql);
    let rows = statement.query_map([], read).expect(sql);
    rows.collect::<Result<_, _>>().expect(sql)
}

fn id(r: &Row<'_>, at: usize) -> rusqlite::Result<BatchId> {
    Ok(BatchId(uuid::Uuid::from_bytes(r.get(at)?)))
}

fn list(r: &Row<'_>, at: usize) -> rusqlite::Result<Option<Vec<u32>>> {
    let text: Option<String> = r.get(at)?;
    Ok(text.map(|t| serde_json::from_str(&t).expect("a list")))
}
