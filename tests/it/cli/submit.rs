//! `submit`: what it takes, what it refuses.

use serde_json::json;

use super::rowmill::{Rowmill, csv};
use super::shapes::{BATCH, has};

const SUBMIT: &str = "submit in.csv --app test --op rows";

#[test]
fn a_submitted_batch_is_shown_in_the_shape_of_the_contract() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("1 2 3"));
    let flags = "--json --priority -5 --external-id jan --context {\"day\":1.50} --run-at 2999-01-01T00:00:00Z --expires-at 2999-02-01T00:00:00Z";
    let batch = rowmill.run(&format!("{SUBMIT} {flags}")).code(0);
    assert_eq!(batch.stderr, "");
    assert!(batch.stdout.contains(r#""context":{"day":1.50}"#));
    has(batch.stdout.trim_end(), &BATCH);
    let batch = batch.json();
    assert_eq!(
        batch["counts"],
        json!({"rows": 3, "success": 0, "failed": 0, "aborted": 0, "expired": 0, "pending": 3})
    );
    for (key, value) in [
        ("app", json!("test")),
        ("op", json!("rows")),
        ("kind", json!("batch")),
        ("status", json!("queued")),
        ("done", json!(false)),
        ("priority", json!(-5)),
        ("external_id", json!("jan")),
        ("run_at", json!("2999-01-01T00:00:00Z")),
        ("files", json!([])),
        ("progress", json!(null)),
    ] {
        assert_eq!(batch[key], value, "{key}");
    }
}

#[test]
fn a_held_batch_waits() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "--hold");
    let batch = rowmill.run(&format!("--json status {id}")).code(0).json();
    assert_eq!(batch["status"], "wait");
    let text = rowmill.run(&format!("status {id}")).code(0).stdout;
    assert!(text.starts_with(&format!("batch {id}  wait\n")), "{text}");
    assert!(text.contains("  1 row: 1 pending\n"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn the_same_external_id_gives_the_same_batch_or_a_conflict() {
    let rowmill = Rowmill::new();
    let first = rowmill.submit("1 2", "--external-id x");
    assert_eq!(rowmill.submit("1 2", "--external-id x"), first);
    rowmill.write("in.csv", &csv("1 3"));
    let other = rowmill
        .run(&format!("{SUBMIT} --external-id x --json"))
        .code(3);
    assert_eq!(other.problem()["id"], "duplicate");
    assert_eq!(other.problem()["status"], 409);
    rowmill.write("in.csv", &csv("1 2"));
    rowmill
        .run(&format!("{SUBMIT} --external-id x --context 1"))
        .code(3);

    for name in ["ext:test/x", "ext:x --app test"] {
        let found = rowmill.run(&format!("status {name} --json")).code(0);
        assert_eq!(found.id(), first, "{name}");
    }
    rowmill.run("status ext:y --app test").code(3);
    rowmill.run("status ext:x --app other").code(3);
    rowmill.run("status ext:x").code(2);
}

#[test]
fn a_large_batch_is_found_again_by_its_external_id() {
    let rowmill = Rowmill::new();
    let text: String = (0..20_000).map(|n| format!("{n:0100}\n")).collect();
    rowmill.write("in.csv", &format!("n\n{text}"));
    let submit = format!("{SUBMIT} --external-id x --json");
    let first = rowmill.run(&submit).code(0).id();
    assert_eq!(rowmill.run(&submit).code(0).id(), first);
    rowmill.write("in.csv", &format!("n\n{text}1\n"));
    rowmill.run(&submit).code(3);
}

#[test]
fn stdin_is_an_input_whose_format_must_be_said() {
    let rowmill = Rowmill::new();
    let submit = "submit - --app test --op rows --json";
    let batch = rowmill
        .run_fed(&format!("{submit} --format jsonl"), "{\"n\":1}\n[2]\n")
        .code(0);
    assert_eq!(batch.json()["counts"]["rows"], 2);
    let told = rowmill.run_fed(submit, "").code(2).problem();
    assert_eq!(told["id"], "unknown_format");
}

#[test]
fn the_flags_of_a_csv_are_heeded() {
    let rowmill = Rowmill::new();
    rowmill.write("in.txt", "1;'a;b'\n2;c\n");
    let flags = "--format csv --delimiter ; --quote ' --no-header --encoding utf-8 --json";
    let id = rowmill
        .run(&format!("submit in.txt --app test --op rows {flags}"))
        .code(0)
        .id();
    let rows = rowmill.run(&format!("rows {id} --format csv")).code(0);
    assert_eq!(
        rows.stdout,
        "column_1,column_2,_line,_status,_errcode,_message\n1,a;b,1,queued,,\n2,c,2,queued,,\n"
    );
}

#[test]
fn an_input_that_cannot_be_used_is_refused_and_nothing_is_stored() {
    let rowmill = Rowmill::new();
    rowmill.write("empty.csv", "");
    rowmill.write("header.csv", "n\n\n");
    rowmill.write("rows.csv.gz", "");
    rowmill.write("in.csv", "n\n1\n");
    for (file, id) in [
        ("missing.csv", "unreadable_input"),
        (".  --format csv", "unreadable_input"),
        ("empty.csv", "unusable_input"),
        ("header.csv", "no_rows"),
        ("rows.csv.gz", "unreadable_input"),
        ("rows.gz", "unknown_format"),
        ("in.csv --encoding utf-32", "usage"),
        ("in.csv --context {", "usage"),
        ("in.csv --delimiter ab", "usage"),
        ("in.csv --delimiter \"", "unusable_input"),
        ("in.csv --priority 101", "bad_priority"),
        ("in.csv --run-at tomorrow", "usage"),
        ("in.csv --op job_x --op y", "usage"),
    ] {
        let args = format!("submit --json --app test --op rows {file}");
        let problem = rowmill.run(&args).code(2).problem();
        assert_eq!(problem["id"], id, "{args}: {problem}");
        assert_eq!(problem["status"], 400);
    }
    rowmill.run("submit in.csv --app te/st --op rows").code(2);
    rowmill.run("submit in.csv --app test --op job_x").code(2);
    let limit = rowmill.read("rowmill.toml");
    rowmill.write("rowmill.toml", &format!("max_input_bytes = 3\n{limit}"));
    let problem = rowmill.run(&format!("{SUBMIT} --json")).code(2).problem();
    assert_eq!(problem["id"], "input_too_large");
}

#[test]
fn a_dry_run_counts_and_touches_no_database() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "a,b\n1,2\n\n3\n4,5\n");
    let counted = rowmill
        .run(&format!("{SUBMIT} --dry-run --json"))
        .code(0)
        .json();
    assert_eq!(counted["rows"], 3);
    assert_eq!(counted["rejected"], 1);
    assert_eq!(counted["blank"], 1);
    assert_eq!(counted["columns"], json!(["a", "b"]));
    assert_eq!(counted["first_rejected"][0]["line"], 4);
    assert_eq!(
        counted["first_rejected"][0]["message"]["errcode"],
        "field_count"
    );
    let text = rowmill.run(&format!("{SUBMIT} --dry-run")).code(0).stdout;
    assert!(
        text.contains("3 rows: 2 good, 1 bad; 1 blank line"),
        "{text}"
    );
    assert!(text.contains("  line 4: "), "{text}");
    assert!(!rowmill.path("rowmill.db").exists());
}
