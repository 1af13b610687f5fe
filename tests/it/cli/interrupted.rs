//! SIGINT and SIGTERM: what was acknowledged goes on from the database.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStderr};

use super::rowmill::{Done, Rowmill, csv};
use super::run::signal;

/// Reads stderr until it has said `wanted`.
pub(super) fn until(stderr: &mut BufReader<ChildStderr>, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        let before = text.len();
        stderr.read_line(&mut text).unwrap();
        assert!(text.len() > before, "it ended before {wanted:?}: {text}");
    }
}

/// Signals the command while a row runs, lets that row end, and returns what else it says.
fn stop(rowmill: &Rowmill, child: &mut Child, sent: libc::c_int, waiting: &str) -> String {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until(&mut stderr, waiting);
    signal(child, sent);
    // From here on no other row starts.
    until(&mut stderr, "worker stopping");
    let gate = std::fs::File::options()
        .read(true)
        .write(true)
        .open(rowmill.path("gate"));
    gate.unwrap().write_all(b"go\n").unwrap();
    let mut told = String::new();
    stderr.read_to_string(&mut told).unwrap();
    told
}

fn interrupted(sent: libc::c_int, code: i32) {
    let rowmill = Rowmill::new();
    let _gate = rowmill.gate();
    rowmill.write("in.csv", &csv("1 2 wait 4"));
    let mut child = rowmill.start("run in.csv --app test --op rows --external-id x -v");
    let told = stop(&rowmill, &mut child, sent, "waiting at 4");
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(code), "{told}");
    assert!(done.stdout.is_empty());
    assert!(told.contains("goes on from the database"), "{told}");
    assert!(told.contains("work --once"), "{told}");

    let batch = rowmill.run("status ext:test/x --json").code(0).json();
    assert_eq!(batch["done"], false, "{batch}");
    assert_eq!(batch["counts"]["success"], 3, "{batch}");
    std::fs::remove_file(rowmill.path("gate")).unwrap();
    rowmill.run("work --once").code(0);
    let batch = rowmill.run("status ext:test/x --json").code(0).json();
    assert_eq!(batch["status"], "success", "{batch}");
    assert_eq!(batch["counts"]["success"], 4);
}

#[test]
fn a_run_that_is_interrupted_goes_on_with_work_once() {
    interrupted(libc::SIGINT, 130);
}

#[test]
fn a_run_that_is_terminated_goes_on_with_work_once() {
    interrupted(libc::SIGTERM, 143);
}

#[test]
fn with_json_an_interrupted_run_prints_its_batch() {
    let rowmill = Rowmill::new();
    let _gate = rowmill.gate();
    rowmill.write("in.csv", &csv("wait 2"));
    let run = "run in.csv --app test --op rows -v --log json --json";
    let mut child = rowmill.start(run);
    let told = stop(&rowmill, &mut child, libc::SIGINT, "waiting at 2");
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130));
    let batch: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(batch["done"], false);
    let told = told
        .lines()
        .find(|line| line.contains("urn:rowmill:error:interrupted"))
        .unwrap_or_else(|| panic!("{told}"));
    let told: serde_json::Value = serde_json::from_str(told).unwrap();
    let place = format!("/v1/batches/{}", batch["id"].as_str().unwrap());
    assert_eq!(told["instance"], place);
}

#[test]
fn a_second_signal_stops_at_once() {
    let rowmill = Rowmill::new();
    let _gate = rowmill.gate();
    rowmill.write("in.csv", &csv("wait"));
    let mut child = rowmill.start("run in.csv --app test --op rows");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until(&mut stderr, "waiting at 2");
    signal(&child, libc::SIGINT);
    until(&mut stderr, "stopping");
    // One that comes at the same moment as the first is none of its own.
    let ended = loop {
        signal(&child, libc::SIGTERM);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::yield_now();
    };
    assert_eq!(ended.code(), Some(143));
}

#[test]
fn a_signal_that_comes_twice_at_the_same_moment_stops_gracefully() {
    let rowmill = Rowmill::new();
    let mut gate = rowmill.gate();
    rowmill.write("in.csv", &csv("wait 2"));
    let mut child = rowmill.start("run in.csv --app test --op rows -v");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until(&mut stderr, "waiting at 2");
    signal(&child, libc::SIGINT);
    signal(&child, libc::SIGTERM);
    until(&mut stderr, "worker stopping");
    gate.write_all(b"go\n").unwrap();
    let mut told = String::new();
    stderr.read_to_string(&mut told).unwrap();
    assert!(
        matches!(child.wait().unwrap().code(), Some(130 | 143)),
        "{told}"
    );
    assert!(told.contains("goes on from the database"), "{told}");
    assert!(!told.contains("stopped at once"), "{told}");
}

/// Waits until the process takes SIGINT itself.
fn until_it_listens(child: &Child) {
    let status = format!("/proc/{}/status", child.id());
    loop {
        let text = std::fs::read_to_string(&status).unwrap();
        let caught = text
            .lines()
            .find_map(|l| l.strip_prefix("SigCgt:"))
            .unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        if caught & (1 << (libc::SIGINT - 1)) != 0 {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_ends_waiting_for_a_pipe_that_nobody_writes_to() {
    let rowmill = Rowmill::new();
    drop(rowmill.gate());
    std::fs::rename(rowmill.path("gate"), rowmill.path("pipe.csv")).unwrap();
    for args in [
        "submit pipe.csv --app test --op rows",
        "submit pipe.csv --app test --op rows --dry-run",
        "run pipe.csv --app test --op rows",
        "append 0198c0de-0000-7000-8000-000000000000 pipe.csv",
        "query submit --app test --op ask --input @pipe.csv",
    ] {
        let mut child = rowmill.start(args);
        until_it_listens(&child);
        signal(&child, libc::SIGINT);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{args}");
    }
    assert!(!rowmill.path("rowmill.db").exists());
}

#[test]
fn a_change_that_is_interrupted_says_that_it_is_done_or_not() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold");
    // While somebody else writes, a change waits.
    let other = rusqlite::Connection::open(rowmill.path("rowmill.db")).unwrap();
    other.execute_batch("begin immediate").unwrap();
    for args in [
        format!("abort {id}"),
        format!("release {id} --json"),
        "ops pause test/rows".to_owned(),
    ] {
        let child = rowmill.start(&args);
        until_it_listens(&child);
        signal(&child, libc::SIGTERM);
        let done = Done::of(&args, child.wait_with_output().unwrap()).code(143);
        assert_eq!(done.stdout, "");
        let text = "interrupted before the answer: it is done, or nothing of it";
        assert!(done.stderr.contains(text), "{args}: {}", done.stderr);
    }
    other.execute_batch("rollback").unwrap();
    let batch = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(batch["status"], "wait");
    rowmill.run(&format!("release {id}")).code(0);
}

#[test]
fn a_signal_ends_an_answer_that_nobody_reads_any_more() {
    let rowmill = Rowmill::new();
    let text: String = (0..5000).map(|n| format!("{n}\n")).collect();
    rowmill.write("in.csv", &format!("n\n{text}"));
    let submitted = rowmill.run("submit in.csv --app test --op rows --json");
    let id = submitted.code(0).id();
    for format in ["csv", "jsonl", "table"] {
        let mut child = rowmill.start(&format!("rows {id} --format {format}"));
        // It has begun, and the pipe holds less than the rest.
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0]).unwrap();
        signal(&child, libc::SIGTERM);
        assert_eq!(child.wait().unwrap().code(), Some(143), "{format}");
    }
}

#[test]
fn work_stops_at_a_signal_and_says_so() {
    let rowmill = Rowmill::new();
    let mut child = rowmill.start("work");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until(&mut stderr, "worker started");
    signal(&child, libc::SIGTERM);
    until(&mut stderr, "goes on from the database");
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(143));
    assert!(done.stdout.is_empty());
}
