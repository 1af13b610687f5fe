//! The PostgreSQL store under test, in a database of its own.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::time::Duration;

use futures_util::FutureExt;
use rowmill::Store;
use rowmill::model::{BatchId, BatchState, EndedAs, TaskState};
use rowmill::store::postgres::{Address, Options, PostgresStore};
use rowmill::store::{Part, Piece, PostgresPiece};
use tokio_postgres::Row;
use uuid::Uuid;

use super::facts::{AppendFact, BatchFact, BlockFact, Facts, PartFact, SqlRow, TaskFact};
use super::servers::{Database, PgBouncer, Postgres as Server, Template};
use super::{Harness, Kit};

/// A database whose schema is made.
static MIGRATED: Template = Template::new(|url| {
    let url = url.to_owned();
    let made = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            drop(store(Options::new(&url).expect("an address")).await);
        });
    });
    made.join().expect("a schema");
});

/// How the store reaches its database.
pub trait Way: Send + Sync + 'static {
    fn options(database: &Database) -> Options;
}

/// Without anything in between.
pub struct Straight;

impl Way for Straight {
    fn options(database: &Database) -> Options {
        Options::new(database.url()).expect("an address")
    }
}

/// Through PgBouncer in its transaction mode, with a direct address for the locks.
pub struct ThroughPgBouncer;

impl Way for ThroughPgBouncer {
    fn options(database: &Database) -> Options {
        let url = PgBouncer::shared().url_of(database.name());
        let mut options = Options::new(&url).expect("an address");
        options.session = Some(Address::new(database.url()).expect("an address"));
        options
    }
}

pub type Postgres = Reached<Straight>;
pub type Pooled = Reached<ThroughPgBouncer>;

pub struct Reached<W> {
    kit: Kit,
    database: Database,
    way: PhantomData<W>,
}

async fn store(mut options: Options) -> Store {
    options.connections = 4;
    // A case looks once, and has seen to it that the lock is free.
    options.dead_after = Duration::ZERO;
    // Workers of cases do not beat.
    options.heartbeat = Duration::from_secs(600);
    Store::new(PostgresStore::open(options).await.expect("a store"))
}

impl Postgres {
    /// One on a server of the test's own.
    pub async fn on(server: &Server) -> Self {
        Self::of(Database::on(server)).await
    }
}

impl<W: Way> Reached<W> {
    async fn of(database: Database) -> Self {
        Self {
            kit: Kit::new(store(W::options(&database)).await),
            database,
            way: PhantomData,
        }
    }

    pub fn url(&self) -> &str {
        self.database.url()
    }

    /// Runs statements of the application's own.
    pub fn run(&self, sql: &str) {
        self.database.run(sql);
    }

    /// The numbers that a statement finds.
    pub fn numbers(&self, sql: &str) -> Vec<i64> {
        self.all(sql, |r| r.get(0))
    }

    fn all<T>(&self, sql: &str, read: impl FnMut(&Row) -> T) -> Vec<T> {
        self.database.rows(sql, None).iter().map(read).collect()
    }
}

impl<W: Way> Harness for Reached<W> {
    async fn open() -> Self {
        let database = tokio::task::spawn_blocking(|| Database::of(&MIGRATED));
        Self::of(database.await.expect("a database")).await
    }

    fn kit(&self) -> &Kit {
        &self.kit
    }

    async fn again(&self) -> Store {
        store(W::options(&self.database)).await
    }

    fn make_effects(&self) {
        self.database
            .run("create table public.effects (n bigint not null)");
    }

    fn piece(&self, n: i64, part: Option<Part>) -> Piece {
        Piece::Postgres(PostgresPiece::new(Box::new(move |piece| {
            async move {
                let insert = "insert into public.effects values ($1)";
                piece
                    .transaction()
                    .execute(insert, &[&n])
                    .await
                    .expect("noted");
                part
            }
            .boxed()
        })))
    }

    fn piece_that_panics(&self, n: i64) -> Piece {
        Piece::Postgres(PostgresPiece::new(Box::new(move |piece| {
            async move {
                let insert = "insert into public.effects values ($1)";
                piece
                    .transaction()
                    .execute(insert, &[&n])
                    .await
                    .expect("noted");
                panic!("a piece");
            }
            .boxed()
        })))
    }

    fn effects(&self) -> Vec<i64> {
        self.all("select n from public.effects order by n", |r| r.get(0))
    }

    fn damage(&self, id: BatchId, sql: &str) {
        // A list of rows that is none is written otherwise.
        let sql = sql
            .replace("?1", "$1")
            .replace("'['", "'{-1}'")
            .replace("'[1]'", "'{1}'");
        self.database.rows(&sql, Some(id.0));
    }

    fn batchrows(&self, id: BatchId) -> Vec<SqlRow> {
        let sql = "select line::bigint, status, input::text, result::text, messages::text, attempt::bigint,
                          to_char(done_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
                     from batchrows where batch = $1 order by line";
        let read = |r: &Row| SqlRow {
            line: number(r, 0),
            status: r.get(1),
            input: r.get(2),
            result: r.get(3),
            messages: r.get(4),
            attempt: opt(r, 5),
            done_at: r
                .get::<_, Option<String>>(6)
                .map(|at| at.parse().expect("a time")),
        };
        self.database
            .rows(sql, Some(id.0))
            .iter()
            .map(read)
            .collect()
    }

    fn facts(&self) -> Facts {
        // What stands together is of batches that say so, is counted, and is not all through.
        let wrong = "select q.batch from queue q cross join lateral (
                         select count(*) as those, count(*) filter (where b.state >= 4) as ended, count(*) filter (where b.state = 2) as open,
                                bool_and(b.bundle = q.batch and not exists (select 1 from queue o where o.batch = b.id and o.what <> 2)) as alone
                           from unnest(q.members) m (id) join batches b on b.id = m.id) s
                      where q.what = 2 and ((s.those, s.ended, s.open, s.alone) is distinct from (q.rows::bigint, q.success, q.rows - q.success, true) or q.success >= q.rows
                                            or (q.state = 1 and q.success > 0) or q.state not in (1, 2))";
        assert!(self.database.rows(wrong, None).is_empty(), "a bundle");
        Facts {
            batches: self.all(
                "select id, state::bigint, rows::bigint, blocks::bigint, given::bigint, nsuccess::bigint, nfailed::bigint, naborted::bigint, nexpired::bigint,
                        purged_at is not null, purging from batches order by id",
                |r| BatchFact {
                    id: id(r, 0),
                    state: BatchState::from_code(r.get(1)).expect("a state"),
                    rows: number(r, 2),
                    blocks: number(r, 3),
                    given: number(r, 4),
                    purged: r.get(9),
                    purging: r.get(10),
                    counts: opt(r, 5).map(|success| [success, number(r, 6), number(r, 7), number(r, 8)]),
                },
            ),
            blocks: self.all(
                "select batch, no::bigint, rows::bigint from blocks order by batch, no",
                |r| BlockFact {
                    batch: id(r, 0),
                    no: number(r, 1),
                    rows: number(r, 2),
                },
            ),
            appends: self.all(
                "select batch, first_no::bigint, blocks::bigint, rows::bigint, token is not null, by from appends order by batch, first_no",
                |r| AppendFact {
                    batch: id(r, 0),
                    first_no: number(r, 1),
                    blocks: number(r, 2),
                    rows: number(r, 3),
                    open: r.get(4),
                    by: r.get(5),
                },
            ),
            // A close task's progress is what is recorded.
            tasks: self.all(
                "select batch, id, no::bigint, what::bigint, state::bigint, rows::bigint, pick, attempt::bigint, failures::bigint, losses::bigint, suspect::bigint,
                        (extract(epoch from due_at) * 1000000)::bigint, worker::bigint, row_now::bigint,
                        (select coalesce(sum(a.success), 0)::bigint from attempts a where a.batch = q.batch and q.what = 1),
                        (select coalesce(sum(a.failed), 0)::bigint from attempts a where a.batch = q.batch and q.what = 1)
                   from (select batch, id, no, what, state, rows, pick, attempt, failures, losses, suspect, due_at, worker, row_now from queue where what <> 2
                         union all
                         select b.id, 0, 0, 0, q.state, 1, null, q.attempt, q.failures, q.losses, q.suspect, null, q.worker, null
                           from queue q cross join unnest(q.members) m (id) join batches b on b.id = m.id and b.state = 2) q
                  order by batch, id",
                |r| TaskFact {
                    batch: id(r, 0),
                    id: r.get(1),
                    no: number(r, 2),
                    close: r.get::<_, i64>(3) == 1,
                    state: TaskState::from_code(r.get(4)).expect("a state"),
                    rows: number(r, 5),
                    pick: list(r, 6),
                    attempt: number(r, 7),
                    failures: number(r, 8),
                    losses: number(r, 9),
                    suspect: number(r, 10),
                    due_at: r.get(11),
                    worker: r.get(12),
                    row_now: opt(r, 13),
                    progress: (number(r, 14), number(r, 15)),
                },
            ),
            parts: self.all(
                "select batch, no::bigint, task, attempt::bigint, ended_as::bigint, success::bigint, failed::bigint, ended::bigint, ordinals, rest, body
                   from attempts order by at, batch, no, attempt, task, part",
                |r| PartFact {
                    batch: id(r, 0),
                    no: number(r, 1),
                    task: r.get(2),
                    attempt: number(r, 3),
                    ended_as: r
                        .get::<_, Option<i64>>(4)
                        .map(|code| EndedAs::from_code(code).expect("an end")),
                    success: number(r, 5),
                    failed: number(r, 6),
                    ended: number(r, 7),
                    ordinals: list(r, 8),
                    rest: list(r, 9),
                    body: r.get(10),
                },
            ),
            left: self
                .all("select no from workers where ended_at is not null", |r| r.get(0))
                .into_iter()
                .collect::<BTreeSet<i64>>(),
            notices: self.all("select batch, worker from notices order by id", |r| {
                (id(r, 0), r.get(1))
            }),
            audit_ops: self.all(
                "select by, what, op, detail from audit where op is not null order by id",
                |r| (r.get(0), r.get(1), r.get(2), r.get(3)),
            ),
            audit: self.all("select by, what, batch from audit order by id", |r| {
                let batch: Option<Uuid> = r.get(2);
                (r.get(0), r.get(1), batch.map(BatchId))
            }),
        }
    }
}

fn id(r: &Row, at: usize) -> BatchId {
    BatchId(r.get(at))
}

/// A number that was read as a `bigint`.
fn number<T: TryFrom<i64, Error: std::fmt::Debug>>(r: &Row, at: usize) -> T {
    T::try_from(r.get(at)).expect("a number in its range")
}

fn opt<T: TryFrom<i64, Error: std::fmt::Debug>>(r: &Row, at: usize) -> Option<T> {
    let value: Option<i64> = r.get(at);
    value.map(|v| T::try_from(v).expect("a number in its range"))
}

fn list(r: &Row, at: usize) -> Option<Vec<u32>> {
    let list: Option<Vec<i32>> = r.get(at);
    list.map(|l| {
        l.into_iter()
            .map(|n| u32::try_from(n).expect("a row"))
            .collect()
    })
}
