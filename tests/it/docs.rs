//! What the documents say of the code is so.

use std::collections::BTreeSet;
use std::path::Path;

mod codes;

/// Sources of Rust under a folder of the package: path and text.
fn files(dir: &str, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(root().join(dir)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{dir}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            files(&path, found);
        } else if path.ends_with(".rs") {
            found.push((path.clone(), document(&path)));
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names in backticks in a table's rows that look like a test's.
fn named_tests(document: &str) -> BTreeSet<&str> {
    let rows = document.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2))
        .filter(|name| is_a_tests(name))
        .collect()
}

fn is_a_tests(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.matches('_').count() >= 3 && name.chars().all(plain)
}

/// Names in backticks anywhere on a page that look like a test's.
fn named_anywhere(document: &str) -> BTreeSet<&str> {
    let lines = document.lines();
    let names = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
    names.filter(|name| is_a_tests(name)).collect()
}

/// Every test of the package: functions that are marked as one, and those that a macro makes of a list.
fn tests() -> BTreeSet<String> {
    let mut sources = Vec::new();
    for dir in ["tests", "src"] {
        files(dir, &mut sources);
    }
    let mut tests = BTreeSet::new();
    for (path, text) in sources {
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            let function = line.split_once("fn ").and_then(|(_, f)| f.split_once('('));
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some((name, _)) = function.filter(|_| marked) {
                tests.insert(name.to_owned());
                marked = false;
            }
            // The lists of kill -9 at a point: `killed_after_a_claim: "claimed", 1;`.
            if let Some((name, point)) = line.split_once(": \"")
                && path.starts_with("tests/it/fault/")
                && point.ends_with(';')
            {
                tests.insert(name.to_owned());
            }
        }
    }
    tests.extend(conformance().map(|name| name.trim().to_owned()));
    tests
}

/// The cases that run on every store.
fn conformance() -> impl Iterator<Item = String> {
    let list = document("tests/it/conformance/mod.rs");
    let list = list.split_once("\non_every_store! {").unwrap().1.to_owned();
    let listed = list.lines().filter(|line| line.starts_with("        "));
    listed.map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Targets of Markdown links that stay within the package.
fn links(document: &str) -> impl Iterator<Item = &str> {
    let targets = document.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split([')', '#', ' ']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

fn all_exist(document: &str, named: &BTreeSet<&str>) {
    let tests = tests();
    for name in named {
        assert!(
            tests.contains(*name),
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
    let (told, _) = errors.split_once("\n## The codes").unwrap();
    let mut lines = 0;
    for line in told.lines().filter(is_line) {
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
    let named = named_anywhere(&twice);
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
    let root = root();
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
    let mut suites = Vec::new();
    for dir in ["e2e", "cli", "fault"] {
        files(&format!("tests/it/{dir}"), &mut suites);
    }
    let marked = suites.iter().map(|s| s.1.matches("#[tokio::test").count());
    conformance().count() + marked.sum::<usize>()
}

/// A table's cells, row after row, without its head.
fn cells(document: &str) -> impl Iterator<Item = Vec<&str>> {
    let next = document.lines().skip(1).chain([""]);
    let lines = document.lines().zip(next);
    let rows = lines.filter(|(line, next)| {
        line.starts_with("| ") && !line.starts_with("| ---") && !next.starts_with("| ---")
    });
    rows.map(|(line, _)| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

#[test]
fn every_line_of_what_a_death_leaves_names_a_test_that_exists() {
    let crash = document("docs/crash.md");
    let (deaths, _) = crash.split_once("\n## What has no bound").unwrap();
    let (mut lines, mut untested) = (0, 0);
    for row in cells(deaths) {
        assert!(matches!(row.len(), 4 | 5), "{row:?}");
        lines += 1;
        let shown = row.last().unwrap();
        if shown.starts_with("no test") {
            untested += 1;
        } else {
            let named = named_tests(&format!("|{shown}|")).len();
            assert!(named > 0, "no test shows it: {row:?}");
        }
    }
    assert!(lines >= 60, "the deaths are gone from the page");
    assert!(untested <= 1, "{untested} lines without a test");
    all_exist("docs/crash.md", &named_anywhere(&crash));
}

/// Whether a text has these words, not as the beginning of longer ones.
fn has(text: &str, words: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(words)
        .any(|(at, _)| !text[at + words.len()..].starts_with(goes_on))
}

/// A constant's name and value, where a line defines one of a number or a time.
fn constant(line: &str) -> Option<(&str, &str)> {
    let (_, defined) = line.split_once("const ")?;
    let (name, rest) = defined.split_once(": ")?;
    let (kind, value) = rest.strip_suffix(';')?.split_once(" = ")?;
    let kinds = ["Duration", "usize", "u32", "u64", "i32", "i64"];
    kinds.contains(&kind).then_some((name, value))
}

#[test]
fn every_constant_stands_on_the_page_and_in_its_file_with_the_same_value() {
    let crash = document("docs/crash.md");
    let (_, table) = crash.split_once("\n## The constants").unwrap();
    let mut told = BTreeSet::new();
    for row in cells(table) {
        let [what, _, file, _] = row.as_slice() else {
            panic!("{row:?}")
        };
        let (what, file) = (what.trim_matches('`'), file.trim_matches('`'));
        let text = document(file);
        let here = match what.split_once(" = ") {
            Some((name, value)) if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') => {
                told.insert((file.to_owned(), name.to_owned()));
                text.lines()
                    .any(|line| constant(line) == Some((name, value)))
            }
            _ => has(&text, what),
        };
        assert!(here, "{file} has no {what}");
    }
    let mut sources = Vec::new();
    files("src", &mut sources);
    let mut untold = Vec::new();
    for (file, text) in sources {
        // What only draws, measures or tests.
        if ["/cli/", "/bench/", "/tests"]
            .iter()
            .any(|part| file.contains(part))
        {
            continue;
        }
        for (name, _) in text.lines().filter_map(constant) {
            // Units, and names of versions.
            let is_limit = !["MIB", "APPLICATION_ID", "WRITER"].contains(&name);
            if is_limit && !told.contains(&(file.clone(), name.to_owned())) {
                untold.push(format!("{name} in {file}"));
            }
        }
    }
    assert!(
        untold.is_empty(),
        "docs/crash.md does not tell of {untold:?}"
    );
    assert!(told.len() >= 90, "the constants are gone from the page");
}

/// What is not in this version, as the parity page and the README name it.
const LATER: [&str; 7] = [
    "PostgreSQL",
    "comparison with Alya",
    "encryption",
    "file intake",
    "metrics",
    "schedules",
    "service (HTTP)",
];

/// Each example that an answer names is run by `./check`, and what it prints is compared.
fn examples_are_compared(answer: &str) {
    for named in answer.split("`examples/").skip(1) {
        let name = named.split(".rs`").next().unwrap();
        for file in [
            format!("examples/{name}.rs"),
            format!("examples/expected/{name}.txt"),
        ] {
            assert!(root().join(&file).is_file(), "there is no {file}: {answer}");
        }
    }
}

#[test]
fn the_parity_page_is_whole_and_names_tests_that_exist() {
    let parity = document("docs/parity-alya.md");
    let mut brought = BTreeSet::new();
    for section in ["1.3", "1.4", "1.5", "1.6", "1.7", "3", "4", "5", "6", "7"] {
        let heading = format!("\n## {section} ");
        let (_, body) = parity.split_once(&heading).expect(section);
        let body = body.split("\n## ").next().unwrap();
        let rows: Vec<_> = cells(body).collect();
        assert!(rows.len() >= 8, "section {section} has lost its rows");
        for row in rows {
            let [what, answer] = row.as_slice() else {
                panic!("{row:?}")
            };
            let whys = answer.split("does not apply").skip(1);
            for why in whys.clone() {
                let words = why.split(['`', ';']).next().unwrap().split_whitespace();
                assert!(
                    why.starts_with(": ") && words.count() >= 3,
                    "{what}: why? {answer}"
                );
            }
            // What stands in backticks is a name; a later version brings a part that has one too.
            let plain = answer.split('`').step_by(2).collect::<String>();
            for part in plain.split("later").skip(1) {
                let part = part.split([';', '.']).next().unwrap();
                let part = part.strip_prefix(": ").unwrap_or(part).trim();
                assert!(LATER.contains(&part), "{what}: later is {part:?}? {answer}");
                brought.insert(part.to_owned());
            }
            let shown = !named_tests(&format!("|{answer}|")).is_empty();
            let said = whys.count() > 0 || plain.contains("later: ");
            assert!(shown || said, "nothing shows it: {what}");
            examples_are_compared(answer);
        }
    }
    assert!(
        brought.iter().eq(LATER.iter().collect::<BTreeSet<_>>()),
        "{brought:?}"
    );
    assert!(cells(&parity).count() >= 230, "rows are gone from the page");
    all_exist("docs/parity-alya.md", &named_tests(&parity));
    let cases = cases();
    assert!(cases >= 120, "only {cases} cases");
}
