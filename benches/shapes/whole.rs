//! What `rowmill bench` measures, round by round: the whole way of many rows, and of many queries, beside the reference.

use std::process::Stdio;

use rowmill::bench::Shape;
use serde_json::Value;
use tokio::process::Command;

use crate::Size;
use crate::figures::{Failed, Figures, Target};
use crate::floor;
use crate::place::{Fresh, On, Place};

/// Runs `rowmill bench`, a process a round: its memory is its own, and not what an earlier round has left.
async fn report(on: On, fresh: &Fresh, shape: Shape, rows: u64) -> Result<Value, Failed> {
    let database = format!("{}{}", on.pick("", "sqlite:"), fresh.at());
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowmill"));
    command.args(["bench", "--json", "--shape", shape.as_str()]);
    command.args(["--rows", &rows.to_string(), "--database", &database]);
    // What is no database is on the disk that is measured, too.
    command.env("TMPDIR", fresh.folder());
    let command = command.stderr(Stdio::inherit()).kill_on_drop(true);
    let said = command.output().await?;
    if !said.status.success() {
        return Err(format!("rowmill bench: {}", said.status).into());
    }
    Ok(serde_json::from_slice(&said.stdout)?)
}

async fn measure(
    place: &Place,
    shape: Shape,
    rows: u64,
    figures: &mut Figures,
) -> Result<(), Failed> {
    let fresh = place.fresh()?;
    let report = report(place.on, &fresh, shape, rows).await?;
    let of = |name: &str| {
        let value = report.pointer(name).and_then(Value::as_f64);
        value.ok_or(format!("rowmill bench says no {name}"))
    };
    figures.add("submit", "/s", of("/submit_rows_per_s")?);
    figures.add("process", "/s", of("/process_rows_per_s")?);
    let end_to_end = match (shape, place.on) {
        (Shape::Queries, On::Sqlite) => Some(Target::AtLeast(30_000.0)),
        _ => None,
    };
    let rate = of("/end_to_end_rows_per_s")?;
    figures.aim("end to end", "/s", rate, end_to_end);
    let reference = of("/reference/end_to_end_rows_per_s")?;
    figures.add("the reference, end to end", "/s", reference);
    let target = match shape {
        Shape::Rows => Some(Target::AtLeast(place.on.pick(12.0, 4.0))),
        Shape::Queries => None,
    };
    figures.aim("of the reference", "times", of("/ratio")?, target);
    let (p50, p99) = (of("/latency_p50_ms")?, of("/latency_p99_ms")?);
    let least = Target::Below(3.0);
    let most = place.on.pick(Some(Target::Below(15.0)), None);
    figures.aim("one query, submit to done, p50", "ms", p50, least);
    figures.aim("one query, submit to done, p99", "ms", p99, most);
    if place.on == On::Postgres {
        let floor = floor::median(&fresh).await?.as_secs_f64() * 1e3;
        figures.add("the least that a job takes, p50", "ms", floor);
        figures.add("one query, of that", "times", p50 / floor);
    }
    let peak = of("/peak_mb")?;
    figures.aim("peak memory", "MB", peak, Target::Below(150.0));
    Ok(())
}

pub async fn rows(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    measure(place, Shape::Rows, size.rows, figures).await
}

pub async fn queries(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    measure(place, Shape::Queries, (size.rows / 10).max(1), figures).await
}
