//! The same commands on PostgreSQL: one process submits, another works, a third asks.

use super::rowmill::{Rowmill, csv};
use super::run::signal;
use crate::support::servers::Database;

#[test]
fn a_batch_is_submitted_worked_off_and_asked_for_by_three_processes() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let on = format!("--database {}", database.url());
    rowmill.write("in.csv", &csv("1 file bad 4 file"));
    let submit = format!("submit in.csv --app test --op rows --json {on}");
    let batch = rowmill.run(&submit).code(0).json();
    let id = batch["id"].as_str().unwrap();
    rowmill.run(&format!("work --once {on}")).code(0);
    let done = rowmill.run(&format!("status {id} --json {on}")).code(0);
    let batch = done.json();
    assert_eq!(batch["counts"]["success"], 4);
    assert_eq!(batch["files"][1]["name"], "out.txt", "{batch}");
    let failed = rowmill.run(&format!("rows {id} --status failed --json {on}"));
    assert_eq!(failed.code(0).json()["line"], 4);
    let listed = rowmill.run(&format!("list --json {on}")).code(0).json();
    assert_eq!(listed["id"], id);
}

#[test]
fn a_worker_of_another_process_is_woken_and_what_it_leaves_is_nothing() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let on = format!("--database {}", database.url());
    rowmill.write("in.csv", &csv("1 2 3"));
    let mut worker = rowmill.start(&format!("work {on}"));
    let follow = format!("submit in.csv --app test --op rows --follow --json {on}");
    rowmill.run(&follow).code(0);
    signal(&worker, libc::SIGTERM);
    assert_eq!(worker.wait().unwrap().code(), Some(143));
    let left = database.rows("select 1 from queue", None).len();
    let alive = database.rows("select 1 from workers where ended_at is null", None);
    assert_eq!((left, alive.len()), (0, 0));
}

#[test]
fn a_server_that_is_not_there_is_unavailable_and_its_password_is_not_shown() {
    let rowmill = Rowmill::new();
    let on = "--database postgres://u:hunter2@127.0.0.1:1/d";
    rowmill.write("in.csv", &csv("1"));
    let refused = rowmill.run(&format!("submit in.csv --app test --op rows {on}"));
    let refused = refused.code(4);
    assert!(
        refused.stderr.contains("connecting to PostgreSQL"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    let shown = rowmill.run(&format!("config show {on}"));
    assert!(!shown.stdout.contains("hunter2"), "{}", shown.stdout);
}

#[test]
fn the_benchmark_on_a_server_has_a_schema_of_its_own_and_removes_it() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    // A run that was cut off has left this.
    database.run("create schema rowmill_bench; create table rowmill_bench.q (batch bigint)");
    let bench = format!("bench --rows 200 --json --database {}", database.url());
    for shape in ["rows", "queries"] {
        let report = rowmill.run(&format!("{bench} --shape {shape}"));
        let report = report.code(0).json();
        assert_eq!(
            (&report["shape"], &report["rows"]),
            (&shape.into(), &200.into())
        );
        assert!(report["reference"]["end_to_end_rows_per_s"].as_f64() > Some(0.0));
        assert!(report["ratio"].as_f64() > Some(0.0));
    }
    let schemas = "select 1 from pg_namespace where nspname like 'rowmill%'";
    assert_eq!(database.rows(schemas, None).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_benchmark_of_a_database_is_refused() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let connected = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    let lock = "select pg_advisory_lock($1)";
    client
        .query(lock, &[&0x0072_6F77_6265_6E63_i64])
        .await
        .unwrap();
    let bench = format!("bench --rows 200 --json --database {}", database.url());
    let problem = rowmill.run(&bench).code(4).problem();
    assert_eq!(problem["id"], "bench_failed");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("another benchmark"), "{detail}");
}
