//! Every SQL file has its header, fits the schema, is used, and is there for either database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

const DIALECTS: [&str; 2] = ["sqlite", "postgres"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The files of a dialect, by name without the ending.
fn statements(dialect: &str) -> BTreeMap<String, String> {
    let folder = root().join("sql").join(dialect);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).expect("a folder of SQL") {
        let path = entry.expect("an entry").path();
        assert_eq!(
            path.extension().and_then(|e| e.to_str()),
            Some("sql"),
            "{path:?}"
        );
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        found.insert(name, std::fs::read_to_string(&path).expect("readable"));
    }
    assert!(found.len() > 50, "the files of {dialect} were found");
    found
}

/// The comment lines that a file begins with.
fn header(text: &str) -> String {
    let lines = text.lines().take_while(|l| l.starts_with("--"));
    lines
        .map(|l| l.trim_start_matches("--").trim())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn every_file_says_its_purpose_params_returns_and_locks() {
    let mut wrong = Vec::new();
    for (name, text) in DIALECTS.into_iter().flat_map(statements) {
        let header = header(&text);
        let purpose = header.split(". ").next().unwrap_or_default();
        let begins = purpose.chars().next().is_some_and(char::is_uppercase);
        let has_all = ["Params:", "Returns:", "Locks:"]
            .iter()
            .all(|w| header.contains(w));
        if !begins || !has_all {
            wrong.push(format!("{name}: {header}"));
        }
    }
    assert!(wrong.is_empty(), "without a whole header: {wrong:#?}");
}

/// How many parameters the header names: `1 batch, 2 op, …`.
fn named(header: &str) -> usize {
    let params = header.split("Params:").nth(1).unwrap_or_default();
    let params = params.split("Returns:").next().unwrap_or_default();
    if params.trim().starts_with("none") {
        return 0;
    }
    let numbers = params
        .split([' ', ','])
        .filter_map(|w| w.parse::<usize>().ok());
    numbers.max().unwrap_or(0)
}

/// How many columns the header says are returned: `id, app, op; no change = …`.
fn returned(header: &str) -> usize {
    let returns = header.split("Returns:").nth(1).unwrap_or_default();
    let returns = returns.split(['.', ';']).next().unwrap_or_default();
    match returns.trim() {
        "nothing" => 0,
        columns => columns.split(", ").count(),
    }
}

#[test]
fn every_statement_is_there_for_either_database_with_as_many_parameters_and_columns() {
    let [ours, theirs] = DIALECTS.map(statements);
    let mut wrong = Vec::new();
    for name in ours.keys().chain(theirs.keys()) {
        match (ours.get(name), theirs.get(name)) {
            (Some(one), Some(other)) => {
                let [one, other] = [one, other].map(|text| header(text));
                if (named(&one), returned(&one)) != (named(&other), returned(&other)) {
                    wrong.push(format!("{name}: {one} | {other}"));
                }
            }
            _ => wrong.push(format!("{name}: in one folder alone")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn either_database_has_the_same_migrations_by_number_and_name() {
    let [ours, theirs] = DIALECTS.map(|dialect| {
        let folder = root().join("migrations").join(dialect);
        let entries = std::fs::read_dir(&folder).expect("a folder of migrations");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    });
    assert!(!ours.is_empty(), "the migrations were found");
    assert_eq!(ours, theirs);
}

/// A file's text without its header.
fn body(text: &str) -> String {
    let lines = text.lines().skip_while(|l| l.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_file_of_postgresql_says_what_it_locks_names_no_schema_and_waits_for_no_queued_record() {
    let mut wrong = Vec::new();
    for (name, text) in statements("postgres") {
        let (header, body) = (header(&text), body(&text));
        let words = [
            "insert into ",
            "update",
            "delete from ",
            " for share",
            " for key share",
        ];
        // What changes nothing, whatever is stored, locks nothing.
        let locks = words.iter().any(|word| body.contains(word)) && !body.contains(" and false");
        let says_so = locks != header.contains("Locks: none");
        // Whoever ends a worker waits for what it writes: that is no queued record.
        let ends = body.matches("from workers where no = $1 and ended_at is null for update");
        let waited_for = body.matches(" for update").count() - ends.count();
        let waits = waited_for != body.matches(" skip locked").count();
        if !says_so || waits || body.contains("rowmill.") || body.contains("?1") {
            wrong.push(format!("{name}: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is wrong with the statements for a server, which has the schema on the connection's `search_path`.
async fn wrong_on(server: &tokio_postgres::Client) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, text) in statements("postgres") {
        let header = header(&text);
        match server.prepare(&text).await {
            Err(error) => wrong.push(format!("{name}: {error:?}")),
            Ok(statement) => {
                let found = (statement.params().len(), statement.columns().len());
                if found != (named(&header), returned(&header)) {
                    wrong.push(format!(
                        "{name}: {found:?} parameters and columns, {header}"
                    ));
                }
                // Sums of numbers of eight bytes are read by nobody.
                let numeric = tokio_postgres::types::Type::NUMERIC;
                if statement.columns().iter().any(|c| *c.type_() == numeric) {
                    wrong.push(format!("{name}: returns a numeric"));
                }
            }
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_of_postgresql_is_prepared_by_a_server_that_has_the_schema() {
    use crate::support::{Harness as _, Postgres};
    let h = Postgres::open().await;
    let connected = tokio_postgres::connect(h.url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("a connection");
    let driver = tokio::spawn(connection);
    let place = client.batch_execute("set search_path to rowmill").await;
    place.expect("the schema");
    let wrong = wrong_on(&client).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    drop(client);
    driver.await.expect("no panic").expect("an end");
}

#[tokio::test]
async fn every_file_fits_the_schema_and_its_header_names_every_parameter_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rowmill.db");
    rowmill::Store::sqlite(&path).await.expect("a store");
    let c = Connection::open(&path).expect("the file");
    let mut wrong = Vec::new();
    for (name, text) in statements("sqlite") {
        match c.prepare(&text) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(statement) if statement.parameter_count() != named(&header(&text)) => {
                let count = statement.parameter_count();
                wrong.push(format!("{name}: {count} parameters, and {}", header(&text)));
            }
            Ok(statement) if statement.column_count() != returned(&header(&text)) => {
                let count = statement.column_count();
                wrong.push(format!("{name}: {count} columns, and {}", header(&text)));
            }
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|e| e == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("readable"));
        }
    }
}

#[test]
fn every_file_is_used() {
    let mut text = String::new();
    sources(&root().join("src/store"), &mut text);
    let unused: Vec<String> = statements("sqlite")
        .into_keys()
        .filter(|name| !text.contains(&format!("sql!(\"{name}\")")))
        .collect();
    assert!(unused.is_empty(), "no statement of src/ is in {unused:?}");
}

#[test]
fn a_file_that_writes_says_or_fail_and_that_it_locks_the_file() {
    let mut wrong = Vec::new();
    for (name, text) in statements("sqlite") {
        let header = header(&text);
        let statement = text.lines().find(|l| !l.starts_with("--"));
        let statement = statement.unwrap_or_default();
        let says_or_fail = statement.contains(" or fail ");
        let is_as_it_must_be = match statement.split(' ').next() {
            Some("insert" | "update") => says_or_fail && header.contains("Locks: the file"),
            Some("delete") => header.contains("Locks: the file"),
            Some("select") => header.contains("Locks: none"),
            _ => false,
        };
        if !is_as_it_must_be {
            wrong.push(format!("{name}: {header}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a statement may look through from one end to the other, however much is stored.
const SHORT: [&str; 11] = [
    // One record an op, a worker that has not ended, or an element of a list that was given.
    " ops",
    "sqlite_autoindex_ops_1",
    "workers_alive",
    "json_each",
    // What was found before, and what has no table.
    "(subquery-",
    "CONSTANT ROW",
    // Partial indexes of what is in hand at the moment.
    "queue_owner",
    "queue_close",
    "appends_open",
    "batches_giving",
    "batches_purging",
];
/// Statements that end at the first records that they find.
const LIMITED: [&str; 3] = ["doctor_files", "doctor_newest", "doctor_notice"];
/// Ends that wait to be told have no index of who tells them: it would cost each of them more than
/// a look at all of them costs when a worker goes.
const WHEN_A_WORKER_GOES: [&str; 2] = ["take_over_notices", "worker_leave"];

#[tokio::test]
async fn no_file_looks_through_a_table_that_grows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rowmill.db");
    rowmill::Store::sqlite(&path).await.expect("a store");
    let c = Connection::open(&path).expect("the file");
    let mut wrong = Vec::new();
    let mut scans = 0;
    for (name, text) in statements("sqlite") {
        let plan = format!("explain query plan {text}");
        let mut plan = c.prepare(&plan).expect("a plan");
        let mut steps = plan.raw_query();
        while let Some(step) = steps.next().expect("a step") {
            let step: String = step.get("detail").expect("its text");
            if !step.starts_with("SCAN ") {
                continue;
            }
            scans += 1;
            let is_short = SHORT.iter().any(|short| step.contains(short));
            let known = LIMITED.iter().chain(&WHEN_A_WORKER_GOES);
            if !is_short && !known.into_iter().any(|known| *known == name) {
                wrong.push(format!("{name}: {step}"));
            }
        }
    }
    assert!(scans >= 10, "the plans were read");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What `doctor` holds a schema to is made anew by writing what this test finds into the file:
/// `ROWMILL_CATALOGUE=write cargo test --test it what_doctor_holds_a_schema_to`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_doctor_holds_a_schema_to_is_what_the_migrations_make() {
    let h = <crate::support::Postgres as crate::support::Harness>::open().await;
    let sql = std::fs::read_to_string(root().join("sql/postgres_alone/catalogue.sql"));
    let found = crate::support::servers::Database::rows_at(h.url(), &sql.expect("a file"));
    let found: String = found
        .iter()
        .map(|r| format!("{}\n", r.get::<_, &str>(0)))
        .collect();
    let file = root().join("src/store/postgres/doctor/catalogue.txt");
    if std::env::var("ROWMILL_CATALOGUE").is_ok_and(|word| word == "write") {
        std::fs::write(&file, &found).expect("written");
    }
    let noted = std::fs::read_to_string(&file).expect("a file");
    assert_eq!(noted, found, "write it anew: see this test's comment");
}
