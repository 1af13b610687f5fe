//! The plot of `linear`: what a row costs and what memory a process takes, by the length of the batch. An SVG without
//! anything from elsewhere.

use std::fmt::Write as _;
use std::path::Path;

use crate::Size;
use crate::figures::{Failed, Figures, median};
use crate::linear::{lengths, peak_of, rate_of};
use crate::place::On;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 150.0;
/// Of each of the two charts: where it begins and how high it is.
const COST: (f64, f64) = (110.0, 260.0);
const PEAK: (f64, f64) = (450.0, 180.0);
const HEIGHT: f64 = 710.0;
/// The target of the peak.
const MEGABYTES: f64 = 150.0;
/// Lines of a scale.
const STEPS: usize = 5;

/// What was measured on one database.
pub struct Series {
    name: String,
    colour: &'static str,
    points: Vec<Point>,
}

/// A batch's length, with microseconds a row and megabytes of each round, sorted.
struct Point {
    rows: u64,
    cost: Vec<f64>,
    peak: Vec<f64>,
}

impl Series {
    pub fn of(on: On, size: &Size, figures: &Figures) -> Self {
        let points = lengths(size).map(|rows| {
            let rates = figures.sorted(&rate_of(rows));
            Point {
                rows,
                cost: rates.iter().rev().map(|rate| 1e6 / rate).collect(),
                peak: figures.sorted(&peak_of(rows)),
            }
        });
        Self {
            name: on.pick("PostgreSQL", "SQLite").to_owned(),
            colour: on.pick("#0b6e4f", "#7fa7d6"),
            points: points.collect(),
        }
    }
}

/// Writes the plot below the package's folder.
pub fn write(series: &[Series], size: &Size) -> Result<(), Failed> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks/linear.svg");
    std::fs::write(&file, svg(series, size)?)?;
    println!("\nplot: {}", file.display());
    Ok(())
}

fn svg(series: &[Series], size: &Size) -> Result<String, Failed> {
    let points = || series.iter().flat_map(|one| &one.points);
    let lengths: Vec<u64> = lengths(size).collect();
    let (fewest, most) = (lengths[0], lengths[lengths.len() - 1]);
    let places = (most as f64 / fewest as f64).log10().max(1.0);
    let x =
        |rows: u64| LEFT + (WIDTH - LEFT - RIGHT) * (rows as f64 / fewest as f64).log10() / places;
    let largest = |values: fn(&Point) -> &Vec<f64>| {
        let all = points().flat_map(values);
        all.copied().fold(0.0, f64::max)
    };
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#1a202c">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="16" y="28" font-size="17" font-weight="bold">One batch, submitted and worked off by one process, by its length</text>
<text x="16" y="50" fill="#4a5568">Median of {} rounds, the thin line from the least to the most. A level line is a cost that grows linearly with the rows.</text>
<text x="16" y="68" fill="#4a5568">The band is up to 10% more than a row costs where it costs least.</text>
"##,
        size.rounds
    );
    let mut chart = |(top, height): (f64, f64),
                     title: &str,
                     largest: f64,
                     of: fn(&Point) -> &Vec<f64>,
                     is_cost: bool| {
        let step = round_up(largest / STEPS as f64);
        let y = |value: f64| top + height - height * value / (step * STEPS as f64);
        writeln!(
            out,
            r#"<text x="16" y="{}" font-weight="bold">{title}</text>"#,
            top - 14.0
        )?;
        for line in 0..=STEPS {
            let value = step * line as f64;
            let (at, right) = (y(value), WIDTH - RIGHT);
            writeln!(
                out,
                r##"<line x1="{LEFT}" y1="{at:.1}" x2="{right}" y2="{at:.1}" stroke="#d5dbe3"/>"##
            )?;
            writeln!(
                out,
                r#"<text x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 8.0,
                at + 4.0,
                rounded(value)
            )?;
        }
        for rows in &lengths {
            writeln!(
                out,
                r#"<text x="{:.1}" y="{}" text-anchor="middle">{}</text>"#,
                x(*rows),
                top + height + 20.0,
                grouped(*rows)
            )?;
        }
        if !is_cost {
            let at = y(MEGABYTES);
            let right = WIDTH - RIGHT;
            writeln!(
                out,
                r##"<line x1="{LEFT}" y1="{at:.1}" x2="{right}" y2="{at:.1}" stroke="#9b2c2c" stroke-dasharray="6 4"/>"##
            )?;
            writeln!(
                out,
                r##"<text x="{}" y="{:.1}" fill="#9b2c2c">target: below {MEGABYTES}</text>"##,
                right + 12.0,
                at + 4.0
            )?;
        }
        let mut label = f64::INFINITY;
        for one in series {
            if is_cost {
                let medians = one.points.iter().map(|point| median(of(point)));
                let least = medians.fold(f64::INFINITY, f64::min);
                let (up, down) = (y(least * 1.1), y(least));
                let (width, high) = (x(most) - LEFT, down - up);
                writeln!(
                    out,
                    r#"<rect x="{LEFT}" y="{up:.1}" width="{width:.1}" height="{high:.1}" fill="{}" opacity="0.12"/>"#,
                    one.colour
                )?;
            }
            let mut path = String::new();
            let mut end = 0.0;
            for point in &one.points {
                let values = of(point);
                let (at, middle) = (x(point.rows), y(median(values)));
                let (low, high) = (y(values[0]), y(values[values.len() - 1]));
                let to = if path.is_empty() { 'M' } else { 'L' };
                write!(path, "{to}{at:.1} {middle:.1}")?;
                writeln!(
                    out,
                    r##"<path d="M{at:.1} {low:.1}V{high:.1}" stroke="#1a202c"/>"##
                )?;
                writeln!(
                    out,
                    r#"<circle cx="{at:.1}" cy="{middle:.1}" r="4" fill="{}"/>"#,
                    one.colour
                )?;
                end = middle;
            }
            writeln!(
                out,
                r#"<path d="{path}" stroke="{}" stroke-width="2" fill="none"/>"#,
                one.colour
            )?;
            // Names that would stand on one another are moved apart.
            if (label - end).abs() < 16.0 {
                end = label + 16.0;
            }
            label = end;
            writeln!(
                out,
                r#"<text x="{}" y="{:.1}" font-weight="bold" fill="{}">{}</text>"#,
                WIDTH - RIGHT + 12.0,
                end + 4.0,
                one.colour,
                one.name
            )?;
        }
        Ok::<_, Failed>(())
    };
    chart(
        COST,
        "Microseconds a row, end to end",
        largest(|point| &point.cost),
        |point| &point.cost,
        true,
    )?;
    let peak = largest(|point| &point.peak).max(MEGABYTES);
    chart(
        PEAK,
        "Peak resident memory of the process, MB",
        peak,
        |point| &point.peak,
        false,
    )?;
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let bottom = PEAK.0 + PEAK.1 + 44.0;
    writeln!(
        out,
        r##"<text x="{middle}" y="{bottom}" text-anchor="middle" fill="#4a5568">rows of the batch (logarithmic)</text>"##
    )?;
    out.push_str("</svg>\n");
    Ok(out)
}

/// The next of some small multiples of a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0];
    let found = steps.into_iter().find(|step| step * power >= value);
    found.unwrap_or(10.0) * power
}

/// Without the noise of binary fractions.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// 1,000,000
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
