//! What `rowmill bench` measures, round by round: the whole way of many rows, and of many queries, beside the reference.

use rowmill::bench::{self, Options, Shape};
use rowmill::store::postgres;

use crate::Size;
use crate::figures::{Failed, Figures, Target};
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
    let end_to_end = match (shape, place.on) {
        (Shape::Queries, On::Sqlite) => Some(Target::AtLeast(30_000.0)),
        _ => None,
    };
    let rate = report.end_to_end_rows_per_s;
    figures.aim("end to end", "/s", rate, end_to_end);
    let reference = report.reference.end_to_end_rows_per_s;
    figures.add("the reference, end to end", "/s", reference);
    let of = match shape {
        Shape::Rows => Some(Target::AtLeast(place.on.pick(12.0, 4.0))),
        Shape::Queries => None,
    };
    figures.aim("of the reference", "times", report.ratio, of);
    let (p50, p99) = (report.latency_p50_ms, report.latency_p99_ms);
    let least = Target::Below(3.0);
    let most = place.on.pick(Some(Target::Below(15.0)), None);
    figures.aim("one query, submit to done, p50", "ms", p50, least);
    figures.aim("one query, submit to done, p99", "ms", p99, most);
    let peak = report.peak_mb as f64;
    figures.aim("peak memory", "MB", peak, Target::Below(150.0));
    Ok(())
}

pub async fn rows(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    measure(place, Shape::Rows, size.rows, figures).await
}

pub async fn queries(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    measure(place, Shape::Queries, (size.rows / 10).max(1), figures).await
}
