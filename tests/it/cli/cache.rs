//! The status cache from the command line.

use super::rowmill::{Done, Rowmill};
use crate::support::servers::Redis;

fn with(rowmill: &Rowmill, args: &str, redis: &str) -> Done {
    let mut command = rowmill.command(args);
    // A busy machine is no fault of the server.
    command.env("ROWMILL_REDIS_TIMEOUT", "10s");
    command.env("ROWMILL_REDIS", redis);
    Done::of(args, command.output().unwrap())
}

#[test]
fn what_a_command_ended_is_answered_from_redis_to_the_next() {
    let rowmill = Rowmill::new();
    let redis = Redis::start();
    rowmill.write("in.csv", "n\nok\nfile\n");
    let run = "run in.csv --app test --op rows --external-id january --json";
    let id = with(&rowmill, run, &redis.url()).code(0).id();
    let keys: Vec<String> = redis.ask(&["KEYS", &format!("*{{{id}}}:final")]);
    assert_eq!(keys.len(), 1);
    let plain = rowmill.run(&format!("status {id} --json")).code(0).json();
    for named in [id.as_str(), "ext:test/january"] {
        let status = format!("status {named} --json");
        let told = with(&rowmill, &status, &redis.url()).code(0).json();
        assert_eq!(told, plain);
    }
    let text: String = redis.ask(&["GET", &keys[0]]);
    let lie = text.replace(r#""created_by":""#, r#""created_by":"nobody "#);
    redis.ask::<()>(&["SET", &keys[0], &lie]);
    let told = with(&rowmill, &format!("status {id} --json"), &redis.url());
    let by = told.code(0).json()["created_by"].to_string();
    assert!(by.contains("nobody"), "{by}");
}

#[test]
fn a_redis_that_is_down_is_one_warning_and_no_failure_of_a_command() {
    let rowmill = Rowmill::new();
    let mut redis = Redis::start();
    redis.kill();
    rowmill.write("in.csv", "n\nok\n");
    let args = format!("run in.csv --app test --op rows --redis {}", redis.url());
    let done = rowmill.run(&args).code(0);
    let warned = done.stderr.matches("the status cache").count();
    assert_eq!(warned, 1, "{}", done.stderr);
}

#[test]
fn config_check_masks_the_password_of_redis() {
    let rowmill = Rowmill::new();
    let urls = "redis://:hunter2@a:1,redis://u:hunter2@b:2";
    for args in ["config check", "config check --json"] {
        let done = with(&rowmill, args, urls).code(0);
        assert!(!done.stdout.contains("hunter2"), "{}", done.stdout);
        assert!(done.stdout.contains("***"), "{}", done.stdout);
    }
    let done = with(&rowmill, "status 1", "redis://:hunter2@a:no").code(2);
    assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
}
