//! `--watch` and `--follow`: what has ended, what is held, and a signal while waiting.

use std::io::{BufReader, Read as _};

use super::interrupted::until;
use super::rowmill::{Done, Rowmill, csv};
use super::run::signal;

#[test]
fn a_batch_that_has_ended_is_watched_no_longer_than_it_takes_to_ask() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("1 bad"));
    let batch = rowmill.run("run in.csv --app test --op rows --external-id x --json");
    let batch = batch.code(1).json();
    let again = "submit in.csv --app test --op rows --external-id x --follow --json";
    for args in ["status ext:test/x --watch --json", again] {
        let done = rowmill.run(args).code(1);
        assert_eq!(done.json(), batch, "{args}");
        assert_eq!(done.stderr, "", "{args}");
    }
    let text = rowmill.run("status ext:test/x --watch").code(1).stdout;
    assert!(text.contains("  2 rows: 1 success, 1 failed\n"), "{text}");
}

#[test]
fn a_held_batch_is_watched_and_told_once_to_be_held() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold");
    let args = format!("status {id} --watch");
    let mut child = rowmill.start(&args);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until(&mut stderr, "is held; waiting until it is released: ");
    // It ends as any batch does, and so does the watching.
    rowmill.run(&format!("abort {id}")).code(0);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    let done = Done::of(&args, child.wait_with_output().unwrap()).code(1);
    assert!(done.stdout.contains("aborted"), "{}", done.stdout);
}

/// Starts a command that waits, signals it, and returns what it said.
fn stopped(rowmill: &Rowmill, args: &str, waits: &str, sent: libc::c_int, code: i32) -> Done {
    let mut child = rowmill.start(args);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until(&mut stderr, waits);
    signal(&child, sent);
    let mut told = String::new();
    stderr.read_to_string(&mut told).unwrap();
    let mut done = Done::of(args, child.wait_with_output().unwrap()).code(code);
    done.stderr = told;
    done
}

#[test]
fn a_signal_ends_watching_with_a_hint_and_the_batch_goes_on() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold");
    for (sent, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let args = format!("status {id} --watch");
        let done = stopped(&rowmill, &args, "is held", sent, code);
        assert_eq!(done.stdout, "");
        assert!(
            done.stderr.contains(&format!("batch {id} goes on")),
            "{}",
            done.stderr
        );
        assert!(
            done.stderr.contains(&format!("status {id} --watch")),
            "{}",
            done.stderr
        );
    }
    // With --json it is one document, and one line that says why there is no more.
    let args = format!("status {id} --watch --json -v --log json");
    let done = stopped(&rowmill, &args, "it is held", libc::SIGINT, 130);
    assert_eq!(done.json()["status"], "wait");
    let problem: serde_json::Value = serde_json::from_str(done.stderr.trim()).unwrap();
    assert_eq!(problem["id"], "interrupted");
    assert_eq!(problem["instance"], format!("/v1/batches/{id}"));
    let batch = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(batch["status"], "wait");
}

#[test]
fn a_run_of_a_held_batch_is_refused() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold --external-id x");
    let args = "run in.csv --app test --op rows --external-id x --json";
    let problem = rowmill.run(args).code(3).problem();
    assert_eq!(problem["id"], "wrong_state");
    assert_eq!(problem["instance"], format!("/v1/batches/{id}"));
}

#[test]
fn a_batch_whose_time_is_over_expires() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1 2", "--expires-at 2001-01-01T00:00:00Z");
    rowmill.run("work --once").code(0);
    let batch = rowmill
        .run(&format!("status {id} --watch --json"))
        .code(1)
        .json();
    assert_eq!(batch["status"], "expired");
    assert_eq!(batch["counts"]["expired"], 2);
    let rows = rowmill.run(&format!("rows {id} --json")).code(0).stdout;
    assert_eq!(rows.matches("\"status\":\"expired\"").count(), 2, "{rows}");
}
