//! Every code of an error or a row stands in docs/errors.md, and none that there is not.

use std::collections::{BTreeMap, BTreeSet};

use super::{cells, document, files};

/// Codes, and with each what stands beside it: kinds, or a number.
type Codes = BTreeMap<String, BTreeSet<String>>;

/// Files with a function that gets its code from its caller, which is looked at itself.
const HAND_ON: [&str; 5] = [
    "src/cli/exit.rs",
    "src/cli/input.rs",
    "src/client/retry.rs",
    "src/error.rs",
    "src/intake/source.rs",
];

/// The package's own lines, without comments and tests.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    files("src", &mut sources);
    sources.retain(|(path, _)| !path.contains("/tests"));
    for (_, text) in &mut sources {
        let own = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = own.lines().map(str::trim);
        *text = lines
            .filter(|line| !line.starts_with("//"))
            .collect::<Vec<_>>()
            .join(" ");
    }
    sources
}

/// What follows each place where a text has these words, not as the end of a longer one.
fn after<'a>(text: &'a str, words: &'a str) -> impl Iterator<Item = &'a str> {
    let longer = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    text.match_indices(words)
        .filter(move |(at, _)| !longer(&text[..*at]))
        .map(move |(at, _)| text[at + words.len()..].trim_start())
}

/// The code with which an argument begins.
fn literal(argument: &str) -> Option<&str> {
    let (code, _) = argument.strip_prefix('"')?.split_once('"')?;
    let is_code = |c: char| c.is_ascii_lowercase() || c == '_';
    code.chars().all(is_code).then_some(code)
}

/// A kind and the code after it: `Conflict, "busy"`.
fn kind_and_code(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = text.split_once(',')?;
    let is_kind = kind.chars().all(|c| c.is_ascii_alphabetic());
    let code = literal(rest.trim_start()).filter(|_| is_kind)?;
    Some((kind, code))
}

/// The codes of errors, with the kinds that each has.
fn errors_in(sources: &[(String, String)]) -> Codes {
    let mut codes = Codes::new();
    let mut add = |code: &str, kind: &str| {
        let kinds = codes.entry(code.to_owned()).or_default();
        kinds.insert(kind.to_owned());
    };
    for (path, text) in sources {
        let hands_on = HAND_ON.contains(&path.as_str());
        for (kind, code) in after(text, "ErrorKind::").filter_map(kind_and_code) {
            add(code, kind);
        }
        for (call, kind) in [("invalid(", "Invalid"), ("conflict(", "Conflict")] {
            for argument in after(text, call) {
                match literal(argument) {
                    Some(code) => add(code, kind),
                    None => assert!(hands_on, "{path}: which code? {call}{argument:.60}"),
                }
            }
        }
        for call in ["Error::new(", "Error::with("] {
            // Errors of the standard library and of SQLite have paths before them.
            for arguments in after(text, call) {
                let kind = arguments.strip_prefix("ErrorKind::");
                let is_ours = kind.is_none_or(|kind| !kind.starts_with("InvalidData"))
                    && !arguments.starts_with("ffi::");
                let told = kind.and_then(kind_and_code).is_some();
                assert!(
                    told || hands_on || !is_ours,
                    "{path}: which code? {call}{arguments:.60}"
                );
            }
        }
        // An interruption has an exit code of its own.
        for call in after(text, "tell_problem(503, \"Interrupted\", text, ") {
            add(literal(call).unwrap(), "—");
        }
    }
    codes
}

/// The codes of rows, with the number of each.
fn rows_in(sources: &[(String, String)]) -> Codes {
    let mut codes = Codes::new();
    let mut add = |code: &str, number: &str| {
        let numbers = codes.entry(code.to_owned()).or_default();
        numbers.insert(number.to_owned());
    };
    for (_, text) in sources {
        for constant in after(text, "(&str, u32) = (") {
            let (number, _) = constant.split_once(')').unwrap();
            let (_, number) = number.split_once(", ").unwrap();
            add(literal(constant).unwrap(), number);
        }
    }
    let (_, reject) = sources
        .iter()
        .find(|(path, _)| path == "src/ingest/reject.rs")
        .unwrap();
    let (words, numbers) = reject.split_once("fn msgid").unwrap();
    let (_, words) = words.split_once("fn errcode").unwrap();
    for arm in after(words, "Self::") {
        let (variant, word) = arm.split_once(" => ").unwrap();
        let number = after(numbers, "Self::").find_map(|arm| {
            let (other, number) = arm.split_once(" => ")?;
            (other == variant).then(|| number.split(',').next().unwrap())
        });
        add(literal(word).unwrap(), number.unwrap());
    }
    codes
}

/// The rows of the page's table whose head begins with this word.
fn table(head: &str) -> Vec<Vec<String>> {
    let page = document("docs/errors.md");
    let (_, table) = page.split_once(&format!("\n| {head} | ")).expect(head);
    let table = table.split("\n\n").next().unwrap();
    let rows = cells(table).map(|row| row.into_iter().map(str::to_owned).collect());
    let rows: Vec<Vec<String>> = rows.collect();
    assert!(rows.iter().all(|row| row.len() == 4), "{rows:?}");
    rows
}

/// The codes of one table, each told once.
fn told(head: &str) -> Codes {
    let mut codes = Codes::new();
    for row in table(head) {
        let beside = row[1].split(", ").map(str::to_owned).collect();
        let code = row[0].trim_matches('`').to_owned();
        assert!(codes.insert(code, beside).is_none(), "twice: {row:?}");
    }
    codes
}

#[test]
fn every_code_of_an_error_is_on_the_page_with_its_kinds() {
    let there = errors_in(&sources());
    assert!(there.len() >= 40, "the codes are gone from the source");
    assert_eq!(there, told("code"));
}

#[test]
fn every_code_of_a_row_is_on_the_page_with_its_number() {
    let there = rows_in(&sources());
    assert!(there.len() >= 14, "the codes are gone from the source");
    assert_eq!(there, told("errcode"));
}

#[test]
fn every_kind_is_on_the_page_with_its_exit_code_and_status() {
    let exit = sources()
        .into_iter()
        .find(|(path, _)| path == "src/cli/exit.rs");
    let (_, exit) = exit.unwrap();
    let mut kinds: BTreeMap<String, [String; 2]> = BTreeMap::new();
    for arm in exit.split("ErrorKind::").skip(1) {
        // Kinds that share an arm have what its last one has.
        let Some((kind, _)) = arm.split_once([' ', ',']) else {
            continue;
        };
        let from = exit.find(arm).unwrap();
        let Some((arms, to)) = exit[from..].split_once(" => ") else {
            continue;
        };
        if arms.contains([',', ';']) {
            continue;
        }
        let code = to.trim_start_matches('(').split(',').next().unwrap();
        let place = usize::from(to.starts_with('('));
        kinds.entry(kind.to_owned()).or_default()[place] = code.to_owned();
    }
    let rows = table("kind").into_iter();
    let told = rows.map(|row| (row[0].clone(), [row[1].clone(), row[2].clone()]));
    assert_eq!(kinds, told.collect());
    assert_eq!(kinds.len(), 5);
}
