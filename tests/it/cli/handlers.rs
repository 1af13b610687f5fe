//! Handlers that misbehave, as whoever runs `rowmill` meets them: the row that did it fails alone.

use super::rowmill::{Done, Rowmill, csv};

const RUN: &str = "run in.csv --app test --op rows --json";

/// A folder whose handler is a Python script, with more settings of its op.
fn with(script: &str, settings: &str) -> Rowmill {
    let rowmill = Rowmill::new();
    let begin = "import json, os, sys, time\ndef rows():\n    while line := sys.stdin.readline():\n        yield json.loads(line)\ndef say(text):\n    print(text, flush=True)\ndef answer(row):\n    say(json.dumps({\"line\": row[\"line\"], \"status\": \"success\"}))\n";
    rowmill.write("handler.py", &format!("{begin}{script}"));
    let config = rowmill.read("rowmill.toml");
    rowmill.write("rowmill.toml", &format!("{config}{settings}\n"));
    rowmill
}

fn messages(rowmill: &Rowmill, id: &str) -> Vec<(i64, String, String)> {
    let rows = rowmill
        .run(&format!("rows {id} --status failed --json"))
        .code(0);
    let rows = rows.stdout.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let message = &row["messages"][0];
        let text = |key: &str| message[key].as_str().unwrap().to_owned();
        (row["line"].as_i64().unwrap(), text("errcode"), text("text"))
    });
    rows.collect()
}

#[test]
fn a_row_whose_answer_is_none_fails_alone() {
    for (what, does) in [
        ("garbage", "say('Loading the model...')"),
        (
            "another row's line",
            "say('{\"line\":1000,\"status\":\"success\"}')",
        ),
        ("the end of the handler", "sys.exit(1)"),
        ("a crash", "os.kill(os.getpid(), 9)"),
        (
            "a line without an end",
            "sys.stdout.write('x' * (17 << 20)); sys.stdout.flush()",
        ),
    ] {
        let script = format!(
            "for row in rows():\n    if row['input']['n'] == 'bad':\n        {does}\n    answer(row)\n"
        );
        let rowmill = with(&script, "max_lost = 1");
        rowmill.write("in.csv", &csv("1 2 bad 4 5"));
        let done = rowmill.run(RUN).code(1);
        let batch = done.json();
        assert_eq!(batch["counts"]["success"], 4, "{what}: {}", done.stderr);
        let failed = messages(&rowmill, batch["id"].as_str().unwrap());
        assert_eq!(failed.len(), 1, "{what}");
        assert_eq!(
            (failed[0].0, failed[0].1.as_str()),
            (4, "worker_lost"),
            "{what}"
        );
        // Its owner reads what became of it, and nothing of how.
        assert!(!failed[0].2.contains("Loading"), "{what}: {}", failed[0].2);
        assert!(
            done.stderr.contains("rowmill::handler: the handler "),
            "{what}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_row_that_is_answered_twice_keeps_its_first_answer_and_costs_no_other() {
    let rowmill = with(
        "for row in rows():\n    answer(row)\n    if row['input']['n'] == 'twice':\n        answer(row)\n",
        "",
    );
    rowmill.write("in.csv", &csv("1 twice 3 4"));
    let batch = rowmill.run(RUN).code(0).json();
    assert_eq!(batch["counts"]["success"], 4);
}

#[test]
fn a_row_that_hangs_fails_at_its_time_limit_and_the_rest_go_on() {
    let rowmill = with(
        "for row in rows():\n    if row['input']['n'] == 'bad':\n        time.sleep(1000)\n    answer(row)\n",
        "timeout = \"5s\"",
    );
    rowmill.write("in.csv", &csv("1 bad 3"));
    let batch = rowmill.run(RUN).code(1).json();
    assert_eq!(batch["counts"]["success"], 2);
    let failed = messages(&rowmill, batch["id"].as_str().unwrap());
    assert_eq!((failed[0].0, failed[0].1.as_str()), (3, "timed_out"));
}

#[test]
fn a_handler_that_never_reads_fails_its_rows_at_their_time_limit_and_says_so() {
    let rowmill = with("time.sleep(1000)\n", "timeout = \"1s\"");
    rowmill.write("in.csv", &csv("1"));
    let batch = rowmill.run(RUN).code(1).json();
    let failed = messages(&rowmill, batch["id"].as_str().unwrap());
    assert_eq!(failed[0].1, "timed_out");
    assert!(failed[0].2.contains("buffer"), "{}", failed[0].2);
}

#[test]
fn a_flood_on_stderr_holds_nothing_up() {
    let rowmill = with(
        "for row in rows():\n    for n in range(3000):\n        print('x' * 200, n, file=sys.stderr)\n    answer(row)\n",
        "",
    );
    rowmill.write("in.csv", &csv("1 2 3"));
    let mut command = rowmill.command(RUN);
    command.env("RUST_LOG", "error");
    let done = Done::of(RUN, command.output().unwrap()).code(0);
    assert_eq!(done.json()["counts"]["success"], 3);
    assert_eq!(done.stderr, "");
}

#[test]
fn rows_of_a_handler_that_ends_at_once_wait_and_fail_nothing() {
    let rowmill = with("sys.exit(3)\n", "");
    let id = rowmill.submit("1 2", "");
    let told = rowmill.run("work --once").code(0).stderr;
    assert!(told.contains("exit status: 3"), "{told}");
    let batch = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(batch["counts"]["pending"], 2);
    assert_eq!(batch["counts"]["failed"], 0);
}

#[test]
fn a_handler_that_cannot_be_executed_is_refused_before_anything_is_stored() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("1"));
    rowmill.write("plain", "");
    rowmill.write(
        "rowmill.toml",
        "[ops.\"test/rows\"]\nhandler = { command = [\"./plain\"] }\n",
    );
    for args in [RUN, "work --once --json", "config check --json"] {
        let problem = rowmill.run(args).code(2).problem();
        assert_eq!(problem["id"], "bad_handler", "{args}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("plain cannot be executed"), "{detail}");
    }
    assert!(!rowmill.path("rowmill.db").exists());
}
