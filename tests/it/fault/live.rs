//! Who lives on PostgreSQL: workers that stand still, are cut off, and die, each in a process of its own.

use std::time::Duration;

use futures_util::FutureExt;
use rowmill::{CancellationToken, JobManager, ObjectStore};

use super::worker::Crew;
use crate::support::servers::{Database, Proxy, until};

const LONG: Duration = Duration::from_secs(60);

/// The workers' database with a heartbeat in milliseconds.
async fn crew(heartbeat: u64) -> (Crew, Database, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let database = tokio::task::spawn_blocking(Database::fresh);
    let database = database.await.expect("a database");
    let mut crew = Crew::new(dir.path(), database.url());
    crew.heartbeat = heartbeat;
    (crew, database, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stands_still_is_found_by_its_silence_and_goes_on_as_a_new_one() {
    let (crew, _database, _dir) = crew(3000).await;
    let id = crew.submit(1000).await;
    let still = crew.start("still", None);
    still.wait_begun(100);
    still.signal(libc::SIGSTOP);
    let [no] = crew.alive()[..] else {
        panic!("one worker")
    };
    assert!(crew.holds(no), "who stands still holds its lock");
    let had = crew.number("select count(*) from queue where state = 2");
    assert!(had > 0);
    let other = crew.start("other", None);
    let lost = crew.assert_whole(id, 1000).await;
    assert_eq!(lost, had, "one loss for each task that it had");
    assert!(crew.holds(no), "it was found lock or no lock");
    let recorded = format!(
        "select count(*) from attempts where worker = {no} and ended_as is distinct from 3"
    );
    let before = crew.number(&recorded);
    still.signal(libc::SIGCONT);
    still.wait_says("goes on as a new worker");
    assert_eq!(
        crew.number(&recorded),
        before,
        "its late writes are dropped"
    );
    assert_eq!(still.says("was declared dead"), 1, "{:#?}", still.said());
    assert!(still.says("fenced") <= 1, "{:#?}", still.said());
    until("a second entry", || (crew.alive().len() == 2).then_some(()));
    assert!(!crew.alive().contains(&no));
    // It works as any other.
    let begun = still.begun().len();
    other.stop();
    let next = crew.submit(100).await;
    crew.assert_whole(next, 100).await;
    assert!(still.begun().values().sum::<u32>() as usize >= begun + 100);
    still.stop();
    assert!(crew.alive().is_empty());
    until("its first lock falls", || (!crew.holds(no)).then_some(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_not_heard_of_starts_no_row_and_what_it_had_is_worked_by_others() {
    let (mut crew, database, _dir) = crew(6000).await;
    crew.row = 20;
    let proxy = Proxy::start(database.url());
    let id = crew.submit(1000).await;
    let away = crew.start("away", Some(proxy.url()));
    away.wait_begun(50);
    let [no] = crew.alive()[..] else {
        panic!("one worker")
    };
    let other = crew.start("other", None);
    proxy.freeze();
    let gone = format!("select 1 from workers where no = {no} and ended_at is not null");
    until("the silent one is found", || {
        (!crew.rows(&gone).is_empty()).then_some(())
    });
    // It has begun nothing for a third of the heartbeat, and begins nothing until it is heard of.
    let begun = away.begun();
    crew.assert_whole(id, 1000).await;
    assert_eq!(away.begun(), begun);
    proxy.thaw();
    away.wait_says("goes on as a new worker");
    assert!(away.begun().len() < 1000);
    until("a second entry", || (crew.alive().len() == 2).then_some(()));
    other.stop();
    away.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_is_taken_over_by_its_restart_before_its_first_claim() {
    let (crew, _database, _dir) = crew(30_000).await;
    let id = crew.submit(1000).await;
    let killed = crew.start("killed", None);
    killed.wait_begun(100);
    killed.kill();
    let again = crew.start("again", None);
    crew.assert_whole(id, 1000).await;
    let early = "select 1 from attempts a, workers w where w.ended_at is not null and a.worker > w.no and a.started_at < w.ended_at";
    assert!(crew.rows(early).is_empty(), "it claimed before it looked");
    again.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_killed_is_taken_over_within_two_seconds_by_who_runs_already() {
    let (crew, _database, _dir) = crew(30_000).await;
    let id = crew.submit(1000).await;
    let killed = crew.start("killed", None);
    killed.wait_begun(100);
    let [no] = crew.alive()[..] else {
        panic!("one worker")
    };
    let other = crew.start("other", None);
    until("the other", || (crew.alive().len() == 2).then_some(()));
    let killed_at = "select extract(epoch from clock_timestamp())::float8";
    let at: f64 = crew.rows(killed_at)[0].get(0);
    killed.kill();
    crew.assert_whole(id, 1000).await;
    let ended = format!("select extract(epoch from ended_at)::float8 from workers where no = {no}");
    let ended: f64 = crew.rows(&ended)[0].get(0);
    assert!(ended - at < 2.0, "after {} s", ended - at);
    other.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_stands_still_holds_nobody_up_for_longer_than_the_heartbeat() {
    let (crew, database, _dir) = crew(2000).await;
    let id = crew.submit(1).await;
    let proxy = Proxy::start(database.url());
    let mut still = Crew::new(std::path::Path::new("/"), proxy.url());
    still.heartbeat = 2000;
    let still = still.store().await;
    // The step waits for this lock, and gets it when its worker hears nothing any more.
    let (lock, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls)
        .await
        .expect("a connection");
    let connection = tokio::spawn(connection);
    let held = "begin; select 1 from rowmill.batches for update";
    lock.batch_execute(held).await.expect("locked");
    let now = rowmill::model::Timestamp::now();
    let aborts = tokio::spawn(async move { still.abort(id, "still".to_owned(), now).await });
    let waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    until("the step waits", || {
        (!crew.rows(waits).is_empty()).then_some(())
    });
    proxy.freeze();
    lock.batch_execute("rollback").await.expect("let go");
    let idle = "select 1 from pg_stat_activity where state = 'idle in transaction' and datname = current_database()";
    until("it holds the lock, and nothing comes", || {
        (!crew.rows(idle).is_empty()).then_some(())
    });
    let store = crew.store().await;
    let aborted = store.abort(id, "other".to_owned(), now);
    let aborted = tokio::time::timeout(LONG, aborted).await;
    aborted.expect("not for ever").expect("aborted");
    proxy.thaw();
    let refused = tokio::time::timeout(LONG, aborts).await.expect("an end");
    assert!(
        refused.expect("no panic").is_err(),
        "the server has undone it"
    );
    let by = "select by from audit where what = 'abort'";
    let by: Vec<String> = crew.rows(by).iter().map(|row| row.get(0)).collect();
    assert_eq!(by, ["other"]);
    drop(lock);
    drop(connection.await);
}

/// The workers' locks in the database.
fn locks(crew: &Crew) -> i64 {
    crew.number(
        "select count(*) from pg_locks where locktype = 'advisory' and classid = 1919907693
            and database = (select oid from pg_database where datname = current_database())",
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_could_not_enter_leaves_no_lock_behind() {
    let (crew, database, _dir) = crew(30_000).await;
    let store = crew.store().await;
    let refuses = "create function rowmill.not_now() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
                   create trigger not_now before update on rowmill.workers for each row execute function rowmill.not_now()";
    database.run(refuses);
    let enter = || {
        let worker = rowmill::store::NewWorker {
            host: "here".to_owned(),
            pid: 1,
            version: "0",
            ops: Vec::new(),
            only: None,
        };
        store.enter(worker, rowmill::model::Timestamp::now())
    };
    assert!(enter().await.is_err());
    until("the lock falls", || (locks(&crew) == 0).then_some(()));
    database.run("drop trigger not_now on rowmill.workers");
    enter().await.expect("entered");
    assert_eq!(locks(&crew), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_dropped_while_it_leaves_lets_go_of_its_life() {
    let (crew, database, dir) = crew(30_000).await;
    let store = crew.store().await;
    let builder = JobManager::builder(store).objects(ObjectStore::folder(dir.path().join("files")));
    let echo = crate::e2e::world::rows(|_, input| async move { Ok(input) }.boxed());
    let manager = builder.batch("bank", "post", echo).build().expect("whole");
    let stop = CancellationToken::new();
    let (runs, stopped) = (manager.clone(), stop.clone());
    let ran = tokio::spawn(async move { runs.run(stopped).await });
    until("it works", || (crew.alive().len() == 1).then_some(()));
    assert_eq!(locks(&crew), 1);
    // Its last statement waits for this, and none before it.
    let waits = "create function rowmill.waits() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(42); return new; end $$;
                 create trigger waits before update on rowmill.workers for each row when (new.ended_at is not null) execute function rowmill.waits()";
    database.run(waits);
    let connected = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await;
    let (lock, connection) = connected.expect("a connection");
    let connection = tokio::spawn(connection);
    let held = "select pg_advisory_lock(42)";
    lock.batch_execute(held).await.expect("locked");
    stop.cancel();
    let leaves = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()
                     and query like '-- Ends a worker that holds nothing%'";
    until("it leaves", || {
        (!crew.rows(leaves).is_empty()).then_some(())
    });
    ran.abort();
    assert!(ran.await.expect_err("dropped").is_cancelled());
    // The process goes on, and so does its session.
    until("it lets go", || (locks(&crew) == 0).then_some(()));
    drop(lock);
    drop(connection.await);
    let worker = "select 1 from rowmill.workers where ended_at is null";
    assert_eq!(crew.rows(worker).len(), 1, "somebody takes it over");
    drop(manager);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_whose_worker_is_gone_is_ended_by_the_server() {
    let (direct, database, _dir) = crew(30_000).await;
    let proxy = Proxy::start(database.url());
    let away = Crew::new(std::path::Path::new("/"), proxy.url());
    let kit = crate::support::Kit::new(away.store().await);
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    let sleep = rowmill::store::PostgresPiece::new(Box::new(|piece| {
        use futures_util::FutureExt as _;
        async move {
            let slept = piece.transaction().batch_execute("select pg_sleep(600)");
            drop(slept.await);
            None
        }
        .boxed()
    }));
    let piece = rowmill::store::Piece::Postgres(sleep);
    let done = kit
        .store
        .transact(worker, task.claim, piece, false, kit.now());
    let cut = async {
        let sleeps = "select 1 from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
        let see = move || direct.rows(sleeps).len();
        let see = tokio::task::spawn_blocking(move || {
            until("it runs", || (see() == 1).then_some(()));
            see
        });
        let see = see.await.expect("seen");
        proxy.refuse();
        proxy.cut();
        let began = std::time::Instant::now();
        let gone =
            tokio::task::spawn_blocking(move || until("it ends", || (see() == 0).then_some(())));
        gone.await.expect("gone");
        // Long before the time after which any statement is ended.
        assert!(began.elapsed() < Duration::from_secs(20));
    };
    let (done, ()) = tokio::join!(done, cut);
    assert!(!matches!(done, Ok(rowmill::store::Transacted::Done)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_compute_without_a_pause_stop_no_beat() {
    let (mut crew, _database, _dir) = crew(2000).await;
    crew.row = 3000;
    crew.computes = true;
    // A task for each of the threads that rows run on.
    let ids = [crew.submit(2).await, crew.submit(2).await];
    let busy = crew.start("busy", None);
    busy.wait_begun(2);
    let looks = crew.start("looks", None);
    for id in ids {
        let lost = crew.assert_done(id, 2).await;
        assert_eq!(lost, 0, "{:#?}", looks.said());
    }
    assert_eq!(busy.says("declared dead"), 0, "{:#?}", busy.said());
    busy.stop();
    looks.stop();
}
