//! Imports only point down the list in docs/architecture.md.

use std::collections::BTreeMap;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Each room's place in the list: the top is 0. A cell may name several that share a place.
fn places() -> BTreeMap<String, usize> {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/architecture.md"))
        .expect("docs/architecture.md");
    let mut places = BTreeMap::new();
    let rows = page.lines().filter(|l| l.starts_with("| `"));
    for (place, row) in rows.enumerate() {
        let cell = row.split('|').nth(1).expect("a cell");
        for room in cell.split('`').skip(1).step_by(2) {
            assert!(
                places.insert(room.to_owned(), place).is_none(),
                "{room} is named twice"
            );
        }
    }
    places
}

/// Every file of src/ with the room that it belongs to.
fn files(folder: &Path, room: Option<&str>, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let stem = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let room = room.map_or(stem, str::to_owned);
        if path.is_dir() {
            files(&path, Some(&room), found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push((room, std::fs::read_to_string(&path).expect("readable")));
        }
    }
}

/// The rooms that a file's code names: `crate::room`, or `crate::{room, …}`; comments do not count.
fn imports(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .map(|l| l.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut rooms = Vec::new();
    for after in code.split("crate::").skip(1) {
        let word = |t: &str| -> String {
            t.chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect()
        };
        match after.strip_prefix('{') {
            None => rooms.push(word(after)),
            Some(group) => {
                // Names at the group's own depth.
                let mut depth = 0;
                let mut name = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => rooms.push(word(std::mem::take(&mut name).trim())),
                        c if depth == 0 => name.push(c),
                        _ => {}
                    }
                }
                rooms.push(word(name.trim()));
            }
        }
    }
    rooms.retain(|r| !r.is_empty());
    rooms
}

#[test]
fn imports_only_point_down_the_list() {
    let places = places();
    let mut all = Vec::new();
    files(&Path::new(ROOT).join("src"), None, &mut all);
    let mut wrong = Vec::new();
    // The library's root names every room, and the binary stands above it.
    for (room, text) in all.iter().filter(|(r, _)| r != "lib" && r != "main") {
        let Some(place) = places.get(room) else {
            wrong.push(format!("{room} is not in docs/architecture.md"));
            continue;
        };
        for to in imports(text) {
            match places.get(&to) {
                None => wrong.push(format!("{room} names crate::{to}, which is no room")),
                Some(below) if below >= place => {}
                Some(_) => wrong.push(format!("{room} points up to {to}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_import_is_found_wherever_it_stands() {
    let found = imports(
        "use crate::{model::{A, B}, error, store as s};\nfn f() { crate::engine::x() } // crate::cli",
    );
    assert_eq!(found, ["model", "error", "store", "engine"]);
}
