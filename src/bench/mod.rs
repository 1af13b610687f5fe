//! The benchmark: rows or slow queries from the first byte submitted to the last outcome recorded,
//! beside a plain row queue on the same disk in the same run.
//!
//! Machines and their neighbours differ from hour to hour; [`Report::ratio`] is what can be
//! compared. SQLite files of its own are made in a temporary folder and removed; on PostgreSQL it has
//! schemas of its own, which it removes, too.

mod latency;
mod memory;
mod place;
mod queries;
mod reference;
mod report;
mod rows;
mod server;
mod work;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::store::postgres;
use place::Place;

pub use report::{Rates, Report};

/// Slow queries whose time is taken one by one.
const QUERIES: u32 = 500;
/// Rows of the reference at most: beyond it takes long and tells nothing new.
const REFERENCE: u64 = 1_000_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// One batch of many trivial rows.
    #[default]
    Rows,
    /// Many slow queries of one row each.
    Queries,
}

impl Shape {
    /// Every shape, the usual one first.
    pub const ALL: [Self; 2] = [Self::Rows, Self::Queries];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Queries => "queries",
        }
    }

    /// Rows where nobody says how many.
    #[must_use]
    pub const fn usual_rows(self) -> u64 {
        match self {
            Self::Rows => 1_000_000,
            Self::Queries => 100_000,
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|shape| shape.as_str() == name)
            .ok_or_else(|| format!("there is no shape {name:?}; there are rows and queries"))
    }
}

/// What to measure, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many rows or queries.
    pub rows: u64,
    /// What they are.
    pub shape: Shape,
    /// The temporary databases are made below it: give a folder of the disk that is to be measured.
    pub dir: PathBuf,
    /// Where this is set the database is this one; a folder holds what is no database.
    pub database: Option<postgres::Options>,
}

impl Options {
    /// A shape at its usual size.
    pub fn new(shape: Shape, dir: impl AsRef<Path>) -> Self {
        Self {
            rows: shape.usual_rows(),
            shape,
            dir: dir.as_ref().to_owned(),
            database: None,
        }
    }
}

/// Measures; takes some seconds a million rows.
///
/// **Cancellation:** what was made is removed; on PostgreSQL by the next run.
///
/// # Errors
/// [`ErrorKind::Invalid`] where there is nothing to measure; [`ErrorKind::Unavailable`] where the
/// folder cannot be written, or the database does not answer or is measured by somebody else.
pub async fn run(options: Options) -> Result<Report> {
    if options.rows == 0 {
        return Err(Error::invalid("bad_rows", "a benchmark needs rows"));
    }
    let place = Place::new(&options).await?;
    let measured = measure(&options, &place).await;
    let removed = place.remove().await;
    let report = measured?;
    removed.map(|()| report)
}

async fn measure(options: &Options, place: &Place) -> Result<Report> {
    let peak = memory::Peak::begin();
    let (own, csv) = match options.shape {
        Shape::Rows => {
            let own = rows::measure(place, options.rows).await?;
            let csv = rows::measure_csv(place, options.rows).await?;
            (own, Some(csv))
        }
        Shape::Queries => (queries::measure(place, options.rows).await?, None),
    };
    let latency = latency::measure(place, QUERIES).await?;
    // The reference keeps its inputs in memory, so it comes after the last look at the peak.
    let peak_mb = peak.megabytes();
    let reference = place.reference(options.rows.min(REFERENCE)).await?;
    Ok(Report::new(options, own, csv, latency, peak_mb, reference))
}

fn failed(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let source = source.into();
    let text = format!("{what}: {source}");
    Error::with(ErrorKind::Unavailable, "bench_failed", text, source)
}

fn per_second(rows: u64, took: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let rows = rows as f64;
    rows / took.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn small(shape: Shape) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            rows: 1000,
            shape,
            dir: dir.path().to_owned(),
            database: None,
        };
        let report = run(options).await.unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        report
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_thousand_rows_and_queries_give_figures() {
        for shape in Shape::ALL {
            let report = small(shape).await;
            assert_eq!((report.shape, report.rows), (shape, 1000));
            assert!(report.end_to_end_rows_per_s > 0.0);
            assert!(report.end_to_end_rows_per_s <= report.process_rows_per_s);
            assert!(report.reference.end_to_end_rows_per_s > 0.0);
            assert!(report.ratio > 0.0);
            assert!(report.latency_p50_ms <= report.latency_p99_ms);
            let json = serde_json::to_string(&report).unwrap();
            let keys: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
                serde_json::from_str(&json).unwrap();
            assert_eq!(keys.len(), 10, "{json}");
        }
    }

    #[test]
    fn shapes_have_names() {
        for shape in Shape::ALL {
            assert_eq!(shape.as_str().parse(), Ok(shape));
        }
        assert!("row".parse::<Shape>().is_err());
    }
}
