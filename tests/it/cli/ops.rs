//! `ops`, `workers`, and what is said of a batch that waits.

use std::io::{BufReader, Write as _};
use std::process::Child;

use serde_json::{Value, json};

use super::interrupted::until;
use super::rowmill::{Done, Rowmill, csv};
use super::run::signal;

const UNSERVED: &str = "work of test/rows waits, and no worker serves it";

/// Starts a worker, and returns when it has entered.
fn worker(rowmill: &Rowmill) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = rowmill.start("work");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until(&mut stderr, "worker started");
    (child, stderr)
}

fn stop(mut child: Child) {
    signal(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

fn setting(op: &Value, key: &str) -> (String, String) {
    let settings = op["in_force"].as_array().unwrap();
    let found = settings.iter().find(|s| s["key"] == key).unwrap();
    let text = |name: &str| found[name].as_str().unwrap().to_owned();
    (text("value"), text("origin"))
}

#[test]
fn ops_are_listed_and_work_that_nobody_takes_is_marked() {
    let rowmill = Rowmill::new();
    rowmill.submit("1 2 3", "");
    let done = rowmill.run("ops list").code(0);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", done.stdout);
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(
        words,
        ["test/rows", "batch", "3", "0", "0", "no", "worker", "!"]
    );
    assert!(done.stderr.starts_with(UNSERVED), "{}", done.stderr);
    assert!(done.stderr.contains("rowmill work\n"), "{}", done.stderr);

    let done = rowmill.run("ops list --json").code(0);
    assert!(done.stderr.contains(UNSERVED), "{}", done.stderr);
    let ops = done.json();
    let op = &ops.as_array().unwrap()[0];
    let keys: Vec<&String> = op.as_object().unwrap().keys().collect();
    let mut wanted = [
        "id",
        "app",
        "op",
        "kind",
        "paused",
        "settings",
        "queued",
        "running",
        "later",
        "oldest_queued_at",
        "workers",
        "state",
    ];
    wanted.sort_unstable();
    assert_eq!(keys, wanted);
    let none = json!({"tasks": 0, "rows": 0, "more": false});
    for (key, value) in [
        ("app", json!("test")),
        ("op", json!("rows")),
        ("kind", json!("batch")),
        ("paused", json!(false)),
        ("settings", json!({})),
        ("queued", json!({"tasks": 1, "rows": 3, "more": false})),
        ("running", none.clone()),
        ("later", none),
        ("workers", json!(0)),
        ("state", json!("no_worker")),
    ] {
        assert_eq!(op[key], value, "{key}");
    }
    assert!(op["oldest_queued_at"].is_string());

    rowmill.run("work --once").code(0);
    let done = rowmill.run("ops list").code(0);
    assert!(done.stdout.ends_with("no worker\n"), "{}", done.stdout);
    assert_eq!(done.stderr, "", "nothing waits");
}

#[test]
fn a_long_name_fits_the_table() {
    let rowmill = Rowmill::new();
    let config = rowmill.read("rowmill.toml");
    let long = "x".repeat(100);
    rowmill.write(
        "rowmill.toml",
        &format!("{config}[ops.\"{long}/{long}\"]\n"),
    );
    rowmill.submit("1", "");
    let table = rowmill.run("ops list").code(0).stdout;
    assert_eq!(table.lines().count(), 3, "configured and not used: {table}");
    assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
    let shown = rowmill
        .run(&format!("ops show {long}/{long}"))
        .code(0)
        .stdout;
    assert!(
        shown.contains(&format!("{long}/{long} batch  no worker")),
        "{shown}"
    );
}

#[test]
fn an_op_is_paused_shown_and_resumed() {
    let rowmill = Rowmill::new();
    let paused = rowmill.run("ops pause test/ROWS --json").code(0).json();
    assert_eq!(
        (&paused["paused"], &paused["state"]),
        (&json!(true), &json!("paused"))
    );
    assert!(paused["id"].is_number(), "it is known now");
    let again = rowmill.run("ops pause test/rows --json").code(0).json();
    assert_eq!(again, paused, "pausing it twice is no error");
    let shown = rowmill.run("ops show test/rows").code(0).stdout;
    assert!(
        shown.starts_with("test/rows batch  paused\n  queued 0 rows\n"),
        "{shown}"
    );
    assert!(shown.contains("  max_attempts = 1  (default)\n"), "{shown}");
    let id = rowmill.submit("1", "");
    rowmill.run("work --once").code(0);
    let batch = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(batch["status"], "queued");
    let text = rowmill.run("ops resume test/rows").code(0).stdout;
    assert!(text.starts_with("test/rows batch  no worker\n"), "{text}");
    rowmill.run("ops resume test/rows").code(0);
    rowmill.run("work --once").code(0);
    let batch = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(batch["status"], "success");
    let audit = rusqlite::Connection::open(rowmill.path("rowmill.db")).unwrap();
    let count: i64 = audit
        .query_row("select count(*) from audit where op is not null", [], |r| {
            r.get(0)
        })
        .unwrap();
    assert_eq!(count, 2, "one pause and one resume");
}

#[test]
fn settings_say_where_they_came_from() {
    let rowmill = Rowmill::new();
    let config = rowmill.read("rowmill.toml");
    rowmill.write(
        "rowmill.toml",
        &format!("{config}max_attempts = 4\ntimeout = \"1m\"\n"),
    );
    let set = "ops set test/rows timeout=2m backoff.base=5s concurrency=3 --json";
    let op = rowmill.run(set).code(0).json();
    assert_eq!(
        op["settings"],
        json!({"timeout": "2m", "backoff": {"base": "5s"}, "concurrency": 3})
    );
    let at = |line: &str| line.to_owned();
    assert_eq!(setting(&op, "timeout"), (at("2m"), at("database")));
    assert_eq!(setting(&op, "backoff.base"), (at("5s"), at("database")));
    assert_eq!(
        setting(&op, "max_attempts"),
        (at("4"), at("rowmill.toml:4"))
    );
    assert_eq!(setting(&op, "parallel"), (at("1"), at("default")));
    let op = rowmill.run("ops set test/rows timeout= concurrency= backoff.base= --json");
    let op = op.code(0).json();
    assert_eq!(op["settings"], json!({}));
    assert_eq!(setting(&op, "timeout"), (at("1m"), at("rowmill.toml:5")));
    let op = rowmill
        .run("ops set test/rows timeout=none --json")
        .code(0)
        .json();
    assert_eq!(setting(&op, "timeout"), (at("none"), at("database")));
    let text = rowmill
        .run("ops set test/rows concurrency=0")
        .code(0)
        .stdout;
    assert!(text.starts_with("test/rows batch  paused\n"), "{text}");
    assert!(text.contains("  concurrency = 0  (database)\n"), "{text}");
}

#[test]
fn what_cannot_be_set_is_refused_with_all_that_is_wrong() {
    let rowmill = Rowmill::new();
    let set = |changes: &str| rowmill.run(&format!("ops set test/rows {changes}"));
    let told = set("timeuot=5s max_attempts=x").code(2).stderr;
    assert!(
        told.contains("timeuot: unknown key; is it timeout?"),
        "{told}"
    );
    assert!(
        told.contains("max_attempts: must be a whole number"),
        "{told}"
    );
    let problem = set("handler=python --json").code(2).problem();
    assert_eq!(
        (&problem["id"], &problem["status"]),
        (&json!("bad_setting"), &json!(400))
    );
    for (changes, told) in [
        ("kind=query", "workers' own configuration"),
        (
            "max_attempts=0",
            "max_attempts: must be 1 to 32767, and is 0",
        ),
        ("concurrency=2 parallel=3", "no task could ever run"),
        ("timeout=soon", "is no duration"),
        ("timeout", "KEY=VALUE"),
        ("=5", "KEY=VALUE"),
        ("", "KEY=VALUE"),
    ] {
        let stderr = set(changes).code(2).stderr;
        assert!(stderr.contains(told), "{changes}: {stderr}");
    }
    let op = rowmill.run("ops pause test/rows --json").code(0).json();
    assert_eq!(op["settings"], json!({}));
}

#[test]
fn an_op_that_nobody_knows_is_not_found() {
    let rowmill = Rowmill::new();
    for command in [
        "list",
        "show test/rows",
        "show a/b",
        "pause a/b",
        "resume a/b",
        "set a/b parallel=1",
    ] {
        rowmill.run(&format!("ops {command}")).code(3);
    }
    rowmill.run("workers").code(3);
    assert!(
        !rowmill.path("rowmill.db").exists(),
        "a question makes no database"
    );
    rowmill.submit("1", "");
    for command in ["show", "pause", "resume"] {
        let problem = rowmill
            .run(&format!("ops {command} a/b --json"))
            .code(3)
            .problem();
        assert_eq!(problem["id"], "unknown_op", "{command}");
        let problem = rowmill
            .run(&format!("ops {command} test --json"))
            .code(2)
            .problem();
        assert_eq!(problem["id"], "bad_name", "{command}");
        rowmill.run(&format!("ops {command}")).code(2);
        rowmill
            .run(&format!("ops {command} test/rows --kind both"))
            .code(2);
        rowmill
            .run(&format!("ops {command} test/rows --kind query"))
            .code(3);
    }
    rowmill.run("ops set a/b parallel=1").code(3);
    rowmill.run("ops").code(2);
    assert_eq!(
        rowmill
            .run("ops list --json")
            .code(0)
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_pair_with_both_kinds_wants_a_kind() {
    let rowmill = Rowmill::new();
    rowmill.submit("1", "");
    let database = rusqlite::Connection::open(rowmill.path("rowmill.db")).unwrap();
    let query =
        "insert into ops (app, op, kind, created_at) select app, op, 1 - kind, created_at from ops";
    database.execute(query, []).unwrap();
    drop(database);
    let problem = rowmill.run("ops pause test/rows --json").code(2).problem();
    assert_eq!(problem["id"], "ambiguous_op");
    for kind in ["batch", "query"] {
        let op = rowmill.run(&format!("ops show test/rows --kind {kind} --json"));
        assert_eq!(op.code(0).json()["kind"], kind);
    }
    let op = rowmill
        .run("ops pause test/rows --kind query --json")
        .code(0)
        .json();
    assert_eq!(
        (&op["kind"], &op["paused"]),
        (&json!("query"), &json!(true))
    );
    let op = rowmill
        .run("ops show test/rows --kind batch --json")
        .code(0)
        .json();
    assert_eq!(op["paused"], false);
}

#[test]
fn a_run_of_a_paused_op_says_so_and_goes_on_when_it_is_resumed() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("1 2"));
    for (hold, told, go_on) in [
        (
            "pause test/rows",
            "test/rows is paused: the batch waits",
            "resume test/rows",
        ),
        (
            "set test/rows concurrency=0",
            "paused by concurrency = 0",
            "set test/rows concurrency=2",
        ),
    ] {
        rowmill.run(&format!("ops {hold}")).code(0);
        let mut child = rowmill.start("run in.csv --app test --op rows --json");
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        until(&mut stderr, told);
        rowmill.run(&format!("ops {go_on}")).code(0);
        let done = Done::of("run", child.wait_with_output().unwrap()).code(0);
        assert_eq!(done.json()["counts"]["success"], 2);
    }
}

#[test]
fn a_run_of_an_op_whose_configuration_pauses_it_says_so() {
    let rowmill = Rowmill::new();
    let config = rowmill.read("rowmill.toml");
    rowmill.write("rowmill.toml", &format!("{config}concurrency = 0\n"));
    rowmill.write("in.csv", &csv("1"));
    let mut child = rowmill.start("run in.csv --app test --op rows");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until(&mut stderr, "go on: ");
    rowmill.run("ops set test/rows concurrency=1").code(0);
    Done::of("run", child.wait_with_output().unwrap()).code(0);
}

#[test]
fn a_batch_that_nobody_works_on_says_so_once() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "");
    let told = "no worker serves test/rows: the batch waits\n";
    let done = rowmill.run(&format!("status {id}")).code(0);
    assert!(done.stderr.starts_with(told), "{}", done.stderr);
    assert!(done.stderr.ends_with("rowmill work\n"), "{}", done.stderr);
    let done = rowmill.run(&format!("status {id} --json")).code(0);
    assert_eq!(done.json()["status"], "queued");
    assert!(done.stderr.contains(told.trim()), "{}", done.stderr);

    rowmill.write("in.csv", &csv("2"));
    let commands = [
        format!("status {id} --watch"),
        "submit in.csv --app test --op rows --follow".to_owned(),
    ];
    let mut followers: Vec<Child> = commands.iter().map(|c| rowmill.start(c)).collect();
    let mut streams = Vec::new();
    for follower in &mut followers {
        let mut stderr = BufReader::new(follower.stderr.take().unwrap());
        until(&mut stderr, "start one: ");
        streams.push(stderr);
    }
    let (worker, _stderr) = worker(&rowmill);
    for (follower, mut stderr) in followers.into_iter().zip(streams) {
        Done::of("follow", follower.wait_with_output().unwrap()).code(0);
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
        assert_eq!(rest, "", "it is said once");
    }
    stop(worker);
    let done = rowmill.run(&format!("status {id}")).code(0);
    assert_eq!(done.stderr, "", "it has ended");
}

#[test]
fn a_held_batch_waits_for_its_release_alone() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold");
    assert_eq!(rowmill.run(&format!("status {id}")).code(0).stderr, "");
    let id = rowmill.submit("1", "--run-at 2999-01-01T00:00:00Z");
    assert_eq!(rowmill.run(&format!("status {id}")).code(0).stderr, "");
}

#[test]
fn rows_for_an_op_of_queries_are_refused_and_stored_nowhere() {
    let rowmill = Rowmill::new();
    let config = rowmill.read("rowmill.toml");
    rowmill.write("rowmill.toml", &format!("{config}kind = \"query\"\n"));
    rowmill.write("in.csv", &csv("1"));
    for flags in ["", "--hold", "--dry-run"] {
        let problem = rowmill.run(&format!(
            "submit in.csv --app test --op Rows {flags} --json"
        ));
        let problem = problem.code(2).problem();
        assert_eq!(problem["id"], "wrong_kind", "{problem}");
    }
    rowmill.run("run in.csv --app test --op rows").code(2);
    assert!(!rowmill.path("rowmill.db").exists());
}

#[test]
fn workers_are_listed_as_long_as_they_have_not_ended() {
    let rowmill = Rowmill::new();
    rowmill.run("migrate").code(0);
    assert_eq!(rowmill.run("workers").code(0).stdout, "no workers\n");
    assert_eq!(rowmill.run("workers --json").code(0).json(), json!([]));
    let (mut killed, _one) = worker(&rowmill);
    let (ended, _two) = worker(&rowmill);
    let workers = rowmill.run("workers --json").code(0).json();
    let workers = workers.as_array().unwrap();
    assert_eq!(workers.len(), 2);
    let pids: Vec<u64> = workers.iter().map(|w| w["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids, [killed.id(), ended.id()].map(u64::from));
    let first = &workers[0];
    let keys: Vec<&String> = first.as_object().unwrap().keys().collect();
    let mut wanted = [
        "no",
        "host",
        "pid",
        "version",
        "started_at",
        "ops",
        "batch",
        "running",
        "alive",
    ];
    wanted.sort_unstable();
    assert_eq!(keys, wanted);
    let op = json!([{"app": "test", "op": "rows", "kind": "batch"}]);
    assert_eq!((&first["ops"], &first["alive"]), (&op, &json!(true)));
    let table = rowmill.run("workers").code(0).stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().all(|l| l.chars().count() <= 80), "{table}");
    let op = &rowmill.run("ops list --json").code(0).json()[0];
    assert_eq!((&op["workers"], &op["state"]), (&json!(2), &json!("ok")));

    stop(ended);
    signal(&killed, libc::SIGKILL);
    killed.wait().unwrap();
    let workers = rowmill.run("workers --json").code(0).json();
    assert_eq!(workers.as_array().unwrap().len(), 1);
    assert_eq!(
        workers[0]["alive"], false,
        "nobody has taken over from it yet"
    );
    let table = rowmill.run("workers").code(0).stdout;
    assert!(table.contains("dead: test/rows"), "{table}");
    let op = &rowmill.run("ops list --json").code(0).json()[0];
    assert_eq!(
        (&op["workers"], &op["state"]),
        (&json!(0), &json!("no_worker"))
    );
    rowmill.run("work --once").code(0);
    assert_eq!(rowmill.run("workers --json").code(0).json(), json!([]));
}

#[test]
fn more_children_work_when_more_are_set() {
    let rowmill = Rowmill::new();
    let mut gate = rowmill.gate();
    let config = rowmill.read("rowmill.toml");
    let one = format!("{config}local_concurrency = 1\nblock_rows = 1\n");
    rowmill.write("rowmill.toml", &one);
    let id = rowmill.submit("wait wait", "");
    let (worker, mut stderr) = worker(&rowmill);
    until(&mut stderr, "waiting at 2");
    rowmill.run("ops set test/rows local_concurrency=2").code(0);
    until(&mut stderr, "waiting at 3");
    // A line at a time: a child that reads may take all that lies there.
    while rowmill.run(&format!("status {id} --json")).code(0).json()["done"] == false {
        gate.write_all(b"go\n").unwrap();
    }
    stop(worker);
}
