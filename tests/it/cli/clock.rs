//! On PostgreSQL the server's clock counts: a machine whose own is wrong does what is due when it is due.

use std::process::Command;
use std::time::Duration;

use rowmill::model::Timestamp;

use super::rowmill::{Done, Rowmill, csv};
use crate::support::servers::Database;

/// What a process with it sees as the time is off by so many seconds; its monotonic clock is right.
const WRONG: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    int done = syscall(SYS_clock_gettime, clock, at);
    const char *off = getenv("WRONG_BY");
    if (done == 0 && clock == CLOCK_REALTIME && off) at->tv_sec += atol(off);
    return done;
}
"#;

/// A machine whose clock is wrong by an hour.
struct Machine<'a> {
    rowmill: &'a Rowmill,
    wrong_by: i64,
}

impl<'a> Machine<'a> {
    fn new(rowmill: &'a Rowmill, wrong_by: i64) -> Self {
        rowmill.write("wrong.c", WRONG);
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let mut compile = Command::new(compiler);
        compile.args(["-shared", "-fPIC", "-o"]);
        compile.args([rowmill.path("wrong.so"), rowmill.path("wrong.c")]);
        let status = compile.status().expect("a C compiler");
        assert!(status.success(), "{status}");
        Self { rowmill, wrong_by }
    }

    fn run(&self, args: &str) -> Done {
        let mut command = self.rowmill.command(args);
        command.env("LD_PRELOAD", self.rowmill.path("wrong.so"));
        command.env("WRONG_BY", self.wrong_by.to_string());
        Done::of(args, command.output().unwrap())
    }
}

fn far(at: &str, from: Timestamp) -> f64 {
    let at: Timestamp = at.parse().unwrap();
    at.duration_since(from).as_secs_f64().abs()
}

fn status(rowmill: &Rowmill, id: &str, on: &str) -> String {
    let batch = rowmill.run(&format!("status {id} --json {on}")).json();
    batch["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_worker_whose_clock_is_an_hour_ahead_neither_claims_nor_expires_early() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let on = format!("--database {}", database.url());
    let ahead = Machine::new(&rowmill, 3600);
    let soon = Timestamp::now() + Duration::from_secs(1800);
    rowmill.write("in.csv", &csv("1 2"));
    let submit = |more: &str| {
        let submitted = format!("submit in.csv --app test --op rows --json {more} {on}");
        rowmill.run(&submitted).code(0).id()
    };
    let later = submit(&format!("--run-at {soon}"));
    let held = submit(&format!("--hold --expires-at {soon}"));
    let own = ahead.run(&format!("submit in.csv --app test --op rows --json {on}"));
    let own = own.code(0).id();
    ahead.run(&format!("work --once {on}")).code(0);
    assert_eq!(status(&rowmill, &own, &on), "success");
    assert_eq!(status(&rowmill, &later, &on), "queued", "claimed early");
    assert_eq!(status(&rowmill, &held, &on), "wait", "expired early");
    let batch = rowmill.run(&format!("status {own} --json {on}")).json();
    for at in ["created_at", "started_at", "done_at"] {
        let off = far(batch[at].as_str().unwrap(), Timestamp::now());
        assert!(off < 600.0, "{at}: {batch}");
    }
    // On a file its own clock is all there is, which shows that it is wrong.
    let early = format!("submit in.csv --app test --op rows --json --run-at {soon}");
    let early = rowmill.run(&early).code(0).id();
    ahead.run("work --once").code(0);
    assert_eq!(status(&rowmill, &early, ""), "success");
}

#[test]
fn a_worker_whose_clock_is_an_hour_behind_does_what_is_due() {
    let (rowmill, database) = (Rowmill::new(), Database::fresh());
    let on = format!("--database {}", database.url());
    let behind = Machine::new(&rowmill, -3600);
    rowmill.write("in.csv", &csv("1 2"));
    let submit = |more: &str| {
        let submitted = format!("submit in.csv --app test --op rows --json {more} {on}");
        rowmill.run(&submitted).code(0).id()
    };
    let just_now = Timestamp::now();
    let due = submit(&format!("--run-at {just_now}"));
    let over = submit(&format!("--expires-at {just_now}"));
    behind.run(&format!("work --once {on}")).code(0);
    assert_eq!(status(&rowmill, &due, &on), "success");
    assert_eq!(status(&rowmill, &over, &on), "expired");
}
