//! `ops`: list, show, pause, resume, set.

use serde_json::{Value, json};

use super::rowmill::Rowmill;

const UNSERVED: &str = "work of test/rows waits, and no worker serves it";

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
    let wide = "漢字🦀".repeat(20);
    rowmill.write(
        "rowmill.toml",
        &format!("{config}[ops.\"{long}/{long}\"]\n[ops.\"{wide}/{long}\"]\n[ops.\"é漢/x\"]\n"),
    );
    rowmill.submit("1", "");
    let table = rowmill.run("ops list").code(0).stdout;
    assert_eq!(table.lines().count(), 5, "configured and not used: {table}");
    let width = |line: &str| unicode_width::UnicodeWidthStr::width(line);
    assert!(table.lines().all(|l| width(l) <= 80), "{table}");
    let places: Vec<usize> = table
        .lines()
        .skip(1)
        .map(|l| width(&l[..l.find("  batch ").unwrap()]))
        .collect();
    assert!(places.iter().all(|at| *at == places[0]), "{table}");
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
