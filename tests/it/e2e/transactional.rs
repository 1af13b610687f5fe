//! Processors whose writes commit with their rows' outcomes.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use rowmill::model::{Delivery, Kind, Message, Status};
use rowmill::sqlite::{TransactionalProcessor, Tx};
use rowmill::{CancellationToken, JobManager, NewRow, RowCx, RowFailure};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::world::{
    World, code, done, inputs, key, log, numbers, read, rows_of, settings, statuses, submit,
};

/// A processor made of a function.
struct Effects<F>(F);

impl<F> TransactionalProcessor for Effects<F>
where
    F: Fn(&mut Tx<'_>, &mut RowCx<'_, (), Value>, i64) -> Result<Value, RowFailure>
        + Send
        + Sync
        + 'static,
{
    type Block = ();
    type Context = Value;
    type Input = i64;
    type Output = Value;

    fn process(
        &self,
        tx: &mut Tx<'_>,
        cx: &mut RowCx<'_, (), Value>,
        input: i64,
    ) -> Result<Value, RowFailure> {
        (self.0)(tx, cx, input)
    }
}

fn effects<F>(f: F) -> Effects<F>
where
    F: Fn(&mut Tx<'_>, &mut RowCx<'_, (), Value>, i64) -> Result<Value, RowFailure>
        + Send
        + Sync
        + 'static,
{
    Effects(f)
}

const SCHEMA: &str = "
    create table effects (n integer not null);
    create table once (n integer primary key);
    create table parents (n integer primary key);
    create table children (n integer references parents (n) deferrable initially deferred);";

/// A statement that ends when it is interrupted.
const ENDLESS: &str = "insert into effects with recursive c (n) as (select 100 union all select n + 1 from c) select n from c";

fn note(tx: &mut Tx<'_>, n: i64) -> Result<(), RowFailure> {
    tx.execute("insert into effects values (?1)", [n])?;
    Ok(())
}

fn noted(world: &World) -> Vec<i64> {
    let db = world.db();
    let mut found = db.prepare("select n from effects order by n").unwrap();
    let found = found.query_map([], |r| r.get(0)).unwrap();
    found.collect::<Result<_, _>>().unwrap()
}

async fn world() -> World {
    let world = World::new().await;
    world.db().execute_batch(SCHEMA).unwrap();
    world
}

/// A manager of the op `bank/post`.
fn manager(world: &World, processor: impl TransactionalProcessor) -> JobManager {
    let builder = world.builder().transactional("bank", "post", processor);
    builder.build().unwrap()
}

/// A processor whose rows take 2 ms each, and what says that the first has begun.
fn slow() -> (impl TransactionalProcessor, mpsc::Receiver<()>) {
    let (began, begun) = mpsc::channel();
    let processor = effects(move |tx, _, n| {
        note(tx, n)?;
        let _ = began.send(());
        let until = Instant::now() + Duration::from_millis(2);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        Ok(json!(n))
    });
    (processor, begun)
}

/// Works in the background until it is stopped; returns when the first row has begun.
async fn working(
    manager: &JobManager,
    begun: mpsc::Receiver<()>,
) -> (CancellationToken, JoinHandle<rowmill::Result<()>>) {
    let (worker, stop) = (manager.clone(), CancellationToken::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop).await }
    });
    let waited = tokio::task::spawn_blocking(move || begun.recv()).await;
    waited.unwrap().unwrap();
    (stop, running)
}

/// Works five rows off with a processor in which row 3 is the bad one; returns the statuses.
async fn with_bad_row(
    world: &World,
    bad: impl Fn(&mut Tx<'_>, &mut RowCx<'_, (), Value>) -> Result<Value, RowFailure>
    + Send
    + Sync
    + 'static,
) -> (Vec<Status>, String) {
    let processor = effects(move |tx, cx, n| {
        note(tx, n)?;
        if n == 3 {
            return bad(tx, cx);
        }
        Ok(json!(n))
    });
    let manager = manager(world, processor);
    let id = submit(&manager, "post", numbers(5)).await;
    world.work(&manager).await;
    let found = statuses(&manager, id).await;
    let code = code(&rows_of(&manager, id).await[2]);
    world.end(&manager).await;
    (found, code)
}

use Status::{Aborted, Failed, Success};

/// Row 3 has failed with this code and left nothing; its neighbours' effects are there.
async fn costs_itself_alone(
    expected: &str,
    bad: impl Fn(&mut Tx<'_>, &mut RowCx<'_, (), Value>) -> Result<Value, RowFailure>
    + Send
    + Sync
    + 'static,
) {
    let world = world().await;
    let (found, code) = with_bad_row(&world, bad).await;
    assert_eq!(found, [Success, Success, Failed, Success, Success]);
    assert_eq!(code, expected);
    assert_eq!(noted(&world), [1, 2, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_rows_writes_are_undone_and_its_neighbours_keep_theirs() {
    costs_itself_alone("no_money", |_, _| Err(Message::new("no_money", 7).into())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_errors_writes_are_undone() {
    costs_itself_alone("processing_error", |tx, _| {
        tx.execute("insert into nothing values (1)", [])?;
        Ok(json!(3))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panics_writes_are_undone() {
    costs_itself_alone("panic", |_, _| panic!("down")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_a_bad_file_name_writes_nothing() {
    costs_itself_alone("bad_file_name", |_, cx| {
        cx.write_line("../x", "3");
        Ok(json!(3))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transactional_row_that_gives_back_too_much_leaves_nothing() {
    costs_itself_alone("outcome_too_large", |_, _| Ok(json!("x".repeat(64 << 20)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_rolls_the_transaction_back_costs_itself_alone() {
    costs_itself_alone("processing_error", |tx, _| {
        tx.execute("insert into once values (1)", [])?;
        tx.execute("insert or rollback into once values (1)", [])?;
        Ok(json!(3))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn success_after_a_lost_transaction_is_no_success_and_writes_nothing() {
    costs_itself_alone("processing_error", |tx, _| {
        tx.execute("insert into once values (1)", [])?;
        let twice = tx.execute("insert or rollback into once values (1)", []);
        assert!(twice.is_err());
        let after = tx.execute("insert into effects values (99)", []);
        assert!(after.is_err(), "a statement outside of the transaction");
        Ok(json!(3))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_sent_as_text_is_refused_and_changes_nothing() {
    costs_itself_alone("processing_error", |tx, _| {
        tx.execute("commit", [])?;
        Ok(json!(3))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rowmills_own_tables_are_read_and_never_written() {
    costs_itself_alone("processing_error", |tx, _| {
        let tasks = tx.query_one("select count(*) from queue", [], |r| r.get::<_, i64>(0))?;
        assert!(tasks > Some(0));
        tx.execute("delete from queue", [])?;
        Ok(json!(3))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_foreign_key_belongs_to_the_row_that_violates_it() {
    costs_itself_alone("processing_error", |tx, _| {
        tx.execute("insert into children values (7)", [])?;
        Ok(json!(3))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_error_that_is_handled_costs_nothing() {
    let world = world().await;
    let processor = effects(|tx, _, n| {
        note(tx, n)?;
        // Every second row finds what the one before it wrote.
        let inserted = tx.execute("insert into once values (?1)", [n / 2]);
        Ok(json!(inserted.is_ok()))
    });
    let manager = manager(&world, processor);
    let id = submit(&manager, "post", numbers(5)).await;
    world.work(&manager).await;
    let rows = rows_of(&manager, id).await;
    let found: Vec<&str> = rows
        .iter()
        .map(|r| r.result.as_ref().unwrap().get())
        .collect();
    assert_eq!(found, ["true", "true", "false", "true", "false"]);
    assert_eq!(noted(&world), [1, 2, 3, 4, 5]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_takes_too_long_is_interrupted_and_has_no_effect() {
    let world = world().await;
    let processor = effects(|tx, _, n| {
        note(tx, n)?;
        if n == 3 {
            tx.execute(ENDLESS, [])?;
        }
        Ok(json!(n))
    });
    let timeout = Some(Duration::from_millis(100));
    let manager = world
        .builder()
        .transactional("bank", "post", processor)
        .settings(
            "bank",
            "post",
            Kind::Batch,
            settings(|s| s.timeout = timeout),
        )
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(5)).await;
    world.work(&manager).await;
    assert_eq!(
        statuses(&manager, id).await,
        [Success, Success, Failed, Success, Success]
    );
    assert_eq!(code(&rows_of(&manager, id).await[2]), "timed_out");
    assert_eq!(noted(&world), [1, 2, 4, 5]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_goes_again_takes_effect_once() {
    let world = world().await;
    let processor = effects(|tx, cx, n| {
        note(tx, n)?;
        match (n, cx.attempt()) {
            (2, 1) => Err(RowFailure::retry("busy")),
            (3, 1) => Err(RowFailure::Later(Duration::from_secs(5))),
            (5, 1) => {
                tx.execute(ENDLESS, [])?;
                Ok(json!(n))
            }
            _ => Ok(json!(n)),
        }
    });
    let manager = world
        .builder()
        .transactional("bank", "post", processor)
        .settings(
            "bank",
            "post",
            Kind::Batch,
            settings(|s| {
                s.max_attempts = 2;
                s.timeout = Some(Duration::from_millis(100));
            }),
        )
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(5)).await;
    world.work(&manager).await;
    assert_eq!(noted(&world), [1, 4]);
    world.work_to_the_end(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Success; 5]);
    assert_eq!(noted(&world), [1, 2, 3, 4, 5]);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_read_what_those_before_them_wrote_and_write_files_in_order() {
    let world = world().await;
    let processor = effects(|tx, cx, n| {
        note(tx, n)?;
        let sum = tx.query_one("select sum(n) from effects", [], |r| r.get::<_, i64>(0))?;
        let all = tx.query_all("select n from effects", [], |r| r.get::<_, i64>(0))?;
        assert_eq!(i64::try_from(all.len()).unwrap(), n);
        assert!(tx.last_insert_rowid() > 0);
        cx.write_line("sums.txt", &sum.unwrap_or(0).to_string());
        Ok(json!(sum))
    });
    let manager = manager(&world, processor);
    let id = submit(&manager, "post", numbers(4)).await;
    world.work(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!(read(&manager, &batch, "sums.txt").await, "1\n3\n6\n10\n");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_and_contexts_that_do_not_fit_fail_their_rows() {
    let world = world().await;
    let processor = effects(|tx, _, n| {
        note(tx, n)?;
        Ok(json!(n))
    });
    let manager = manager(&world, processor);
    let id = submit(&manager, "post", inputs(&[json!(1), json!("x"), json!(3)])).await;
    world.work(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Success, Failed, Success]);
    assert_eq!(code(&rows_of(&manager, id).await[1]), "bad_input");
    assert_eq!(noted(&world), [1, 3]);
    world.end(&manager).await;
}

/// Rows that are slow enough for several transactions: effects and outcomes agree wherever the abort comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_leaves_effects_of_the_rows_that_succeeded_and_of_no_other() {
    let world = world().await;
    let (processor, begun) = slow();
    let manager = manager(&world, processor);
    let id = submit(&manager, "post", numbers(1000)).await;
    let (stop, running) = working(&manager, begun).await;
    manager.batch_abort(id, Duration::ZERO).await.unwrap();
    let batch = done(&manager, id).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(batch.status, Aborted);
    let rows = rows_of(&manager, id).await;
    let succeeded = rows.iter().filter(|r| r.status == Success);
    let succeeded: Vec<i64> = succeeded.map(|r| i64::from(r.line.0)).collect();
    assert!(!succeeded.is_empty(), "the transaction under way commits");
    assert_eq!(noted(&world), succeeded);
    let aborted = rows.iter().filter(|r| r.status == Aborted);
    for row in aborted {
        assert!(row.messages.is_none(), "nothing of it may take effect");
    }
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_loses_nothing_and_does_nothing_twice() {
    let world = world().await;
    let (processor, begun) = slow();
    let manager = manager(&world, processor);
    let id = submit(&manager, "post", numbers(500)).await;
    let (stop, running) = working(&manager, begun).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    let before = manager.batch_status(id).await.unwrap();
    assert!(!before.done, "the stop came before the end");
    assert_eq!(
        noted(&world).len(),
        usize::try_from(before.counts.success).unwrap()
    );
    world.work(&manager).await;
    assert_eq!(statuses(&manager, id).await, [Success; 500]);
    assert_eq!(noted(&world), (1..=500).collect::<Vec<i64>>());
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_bad_rows_among_good_ones_cost_no_more_than_themselves() {
    let world = world().await;
    let calls = log();
    let seen = calls.clone();
    let processor = effects(move |tx, _, n| {
        seen.lock().unwrap().push(n);
        note(tx, n)?;
        if n % 10 == 0 {
            tx.execute("insert into once values (1)", [])?;
            tx.execute("insert or rollback into once values (1)", [])?;
        }
        Ok(json!(n))
    });
    let manager = manager(&world, processor);
    let id = submit(&manager, "post", numbers(1000)).await;
    world.work(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!((batch.counts.success, batch.counts.failed), (900, 100));
    let good: Vec<i64> = (1..=1000).filter(|n| n % 10 != 0).collect();
    assert_eq!(noted(&world), good);
    let calls = calls.lock().unwrap().len();
    assert!(calls <= 2000, "{calls} calls for 1000 rows");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_is_no_setting_of_a_transactional_op() {
    let world = world().await;
    let built = world
        .builder()
        .transactional("bank", "post", effects(|_, _, n| Ok(json!(n))))
        .settings(
            "bank",
            "post",
            Kind::Batch,
            settings(|s| s.delivery = Delivery::AtMostOnce),
        )
        .build();
    let text = built.err().expect("refused").to_string();
    assert!(text.contains("bank/post is transactional"), "{text}");
    // Nor does a worker take it from whoever does not know what the op is.
    let change = [("delivery".to_owned(), "at_most_once".to_owned())];
    let manager = manager(
        &world,
        effects(|tx, _, _| {
            let suspect = "select suspect from queue";
            Ok(json!(tx.query_one(suspect, [], |r| r.get::<_, i64>(0))?))
        }),
    );
    let id = submit(&manager, "post", numbers(2)).await;
    let set = world.kit().client();
    set.op_set(&key("post"), &change).await.unwrap();
    world.work(&manager).await;
    for row in rows_of(&manager, id).await {
        assert_eq!(row.result.unwrap().get(), "0", "no row is to blame alone");
    }
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submit_from_a_row_is_there_if_and_only_if_the_row_succeeds() {
    use rowmill::model::NewBatch;
    let world = world().await;
    let processor = effects(|tx, _, n| {
        let next = NewRow {
            line: None,
            input: super::world::raw(&n.to_string()),
        };
        let id = rowmill::sqlite::submit_in(tx, NewBatch::new(super::world::key("next")), [next])?;
        note(tx, n)?;
        if n == 2 {
            return Err(Message::new("no", 1).into());
        }
        Ok(json!(id.to_string()))
    });
    let manager = manager(&world, processor);
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    let rows = rows_of(&manager, id).await;
    assert_eq!(statuses(&manager, id).await, [Success, Failed, Success]);
    let batches = world.facts().batches.len();
    assert_eq!(batches, 3, "its own, and one for each row that succeeded");
    let child: String = serde_json::from_str(rows[2].result.as_ref().unwrap().get()).unwrap();
    let child = manager.batch_status(child.parse().unwrap()).await.unwrap();
    assert_eq!((child.status, child.counts.rows), (Status::Queued, 1));
    assert_eq!(noted(&world), [1, 3]);
    world.end(&manager).await;
}
