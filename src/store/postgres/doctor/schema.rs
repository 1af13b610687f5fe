//! The schema: its version, and what it has beside what the migrations make.

use std::collections::BTreeSet;

use super::super::errors::postgres_error;
use super::pieces::Pieces;
use super::{WORDS, migrate};
use crate::store::health::Wrong;
use crate::store::{Check, Schema, StoreError};

/// What the migrations make, as `catalogue.sql` says it; a test holds it to that.
const CATALOGUE: &str = include_str!("catalogue.txt");

pub(super) fn version(schema: &Schema) -> Check {
    let Some(newest) = schema.applied.last() else {
        let detail = "there is none yet; the first submit makes it, or `rowmill migrate`";
        return Check::ok("schema", detail);
    };
    if schema.pending.is_empty() {
        return Check::ok("schema", format!("up to date ({newest})"));
    }
    Check::repair(
        "schema",
        format!("older than this program: {}", schema.pending.join(", ")),
        "run `rowmill migrate`, then `rowmill doctor` again: what is stored was not looked at",
    )
}

pub(super) async fn drift(c: &Pieces) -> Check {
    match lines(c).await {
        Ok(found) => compare(&found),
        Err(error) => WORDS.unread("catalogue", &error),
    }
}

async fn lines(c: &Pieces) -> Result<Vec<String>, StoreError> {
    let failed = || postgres_error("reading the catalogue");
    let found = c.ask(alone!("catalogue"), &[]).await?;
    let line = |row: &tokio_postgres::Row| row.try_get(0).map_err(failed());
    found.iter().map(line).collect()
}

fn compare(found: &[String]) -> Check {
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let wanted: BTreeSet<&str> = CATALOGUE.lines().collect();
    let mut wrong = Wrong::default();
    for line in wanted.difference(&found) {
        wrong.add(|| format!("missing: {line}"));
    }
    for line in found.difference(&wanted) {
        wrong.add(|| format!("not ours: {line}"));
    }
    let newest = migrate::newest();
    wrong.check(
        "catalogue",
        format!("tables, columns, indexes and constraints are as {newest} leaves them"),
        "make what is missing again as the file in migrations/postgres says, and drop from the schema what is not rowmill's, or move it to another schema",
    )
}
