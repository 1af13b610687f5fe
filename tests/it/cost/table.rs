//! The table of docs/performance.md, drawn from what is noted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::noted::{is_written, read};
use super::shapes::{ALL, Shape};
use super::{postgres, sqlite};

/// Measures of a shape on PostgreSQL, then of one on SQLite, in the table's order.
const POSTGRES: [&str; 6] = [
    "transactions",
    "round_trips",
    "statements",
    "records",
    "wire",
    "wal_bytes_each",
];
const SQLITE: [&str; 4] = ["steps", "statements", "records", "pages"];
const HEAD: &str = "\
| shape | transactions | round trips | statements | records | bytes sent, received each | WAL bytes each | SQLite: steps | statements | records | pages |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

type Noted = BTreeMap<String, BTreeMap<String, String>>;

fn cell(noted: &Noted, shape: Shape, measure: &str) -> String {
    let Some(of) = noted.get(shape.name()) else {
        return "-".to_owned();
    };
    let cost = |measure: &str| {
        let cost = of.get(measure).map_or("-", String::as_str);
        // What a sum is made of stands in the file.
        let (sum, _) = cost.split_once(':').unwrap_or((cost, ""));
        sum.trim_start_matches('~').to_owned()
    };
    match measure {
        "wire" => [cost("bytes_sent_each"), cost("bytes_received_each")].join(", "),
        _ => cost(measure),
    }
}

fn table() -> String {
    let (on_postgres, on_sqlite) = (read(postgres::FILE), read(sqlite::FILE));
    let mut table = HEAD.to_owned();
    for shape in ALL {
        let _ = write!(table, "| `{}`: {} ", shape.name(), shape.what());
        for measure in POSTGRES {
            let _ = write!(table, "| {} ", cell(&on_postgres, shape, measure));
        }
        for measure in SQLITE {
            let _ = write!(table, "| {} ", cell(&on_sqlite, shape, measure));
        }
        table.push_str("|\n");
    }
    table
}

#[test]
fn the_table_of_costs_in_the_docs_is_what_is_noted() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let page = std::fs::read_to_string(&path).expect("a page");
    let begin = page.find("| shape |").expect("a table");
    let len = page[begin..]
        .find("\n\n")
        .map_or(page.len() - begin, |len| len + 1);
    if is_written() {
        let (before, after) = (&page[..begin], &page[begin + len..]);
        std::fs::write(&path, format!("{before}{}{after}", table())).expect("written");
        return;
    }
    let how = "ROWMILL_COSTS=write cargo test --features probe --test it the_table_of_costs";
    assert_eq!(&page[begin..begin + len], table(), "draw it anew: {how}");
}
