//! Rows of a task that run beside each other in one transaction of PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rowmill::model::{Message, OpSettings, Status};
use rowmill::postgres::TransactionalProcessor;
use rowmill::postgres::tokio_postgres::Transaction;
use rowmill::{JobManager, RowCx, RowFailure};
use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify};

use super::on_postgres::{World, note};
use super::world::{code, inputs, key, log, numbers, rows_of, settings, statuses, submit};

use Status::{Failed, Success};

type Answer<'a> = BoxFuture<'a, Result<Value, RowFailure>>;

/// A processor made of a function, whose rows may run in any order.
struct Beside<F>(F);

impl<F> TransactionalProcessor for Beside<F>
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

    fn any_order(&self) -> bool {
        true
    }
}

fn beside<F>(f: F) -> Beside<F>
where
    F: for<'a, 'b> Fn(&'a Transaction<'b>, &'a mut RowCx<'_, (), Value>, i64) -> Answer<'a>
        + Send
        + Sync
        + 'static,
{
    Beside(f)
}

/// So many rows of a task at once.
fn at_once(rows: u32) -> OpSettings {
    settings(|s| s.parallel = rows)
}

/// Works a batch of 1 to `rows` off, and gives each line's status and code.
async fn come_to(world: &World, manager: &JobManager, rows: u32) -> Vec<(Status, String)> {
    let id = submit(manager, "post", numbers(rows)).await;
    world.work(manager).await;
    let found = rows_of(manager, id).await;
    let word = |row: &rowmill::model::RowView| match row.status {
        Success => String::new(),
        _ => code(row),
    };
    found.iter().map(|row| (row.status, word(row))).collect()
}

/// All but these have succeeded and their effects are there, once; these failed with the code and left nothing.
fn all_succeed_but(found: &[(Status, String)], world: &World, bad: &[i64], expected: &str) {
    let (mut wanted, mut good) = (Vec::new(), Vec::new());
    for n in 1..=i64::try_from(found.len()).unwrap() {
        if bad.contains(&n) {
            wanted.push((Failed, expected.to_owned()));
        } else {
            wanted.push((Success, String::new()));
            good.push(n);
        }
    }
    assert_eq!(found, wanted);
    let mut noted = world.noted();
    noted.sort_unstable();
    assert_eq!(noted, good);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_may_run_in_any_order_run_beside_each_other_and_are_each_kept_once() {
    let world = World::new().await;
    // Nobody passes before four are here.
    let barrier = Arc::new(Barrier::new(4));
    let processor = beside(move |tx, _, n| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            note(tx, n).await?;
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(4));
    let found = come_to(&world, &manager, 400).await;
    all_succeed_but(&found, &world, &[], "");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_who_did_not_say_so_run_one_after_the_other_whatever_parallel_is() {
    let world = World::new().await;
    let order = log();
    let seen = order.clone();
    let processor = super::on_postgres::effects(move |tx, _, n| {
        let seen = seen.clone();
        async move {
            seen.lock().unwrap().push(n);
            note(tx, n).await?;
            tokio::task::yield_now().await;
            seen.lock().unwrap().push(n);
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(8));
    let found = come_to(&world, &manager, 100).await;
    all_succeed_but(&found, &world, &[], "");
    let twice: Vec<i64> = (1..=100).flat_map(|n| [n, n]).collect();
    assert_eq!(*order.lock().unwrap(), twice);
    world.end(&manager).await;
}

/// Rows 3, 77 and 150 of 200 do this beside others, and have failed with that code; nothing of theirs is there, and
/// all of their neighbours' is.
async fn costs_itself_alone<F>(expected: &str, bad: F)
where
    F: for<'a, 'b> Fn(&'a Transaction<'b>, &'a mut RowCx<'_, (), Value>) -> Answer<'a>
        + Send
        + Sync
        + 'static,
{
    let world = World::new().await;
    let bad = Arc::new(bad);
    let processor = beside(move |tx, cx, n| {
        let bad = Arc::clone(&bad);
        async move {
            note(tx, n).await?;
            if [3, 77, 150].contains(&n) {
                return bad(tx, cx).await;
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let settings = settings(|s| (s.parallel, s.timeout) = (16, Some(Duration::from_millis(500))));
    let manager = world.manager_with(processor, settings);
    let found = come_to(&world, &manager, 200).await;
    all_succeed_but(&found, &world, &[3, 77, 150], expected);
    world.end(&manager).await;
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
    beside_others_a_failed_row_costs_itself_alone: "no_money", |tx, cx| Err(Message::new("no_money", 7).into());
    beside_others_an_error_of_sql_costs_its_row_alone: "processing_error", |tx, cx| {
        tx.execute("insert into nothing values (1)", &[]).await?;
        Ok(json!(3))
    };
    beside_others_a_swallowed_error_of_sql_costs_its_row_alone: "processing_error", |tx, cx| {
        drop(tx.execute("select 1 / 0", &[]).await);
        Ok(json!(3))
    };
    beside_others_a_panic_costs_its_row_alone: "panic", |tx, cx| panic!("down");
    beside_others_a_bad_file_name_costs_its_row_alone: "bad_file_name", |tx, cx| {
        cx.write_line("../x", "3");
        Ok(json!(3))
    };
    beside_others_a_deferred_constraint_costs_its_row_alone: "processing_error", |tx, cx| {
        tx.execute("insert into children values (7)", &[]).await?;
        Ok(json!(3))
    };
    beside_others_a_row_that_waits_for_ever_costs_itself_alone: "timed_out", |tx, cx| {
        std::future::pending::<()>().await;
        Ok(json!(3))
    };
    beside_others_a_statement_that_takes_too_long_costs_its_row_alone: "timed_out", |tx, cx| {
        tx.execute("select pg_sleep(3600)", &[]).await?;
        Ok(json!(3))
    };
    beside_others_a_row_that_costs_the_connection_each_time_costs_itself_alone: "processing_error", |tx, cx| {
        tx.execute("select pg_terminate_backend(pg_backend_pid())", &[]).await?;
        Ok(json!(3))
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_is_not_judged_by_what_another_wrote_and_did_not_keep() {
    let world = World::new().await;
    let (written, looked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let calls = log();
    let seen = calls.clone();
    let processor = beside(move |tx, _, n| {
        let (written, looked) = (Arc::clone(&written), Arc::clone(&looked));
        let first = {
            let mut seen = seen.lock().unwrap();
            seen.push(n);
            seen.iter().filter(|of| **of == n).count() == 1
        };
        async move {
            if n == 1 {
                note(tx, n).await?;
                if first {
                    written.notify_one();
                    looked.notified().await;
                }
                return Err(Message::new("no_money", 1).into());
            }
            if first {
                written.notified().await;
            }
            let there = "select count(*) from effects where n = 1";
            let there: i64 = tx.query_one(there, &[]).await?.get(0);
            if first {
                assert_eq!(there, 1, "they are in one transaction");
                looked.notify_one();
                // The other one fails before this one has ended.
                std::future::pending::<()>().await;
            }
            match there {
                0 => Ok(json!(n)),
                _ => Err(Message::new("there", 1).into()),
            }
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(2));
    let found = come_to(&world, &manager, 2).await;
    let wanted = [(Failed, "no_money".to_owned()), (Success, String::new())];
    assert_eq!(found, wanted);
    assert_eq!(world.noted(), [0; 0]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_from_beside_a_row_that_failed_is_given_again_without_it() {
    let world = World::new().await;
    let both = Arc::new(Barrier::new(2));
    let calls = log();
    let seen = calls.clone();
    // The second one is judged by what the first wrote, and says so before the first one fails.
    let processor = beside(move |tx, _, n| {
        let both = Arc::clone(&both);
        let first = {
            let mut seen = seen.lock().unwrap();
            seen.push(n);
            seen.iter().filter(|of| **of == n).count() == 1
        };
        async move {
            if n == 1 {
                note(tx, n).await?;
                if first {
                    both.wait().await;
                    std::future::pending::<()>().await;
                }
                return Err(Message::new("no_money", 1).into());
            }
            if first {
                both.wait().await;
            }
            let there = "select count(*) from effects where n = 1";
            match tx.query_one(there, &[]).await?.get::<_, i64>(0) {
                0 => Ok(json!(n)),
                _ => Err(Message::new("there", 1).into()),
            }
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(2));
    let found = come_to(&world, &manager, 2).await;
    let wanted = [(Failed, "no_money".to_owned()), (Success, String::new())];
    assert_eq!(found, wanted);
    let calls = calls.lock().unwrap().clone();
    assert!(calls.iter().filter(|n| **n == 2).count() >= 2, "{calls:?}");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_does_not_fit_costs_nothing_of_its_neighbours() {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = beside(move |tx, _, n| {
        seen.lock().unwrap().push(n);
        async move {
            note(tx, n).await?;
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(8));
    let mut rows: Vec<Value> = (1..=50).map(Value::from).collect();
    rows[9] = json!("ten");
    let id = submit(&manager, "post", inputs(&rows)).await;
    world.work(&manager).await;
    let mut wanted = [Success; 50];
    wanted[9] = Failed;
    assert_eq!(statuses(&manager, id).await, wanted);
    assert_eq!(calls.lock().unwrap().len(), 49, "nobody ran twice");
    assert_eq!(world.noted().len(), 49);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_sent_as_text_beside_others_pauses_the_op_and_doubles_nothing() {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = beside(move |tx, _, n| {
        seen.lock().unwrap().push(n);
        async move {
            note(tx, n).await?;
            if n == 30 {
                tx.batch_execute("commit").await?;
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(4));
    let id = submit(&manager, "post", numbers(50)).await;
    world.work(&manager).await;
    assert!(manager.op(&key("post")).await.unwrap().paused);
    let found = rows_of(&manager, id).await;
    assert_eq!(code(&found[29]), "transaction_ended");
    let calls = calls.lock().unwrap().clone();
    let noted = world.noted();
    for row in found {
        let n = i64::from(row.line.0);
        let times = noted.iter().filter(|of| **of == n).count();
        match row.status {
            Success => assert_eq!(times, 1, "line {n}"),
            Failed => {
                assert_eq!(code(&row), "transaction_ended", "line {n}");
                assert!(times <= 1, "line {n}");
            }
            Status::Queued => assert_eq!(times, 0, "line {n}"),
            other => panic!("line {n} is {other:?}"),
        }
        let ran = calls.iter().filter(|of| **of == n).count();
        assert!(ran <= 1, "line {n} ran {ran} times");
    }
    world.end(&manager).await;
}

const KEPT: &str = "select * from once where n = $1";

/// A row that asks a statement that its connection keeps, and notes how many connections' servers keep it.
fn asks() -> Beside<
    impl for<'a, 'b> Fn(&'a Transaction<'b>, &'a mut RowCx<'_, (), Value>, i64) -> Answer<'a>
    + Send
    + Sync
    + 'static,
> {
    beside(|tx, cx, n| {
        async move {
            let kept = cx.prepare(tx, KEPT).await?;
            let found = tx.query(&kept, &[&n]).await?;
            note(tx, n).await?;
            Ok(json!(found.first().map(|row| row.len())))
        }
        .boxed()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_a_connection_keeps_is_prepared_anew_where_its_table_has_changed() {
    let world = World::new().await;
    world
        .h
        .run("insert into public.once select generate_series(1, 20)");
    let manager = world.manager_with(asks(), at_once(1));
    for (columns, change) in [(1, "alter table public.once add more text"), (2, "")] {
        let id = submit(&manager, "post", numbers(20)).await;
        world.work(&manager).await;
        for row in rows_of(&manager, id).await {
            let result = row.result.as_ref().map(|r| r.get().to_owned());
            let wanted = json!(columns).to_string();
            assert_eq!(result, Some(wanted), "{:?}", row.messages);
        }
        if !change.is_empty() {
            world.h.run(change);
        }
    }
    assert_eq!(world.noted().len(), 40);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_is_kept_from_row_to_row_and_from_task_to_task() {
    let world = World::new().await;
    let names = log();
    let seen = names.clone();
    let processor = beside(move |tx, cx, n| {
        let seen = seen.clone();
        async move {
            let kept = cx.prepare(tx, "insert into effects values ($1)").await?;
            tx.execute(&kept, &[&n]).await?;
            let mine = "select pg_backend_pid()::text || name from pg_prepared_statements where statement = 'insert into effects values ($1)'";
            for row in tx.query(mine, &[]).await? {
                seen.lock().unwrap().push(row.get::<_, String>(0));
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let one = settings(|s| (s.block_rows, s.local_concurrency) = (10, Some(1)));
    let manager = world.manager_with(processor, one);
    let found = come_to(&world, &manager, 100).await;
    all_succeed_but(&found, &world, &[], "");
    let mut names = names.lock().unwrap().clone();
    assert_eq!(names.len(), 100, "each row saw one");
    names.sort();
    names.dedup();
    let mut servers: Vec<String> = names
        .iter()
        .map(|n| n.split('s').next().unwrap().to_owned())
        .collect();
    servers.dedup();
    assert_eq!(names.len(), servers.len(), "one a connection: {names:?}");
    world.end(&manager).await;
}
