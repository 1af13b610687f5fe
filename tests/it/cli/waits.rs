//! `workers`, and what is said of a batch that waits.

use std::io::{BufReader, Write as _};
use std::process::Child;

use serde_json::json;

use super::interrupted::until;
use super::rowmill::{Done, Rowmill, csv};
use super::run::signal;

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
fn work_once_says_what_waits_because_it_is_paused() {
    let rowmill = Rowmill::new();
    rowmill.submit("1 2", "");
    for (hold, told, go_on) in [
        (
            "pause test/rows",
            "test/rows is paused: 2 rows wait",
            "ops resume test/rows",
        ),
        (
            "set test/rows concurrency=0",
            "test/rows is paused by concurrency = 0: 2 rows wait",
            "ops set test/rows concurrency=N",
        ),
    ] {
        rowmill.run(&format!("ops {hold}")).code(0);
        let done = rowmill.run("work --once").code(0);
        let last = format!("{told}\n  go on: ");
        assert!(done.stderr.contains(&last), "{}", done.stderr);
        assert!(
            done.stderr.ends_with(&format!("{go_on}\n")),
            "{}",
            done.stderr
        );
        let done = rowmill.run("work --once --json").code(0);
        assert_eq!(done.stdout, "");
        assert!(done.stderr.contains(told), "{}", done.stderr);
        rowmill.run("ops resume test/rows").code(0);
    }
    rowmill.run("ops set test/rows concurrency=").code(0);
    let done = rowmill.run("work --once").code(0);
    assert!(!done.stderr.contains("paused:"), "{}", done.stderr);
    // Nothing of it waits any more.
    rowmill.run("ops pause test/rows").code(0);
    let done = rowmill.run("work --once").code(0);
    assert!(!done.stderr.contains("is paused"), "{}", done.stderr);
}

#[test]
fn a_hint_names_an_op_as_a_shell_reads_it() {
    let rowmill = Rowmill::new();
    let config = rowmill
        .read("rowmill.toml")
        .replace("test/rows", "it's a test/rows");
    rowmill.write("rowmill.toml", &config);
    rowmill.write("in.csv", "n\n1\n");
    let mut submit = rowmill.command("submit in.csv --op rows --app");
    Done::of("submit", submit.arg("it's a test").output().unwrap()).code(0);
    let name = r"'it'\''s a test/rows'";
    let told = rowmill.run("ops list").code(0).stderr;
    assert!(told.contains(&format!("ops show {name}\n")), "{told}");
    let mut pause = rowmill.command("ops pause");
    Done::of("ops", pause.arg("it's a test/rows").output().unwrap()).code(0);
    let told = rowmill.run("work --once").code(0).stderr;
    assert!(told.ends_with(&format!("ops resume {name}\n")), "{told}");
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
