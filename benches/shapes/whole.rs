//! What `rowmill bench` measures, round by round: the whole way of many rows, and of many queries, beside the reference.

use rowmill::bench::{self, Options, Shape};
use rowmill::store::postgres;

use crate::Size;
use crate::figures::{Failed, Figures};
use crate::place::{On, Place};

async fn measure(
    place: &Place,
    shape: Shape,
    rows: u64,
    figures: &mut Figures,
) -> Result<(), Failed> {
    let fresh = place.fresh()?;
    let mut options = Options::new(shape, fresh.folder());
    options.rows = rows;
    if place.on == On::Postgres {
        options.database = Some(postgres::Options::new(&fresh.at())?);
    }
    let report = bench::run(options).await?;
    figures.add("submit", "/s", report.submit_rows_per_s);
    figures.add("process", "/s", report.process_rows_per_s);
    figures.add("end to end", "/s", report.end_to_end_rows_per_s);
    let reference = report.reference.end_to_end_rows_per_s;
    figures.add("the reference, end to end", "/s", reference);
    figures.add("of the reference", "times", report.ratio);
    figures.add(
        "one query, submit to done, p50",
        "ms",
        report.latency_p50_ms,
    );
    figures.add(
        "one query, submit to done, p99",
        "ms",
        report.latency_p99_ms,
    );
    figures.add("peak memory", "MB", report.peak_mb as f64);
    Ok(())
}

pub async fn rows(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    measure(place, Shape::Rows, size.rows, figures).await
}

pub async fn queries(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    measure(place, Shape::Queries, (size.rows / 10).max(1), figures).await
}
