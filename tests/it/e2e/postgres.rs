//! The engine on PostgreSQL: several processes on one database, and what cuts them from it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use rowmill::model::{Kind, NewBatch, Status};
use rowmill::store::postgres::{Options, PostgresStore};
use rowmill::store::{Piece, PostgresPiece, Recorded, Serves, StoreError, Transacted};
use rowmill::{JobManager, ObjectStore, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

use super::world::{LONG, Tally, count, done, key, numbers, read, rows, rows_of, settings, submit};
use crate::support::servers::{Database, Proxy, until};
use crate::support::{Harness as _, Kit, Outcomes, Postgres, invariants};

/// A process of its own on the database, as far as the store can tell.
fn manager(store: Store, folder: &TempDir, tally: &Tally) -> JobManager {
    let tally = tally.clone();
    let processor = rows(move |cx, input| {
        count(&tally, &input);
        cx.write_line("all.csv", &input.to_string());
        async move { Ok(Value::Null) }.boxed()
    });
    let small = settings(|s| s.block_rows = 50);
    let builder = JobManager::builder(store).objects(ObjectStore::folder(folder.path()));
    let builder = builder.batch("bank", "post", processor);
    let builder = builder.settings("bank", "post", Kind::Batch, small);
    builder.build().expect("a manager")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_two_processes_share_a_batch_and_its_file_is_in_line_order() {
    let h = Postgres::open().await;
    let folder = tempfile::tempdir().expect("a folder");
    let tally = Tally::default();
    let managers = [h.again().await, h.again().await].map(|s| manager(s, &folder, &tally));
    let stop = CancellationToken::new();
    let works = managers.clone().map(|m| {
        let stop = stop.clone();
        tokio::spawn(async move { m.run(stop).await })
    });
    let client = h.kit().client();
    let id = submit(&client, "post", numbers(2_000)).await;
    let batch = done(&managers[0], id).await;
    assert_eq!(
        (batch.status, batch.counts.success),
        (Status::Success, 2_000)
    );
    let lines: String = (1..=2_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(read(&managers[1], &batch, "all.csv").await, lines);
    let once = (1..=2_000).all(|n| count(&tally, &Value::from(n)) == 2);
    assert!(once, "each row ran once; the look at it is the second");
    stop.cancel();
    for work in works {
        work.await.expect("no panic").expect("stopped");
    }
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_processes_that_start_at_once_make_one_schema() {
    let database = Database::fresh();
    let opened = join_all((0..10).map(|_| Store::postgres_url(database.url()))).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    let versions = database.rows("select version::bigint from schema_history", None);
    let versions: Vec<i64> = versions.iter().map(|r| r.get(0)).collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
    let steps = std::fs::read_dir(folder).expect("migrations").count();
    assert_eq!(versions, (1..).take(steps).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_newer_than_the_program_is_refused() {
    let h = Postgres::open().await;
    let newer = "insert into rowmill.schema_history (version, name, applied_on, checksum)
                 select 99, 'to_come', applied_on, checksum from rowmill.schema_history limit 1";
    Database::run_at(h.url(), newer);
    let refused = Store::postgres_url(h.url()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unusable(_)), "{refused:?}");
    assert!(refused.to_string().contains("newer"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_hears_of_what_another_has_submitted() {
    let h = Postgres::open().await;
    let other = h.again().await;
    let mut signal = other.signal();
    while signal.take() {}
    h.kit().submit(h.kit().new_batch(), &[1]).await;
    let heard = tokio::time::timeout(LONG, signal.changed()).await;
    heard.expect("woken without a look of its own");
}

/// The store with the time between two looks at a free lock as it is by default.
async fn patient(h: &Postgres) -> Store {
    let options = Options::new(h.url()).expect("an address");
    Store::new(PostgresStore::open(options).await.expect("a store"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_connections_are_cut_lives_on_and_keeps_its_tasks() {
    let h = Postgres::open().await;
    let kit = Kit {
        store: patient(&h).await,
        clock: Arc::clone(&h.kit().clock),
    };
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[1]).await;
    let task = kit.claim_one(worker, op).await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and application_name = 'rowmill'";
    Database::run_at(h.url(), cut);
    // The lock is taken again by the connection that comes in the other's place.
    let held =
        "select 1 from pg_locks where locktype = 'advisory' and classid = 1919907693 and granted
                   and database = (select oid from pg_database where datname = current_database())";
    let url = h.url().to_owned();
    let back = move || (!Database::rows_at(&url, held).is_empty()).then_some(());
    let back = tokio::task::spawn_blocking(move || until("the lock is held again", back));
    back.await.expect("in time");
    assert!(kit.store.dead_workers().await.expect("a look").is_empty());
    let part = Outcomes::of(&task).all_success().ends();
    let recorded = kit.store.record(worker, vec![part], kit.now()).await;
    assert_eq!(recorded.expect("recorded").len(), 1);
    assert_eq!(kit.batch(id).await.status, Status::Success);
    invariants(&h).await;
}

/// Whoever looks on was not cut off itself, and may conclude from a lock that is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_connections_are_cut_is_not_missed_by_who_was_not_cut_off() {
    let h = Postgres::open().await;
    let proxy = Proxy::start(h.url());
    let behind = Options::new(proxy.url()).expect("an address");
    let behind = PostgresStore::open(behind).await.expect("a store");
    let mut options = Options::new(h.url()).expect("an address");
    // A busy machine may need longer than usual to be back.
    options.dead_after = Duration::from_secs(2);
    let watcher = Store::new(PostgresStore::open(options).await.expect("a store"));
    let kit = Kit {
        store: Store::new(behind),
        clock: Arc::clone(&h.kit().clock),
    };
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    let holder = "select pid::bigint from pg_locks where locktype = 'advisory' and classid = 1919907693 and granted
                    and database = (select oid from pg_database where datname = current_database())";
    let looks = async |until_held_by: &dyn Fn(&[i64]) -> bool| loop {
        let dead = watcher.dead_workers().await.expect("a look");
        assert!(dead.is_empty(), "{dead:?}");
        if until_held_by(&h.numbers(holder)) {
            break;
        }
    };
    for _ in 0..5 {
        let before = h.numbers(holder);
        assert_eq!(before.len(), 1);
        proxy.cut();
        let again = |pids: &[i64]| pids.len() == 1 && pids != before;
        let back = tokio::time::timeout(LONG, looks(&again));
        back.await.expect("it takes its lock again");
    }
    let part = Outcomes::of(&task).all_success().ends();
    assert_eq!(kit.record(worker, part).await, Recorded::Done);
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_whose_idle_connections_were_all_lost_is_made_on_a_new_one() {
    let h = Postgres::open().await;
    let store = h.again().await;
    let id = rowmill::model::BatchId::new();
    for _ in 0..3 {
        // As many connections as reads at once.
        let reads = join_all((0..8).map(|_| store.batch(id))).await;
        assert!(
            reads
                .into_iter()
                .all(|read| read.expect("a read").is_none())
        );
        let cut = "select pg_terminate_backend(pid, 10000) from pg_stat_activity
                    where datname = current_database() and application_name = 'rowmill'";
        Database::run_at(h.url(), cut);
        let read = store.batch(id).await;
        assert!(read.expect("a read on another").is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_process_is_found_by_two_looks_at_its_lock() {
    let h = Postgres::open().await;
    let watcher = patient(&h).await;
    let kit = h.kit();
    let op = kit.op().await;
    let dying = h.again().await;
    let serves = vec![Serves { op, notify: false }];
    let worker = kit.enter(&dying, serves, None).await;
    assert!(watcher.dead_workers().await.expect("a look").is_empty());
    drop(dying);
    let look = async {
        loop {
            if watcher.dead_workers().await.expect("a look") == [worker] {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, look).await.expect("found dead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_acknowledges_what_is_not_durable_is_refused() {
    let h = Postgres::open().await;
    let off = "do $$ begin execute format('alter database %I set synchronous_commit to off', current_database()); end $$";
    Database::run_at(h.url(), off);
    let refused = Store::postgres_url(h.url()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unusable(_)), "{refused:?}");
    assert!(
        refused.to_string().contains("synchronous_commit"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_that_commits_by_itself_or_swallows_an_error_has_no_outcome() {
    use Transacted::Ended;
    for (sql, expected) in [
        ("commit", Some(Ended { kept: true })),
        ("rollback", Some(Ended { kept: false })),
        ("commit; begin", Some(Ended { kept: true })),
        ("select 1 / 0", None),
    ] {
        let h = Postgres::open().await;
        let kit = h.kit();
        let (op, worker) = kit.op_and_worker().await;
        kit.rows_of(1).await;
        let task = kit.claim_one(worker, op).await;
        let part = Outcomes::of(&task).all_success().ends();
        let piece = Piece::Postgres(PostgresPiece::new(Box::new(move |piece| {
            async move {
                drop(piece.transaction().batch_execute(sql).await);
                Some(part)
            }
            .boxed()
        })));
        let done = kit
            .store
            .transact(worker, task.claim, piece, false, kit.now());
        assert_eq!(done.await.ok(), expected, "{sql}");
        assert!(h.facts().parts.is_empty(), "{sql}: no outcome");
        assert_eq!(h.facts().tasks.len(), 1, "{sql}: the task is there");
        invariants(&h).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_read_back_as_they_were_given() {
    let h = Postgres::open().await;
    let client = h.kit().client();
    let texts = [
        r#""a\u0000b""#,
        "1e200000",
        r#"{"b":1,"a":[ 2 ],"b":3}"#,
        r#""é\ud83d\ude00""#,
    ];
    let given = texts.map(|text| rowmill::NewRow {
        line: None,
        input: super::world::raw(text),
    });
    let new = NewBatch {
        hold: true,
        context: super::world::raw("{}"),
        ..NewBatch::new(key("post"))
    };
    let id = client
        .batch_submit(new, given.to_vec())
        .await
        .expect("submitted")
        .id;
    let found = rows_of(&client, id).await;
    let found: Vec<&str> = found.iter().map(|row| row.input.get()).collect();
    assert_eq!(found, texts);
    let by_sql = h.batchrows(id);
    assert_eq!(by_sql.len(), texts.len(), "a person reads them too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_that_are_lost_before_they_are_known_to_have_begun_are_believed() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let op = kit.op().await;
    kit.rows_of(100).await;
    let lose = async || {
        let worker = kit.worker().await;
        let task = kit.claim_one(worker, op).await;
        kit.take_over(worker).await;
        (task.believed, task.suspect)
    };
    // Most of what a worker holds waits for its turn when it dies.
    assert_eq!(lose().await, (false, false));
    for _ in 0..4 {
        assert_eq!(lose().await, (true, false), "it says so when it begins");
    }
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_that_were_believed_and_begin_are_known_to_have_begun() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(100).await;
    kit.claim_one(worker, op).await;
    kit.take_over(worker).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (begun, mut is_begun) = tokio::sync::watch::channel(false);
    let (go, may_go) = tokio::sync::watch::channel(false);
    let processor = rows(move |_, _| {
        begun.send_replace(true);
        let mut may_go = may_go.clone();
        async move {
            may_go.wait_for(|go| *go).await.expect("it is held");
            Ok(Value::Null)
        }
        .boxed()
    });
    let builder = JobManager::builder(h.again().await);
    let builder = builder.objects(ObjectStore::folder(folder.path()));
    let key = kit.key();
    let builder = builder.batch(key.app.as_str(), key.op.as_str(), processor);
    let manager = builder.build().expect("a manager");
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let working = manager.clone();
    let work = tokio::spawn(async move { working.run(stopped).await });
    is_begun.wait_for(|begun| *begun).await.expect("it begins");
    let parts = h.facts().parts;
    assert!(
        parts.iter().any(|part| part.attempt == 2),
        "it was recorded before: {parts:?}"
    );
    go.send_replace(true);
    assert_eq!(done(&manager, id).await.status, Status::Success);
    stop.cancel();
    work.await.expect("no panic").expect("stopped");
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_that_are_lost_when_they_had_begun_run_one_by_one() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(100).await;
    let task = kit.claim_one(worker, op).await;
    let begun = Outcomes::of(&task).success(0).goes_on(None);
    kit.record(worker, begun).await;
    kit.take_over(worker).await;
    let worker = kit.worker().await;
    assert!(kit.claim_one(worker, op).await.suspect);
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_heard_of_while_it_waits_within_a_claim() {
    let h = Postgres::open().await;
    let mut options = Options::new(h.url()).expect("an address");
    options.heartbeat = Duration::from_secs(1);
    let store = PostgresStore::open(options).await.expect("a store");
    let kit = Kit {
        store: Store::new(store),
        clock: Arc::clone(&h.kit().clock),
    };
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(1).await;
    let (client, connection) = tokio_postgres::connect(h.url(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    // A claim under a cap waits for its op, and has locked its worker's record by then.
    let held = "begin; select 1 from rowmill.ops for update";
    client.batch_execute(held).await.expect("held");
    let mut ask = kit.ask(worker, op);
    ask.cap = Some((1, 1));
    let (store, now) = (kit.store.clone(), kit.now());
    let claim = tokio::spawn(async move { store.claim(ask, now).await });
    tokio::task::block_in_place(|| {
        let count = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                         and datname = current_database()";
        until("a claim that waits", || {
            (h.numbers(count) == [1]).then_some(())
        });
        let heard = || {
            let at = "select (extract(epoch from beat_at) * 1000000)::bigint from rowmill.workers";
            h.numbers(at)[0]
        };
        let before = heard();
        until("a beat", || (heard() > before).then_some(()));
    });
    client.batch_execute("commit").await.expect("let go");
    let claimed = claim.await.expect("no panic").expect("claimed");
    assert_eq!(claimed.len(), 1);
}
