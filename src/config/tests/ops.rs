//! The ops of the file.

use std::time::Duration;

use super::super::ops::KEYS;
use super::*;
use crate::model::{Backoff, Delivery, Kind, OpSettings};

/// A file with one op that holds `keys`, from line 2.
fn op(keys: &str) -> Given {
    file(&format!("[ops.\"a/b\"]\n{keys}\n"))
}

/// The window of the one op's handler.
fn window(keys: &str) -> usize {
    let config = op(keys).good();
    let Some(Handler::Command { window, .. }) = config.ops[0].handler else {
        panic!("a handler");
    };
    window
}

#[test]
fn the_contracts_example_is_read() {
    let given = file(
        r#"
[ops."banking/post_transactions"]            # app/op; an app's name has no slash
kind         = "batch"                       # or "query"
handler      = { command = ["python3", "post.py"] }
max_attempts = 3
max_lost     = 3
backoff      = { base = "2s", factor = 2.0, cap = "1h" }
concurrency  = 8
local_concurrency = 16
parallel     = 1
timeout      = "5m"
delivery     = "at_least_once"
block_rows   = 1000
"#,
    );
    let config = given.good();
    let op = config.op("banking", "Post_Transactions").expect("the op");
    assert_eq!(
        (op.app.as_str(), op.op.as_str()),
        ("banking", "post_transactions")
    );
    assert_eq!((op.kind, op.line), (Kind::Batch, 2));
    let Some(Handler::Command {
        command, window, ..
    }) = &op.handler
    else {
        panic!("a handler");
    };
    assert_eq!(command[..], ["python3", "post.py"]);
    assert_eq!(*window, 32);
    assert_eq!(
        op.settings,
        OpSettings {
            max_attempts: 3,
            concurrency: Some(8),
            local_concurrency: Some(16),
            timeout: Some(Duration::from_secs(300)),
            ..OpSettings::default()
        }
    );
}

#[test]
fn every_setting_can_be_set() {
    let keys = r#"
        kind = "query"
        handler = { command = ["true"], window = 5 }
        max_attempts = 2
        max_lost = 4
        backoff = { base = "1s", factor = 3, cap = "1m" }
        concurrency = 0
        local_concurrency = 6
        parallel = 5
        timeout = "500ms"
        delivery = "at_most_once"
        block_rows = 8
        block_bytes = 9
        abort_grace = "0s"
        max_later = 10
        keep = "90d"
    "#;
    for key in KEYS {
        assert!(keys.contains(&format!(" {key} = ")), "{key}");
    }
    let op = op(keys).good().ops.remove(0);
    assert_eq!(op.kind, Kind::Query);
    assert_eq!(
        op.settings,
        OpSettings {
            max_attempts: 2,
            max_lost: 4,
            backoff: Backoff {
                base: Duration::from_secs(1),
                factor: 3.0,
                cap: Duration::from_secs(60),
            },
            concurrency: Some(0),
            local_concurrency: Some(6),
            parallel: 5,
            timeout: Some(Duration::from_millis(500)),
            delivery: Delivery::AtMostOnce,
            block_rows: 8,
            block_bytes: 9,
            abort_grace: Duration::ZERO,
            max_later: 10,
            keep: Some(Duration::from_secs(90 * 86_400)),
        }
    );
    let from_default = op
        .report()
        .into_iter()
        .find(|line| line.origin == Origin::Default);
    assert_eq!(from_default, None);
}

#[test]
fn an_op_without_keys_is_a_batch_op_without_handler() {
    let op = op("").good().ops.remove(0);
    assert_eq!((op.kind, op.handler), (Kind::Batch, None));
    assert_eq!(op.settings, OpSettings::default());
}

#[test]
fn ops_are_listed_in_the_order_of_the_file() {
    let config = file("[ops.\"z/a\"]\n[ops.\"a/z\"]\n[ops.\"A/z\"]\n").good();
    let names: Vec<String> = config.ops.iter().map(OpConfig::name).collect();
    assert_eq!(names, ["ops.\"z/a\"", "ops.\"a/z\"", "ops.\"A/z\""]);
}

#[test]
fn an_ops_case_does_not_count_and_an_apps_does() {
    let config = file("[ops.\"Bank/Post\"]").good();
    assert!(config.op("Bank", "pOST").is_some());
    assert!(config.op("bank", "Post").is_none());
    assert_eq!(config.ops[0].op, "Post");
}

#[test]
fn ops_that_differ_only_by_case_are_one_op_twice() {
    let wrong = file("[ops.\"a/post\"]\n[ops.\"a/Post\"]\n").wrong();
    assert_eq!(
        wrong,
        ["F:2: ops.\"a/Post\": is the op of line 1 again: an op's case does not count"]
    );
}

#[test]
fn names_that_break_their_rule_are_refused() {
    let long = format!("a/{}", "x".repeat(256));
    for name in [
        "noslash", "/b", "a/", "a/b/c", "a/-b", "a/b c", "a/job_b", "a/JOB_b", "../b", &long,
    ] {
        let wrong = file(&format!("[ops.\"{name}\"]")).wrong();
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("F:1: ops."), "{wrong:?}");
    }
    for name in ["a/b", "a b/B.c-d_e9", "ä/9", "a/jobs"] {
        file(&format!("[ops.\"{name}\"]")).good();
    }
}

#[test]
fn a_name_without_quotes_is_refused_with_the_right_way() {
    let wrong = file("[ops.banking.post]\nkind = \"batch\"\n").wrong();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].starts_with("F:1: ops.banking: "), "{wrong:?}");
    assert!(wrong[0].contains("[ops.\"app/op\"]"), "{wrong:?}");
}

#[test]
fn window_is_32_and_1_where_a_row_may_run_only_once() {
    let handler = "handler = { command = [\"true\"] }";
    assert_eq!(window(handler), 32);
    assert_eq!(
        window(&format!("delivery = \"at_most_once\"\n{handler}")),
        1
    );
    assert_eq!(window("handler = { command = [\"true\"], window = 7 }"), 7);
}

#[test]
fn a_handler_that_cannot_start_is_refused() {
    let cases = [
        ("{}", "handler: command is missing"),
        ("{ command = [] }", "handler.command: must not be empty"),
        (
            "{ command = \"post.py\" }",
            "handler.command: must be a list of strings, not a string",
        ),
        (
            "{ command = [\"a\", 5] }",
            "handler.command[1]: must be a string, not an integer",
        ),
        (
            "{ command = [\"\"] }",
            "handler.command[0]: must not be empty or hold a NUL character",
        ),
        (
            "{ command = [\"a\"], window = 0 }",
            "handler.window: must be 1 to 10000, not \"0\"",
        ),
        (
            "{ command = [\"a\"], windw = 1 }",
            "handler.windw: unknown key; is it window?",
        ),
        ("\"post.py\"", "handler: must be a table, not a string"),
    ];
    for (handler, text) in cases {
        let wrong = op(&format!("handler = {handler}")).wrong();
        assert_eq!(wrong, [format!("F:2: ops.\"a/b\".{text}")], "{handler}");
    }
}

#[test]
fn handlers_of_a_later_version_are_refused_by_name() {
    let cases = [
        (
            "{ http = \"https://x\", auth = \"env:T\", mode = \"sync\" }",
            "http",
        ),
        (
            "{ sql = \"select 1\", database = \"env:D\", output = \"x.csv\" }",
            "sql",
        ),
    ];
    for (handler, key) in cases {
        let wrong = op(&format!("handler = {handler}")).wrong();
        assert_eq!(
            wrong,
            [format!(
                "F:2: ops.\"a/b\".handler.{key}: is not in this version yet"
            )]
        );
    }
}

#[test]
fn impossible_settings_are_refused_at_their_lines() {
    let wrong = op("max_attempts = 0\n\
         block_rows = 100_001\n\
         timeout = \"0s\"\n\
         backoff = { factor = 0.5, base = \"2h\" }\n\
         concurrency = 2\n\
         parallel = 3\n\
         max_lost = -1\n\
         max_later = 5_000_000_000\n\
         abort_grace = 30\n\
         delivery = \"exactly_once\"\n")
    .wrong();
    assert_eq!(
        wrong,
        [
            "F:2: ops.\"a/b\".max_attempts: must be 1 to 32767, and is 0",
            "F:3: ops.\"a/b\".block_rows: must be 1 to 100000, and is 100001",
            "F:4: ops.\"a/b\".timeout: must be longer than 0s; leave it out for no limit",
            "F:5: ops.\"a/b\".backoff.factor: must be a number of 1 or more, and is 0.5",
            "F:5: ops.\"a/b\".backoff.cap: is 1h, less than base, which is 2h",
            "F:7: ops.\"a/b\".parallel: is 3 rows of one task at once, but concurrency allows 2: no task could ever run",
            "F:8: ops.\"a/b\".max_lost: must be a whole number, 0 or more, not \"-1\"",
            "F:9: ops.\"a/b\".max_later: must be at most 4294967295, not \"5000000000\"",
            "F:10: ops.\"a/b\".abort_grace: must be a duration in quotes, such as \"30s\", not an integer",
            "F:11: ops.\"a/b\".delivery: must be \"at_least_once\" or \"at_most_once\", not \"exactly_once\"",
        ]
    );
}

#[test]
fn what_is_no_duration_is_refused_with_what_was_written() {
    let wrong = op("timeout = \"1mo\"").wrong();
    assert_eq!(
        wrong,
        [
            "F:2: ops.\"a/b\".timeout: \"1mo\" holds a month or a year, which have no fixed length; write a duration as 90s, 2h30m, 7d or 500ms"
        ]
    );
}

#[test]
fn unknown_keys_of_inner_tables_are_refused() {
    let wrong = op("backoff = { bas = \"1s\", timeout = \"1s\" }").wrong();
    assert_eq!(
        wrong,
        [
            "F:2: ops.\"a/b\".backoff.bas: unknown key; is it base?",
            "F:2: ops.\"a/b\".backoff.timeout: unknown key here: it belongs in [ops.\"app/op\"]",
        ]
    );
}

#[test]
fn dotted_keys_and_inner_tables_read_the_same() {
    let inline = op("backoff = { base = \"5s\" }\nhandler = { command = [\"true\"] }").good();
    let dotted = op("backoff.base = \"5s\"\nhandler.command = [\"true\"]").good();
    let tables =
        op("[ops.\"a/b\".backoff]\nbase = \"5s\"\n[ops.\"a/b\".handler]\ncommand = [\"true\"]")
            .good();
    for config in [dotted, tables] {
        assert_eq!(config.ops[0].settings, inline.ops[0].settings);
        assert_eq!(config.ops[0].handler, inline.ops[0].handler);
    }
}

#[test]
fn each_key_of_the_file_wins_over_the_programs_alone() {
    let program = OpSettings {
        max_attempts: 7,
        max_lost: 7,
        backoff: Backoff {
            base: Duration::from_secs(7),
            factor: 7.0,
            cap: Duration::from_secs(70),
        },
        concurrency: Some(700),
        local_concurrency: Some(70),
        parallel: 7,
        timeout: Some(Duration::from_secs(7)),
        delivery: Delivery::AtMostOnce,
        block_rows: 7,
        block_bytes: 7,
        abort_grace: Duration::from_secs(7),
        max_later: 7,
        keep: Some(Duration::from_secs(7)),
    };
    let report = |op: OpConfig| -> Vec<(String, String, Origin)> {
        let lines = op.over(Kind::Batch, &program).report().into_iter();
        lines
            .map(|line| (line.key, line.value, line.origin))
            .collect()
    };
    let alone = report(op("").good().ops.remove(0));
    assert!(
        alone.iter().all(|(.., origin)| *origin == Origin::Code),
        "{alone:?}"
    );
    for (path, toml, value) in [
        ("max_attempts", "max_attempts = 1", "1"),
        ("max_lost", "max_lost = 3", "3"),
        ("backoff.base", "backoff.base = \"2s\"", "2s"),
        ("backoff.factor", "backoff.factor = 2.0", "2"),
        ("backoff.cap", "backoff.cap = \"1h\"", "1h"),
        ("concurrency", "concurrency = 0", "0"),
        ("local_concurrency", "local_concurrency = 8", "8"),
        ("parallel", "parallel = 1", "1"),
        ("timeout", "timeout = \"5m\"", "5m"),
        ("delivery", "delivery = \"at_least_once\"", "at_least_once"),
        ("block_rows", "block_rows = 1000", "1000"),
        ("block_bytes", "block_bytes = 1048576", "1048576"),
        ("abort_grace", "abort_grace = \"30s\"", "30s"),
        ("max_later", "max_later = 1000", "1000"),
        ("keep", "keep = \"90d\"", "90d"),
    ] {
        let given = op(toml);
        let merged = report(given.good().ops.remove(0));
        let changed: Vec<_> = merged.iter().filter(|line| !alone.contains(line)).collect();
        let [(key, said, Origin::File { line: 2, .. })] = changed[..] else {
            panic!("{path}: {changed:?}");
        };
        assert_eq!(
            (key.as_str(), said.as_str()),
            (&*format!("ops.\"a/b\".{path}"), value)
        );
    }
    assert_eq!(LIVE_KEYS.len(), 15, "a new key is above");
}
