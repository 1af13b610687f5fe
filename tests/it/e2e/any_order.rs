//! Rows of a task that run beside each other in one transaction of PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rowmill::model::{Message, OpSettings, Status};
use rowmill::postgres::tokio_postgres::{IsolationLevel, Transaction};
use rowmill::{CancellationToken, JobManager, RowCx, RowFailure};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use super::on_postgres::{Effects, World, note};
use super::world::{
    Gate, code, done, inputs, key, log, numbers, rows_of, settings, statuses, submit,
};

use Status::{Failed, Success};

type Answer<'a> = BoxFuture<'a, Result<Value, RowFailure>>;

/// A processor made of a function, whose rows may run in any order.
fn beside<F>(f: F) -> Effects<F>
where
    F: for<'a, 'b> Fn(&'a Transaction<'b>, &'a mut RowCx<'_, (), Value>, i64) -> Answer<'a>
        + Send
        + Sync
        + 'static,
{
    Effects(f, IsolationLevel::ReadCommitted, true)
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
    beside_others_a_row_that_hides_the_loss_of_its_connection_costs_itself_alone: "processing_error", |tx, cx| {
        drop(tx.execute("select pg_terminate_backend(pg_backend_pid())", &[]).await);
        Ok(json!(3))
    };
    beside_others_a_row_that_ends_its_savepoint_costs_itself_alone: "processing_error", |tx, cx| {
        tx.batch_execute("release savepoint rowmill_run").await?;
        Ok(json!(3))
    };
    beside_others_a_row_that_costs_the_connection_each_time_costs_itself_alone: "processing_error", |tx, cx| {
        tx.execute("select pg_terminate_backend(pg_backend_pid())", &[]).await?;
        Ok(json!(3))
    };
}

/// Row 2 looks at what row 1 has written, which fails after that; what they come to.
async fn looks_at_what_is_not_kept(
    answers: fn(i64) -> Result<Value, RowFailure>,
) -> Vec<(Status, String)> {
    let world = World::new().await;
    let (written, looked) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
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
            }
            if first {
                written.wait().await;
            }
            let there = "select count(*) from effects where n = 1";
            let there: i64 = tx.query_one(there, &[]).await?.get(0);
            if first {
                assert_eq!(there, 1, "they are in one transaction");
                looked.wait().await;
            }
            match n {
                1 => Err(Message::new("no_money", 1).into()),
                _ => answers(there),
            }
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(2));
    let id = submit(&manager, "post", numbers(2)).await;
    world.work(&manager).await;
    assert_eq!(world.noted(), [0; 0]);
    let found = rows_of(&manager, id).await;
    let said = |row: &rowmill::model::RowView| match &row.result {
        Some(result) => result.get().to_owned(),
        None => code(row),
    };
    let said = found.iter().map(|row| (row.status, said(row))).collect();
    world.end(&manager).await;
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_that_saw_what_is_not_kept_does_not_count() {
    let found = looks_at_what_is_not_kept(|there| Ok(json!(there))).await;
    let wanted = [(Failed, "no_money".to_owned()), (Success, "0".to_owned())];
    assert_eq!(found, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_that_saw_what_is_not_kept_does_not_count() {
    let judge = |there| match there {
        0 => Ok(json!("well")),
        _ => Err(Message::new("there", 1).into()),
    };
    let found = looks_at_what_is_not_kept(judge).await;
    let wanted = [
        (Failed, "no_money".to_owned()),
        (Success, "\"well\"".to_owned()),
    ];
    assert_eq!(found, wanted);
}

/// Calls for 1,000 rows of which these fail, 64 at once.
async fn calls_where_rows_fail(bad: impl Fn(i64) -> bool + Copy + Send + Sync + 'static) -> usize {
    let world = World::new().await;
    let calls = log();
    let seen = calls.clone();
    let processor = beside(move |tx, _, n| {
        seen.lock().unwrap().push(n);
        async move {
            note(tx, n).await?;
            match bad(n) {
                true => Err(Message::new("no_money", 1).into()),
                false => Ok(json!(n)),
            }
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(64));
    let found = come_to(&world, &manager, 1000).await;
    let bad: Vec<i64> = (1..=1000).filter(|n| bad(*n)).collect();
    all_succeed_but(&found, &world, &bad, "no_money");
    world.end(&manager).await;
    calls.lock().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_beside_bad_ones_run_a_few_times_at_most() {
    let all = calls_where_rows_fail(|_| true).await;
    assert!(all <= 1300, "{all}");
    let third = calls_where_rows_fail(|n| n % 3 == 0).await;
    assert!(third <= 3500, "{third}");
    let tenth = calls_where_rows_fail(|n| n % 10 == 0).await;
    assert!(tenth <= 3500, "{tenth}");
    let hundredth = calls_where_rows_fail(|n| n % 100 == 50).await;
    assert!(hundredth <= 2500, "{hundredth}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_beside_each_other_that_others_are_in_the_way_of_are_each_there_once() {
    let world = World::new().await;
    world
        .h
        .run("alter table public.effects add tx bigint default txid_current()");
    let processor = beside(|tx, _, n| {
        async move {
            note(tx, n).await?;
            let mine = "select count(*) from effects where tx = txid_current()";
            if tx.query_one(mine, &[]).await?.get::<_, i64>(0) > 4 {
                let refused =
                    "do $$ begin raise exception 'too many' using errcode = '40P01'; end $$";
                tx.batch_execute(refused).await?;
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(8));
    let found = come_to(&world, &manager, 100).await;
    all_succeed_but(&found, &world, &[], "");
    world.end(&manager).await;
}

/// A row whose transaction cannot be looked at any more when it gives up had committed it before.
async fn commits_and_hides_it(rows: u32, sql: &'static [&'static str]) {
    let world = World::new().await;
    let processor = beside(move |tx, _, n| {
        async move {
            note(tx, n).await?;
            for sql in sql {
                tx.batch_execute(sql).await?;
            }
            Ok(json!(n))
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(rows));
    let found = come_to(&world, &manager, rows).await;
    let ended = (Failed, "transaction_ended".to_owned());
    assert_eq!(found, vec![ended; rows as usize]);
    assert_eq!(world.noted().len(), rows as usize, "each once");
    assert!(manager.op(&key("post")).await.unwrap().paused);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_commits_and_loses_the_connection_has_taken_effect_once_and_says_so() {
    let sql = &["commit", "select pg_terminate_backend(pg_backend_pid())"];
    commits_and_hides_it(1, sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_commits_and_begins_another_that_fails_has_taken_effect_once_and_says_so() {
    commits_and_hides_it(1, &["commit; begin", "select 1 / 0"]).await;
}

/// Rows of a batch that is aborted while they wait; what of them is there, and what is recorded of each.
async fn aborted_while_it_waits(
    rows: u32,
    before: &'static str,
) -> (Vec<(Status, Option<String>)>, Vec<i64>) {
    let world = World::new().await;
    let gate = Gate::new();
    let at = gate.clone();
    let processor = beside(move |tx, _, n| {
        let gate = at.clone();
        async move {
            note(tx, n).await?;
            tx.batch_execute(before).await?;
            gate.pass().await;
            Ok(json!(n))
        }
        .boxed()
    });
    let settings = settings(|s| (s.parallel, s.abort_grace) = (rows, Duration::ZERO));
    let manager = world.manager_with(processor, settings);
    let id = submit(&manager, "post", numbers(rows)).await;
    let (worker, stop) = (manager.clone(), CancellationToken::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop).await }
    });
    gate.entered(rows).await;
    manager.batch_abort(id, Duration::ZERO).await.unwrap();
    let ended = done(&manager, id).await.status;
    assert_eq!(
        ended,
        if before.is_empty() {
            Status::Aborted
        } else {
            Failed
        }
    );
    stop.cancel();
    running.await.unwrap().unwrap();
    let found = rows_of(&manager, id).await;
    let said = found
        .iter()
        .map(|row| (row.status, row.messages.as_ref().map(|_| code(row))));
    let (said, noted) = (said.collect(), world.noted());
    world.end(&manager).await;
    (said, noted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_leaves_nothing_of_rows_beside_each_other_that_had_not_ended() {
    let (found, noted) = aborted_while_it_waits(4, "").await;
    assert_eq!(found, vec![(Status::Aborted, None); 4]);
    assert!(noted.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_committed_by_a_text_and_are_aborted_may_have_taken_effect_and_say_so() {
    for rows in [1, 2] {
        let (found, noted) = aborted_while_it_waits(rows, "commit").await;
        let ended = (Failed, Some("transaction_ended".to_owned()));
        assert_eq!(found, vec![ended; rows as usize]);
        assert_eq!(noted.len(), rows as usize);
    }
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
fn asks() -> Effects<
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
    let manager = world.manager_with(asks(), at_once(8));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_beside_one_that_fails_leave_no_statement_behind_on_the_connection() {
    const LEFT: &str =
        "select count(*) from pg_prepared_statements where statement like 'insert into effects%'";
    let world = World::new().await;
    let processor = beside(|tx, _, n| {
        async move {
            if n == 1001 {
                return Ok(json!(tx.query_one(LEFT, &[]).await?.get::<_, i64>(0)));
            }
            note(tx, n).await?;
            match n % 10 {
                5 => Err(Message::new("no_money", 1).into()),
                _ => Ok(json!(n)),
            }
        }
        .boxed()
    });
    let one = settings(|s| (s.parallel, s.local_concurrency) = (16, Some(16)));
    let manager = world.manager_with(processor, one);
    let id = submit(&manager, "post", numbers(1001)).await;
    world.work(&manager).await;
    let last = &rows_of(&manager, id).await[1000];
    let left = last.result.as_ref().map(|r| r.get().to_owned());
    assert_eq!(left.as_deref(), Some("0"), "{:?}", last.messages);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_keeps_no_more_than_a_thousand_statements() {
    let world = World::new().await;
    let processor = beside(|tx, cx, n| {
        async move {
            for of in 0..700 {
                let sql = format!("select {n} * 1000 + {of}");
                tx.query_one(&cx.prepare(tx, &sql).await?, &[]).await?;
                drop(cx.prepare(tx, &sql).await?);
            }
            let kept = "select count(*) from pg_prepared_statements";
            Ok(json!(tx.query_one(kept, &[]).await?.get::<_, i64>(0)))
        }
        .boxed()
    });
    let manager = world.manager_with(processor, at_once(1));
    let id = submit(&manager, "post", numbers(4)).await;
    world.work(&manager).await;
    for row in rows_of(&manager, id).await {
        let kept: i64 = serde_json::from_str(row.result.as_ref().unwrap().get()).unwrap();
        assert!(kept < 1100, "{kept}");
        assert!(kept >= 700 || row.line.0 > 1, "{kept}");
    }
    world.end(&manager).await;
}
