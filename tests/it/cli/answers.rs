//! `status`, `rows`, `files`, `abort`, `migrate`, `config check`: questions and their answers.

use std::io::{BufRead as _, BufReader};

use super::rowmill::{Done, Rowmill};

#[test]
fn a_batch_is_named_by_its_uuid_or_the_same_ulid() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold");
    let bits = u128::from_str_radix(&id.replace('-', ""), 16).unwrap();
    let ulid: String = (0..26)
        .rev()
        .map(|i| {
            let digit = usize::try_from((bits >> (5 * i)) & 31).unwrap();
            char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[digit])
        })
        .collect();
    for name in [&id, &id.to_uppercase(), &ulid, &ulid.to_lowercase()] {
        let found = rowmill.run(&format!("status {name} --json")).code(0).id();
        assert_eq!(&found, &id);
    }
    // What can be no id is none in any database, whether there is one or not.
    let empty = Rowmill::new();
    for args in ["status x", "query status x", "rows ext:x", "list --app a/b"] {
        let problem = empty.run(&format!("{args} --json")).code(2).problem();
        assert_eq!(problem["id"], "bad_name", "{args}");
    }
    for name in ["nonsense", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "0123"] {
        let problem = rowmill
            .run(&format!("status {name} --json"))
            .code(2)
            .problem();
        assert_eq!(problem["id"], "bad_name", "{name}");
    }
}

#[test]
fn an_unknown_batch_is_not_found_by_any_command() {
    let rowmill = Rowmill::new();
    let unknown = "0198c0de-0000-7000-8000-000000000000";
    rowmill.run(&format!("status {unknown}")).code(3);
    assert!(
        !rowmill.path("rowmill.db").exists(),
        "a question makes no database"
    );
    rowmill.submit("1", "");
    for args in ["status", "status --watch", "rows", "files", "abort"] {
        let problem = rowmill
            .run(&format!("{args} {unknown} --json"))
            .code(3)
            .problem();
        assert_eq!(problem["id"], "not_found", "{args}");
        assert_eq!(problem["instance"], format!("/v1/batches/{unknown}"));
        let text = rowmill.run(&format!("{args} {unknown}")).code(3).stderr;
        assert!(text.starts_with("error: "), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}

#[test]
fn rows_that_have_not_run_are_shown_in_every_form() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n,t\n1,\"a, \"\"b\"\"\"\n\n2,\"c\nd\"\n");
    let id = rowmill
        .run("submit in.csv --app test --op rows --hold --json")
        .code(0)
        .id();
    let csv = rowmill
        .run(&format!("rows {id} --format csv"))
        .code(0)
        .stdout;
    assert_eq!(
        csv,
        "n,t,_line,_status,_errcode,_message\n1,\"a, \"\"b\"\"\",2,wait,,\n2,\"c\nd\",4,wait,,\n"
    );
    let jsonl = rowmill.run(&format!("rows {id} --json")).code(0).stdout;
    assert_eq!(
        jsonl,
        rowmill
            .run(&format!("rows {id} --format jsonl"))
            .code(0)
            .stdout
    );
    assert_eq!(
        jsonl.lines().next().unwrap(),
        r#"{"line":2,"status":"wait","input":{"n":"1","t":"a, \"b\""},"result":null,"messages":null,"attempt":null,"done_at":null}"#
    );
    let table = rowmill.run(&format!("rows {id}")).code(0).stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert_eq!(
        rowmill
            .run(&format!("rows {id} --json --status failed"))
            .code(0)
            .stdout,
        ""
    );
    rowmill
        .run(&format!("rows {id} --json --format csv"))
        .code(2);
    rowmill.run(&format!("rows {id} --status lost")).code(2);
}

#[test]
fn a_reader_that_goes_ends_rows_quietly() {
    let rowmill = Rowmill::new();
    let text: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    rowmill.write("in.csv", &format!("n\n{text}"));
    let id = rowmill
        .run("submit in.csv --app test --op rows --json")
        .code(0)
        .id();
    for format in ["csv", "jsonl", "table"] {
        let mut child = rowmill.start(&format!("rows {id} --format {format}"));
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        drop(out);
        let done = Done::of(format, child.wait_with_output().unwrap()).code(0);
        assert_eq!(done.stderr, "");
    }
}

#[test]
fn files_of_a_batch_that_has_not_ended_are_refused() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "");
    let problem = rowmill.run(&format!("files {id} --json")).code(3).problem();
    assert_eq!(problem["id"], "wrong_state");
}

#[test]
fn an_aborted_batch_has_ended_and_is_aborted_once_more_without_error() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1 2", "");
    let batch = rowmill.run(&format!("abort {id} --json")).code(0).json();
    assert_eq!(batch["status"], "aborted");
    assert_eq!(batch["counts"]["aborted"], 2);
    let again = rowmill
        .run(&format!("abort {id} --for 1s --json"))
        .code(0)
        .json();
    assert_eq!(again, batch);
    assert_eq!(
        rowmill.run(&format!("files {id}")).code(0).stdout,
        "no output files\n"
    );
    rowmill.run(&format!("status {id} --watch")).code(1);
    rowmill.run(&format!("abort {id} --for soon")).code(2);
}

#[test]
fn migrate_says_what_it_applies_and_dry_run_changes_nothing() {
    let rowmill = Rowmill::new();
    let dry = rowmill.run("migrate --dry-run --json").code(0).json();
    assert!(!dry["pending"].as_array().unwrap().is_empty());
    assert!(!rowmill.path("rowmill.db").exists());
    let done = rowmill.run("migrate --json").code(0).json();
    assert_eq!(done["applied"], dry["pending"]);
    assert_eq!(done["pending"], serde_json::json!([]));
    let again = rowmill.run("migrate").code(0).stdout;
    assert!(again.starts_with("rowmill.db: up to date"), "{again}");
}

#[test]
fn an_older_schema_waits_for_migrate_where_it_is_by_hand() {
    let rowmill = Rowmill::new();
    rowmill.run("migrate").code(0);
    let database = rusqlite::Connection::open(rowmill.path("rowmill.db")).unwrap();
    let newest = "delete from refinery_schema_history where version = (select max(version) from refinery_schema_history)";
    let left: i64 = database
        .query_row("select count(*) from refinery_schema_history", [], |r| {
            r.get(0)
        })
        .unwrap();
    if left < 2 {
        // There is no older schema yet.
        return;
    }
    database.execute(newest, []).unwrap();
    drop(database);
    let config = rowmill.read("rowmill.toml");
    rowmill.write("rowmill.toml", &format!("migrate = \"manual\"\n{config}"));
    rowmill.write("in.csv", "n\n1\n");
    let told = rowmill
        .run("submit in.csv --app test --op rows")
        .code(2)
        .stderr;
    assert!(told.contains("rowmill migrate"), "{told}");
}

#[test]
fn config_check_shows_what_is_in_force_and_where_it_came_from() {
    let rowmill = Rowmill::new();
    let text = rowmill
        .run("config check --objects file:out")
        .code(0)
        .stdout;
    for line in [
        "database = sqlite:rowmill.db  (default)",
        "objects = file:out  (--objects)",
        "ops.\"test/rows\".handler.command = [\"python3\", \"handler.py\"]  (rowmill.toml:3)",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let json = rowmill.run("--json config check").code(0).json();
    let line = &json["settings"][1];
    assert_eq!(
        (&line["key"], &line["origin"]),
        (&"database".into(), &"default".into())
    );

    let database = rowmill
        .command("config check")
        .env("ROWMILL_DATABASE", "sqlite:env.db")
        .output();
    let database = Done::of("config check", database.unwrap()).code(0).stdout;
    assert!(
        database.contains("database = sqlite:env.db  (ROWMILL_DATABASE)"),
        "{database}"
    );
}
