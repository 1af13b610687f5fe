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

/// All that is Rust in the package.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for dir in ["tests", "src"] {
        files(&root.join(dir), &mut sources);
    }
    sources
}

/// Targets of Markdown links that stay within the package.
fn links(document: &str) -> impl Iterator<Item = &str> {
    let targets = document.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split([')', '#', ' ']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn all_exist(document: &str, named: &BTreeSet<&str>) {
    let sources = sources();
    for name in named {
        let function = format!("fn {name}(");
        let in_a_list = format!("{name}:");
        assert!(
            sources
                .iter()
                .any(|s| s.contains(&function) || s.contains(&in_a_list)),
            "{document} names {name}, which is no test"
        );
    }
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let readme = document("README.md");
    let named = named_tests(&readme);
    assert!(named.len() >= 10, "the promises are gone from the README");
    all_exist("README.md", &named);
}

#[test]
fn every_line_of_the_errors_names_a_test_that_exists() {
    let errors = document("docs/errors.md");
    let is_line = |line: &&str| {
        line.starts_with("| ") && !line.starts_with("| what happened") && !line.starts_with("| ---")
    };
    let mut lines = 0;
    for line in errors.lines().filter(is_line) {
        lines += 1;
        assert!(!named_tests(line).is_empty(), "no test shows it: {line}");
        // Escaped bars apart, every line has its four columns.
        assert_eq!(line.matches(" | ").count(), 3, "{line}");
    }
    assert!(lines >= 40, "the errors are gone from the page");
    all_exist("docs/errors.md", &named_tests(&errors));
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let twice = document("docs/twice.md");
    // Beside the tables the text names tests too.
    let names = twice
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let row = format!("|`{}`|", names.collect::<Vec<_>>().join("`|`"));
    let named = named_tests(&row);
    assert!(named.len() >= 20, "the tests are gone from docs/twice.md");
    all_exist("docs/twice.md", &named);
    let promises = twice.lines().filter(|line| line.starts_with("| "));
    let promises = promises.filter(|line| {
        !line.starts_with("| ---")
            && !line.starts_with("| kind of")
            && !line.starts_with("| what happened")
    });
    for promise in promises {
        assert!(
            !named_tests(promise).is_empty(),
            "no test shows it: {promise}"
        );
    }
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            pages.push(format!("docs/{name}"));
        }
    }
    let mut followed = 0;
    for page in &pages {
        let text = document(page);
        let folder = root.join(page);
        let folder = folder.parent().unwrap();
        for link in links(&text) {
            followed += 1;
            assert!(
                folder.join(link).exists(),
                "{page} links to {link}, which is not there"
            );
        }
    }
    assert!(followed >= 15, "the links are gone from the pages");
}

/// How many cases the conformance list has, and asynchronous tests the suites of whole programs.
fn cases() -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let list = std::fs::read_to_string(root.join("conformance/mod.rs")).unwrap();
    let list = list.split_once("\non_every_store! {").unwrap().1;
    let listed = list
        .lines()
        .filter(|line| line.starts_with("        "))
        .count();
    let mut suites = Vec::new();
    for dir in ["e2e", "cli", "fault"] {
        files(&root.join(dir), &mut suites);
    }
    let marked = suites.iter().map(|s| s.matches("#[tokio::test").count());
    listed + marked.sum::<usize>()
}

#[test]
fn the_parity_page_is_whole_and_names_tests_that_exist() {
    let parity = document("docs/parity-alya.md");
    for section in ["1.3", "1.4", "1.5", "1.6", "1.7", "3", "4", "5", "6", "7"] {
        let heading = format!("\n## {section} ");
        let (_, body) = parity.split_once(&heading).expect(section);
        let body = body.split("\n## ").next().unwrap();
        let rows: Vec<&str> = body
            .lines()
            .filter(|line| line.starts_with("| "))
            .skip(2)
            .collect();
        assert!(rows.len() >= 8, "section {section} has lost its rows");
        for row in rows {
            assert_eq!(row.matches(" | ").count(), 1, "{row}");
            let answered = ["later", "does not apply", "Redis", "see 1."]
                .iter()
                .any(|word| row.contains(word));
            assert!(
                answered || !named_tests(row).is_empty(),
                "nothing shows it: {row}"
            );
        }
    }
    all_exist("docs/parity-alya.md", &named_tests(&parity));
    let cases = cases();
    assert!(cases >= 120, "only {cases} cases");
}
