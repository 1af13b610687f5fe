//! What the documents say of the code is so.

use std::collections::BTreeSet;
use std::path::Path;

fn files(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Names in backticks in a table's rows that look like a test's.
fn named_tests(document: &str) -> BTreeSet<&str> {
    let rows = document.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2))
        .filter(|name| name.matches('_').count() >= 3)
        .filter(|name| {
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect()
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let named = named_tests(&readme);
    assert!(named.len() >= 10, "the promises are gone from the README");
    let mut sources = Vec::new();
    files(&root.join("tests"), &mut sources);
    for name in named {
        let function = format!("fn {name}(");
        let in_a_list = format!("{name}:");
        assert!(
            sources
                .iter()
                .any(|s| s.contains(&function) || s.contains(&in_a_list)),
            "the README names {name}, which is no test"
        );
    }
}
