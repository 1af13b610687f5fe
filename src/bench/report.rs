//! What was measured, for programs and for people.

use serde::Serialize;

use super::latency::Latency;
use super::{Options, Shape};

/// Rows a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Until acknowledged, and on the disk.
    pub submit_rows_per_s: f64,
    /// From then until the last outcome was recorded.
    pub process_rows_per_s: f64,
    /// From the first byte submitted until the last outcome was recorded.
    pub end_to_end_rows_per_s: f64,
}

impl Rates {
    fn whole(self) -> Self {
        Self {
            submit_rows_per_s: self.submit_rows_per_s.round(),
            process_rows_per_s: self.process_rows_per_s.round(),
            end_to_end_rows_per_s: self.end_to_end_rows_per_s.round(),
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What the rows were.
    pub shape: Shape,
    /// How many.
    pub rows: u64,
    /// Rows a second until acknowledged, and on the disk.
    pub submit_rows_per_s: f64,
    /// From then until the last outcome was recorded.
    pub process_rows_per_s: f64,
    /// From the first byte submitted until the last outcome was recorded.
    pub end_to_end_rows_per_s: f64,
    /// One slow query, submitted to an idle manager, until it is known to be done: the median.
    pub latency_p50_ms: f64,
    /// The same: one in a hundred took longer.
    pub latency_p99_ms: f64,
    /// The most memory of the process, the reference apart.
    pub peak_mb: u64,
    /// A plain row queue on the same disk, in the same run.
    pub reference: Rates,
    /// End to end, how many times the reference.
    pub ratio: f64,
    /// Rows a second when the same rows are submitted as a CSV.
    #[serde(skip)]
    pub csv_rows_per_s: Option<f64>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        own: Rates,
        csv: Option<f64>,
        latency: Latency,
        peak_mb: u64,
        reference: Rates,
    ) -> Self {
        let ms = |d: std::time::Duration| (d.as_secs_f64() * 1e6).round() / 1e3;
        let ratio = own.end_to_end_rows_per_s / reference.end_to_end_rows_per_s;
        let (own, reference) = (own.whole(), reference.whole());
        Self {
            shape: options.shape,
            rows: options.rows,
            submit_rows_per_s: own.submit_rows_per_s,
            process_rows_per_s: own.process_rows_per_s,
            end_to_end_rows_per_s: own.end_to_end_rows_per_s,
            latency_p50_ms: ms(latency.p50),
            latency_p99_ms: ms(latency.p99),
            peak_mb,
            reference,
            ratio: (ratio * 100.0).round() / 100.0,
            csv_rows_per_s: csv.map(f64::round),
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reference, .. } = self;
        let title = format!("{} {}", self.rows, self.shape);
        writeln!(f, "{title:<16}{:>12}{:>12}", "rowmill", "reference")?;
        let mut line = |name: &str, own: f64, theirs: f64| {
            writeln!(f, "{name:<16}{own:>12}{theirs:>12}   a second")
        };
        line(
            "submit",
            self.submit_rows_per_s,
            reference.submit_rows_per_s,
        )?;
        line(
            "process",
            self.process_rows_per_s,
            reference.process_rows_per_s,
        )?;
        line(
            "end to end",
            self.end_to_end_rows_per_s,
            reference.end_to_end_rows_per_s,
        )?;
        if let Some(rate) = self.csv_rows_per_s {
            writeln!(f, "{:<16}{rate:>12}", "submit a CSV")?;
        }
        let Self {
            latency_p50_ms: p50,
            latency_p99_ms: p99,
            ..
        } = self;
        writeln!(f, "one slow query: p50 {p50:.2} ms, p99 {p99:.2} ms")?;
        writeln!(f, "peak memory: {} MB", self.peak_mb)?;
        write!(f, "{:.2} times the reference", self.ratio)
    }
}
