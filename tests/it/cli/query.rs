//! `query`: slow queries from submit to result.

use serde_json::json;

use super::rowmill::{Done, Rowmill};
use super::run::signal;

const SUBMIT: &str = "query submit --app test --op ask";

/// A folder whose op `test/ask` answers slow queries as `test/rows` works on rows.
fn asking() -> Rowmill {
    let rowmill = Rowmill::new();
    let config = rowmill.read("rowmill.toml");
    let ask = "[ops.\"test/ask\"]\nkind = \"query\"\nhandler = { command = [\"python3\", \"handler.py\"] }\n";
    rowmill.write("rowmill.toml", &format!("{config}\n{ask}"));
    rowmill
}

#[test]
fn a_query_is_submitted_answered_and_shown_in_the_shape_of_the_contract() {
    let rowmill = asking();
    let flags = "--context {\"day\":1.50} --priority -5 --external-id x --json";
    let done = rowmill
        .run(&format!("{SUBMIT} --input {{\"n\":7}} {flags}"))
        .code(0);
    assert_eq!(done.stderr, "");
    assert!(done.stdout.contains(r#""context":{"day":1.50}"#));
    let query = done.json();
    for (key, value) in [
        ("kind", json!("query")),
        ("status", json!("queued")),
        ("priority", json!(-5)),
        ("external_id", json!("x")),
        ("result", json!(null)),
        ("messages", json!(null)),
    ] {
        assert_eq!(query[key], value, "{key}");
    }
    let keys = query.as_object().unwrap().keys().count();
    assert_eq!(keys, 24, "a batch's keys, result and messages");
    let again = rowmill
        .run(&format!("{SUBMIT} --input {{\"n\":7}} {flags}"))
        .code(0);
    assert_eq!(again.json()["id"], query["id"]);
    let other = rowmill.run(&format!("{SUBMIT} --input {{\"n\":8}} {flags}"));
    assert_eq!(other.code(3).problem()["id"], "duplicate");

    rowmill.run("work --once").code(0);
    let query = rowmill.run("query status ext:test/x --json").code(0).json();
    assert_eq!(query["status"], "success");
    assert_eq!(query["result"], json!({"n": 7}));
    let text = rowmill.run("query status ext:test/x").code(0).stdout;
    assert!(text.starts_with("query "), "{text}");
    assert!(text.contains("  result: {\"n\": 7}\n"), "{text}");
    assert!(!text.contains(" rows"), "{text}");
}

#[test]
fn an_input_comes_from_the_argument_a_file_or_stdin() {
    let rowmill = asking();
    rowmill.write("in.json", "\u{feff}{\n \"n\": 1\n}\n");
    let ids = [
        rowmill.run(&format!("{SUBMIT} --json --input {{\"n\":1}}")),
        rowmill.run(&format!("{SUBMIT} --json --input @in.json")),
        rowmill.run_fed(&format!("{SUBMIT} --json --input -"), "{\"n\":1}\n"),
    ]
    .map(|done| done.code(0).id());
    rowmill.run(&format!("{SUBMIT} --input -1")).code(0);
    rowmill.run("work --once").code(0);
    for id in ids {
        let query = rowmill.run(&format!("query status {id} --watch --json"));
        assert_eq!(query.code(0).json()["result"], json!({"n": 1}));
    }
}

#[test]
fn a_query_whose_input_cannot_be_used_is_refused_and_nothing_is_stored() {
    let rowmill = asking();
    rowmill.write("empty", " \n");
    let config = rowmill.read("rowmill.toml");
    rowmill.write("rowmill.toml", &format!("max_row_bytes = 40\n{config}"));
    rowmill.write("large", &"1".repeat(41));
    std::fs::write(rowmill.path("latin1"), b"\"\xe9\"").unwrap();
    let deep = format!("{}{}", "[".repeat(501), "]".repeat(501));
    for (input, id) in [
        ("{", "unusable_input"),
        ("1,2", "unusable_input"),
        ("@empty", "unusable_input"),
        ("@latin1", "unusable_input"),
        ("@large", "input_too_large"),
        ("@missing", "unreadable_input"),
        ("@.", "unreadable_input"),
        ("1 --context {", "usage"),
        (&format!("1 --context {deep}"), "usage"),
        ("1 --priority 101", "bad_priority"),
        ("1 --expires-at soon", "usage"),
    ] {
        let done = rowmill.run(&format!("{SUBMIT} --json --input {input}"));
        let problem = done.code(2).problem();
        assert_eq!(problem["id"], id, "{input}: {problem}");
    }
    rowmill.run_fed(&format!("{SUBMIT} --input -"), "").code(2);
    rowmill.run(SUBMIT).code(2);
    for (args, id) in [("query status", 3), ("query abort", 3)] {
        rowmill.run(&format!("{args} ext:test/x")).code(id);
    }
}

#[test]
fn an_op_of_the_other_kind_is_refused_with_the_command_that_fits() {
    let rowmill = asking();
    rowmill.write("in.csv", "n\n1\n");
    for (args, fits) in [
        (
            "query submit --app test --op rows --input 1",
            "submit FILE --app test --op rows",
        ),
        (
            "submit in.csv --app test --op ask",
            "query submit --app test --op ask --input JSON",
        ),
        (
            "submit in.csv --app test --op ask --dry-run",
            "query submit",
        ),
        (
            "run in.csv --app test --op ask",
            "query submit --app test --op ask --input JSON",
        ),
    ] {
        let problem = rowmill.run(&format!("{args} --json")).code(2).problem();
        assert_eq!(problem["id"], "wrong_kind", "{args}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(fits), "{args}: {detail}");
    }
    assert!(!rowmill.path("rowmill.db").exists());
}

#[test]
fn a_batch_is_no_query_and_an_abort_leaves_it_alone() {
    let rowmill = asking();
    let id = rowmill.submit("1", "");
    for args in ["query status", "query status --watch", "query abort"] {
        let problem = rowmill
            .run(&format!("{args} {id} --json"))
            .code(3)
            .problem();
        assert_eq!(problem["id"], "not_found", "{args}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("that is a batch; use "), "{detail}");
    }
    let batch = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(batch["status"], "queued");
    let unknown = "0198c0de-0000-7000-8000-000000000000";
    for args in ["query status", "query abort"] {
        rowmill.run(&format!("{args} {unknown}")).code(3);
    }
}

#[test]
fn a_query_that_nobody_works_on_says_so() {
    let rowmill = asking();
    let id = rowmill
        .run(&format!("{SUBMIT} --input 1 --json"))
        .code(0)
        .id();
    for command in ["query status", "status"] {
        let told = rowmill.run(&format!("{command} {id}")).code(0).stderr;
        let wanted = "no worker serves test/ask: the query waits\n";
        assert!(told.starts_with(wanted), "{command}: {told}");
    }
    rowmill.run("ops pause test/ask").code(0);
    let told = rowmill.run(&format!("query status {id}")).code(0).stderr;
    assert!(
        told.contains("test/ask is paused: the query waits"),
        "{told}"
    );
}

#[test]
fn an_aborted_query_is_aborted_once_more_without_error() {
    let rowmill = asking();
    let id = rowmill
        .run(&format!("{SUBMIT} --input 1 --json"))
        .code(0)
        .id();
    for _ in 0..2 {
        let query = rowmill.run(&format!("query abort {id} --json")).code(0);
        assert_eq!(query.json()["status"], "aborted");
    }
    rowmill.run(&format!("query status {id}")).code(0);
    rowmill.run(&format!("query status {id} --watch")).code(1);
}

#[test]
fn follow_ends_with_the_answer_and_its_exit_code() {
    let rowmill = asking();
    let follow = |n: &str| {
        let args = format!("{SUBMIT} --input {{\"n\":\"{n}\"}} --follow");
        (args.clone(), rowmill.start(&args))
    };
    let following = [follow("good"), follow("bad")];
    let mut worker = rowmill.start("work");
    let [good, bad] = following.map(|(args, child)| {
        let output = child.wait_with_output().unwrap();
        Done::of(&args, output)
    });
    signal(&worker, libc::SIGTERM);
    worker.wait().unwrap();
    let good = good.code(0);
    assert!(
        good.stdout.contains("result: {\"n\": \"good\"}"),
        "{}",
        good.stdout
    );
    let bad = bad.code(1);
    assert!(
        bad.stdout.contains("is_bad (n: it is bad)"),
        "{}",
        bad.stdout
    );
}
