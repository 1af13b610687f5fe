//! SIGINT and SIGTERM: what was acknowledged goes on from the database.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;

use super::rowmill::{Rowmill, csv};
use super::run::signal;

/// Reads stderr until the handler has said that it waits, and returns what is still to come.
fn at_row(child: &mut Child, line: &str) -> impl std::io::Read + use<> {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains(line) {
        let before = text.len();
        stderr.read_line(&mut text).unwrap();
        assert!(text.len() > before, "it ended before {line:?}: {text}");
    }
    stderr
}

fn interrupted(sent: libc::c_int, code: i32) {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("1 2 wait 4"));
    let mut child = rowmill.start("run in.csv --app test --op rows -v --external-id x");
    let mut stderr = at_row(&mut child, "waiting at 4");
    signal(&child, sent);
    let mut told = String::new();
    stderr.read_to_string(&mut told).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(code), "{told}");
    assert!(done.stdout.is_empty());
    assert!(told.contains("goes on from the database"), "{told}");
    assert!(told.contains("work --once"), "{told}");

    let batch = rowmill.run("status ext:test/x --json").code(0).json();
    assert_eq!(batch["done"], false, "{batch}");
    assert_eq!(batch["counts"]["success"], 2, "{batch}");
    rowmill.write("go", "");
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
    rowmill.write("in.csv", &csv("wait"));
    let mut child = rowmill.start("run in.csv --app test --op rows -v --log json --json");
    let mut stderr = at_row(&mut child, "waiting at 2");
    signal(&child, libc::SIGINT);
    let mut told = String::new();
    stderr.read_to_string(&mut told).unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130));
    let batch: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(batch["done"], false);
    let problem = told
        .lines()
        .find(|line| line.contains("urn:rowmill:error:interrupted"));
    assert!(problem.is_some(), "{told}");
}
