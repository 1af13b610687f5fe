//! Processors whose writes commit with their rows' outcomes, on PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rowmill::model::{Kind, Message, NewBatch, OpSettings, Status};
use rowmill::postgres::tokio_postgres::{IsolationLevel, Transaction};
use rowmill::postgres::{SetProcessor, TransactionalProcessor};
use rowmill::{
    CancellationToken, ChunkCx, ChunkOut, InputRow, JobManager, NewRow, ObjectStore, RowCx,
    RowFailure, Store,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::world::{
    Gate, code, done, inputs, key, log, numbers, raw, read, rows_of, settings, statuses, submit,
};
use crate::support::{Harness as _, Postgres, invariants};

type Answer<'a> = BoxFuture<'a, Result<Value, RowFailure>>;

/// A processor made of a function, and whether its rows may run in any order.
pub struct Effects<F>(pub F, pub IsolationLevel, pub bool);

impl<F> TransactionalProcessor for Effects<F>
where
    F: for<'a, 'b> Fn(&'a Transaction<'b>, &'a mut RowCx<'_, (), Value>, i64) -> Answer<'a>
        + Send
        + Sync
        + 'static,
{
    type Block = ();
    type Context = Value;
    type Input = i64;
    type Output = Value;

    async fn process(
        &self,
        tx: &Transaction<'_>,
        cx: &mut RowCx<'_, (), Value>,
        input: i64,
    ) -> Result<Value, RowFailure> {
        (self.0)(tx, cx, input).await
    }

    fn isolation(&self) -> IsolationLevel {
        self.1
    }

    fn any_order(&self) -> bool {
        self.2
    }
}

pub fn effects<F>(f: F) -> Effects<F>
where
    F: for<'a, 'b> Fn(&'a Transaction<'b>, &'a mut RowCx<'_, (), Value>, i64) -> Answer<'a>
        + Send
        + Sync
        + 'static,
{
    Effects(f, IsolationLevel::ReadCommitted, false)
}

const SCHEMA: &str = "
    create table public.effects (n bigint not null);
    create table public.once (n bigint primary key);
    create table public.parents (n bigint primary key);
    create table public.children (n bigint references public.parents (n) deferrable initially deferred)";

pub async fn note(tx: &Transaction<'_>, n: i64) -> Result<(), RowFailure> {
    tx.execute("insert into effects values ($1)", &[&n]).await?;
    Ok(())
}

/// A database with an application's tables.
pub struct World {
    pub h: Postgres,
    folder: TempDir,
}

impl World {
    pub async fn new() -> Self {
        let h = Postgres::open().await;
        h.run(SCHEMA);
        Self {
            h,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn builder(&self, store: Store) -> rowmill::Builder {
        JobManager::builder(store)
            .objects(ObjectStore::folder(self.folder.path()))
            .clock(Arc::clone(&self.h.kit().clock))
            .grace(Duration::ZERO)
    }

    pub fn manager(&self, processor: impl TransactionalProcessor) -> JobManager {
        self.manager_with(processor, OpSettings::default())
    }

    pub fn manager_with(
        &self,
        processor: impl TransactionalProcessor,
        settings: OpSettings,
    ) -> JobManager {
        self.builder(self.h.kit().store.clone())
            .transactional("bank", "post", processor)
            .settings("bank", "post", Kind::Batch, settings)
            .build()
            .unwrap()
    }

    pub async fn work(&self, manager: &JobManager) {
        while !manager.tick().await.expect("a turn").is_idle() {}
    }

    pub fn noted(&self) -> Vec<i64> {
        self.h.effects()
    }

    pub async fn end(&self, manager: &JobManager) {
        manager.stop().await.expect("left");
        invariants(&self.h).await;
    }
}

use Status::{Aborted, Failed, Success};

/// Row 3 has failed with this code and left nothing; its neighbours' effects are there.
async fn costs_itself_alone<F>(expected: &str, bad: F)
where
    F: for<'a, 'b> Fn(&'a Transaction<'b>, &'a mut RowCx<'_, (), Value>) -> Answer<'a>
        + Send
        + Sync
        + 'static,
{
    let bad = Arc::new(bad);
    // Alone in its run, and with others.
    for rows in [5_u32, 200] {
        let world = World::new().await;
        let bad = Arc::clone(&bad);
        let processor = effects(move |tx, cx, n| {
            let bad = Arc::clone(&bad);
            async move {
                note(tx, n).await?;
                if n == 3 {
                    return bad(tx, cx).await;
                }
                Ok(json!(n))
            }
            .boxed()
        });
        let manager = world.manager(processor);
        let id = submit(&manager, "post", numbers(rows)).await;
        world.work(&manager).await;
        let found = rows_of(&manager, id).await;
        for row in &found {
            let (line, wanted) = (row.line.0, if row.line.0 == 3 { Failed } else { Success });
            assert_eq!(row.status, wanted, "line {line}: {:?}", row.messages);
        }
        assert_eq!(code(&found[2]), expected);
        let good: Vec<i64> = (1..=i64::from(rows)).filter(|n| *n != 3).collect();
        assert_eq!(world.noted(), good);
        world.end(&manager).await;
    }
}

/// Each of these is a row that does something and then answers.
macro_rules! costs_itself {
    ($($name:ident: $code:literal, |$tx:ident, $cx:ident| $does:expr;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            costs_itself_alone($code, |$tx, $cx| {
                let _ = (&$tx, &$cx);
                async move { $does }.boxed()
            })
            .await;
        })+
    };
}

costs_itself! {
    on_postgres_a_failed_rows_writes_are_undone: "no_money", |tx, cx| Err(Message::new("no_money", 7).into());
    on_postgres_an_errors_writes_are_undone: "processing_error", |tx, cx| {
        tx.execute("insert into nothing values (1)", &[]).await?;
        Ok(json!(3))
    };
    on_postgres_a_panics_writes_are_undone: "panic", |tx, cx| panic!("down");
    on_postgres_a_row_with_a_bad_file_name_writes_nothing: "bad_file_name", |tx, cx| {
        cx.write_line("../x", "3");
        Ok(json!(3))
    };
    on_postgres_a_row_that_swallows_an_sql_error_has_failed: "processing_error", |tx, cx| {
        drop(tx.execute("select 1 / 0", &[]).await);
        Ok(json!(3))
    };
    on_postgres_a_verdict_after_an_sql_error_stands: "twice", |tx, cx| {
        let one = "insert into once values (1)";
        tx.execute(one, &[]).await?;
        match tx.execute(one, &[]).await {
            Err(_) => Err(Message::new("twice", 7).into()),
            Ok(_) => Ok(json!(3)),
        }
    };
    on_postgres_a_deferred_constraint_belongs_to_the_row_that_violates_it: "processing_error", |tx, cx| {
        tx.execute("insert into children values (7)", &[]).await?;
        Ok(json!(3))
    };
    on_postgres_a_row_that_hides_the_loss_of_its_connection_has_failed: "processing_error", |tx, cx| {
        drop(tx.execute("select pg_terminate_backend(pg_backend_pid())", &[]).await);
        Ok(json!(3))
    };
    on_postgres_a_panic_before_the_first_await_costs_its_row_alone: "panic", |tx, cx| panic!("down");
    on_postgres_a_role_that_a_row_takes_on_is_put_down_again: "no", |tx, cx| {
        tx.batch_execute("set local role pg_monitor").await?;
        Err(Message::new("no", 7).into())
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_deferred_constraint_stays_deferred_for_every_run() {
    let world = World::new().await;
    let processor = effects(|tx, _, n| {
        async move {
            tx.execute("insert into children values ($1)", &[&n])
                .await?;
            tx.execute("insert into parents values ($1)", &[&n]).await?;
            tx.batch_execute("set local role pg_monitor; set local search_path to nowhere")
                .await?;
            Ok(json!(n))
        }
        .boxed()
    });
    // Whoever takes on a role has no right to the next row's tables: each row has its own transaction.
    let manager = world.manager_with(processor, settings(|s| s.block_rows = 1));
    let id = submit(&manager, "post", numbers(5)).await;
    world.work(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Success; 5]);
    world.end(&manager).await;

    let processor = effects(|tx, _, n| {
        async move {
            tx.execute("insert into children values ($1)", &[&n])
                .await?;
            tx.execute("insert into parents values ($1)", &[&n]).await?;
            Ok(json!(n))
        }
        .boxed()
    });
    world.h.run("truncate public.parents, public.children");
    let manager = world.manager(processor);
    let id = submit(&manager, "post", numbers(200)).await;
    world.work(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Success; 200]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_row_that_takes_too_long_is_interrupted_and_has_no_effect() {
    let world = World::new().await;
    let processor = effects(|tx, _, n| {
        async move {
            note(tx, n).await?;
            if n == 3 {
                tx.execute("select pg_sleep(3600)", &[]).await?;
            }
            if n == 4 {
                std::future::pending::<()>().await;
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let timeout = settings(|s| s.timeout = Some(Duration::from_millis(300)));
    let manager = world.manager_with(processor, timeout);
    let id = submit(&manager, "post", numbers(5)).await;
    world.work(&manager).await;
    assert_eq!(
        statuses(&manager, id).await,
        [Success, Success, Failed, Failed, Success]
    );
    let rows = rows_of(&manager, id).await;
    assert_eq!([code(&rows[2]), code(&rows[3])], ["timed_out", "timed_out"]);
    assert_eq!(world.noted(), [1, 2, 5]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_row_that_goes_again_takes_effect_once() {
    let world = World::new().await;
    let processor = effects(|tx, cx, n| {
        let attempt = cx.attempt();
        async move {
            note(tx, n).await?;
            match (n, attempt) {
                (2, 1) => Err(RowFailure::retry("busy")),
                (3, 1) => Err(RowFailure::Later(Duration::from_secs(5))),
                _ => Ok(json!(n)),
            }
        }
        .boxed()
    });
    let manager = world.manager_with(processor, settings(|s| s.max_attempts = 2));
    let id = submit(&manager, "post", numbers(5)).await;
    world.work(&manager).await;
    assert_eq!(world.noted(), [1, 4, 5]);
    world.h.kit().advance(3600);
    world.work(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Success; 5]);
    assert_eq!(world.noted(), [1, 2, 3, 4, 5]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_many_bad_rows_among_good_ones_cost_no_more_than_themselves() {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = effects(move |tx, cx, n| {
        seen.lock().unwrap().push(n);
        cx.write_line("all.txt", &n.to_string());
        async move {
            note(tx, n).await?;
            if n % 10 == 0 {
                tx.execute("select 1 / 0", &[]).await?;
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager(processor);
    let id = submit(&manager, "post", numbers(1000)).await;
    world.work(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!((batch.counts.success, batch.counts.failed), (900, 100));
    let good: Vec<i64> = (1..=1000).filter(|n| n % 10 != 0).collect();
    assert_eq!(world.noted(), good);
    let calls = calls.lock().unwrap().len();
    assert!(calls <= 2000, "{calls} calls for 1000 rows");
    let lines: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    assert_eq!(read(&manager, &batch, "all.txt").await, lines);
    world.end(&manager).await;
}

/// What is recorded of rows whose processor ends their transaction by a text, and whose effects are there.
async fn ends_its_transaction(sql: &'static str) -> (Vec<Status>, Vec<i64>, Vec<i64>) {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = effects(move |tx, _, n| {
        seen.lock().unwrap().push(n);
        async move {
            note(tx, n).await?;
            if n == 3 {
                tx.batch_execute(sql).await?;
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager(processor);
    let id = submit(&manager, "post", numbers(5)).await;
    world.work(&manager).await;
    let found = statuses(&manager, id).await;
    let row = &rows_of(&manager, id).await[2];
    assert_eq!(code(row), "transaction_ended");
    let op = manager.op(&key("post")).await.unwrap();
    assert!(op.paused, "nobody claims its tasks until it was looked at");
    // What had not begun is there for when it is resumed, and no row runs twice by itself.
    world.work(&manager).await;
    let calls = calls.lock().unwrap().clone();
    let noted = world.noted();
    world.end(&manager).await;
    (found, calls, noted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_sent_as_text_pauses_its_op_and_doubles_nothing() {
    let (found, calls, noted) = ends_its_transaction("commit").await;
    // Rows before it are kept with their effects.
    assert_eq!(found[..3], [Success, Success, Failed]);
    assert!(found[3..].iter().all(|s| *s == Status::Queued), "{found:?}");
    assert_eq!(calls, [1, 2, 3]);
    assert_eq!(noted, [1, 2, 3], "it may have taken effect, and says so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_sent_as_text_pauses_its_op_and_loses_nothing() {
    let (found, calls, noted) = ends_its_transaction("rollback").await;
    assert_eq!(found[2], Failed);
    let others = found.iter().enumerate().filter(|(at, _)| *at != 2);
    assert!(
        others.clone().all(|(_, s)| *s == Status::Queued),
        "{found:?}"
    );
    assert_eq!((calls, noted), (vec![1, 2, 3], vec![]));
}

/// Rows add to one counter by reading and writing it: what they do not see of each other is lost.
async fn counts(isolation: IsolationLevel, rows: u32) -> i64 {
    let world = World::new().await;
    world.h.run("insert into public.once values (0)");
    let managers = [world.h.again().await, world.h.again().await].map(|store| {
        let processor = effects(|tx, _, _| {
            async move {
                let n: i64 = tx.query_one("select n from once", &[]).await?.get(0);
                tx.execute("update once set n = $1", &[&(n + 1)]).await?;
                Ok(json!(n))
            }
            .boxed()
        });
        let builder = world.builder(store);
        let builder = builder.transactional("bank", "post", Effects(processor.0, isolation, false));
        let few = settings(|s| s.block_rows = 5);
        let builder = builder.settings("bank", "post", Kind::Batch, few);
        builder.build().unwrap()
    });
    let stop = CancellationToken::new();
    let works = managers.clone().map(|m| {
        let stop = stop.clone();
        tokio::spawn(async move { m.run(stop).await })
    });
    let id = submit(&managers[0], "post", numbers(rows)).await;
    let batch = done(&managers[0], id).await;
    assert_eq!(
        batch.counts.success,
        u64::from(rows),
        "no failure is counted"
    );
    stop.cancel();
    for work in works {
        work.await.unwrap().unwrap();
    }
    invariants(&world.h).await;
    let found = world.h.numbers("select n from public.once");
    assert_eq!(found.len(), 1);
    found[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serializable_rows_in_each_others_way_are_each_there_once() {
    assert_eq!(counts(IsolationLevel::Serializable, 60).await, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeatable_rows_in_each_others_way_are_each_there_once() {
    assert_eq!(counts(IsolationLevel::RepeatableRead, 60).await, 60);
}

/// As a deadlock does to whoever locks much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_others_are_in_the_way_of_together_go_in_smaller_pieces_and_not_one_by_one() {
    const MOST: i64 = 4;
    let world = World::new().await;
    world
        .h
        .run("alter table public.effects add tx bigint default txid_current()");
    let manager = world.manager(effects(|tx, _, n| {
        async move {
            note(tx, n).await?;
            let mine = "select count(*) from effects where tx = txid_current()";
            if tx.query_one(mine, &[]).await?.get::<_, i64>(0) > MOST {
                let refused =
                    "do $$ begin raise exception 'too many' using errcode = '40P01'; end $$";
                tx.batch_execute(refused).await?;
            }
            Ok(json!(n))
        }
        .boxed()
    }));
    let id = submit(&manager, "post", numbers(100)).await;
    world.work(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Success; 100]);
    assert_eq!(world.noted().len(), 100, "each is there once");
    let pieces = world
        .h
        .numbers("select count(*) from public.effects group by tx");
    assert!(pieces.iter().all(|rows| *rows <= MOST), "{pieces:?}");
    assert!(pieces.len() < 60, "{pieces:?}");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_an_abort_leaves_effects_of_the_rows_that_succeeded_and_of_no_other() {
    let world = World::new().await;
    let gate = Gate::new();
    let at = gate.clone();
    let processor = effects(move |tx, _, n| {
        let gate = at.clone();
        async move {
            note(tx, n).await?;
            if n == 3 {
                gate.pass().await;
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let grace = settings(|s| s.abort_grace = Duration::ZERO);
    let manager = world.manager_with(processor, grace);
    let id = submit(&manager, "post", numbers(5)).await;
    let (worker, stop) = (manager.clone(), CancellationToken::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop).await }
    });
    gate.entered(1).await;
    manager.batch_abort(id, Duration::ZERO).await.unwrap();
    let batch = done(&manager, id).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(batch.status, Aborted);
    assert_eq!(statuses(&manager, id).await, [Aborted; 5]);
    let rows = rows_of(&manager, id).await;
    assert!(rows.iter().all(|r| r.messages.is_none()), "no effect");
    assert!(world.noted().is_empty());
    world.end(&manager).await;
}

/// Notes its rows by one statement; refuses 13, and has nothing to say of 17.
struct NoteAll;

impl SetProcessor for NoteAll {
    type Block = ();
    type Context = Value;
    type Input = i64;
    type Output = Value;

    async fn process(
        &self,
        tx: &Transaction<'_>,
        _: &ChunkCx<'_, (), Value>,
        rows: &[InputRow<i64>],
        out: &mut ChunkOut<Value>,
    ) -> Result<(), RowFailure> {
        let all: Vec<i64> = rows.iter().map(|row| row.input).collect();
        let insert = "insert into effects select unnest($1::bigint[])";
        tx.execute(insert, &[&all]).await?;
        // What is twice in the table is the database's to find.
        tx.execute(
            "insert into once select unnest($1::bigint[]) / 2 * 2 where 40 = any ($1)",
            &[&all],
        )
        .await?;
        for (index, row) in rows.iter().enumerate() {
            match row.input {
                13 => out.failure(index, Message::new("unlucky", 7).into()),
                17 => {}
                n => out.success(index, &json!(n)),
            }
        }
        if all.contains(&23) {
            return Err(RowFailure::Error("23 is bad".into()));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_rows_of_a_set_cost_themselves_alone() {
    let world = World::new().await;
    let builder = world.builder(world.h.kit().store.clone());
    let manager = builder.set_based("bank", "post", NoteAll).build().unwrap();
    let mut rows: Vec<Value> = (1..=30).map(Value::from).collect();
    rows[4] = json!("five");
    let id = submit(&manager, "post", inputs(&rows)).await;
    world.work(&manager).await;
    let rows = rows_of(&manager, id).await;
    let failed: Vec<(u32, String)> = rows
        .iter()
        .filter(|r| r.status == Failed)
        .map(|r| (r.line.0, code(r)))
        .collect();
    let wanted = [
        (5, "bad_input"),
        (13, "unlucky"),
        (17, "no_outcome"),
        (23, "processing_error"),
    ];
    assert_eq!(failed, wanted.map(|(line, code)| (line, code.to_owned())));
    let good = (1..=30).filter(|n| ![5, 13, 17, 23].contains(n));
    assert_eq!(world.noted(), good.collect::<Vec<i64>>());
    world.end(&manager).await;
}

/// Sleeps where 7 is among its rows.
struct Sleeps;

impl SetProcessor for Sleeps {
    type Block = ();
    type Context = Value;
    type Input = i64;
    type Output = Value;

    async fn process(
        &self,
        tx: &Transaction<'_>,
        _: &ChunkCx<'_, (), Value>,
        rows: &[InputRow<i64>],
        out: &mut ChunkOut<Value>,
    ) -> Result<(), RowFailure> {
        let all: Vec<i64> = rows.iter().map(|row| row.input).collect();
        let insert = "insert into effects select unnest($1::bigint[])";
        tx.execute(insert, &[&all]).await?;
        if all.contains(&7) {
            tx.execute("select pg_sleep(3600)", &[]).await?;
        }
        (0..rows.len()).for_each(|index| out.success(index, &json!(index)));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_makes_its_set_take_too_long_costs_itself_alone() {
    let world = World::new().await;
    let timeout = settings(|s| s.timeout = Some(Duration::from_millis(300)));
    let builder = world.builder(world.h.kit().store.clone());
    let builder = builder.set_based("bank", "post", Sleeps);
    let builder = builder.settings("bank", "post", Kind::Batch, timeout);
    let manager = builder.build().unwrap();
    let id = submit(&manager, "post", numbers(20)).await;
    world.work(&manager).await;
    for row in rows_of(&manager, id).await {
        match row.line.0 {
            7 => assert_eq!(code(&row), "timed_out"),
            line => assert_eq!(row.status, Success, "line {line}: {:?}", row.messages),
        }
    }
    let good = (1..=20).filter(|n| *n != 7);
    assert_eq!(world.noted(), good.collect::<Vec<i64>>());
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_for_another_database_is_told_at_build_and_one_of_each_is_chosen_from() {
    use rowmill::sqlite;
    struct OnFile;
    impl sqlite::TransactionalProcessor for OnFile {
        type Block = ();
        type Context = Value;
        type Input = i64;
        type Output = Value;
        fn process(
            &self,
            _: &mut sqlite::Tx<'_>,
            _: &mut RowCx<'_, (), Value>,
            _: i64,
        ) -> Result<Value, RowFailure> {
            Ok(json!("SQLite"))
        }
    }
    let world = World::new().await;
    let here = || effects(|_, _, _| async { Ok(json!("PostgreSQL")) }.boxed());
    let builder = || world.builder(world.h.kit().store.clone());
    let refused = builder().transactional("bank", "post", OnFile).build();
    let text = refused.err().expect("refused").to_string();
    assert!(
        text.contains(
            "bank/post is transactional, and its processor is not written for PostgreSQL"
        ),
        "{text}"
    );
    let twice = builder()
        .transactional("bank", "post", here())
        .transactional("bank", "post", here());
    assert!(twice.build().is_err(), "two for one database");
    let file = tempfile::tempdir().unwrap();
    let file = Store::sqlite(file.path().join("rowmill.db")).await.unwrap();
    let refused = JobManager::builder(file.clone()).set_based("bank", "post", NoteAll);
    assert!(refused.build().is_err(), "a set on SQLite");
    for (store, wanted) in [
        (world.h.kit().store.clone(), "PostgreSQL"),
        (file, "SQLite"),
    ] {
        let manager = world
            .builder(store)
            .transactional("bank", "post", OnFile)
            .transactional("bank", "post", here())
            .build()
            .unwrap();
        let id = submit(&manager, "post", numbers(1)).await;
        world.work(&manager).await;
        let row = &rows_of(&manager, id).await[0];
        assert_eq!(
            row.result.as_ref().unwrap().get(),
            json!(wanted).to_string()
        );
        manager.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_submit_from_a_row_is_there_if_and_only_if_the_row_succeeds() {
    let world = World::new().await;
    let processor = effects(|tx, _, n| {
        async move {
            let next = NewRow {
                line: None,
                input: raw(&n.to_string()),
            };
            let new = NewBatch {
                context: raw("{}"),
                ..NewBatch::new(key("next"))
            };
            rowmill::postgres::submit_in(tx, new, [next]).await?;
            note(tx, n).await?;
            if n == 2 {
                return Err(Message::new("no", 1).into());
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager(processor);
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Success, Failed, Success]);
    assert_eq!(
        world.h.facts().batches.len(),
        3,
        "its own, and one for each row that succeeded"
    );
    assert_eq!(world.noted(), [1, 3]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_rows_that_commit_one_by_one_are_told_to_nobody_while_their_batch_goes_on() {
    let world = World::new().await;
    let other = world.h.again().await;
    let (told, mut signal) = (Arc::new(AtomicUsize::new(0)), other.signal());
    let counts = Arc::clone(&told);
    let counting = tokio::spawn(async move {
        loop {
            signal.changed().await;
            counts.fetch_add(1, Ordering::SeqCst);
        }
    });
    let one = settings(|s| (s.block_rows, s.local_concurrency) = (1, Some(1)));
    let processor = effects(|tx, _, n| {
        async move {
            note(tx, n).await?;
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager_with(processor, one);
    let id = submit(&manager, "post", numbers(200)).await;
    world.work(&manager).await;
    let batch = done(&manager, id).await;
    assert_eq!((batch.status, batch.counts.success), (Success, 200));
    assert_eq!(world.noted().len(), 200);
    counting.abort();
    // Its submit, its release, its end, and the op and the worker that came: not its rows.
    let told = told.load(Ordering::SeqCst);
    assert!(told < 20, "{told}");
    world.end(&manager).await;
}
