//! docs/states.md is drawn from the tables in the code.

use std::path::Path;

/// Compares a page with what it must be, or writes it where `UPDATE_DOCS` is set.
#[test]
fn the_states_page_is_the_tables_in_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/states.md");
    let page = rowmill::model::states_page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("docs/states.md can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/states.md is not what src/model/states.rs says; run `UPDATE_DOCS=1 cargo test states` and commit it"
    );
}
