//! Every SQL file has its header, fits the schema, and is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

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
    for (name, text) in statements("sqlite") {
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

#[tokio::test]
async fn every_file_fits_the_schema_and_its_header_names_every_parameter() {
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
    sources(&root().join("src/store/sqlite"), &mut text);
    let unused: Vec<String> = statements("sqlite")
        .into_keys()
        .filter(|name| !text.contains(&format!("sql!(\"{name}\")")))
        .collect();
    assert!(unused.is_empty(), "no statement of src/ is in {unused:?}");
}
