//! The shapes of work that are measured.

use std::sync::Arc;

use futures_util::FutureExt;
use rowmill::clock::ManualClock;
use rowmill::model::{Batch, BatchId, Kind, Message, NewBatch, OpSettings, RawJson, Status, Token};
use rowmill::postgres::tokio_postgres::{Transaction, types::Type};
use rowmill::store::{Candidate, Dialect, FreeSlot, Holder, Recorded};
use rowmill::{
    Builder, ChunkCx, ChunkOut, InputRow, JobManager, NewQuery, NewRow, RowCx, RowFailure,
    StatusCache, Store,
};
use serde_json::{Value, json};

use crate::e2e::world::{key, queries, query, raw, rows, settings};
use crate::support::{Kit, Outcomes};

/// Where shapes are worked off: a store, and a clock that stands still.
pub struct At {
    pub store: Store,
    pub builder: Builder,
    pub clock: Arc<ManualClock>,
}

/// A shape of work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Trivial,
    Incompressible,
    Failed,
    Retried,
    FromCsv,
    OutputFile,
    Transactional,
    Beside,
    SetBased,
    Batches,
    QueriesOneByOne,
    QueriesAtOnce,
    QueriesByOneCall,
    PollsOfEnded,
    PollsOfOpen,
}

use Shape::{
    Batches, Beside, Failed, FromCsv, Incompressible, OutputFile, PollsOfEnded, PollsOfOpen,
    QueriesAtOnce, QueriesByOneCall, QueriesOneByOne, Retried, SetBased, Transactional, Trivial,
};

pub const ALL: [Shape; 15] = [
    Trivial,
    Incompressible,
    Failed,
    Retried,
    FromCsv,
    OutputFile,
    Transactional,
    Beside,
    SetBased,
    Batches,
    QueriesOneByOne,
    QueriesAtOnce,
    QueriesByOneCall,
    PollsOfEnded,
    PollsOfOpen,
];

/// An application's table; each row of a transactional batch has a record of its own there.
pub const ACCOUNTS: u32 = 1000;

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Trivial => "trivial_rows",
            Incompressible => "rows_that_do_not_compress",
            Failed => "one_row_in_100_fails",
            Retried => "one_row_in_10_is_retried",
            FromCsv => "rows_from_a_csv",
            OutputFile => "rows_into_a_file",
            Transactional => "transactional_rows",
            Beside => "transactional_rows_beside_each_other",
            SetBased => "set_based_rows",
            Batches => "batches_of_100_rows",
            QueriesOneByOne => "queries_one_by_one",
            QueriesAtOnce => "queries_that_begin_at_once",
            QueriesByOneCall => "queries_by_one_call",
            PollsOfEnded => "polls_of_an_ended_batch",
            PollsOfOpen => "polls_of_an_open_batch",
        }
    }

    /// What is done, in the words of docs/performance.md.
    pub fn what(self) -> &'static str {
        match self {
            Trivial => "10,000 rows of 80 bytes, one batch",
            Incompressible => "the same, 96 random characters each",
            Failed => "10,000 rows, 1 in 100 fails",
            Retried => "10,000 rows, 1 in 10 goes again once",
            FromCsv => "10,000 rows, read from a CSV",
            OutputFile => "10,000 rows, each writes a line into one output file",
            Transactional => {
                "1,000 rows in blocks of 100, an UPDATE each in the transaction of its outcome"
            }
            Beside => "the same, 50 rows at once, by a statement that the connection keeps",
            SetBased => "1,000 rows, one UPDATE for all in the transaction of their outcomes",
            Batches => "100 batches of 100 rows, submitted one by one",
            QueriesOneByOne => {
                "100 slow queries, each submitted, worked off and asked for before the next"
            }
            QueriesAtOnce => {
                "the same, each stored for a worker of the process that has a free slot"
            }
            QueriesByOneCall => "100 slow queries, submitted by one call",
            PollsOfEnded => "100 polls of an ended batch, with the status cache",
            PollsOfOpen => "100 polls of an open batch, without one",
        }
    }

    /// Rows, queries, batches or polls: what costs are divided by.
    pub fn many(self) -> u32 {
        match self {
            Trivial | Incompressible | Failed | Retried | FromCsv | OutputFile | Batches => 10_000,
            Transactional | Beside | SetBased => ACCOUNTS,
            QueriesOneByOne | QueriesAtOnce | QueriesByOneCall | PollsOfEnded | PollsOfOpen => 100,
        }
    }

    /// What is worked off before, so that all is prepared and known that is used.
    fn few(self) -> u32 {
        match self {
            QueriesOneByOne | QueriesAtOnce | PollsOfEnded | PollsOfOpen => 8,
            _ => self.many() / 2,
        }
    }

    pub fn is_for(self, dialect: Dialect) -> bool {
        !matches!(self, Beside | SetBased | QueriesAtOnce) || dialect == Dialect::Postgres
    }

    fn manager(self, at: &At) -> JobManager {
        let settings = settings(|s| {
            // All tasks of a claim run at once, however long a row took before.
            s.local_concurrency = Some(256);
            s.max_attempts = 2;
            if matches!(self, Transactional | Beside) {
                s.block_rows = 100;
            }
            if self == Beside {
                s.parallel = 50;
            }
        });
        let cache = match self {
            PollsOfOpen => StatusCache::none(),
            _ => StatusCache::memory(),
        };
        let builder = at.builder.clone().cache(cache);
        self.registered(builder, settings)
            .build()
            .expect("a manager")
    }

    fn registered(self, builder: Builder, settings: OpSettings) -> Builder {
        let kind = match self {
            QueriesOneByOne | QueriesAtOnce | QueriesByOneCall => Kind::Query,
            _ => Kind::Batch,
        };
        let builder = match self {
            Transactional => builder
                .transactional("bank", "post", OnSqlite)
                .transactional("bank", "post", OnPostgres),
            Beside => builder.transactional("bank", "post", InAnyOrder),
            SetBased => builder.set_based("bank", "post", OnPostgres),
            QueriesOneByOne | QueriesAtOnce | QueriesByOneCall => builder.slow_query(
                "bank",
                "post",
                queries(|_, input| async move { Ok(posted(&input)) }.boxed()),
            ),
            _ => builder.batch(
                "bank",
                "post",
                rows(move |cx, input| {
                    let done = self.row(cx, &input);
                    async move { done }.boxed()
                }),
            ),
        };
        builder.settings("bank", "post", kind, settings)
    }

    fn row(self, cx: &mut RowCx<'_, (), Value>, input: &Value) -> Result<Value, RowFailure> {
        let n = cx.line().0;
        match self {
            Failed if n.is_multiple_of(100) => Err(Message::new("no_account", 7).into()),
            Retried if n.is_multiple_of(10) && cx.attempt() == 1 => Err(RowFailure::retry("busy")),
            OutputFile => {
                cx.write_line("posted.csv", &format!("{n},{}", input["ref"]));
                Ok(posted(input))
            }
            _ => Ok(posted(input)),
        }
    }

    /// Works a few off, then as many as are measured; `ready` is called in between.
    pub async fn measure(self, at: &At, ready: impl AsyncFnOnce()) -> JobManager {
        let manager = self.manager(at);
        let asked_about = self.asked_about(&manager).await;
        self.run(at, &manager, asked_about, self.few()).await;
        ready().await;
        self.run(at, &manager, asked_about, self.many()).await;
        manager
    }

    async fn run(self, at: &At, manager: &JobManager, asked_about: Option<BatchId>, many: u32) {
        match asked_about {
            Some(id) => self.poll(manager, id, many).await,
            None => self.work_off(at, manager, many).await,
        }
    }

    async fn work_off(self, at: &At, manager: &JobManager, many: u32) {
        match self {
            Batches => {
                for _ in 0..many / 100 {
                    self.submit(manager, 100).await;
                }
                works(manager).await;
            }
            QueriesOneByOne => {
                for n in 0..many {
                    let asked = manager.slow_query_submit(new(query("post")), self.input(n));
                    let id = asked.await.expect("submitted").id;
                    works(manager).await;
                    let done = manager.slow_query_done(id).await.expect("a query");
                    assert_eq!(done.status, Status::Success);
                }
            }
            QueriesAtOnce => self.begun_at_once(at, manager, many).await,
            QueriesByOneCall => {
                let asked = (0..many).map(|n| NewQuery {
                    query: new(query("post")),
                    input: self.input(n),
                });
                let asked = manager.slow_query_submit_many(asked.collect()).await;
                assert_eq!(asked.expect("submitted").len(), many as usize);
                works(manager).await;
            }
            PollsOfEnded | PollsOfOpen => unreachable!("they are polled"),
            FromCsv => {
                let csv = (0..many).map(csv).collect::<String>();
                let csv = std::io::Cursor::new(format!("account,amount,ref\n{csv}"));
                let options = rowmill::ingest::Options::csv();
                let new = new(key("post"));
                let submitted = manager.batch_submit_reader(new, csv, options).await;
                let id = submitted.expect("submitted").batch.id;
                works(manager).await;
                self.ended(manager, id, many).await;
            }
            _ => {
                let id = self.submit(manager, many).await;
                works(manager).await;
                if self == Retried {
                    at.clock.advance(std::time::Duration::from_secs(86_400));
                    works(manager).await;
                }
                self.ended(manager, id, many).await;
            }
        }
    }

    /// What an engine does of a query that is stored for it, and no look between two of them.
    async fn begun_at_once(self, at: &At, manager: &JobManager, many: u32) {
        let kit = Kit {
            store: at.store.clone(),
            clock: Arc::clone(&at.clock),
        };
        let key = query("post");
        let (op, worker) = (
            kit.register(key.clone(), false, 3).await,
            kit.worker().await,
        );
        for n in 0..many {
            let token = Token::random().expect("a token");
            let (slot, asked) = FreeSlot::new(Holder {
                worker,
                op,
                token,
                once: false,
            });
            let holder = slot.holder();
            assert!(kit.store.offer(&key, slot));
            let fills = async {
                let Candidate { query, stored } = asked.await.expect("asked");
                let done = kit.store.submit_at_once(query, holder, kit.now()).await;
                let (submitted, task) = done.expect("stored").expect("answered");
                stored.send(submitted).expect("told");
                task.expect("it has begun")
            };
            let submit = manager.slow_query_submit(new(key.clone()), self.input(n));
            let (submitted, task) = tokio::join!(submit, fills);
            let id = submitted.expect("submitted").id;
            let part = Outcomes::of(&task).all_success().ends();
            let recorded = kit.store.record(worker, vec![part], kit.now()).await;
            assert_eq!(recorded.expect("recorded"), [Recorded::Done]);
            let done = manager.slow_query_done(id).await.expect("a query");
            assert_eq!(done.status, Status::Success);
        }
    }

    /// A batch to ask about.
    async fn asked_about(self, manager: &JobManager) -> Option<BatchId> {
        if !matches!(self, PollsOfEnded | PollsOfOpen) {
            return None;
        }
        let id = self.submit(manager, 100).await;
        if self == PollsOfEnded {
            works(manager).await;
            manager.batch_status(id).await.expect("a batch");
        }
        Some(id)
    }

    async fn poll(self, manager: &JobManager, id: BatchId, many: u32) {
        for _ in 0..many {
            let batch = manager.batch_status(id).await.expect("a batch");
            assert_eq!(batch.done, self == PollsOfEnded);
        }
    }

    async fn submit(self, manager: &JobManager, many: u32) -> BatchId {
        let rows = (0..many).map(move |n| NewRow {
            line: None,
            input: self.input(n),
        });
        let submitted = manager.batch_submit(new(key("post")), rows).await;
        submitted.expect("submitted").id
    }

    fn input(self, n: u32) -> Box<RawJson> {
        match self {
            Transactional | Beside | SetBased => raw(&n.to_string()),
            Incompressible => raw(&format!("{{\"ref\":\"{}\"}}", noise(n))),
            _ => raw(&format!(
                "{{\"account\":\"ACC{:06}\",\"amount\":\"{}.{:02}\",\"ref\":\"REF-{:012x}\"}}",
                n % 1_000_000,
                n * 7919 % 10_000,
                n % 100,
                u64::from(n) * 2_654_435_761 % (1 << 48)
            )),
        }
    }

    async fn ended(self, manager: &JobManager, id: BatchId, many: u32) {
        let Batch { done, counts, .. } = manager.batch_done(id).await.expect("a batch");
        let failed = if self == Failed {
            u64::from(many / 100)
        } else {
            0
        };
        assert!(done);
        assert_eq!(
            (counts.success, counts.failed),
            (u64::from(many) - failed, failed)
        );
    }
}

async fn works(manager: &JobManager) {
    while !manager.tick().await.expect("a turn").is_idle() {}
}

fn new(key: rowmill::model::JobKey) -> NewBatch {
    NewBatch {
        context: raw("{}"),
        ..NewBatch::new(key)
    }
}

fn posted(input: &Value) -> Value {
    json!({"ref": input["ref"], "ok": true})
}

fn csv(n: u32) -> String {
    let (account, amount) = (n % 1_000_000, n * 7919 % 10_000);
    format!("ACC{account:06},{amount},REF-{n:012x}\n")
}

/// 96 characters of which none follows from those before.
fn noise(n: u32) -> String {
    let mut state = u64::from(n) + 1;
    let mut character = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        char::from(letters[usize::try_from(mixed >> 58).expect("six bits")])
    };
    (0..96).map(|_| character()).collect()
}

struct OnPostgres;

impl rowmill::postgres::TransactionalProcessor for OnPostgres {
    type Block = ();
    type Context = Value;
    type Input = i64;
    type Output = bool;

    async fn process(
        &self,
        tx: &Transaction<'_>,
        _: &mut RowCx<'_, (), Value>,
        n: i64,
    ) -> Result<bool, RowFailure> {
        let update = "update accounts set cents = cents + 1 where id = $1";
        tx.execute_typed(update, &[(&n, Type::INT8)]).await?;
        Ok(true)
    }
}

struct InAnyOrder;

impl rowmill::postgres::TransactionalProcessor for InAnyOrder {
    type Block = ();
    type Context = Value;
    type Input = i64;
    type Output = bool;

    async fn process(
        &self,
        tx: &Transaction<'_>,
        cx: &mut RowCx<'_, (), Value>,
        n: i64,
    ) -> Result<bool, RowFailure> {
        let update = "update accounts set cents = cents + 1 where id = $1";
        tx.execute(&cx.prepare(tx, update).await?, &[&n]).await?;
        Ok(true)
    }

    fn any_order(&self) -> bool {
        true
    }
}

impl rowmill::postgres::SetProcessor for OnPostgres {
    type Block = ();
    type Context = Value;
    type Input = i64;
    type Output = bool;

    async fn process(
        &self,
        tx: &Transaction<'_>,
        _: &ChunkCx<'_, (), Value>,
        rows: &[InputRow<i64>],
        out: &mut ChunkOut<bool>,
    ) -> Result<(), RowFailure> {
        let ids: Vec<i64> = rows.iter().map(|row| row.input).collect();
        let update = "update accounts set cents = cents + 1 where id = any ($1)";
        tx.execute_typed(update, &[(&ids, Type::INT8_ARRAY)])
            .await?;
        (0..rows.len()).for_each(|index| out.success(index, &true));
        Ok(())
    }
}

struct OnSqlite;

impl rowmill::sqlite::TransactionalProcessor for OnSqlite {
    type Block = ();
    type Context = Value;
    type Input = i64;
    type Output = bool;

    fn process(
        &self,
        tx: &mut rowmill::sqlite::Tx<'_>,
        _: &mut RowCx<'_, (), Value>,
        n: i64,
    ) -> Result<bool, RowFailure> {
        let update = "update accounts set cents = cents + 1 where id = ?1";
        tx.execute(update, [n])?;
        Ok(true)
    }
}
