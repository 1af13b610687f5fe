//! The JSON of every answer: scripts rely on its keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::rowmill::Rowmill;

pub(super) const BATCH: [&str; 22] = [
    "id",
    "app",
    "op",
    "kind",
    "status",
    "done",
    "counts",
    "context",
    "priority",
    "parent",
    "root",
    "generation",
    "external_id",
    "created_by",
    "created_at",
    "run_at",
    "expires_at",
    "started_at",
    "done_at",
    "aborting",
    "progress",
    "files",
];
const COUNTS: [&str; 6] = ["rows", "success", "failed", "aborted", "expired", "pending"];
const FILE: [&str; 5] = ["name", "key", "size", "sha256", "content_type"];
const ROW: [&str; 7] = [
    "line", "status", "input", "result", "messages", "attempt", "done_at",
];
const ATTEMPT: [&str; 7] = [
    "attempt",
    "worker",
    "started_at",
    "ended_at",
    "before",
    "after",
    "errcode",
];
const PROBLEM: [&str; 6] = ["type", "title", "status", "detail", "id", "instance"];

/// The keys of a JSON object, in its order.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;

        impl<'de> Visitor<'de> for Reads {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(Reads)
    }
}

#[track_caller]
pub(super) fn has(json: &str, wanted: &[&str]) {
    let Keys(keys) = serde_json::from_str(json).expect(json);
    assert_eq!(keys, wanted, "{json}");
}

/// The text of one key of an object.
fn at<'j>(json: &'j str, key: &str) -> &'j str {
    let object: std::collections::BTreeMap<String, &RawValue> =
        serde_json::from_str(json).expect(json);
    object[key].get()
}

/// The text of the first element of a list.
fn first(json: &str) -> &str {
    let list: Vec<&RawValue> = serde_json::from_str(json).expect(json);
    list[0].get()
}

/// The one document on stdout.
fn document(rowmill: &Rowmill, args: &str) -> String {
    let stdout = rowmill.run(&format!("{args} --json")).code(0).stdout;
    assert_eq!(stdout.lines().count(), 1, "{args}: {stdout}");
    stdout.trim_end().to_owned()
}

#[test]
fn every_command_that_names_a_batch_prints_it_in_the_shape_of_the_contract() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1 bad file", "--hold");
    rowmill.write("more.csv", "n\n2\n");
    has(
        &document(&rowmill, &format!("append {id} more.csv")),
        &BATCH,
    );
    has(&document(&rowmill, &format!("release {id}")), &BATCH);
    rowmill.run("work --once").code(0);
    for command in ["status", "abort", "files", "retry"] {
        let batch = document(&rowmill, &format!("{command} {id}"));
        has(&batch, &BATCH);
        has(at(&batch, "counts"), &COUNTS);
    }
    has(
        first(at(&document(&rowmill, &format!("files {id}")), "files")),
        &FILE,
    );
    let listed = rowmill.run("list --json").code(0).stdout;
    assert_eq!(listed.lines().count(), 2);
    listed.lines().for_each(|batch| has(batch, &BATCH));
    rowmill.write("in.csv", "n\n1\n");
    for args in [
        "submit in.csv --app test --op rows",
        "run in.csv --app test --op rows",
    ] {
        has(&document(&rowmill, args), &BATCH);
    }
    let done = rowmill.run(&format!("status {id} --watch --json")).code(1);
    has(done.stdout.trim_end(), &BATCH);
}

#[test]
fn a_query_has_a_result_and_messages_beside_what_a_batch_has() {
    let rowmill = Rowmill::new();
    let config = rowmill.read("rowmill.toml");
    let ask = "[ops.\"test/ask\"]\nkind = \"query\"\nhandler = { command = [\"python3\", \"handler.py\"] }\n";
    rowmill.write("rowmill.toml", &format!("{config}\n{ask}"));
    let query = [&BATCH[..], &["result", "messages"]].concat();
    let submit = "query submit --app test --op ask --external-id q --input {\"n\":1}";
    has(&document(&rowmill, submit), &query);
    rowmill.run("work --once").code(0);
    for command in ["query status", "query abort", "status"] {
        has(
            &document(&rowmill, &format!("{command} ext:test/q")),
            &query,
        );
    }
    has(&document(&rowmill, "list"), &query);
}

#[test]
fn rows_attempts_and_problems_have_the_shape_of_the_contract() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("bad", "");
    let row = document(&rowmill, &format!("rows {id}"));
    has(&row, &ROW);
    for key in ["result", "messages", "attempt", "done_at"] {
        assert_eq!(at(&row, key), "null", "{row}");
    }
    rowmill.run("work --once").code(0);
    let row = document(&rowmill, &format!("rows {id}"));
    has(&row, &ROW);
    let message = first(at(&row, "messages"));
    has(message, &["msgid", "errcode", "field", "text"]);
    let block = document(&rowmill, &format!("history {id}"));
    has(&block, &[&["first_line", "rows"][..], &ATTEMPT].concat());
    let line = document(&rowmill, &format!("history {id} --line 2"));
    has(&line, &[&["line"][..], &ATTEMPT].concat());
    let missing = "status 0198c0de-0000-7000-8000-000000000000 --json";
    let problem = rowmill.run(missing).code(3);
    assert_eq!(problem.stdout, "");
    has(problem.stderr.trim_end(), &PROBLEM);
    assert_eq!(
        at(&problem.stderr, "instance"),
        "\"/v1/batches/0198c0de-0000-7000-8000-000000000000\""
    );
    let typed = rowmill.run("status --json").code(2);
    has(typed.stderr.trim_end(), &PROBLEM);
}
