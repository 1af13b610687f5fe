//! Batches of very different lengths: what a row costs, and what memory it takes, whatever the length.

use std::path::Path;
use std::time::Duration;

use crate::Size;
use crate::batch::{Posting, manager};
use crate::figures::{Failed, Figures, Target, per_second};
use crate::itself;
use crate::place::Place;
use crate::works::end_to_end;

/// The shortest batch.
const FEWEST: u64 = 10_000;

/// The batches' lengths, the shortest first; the last has three times as many rows, as memory that grows with them would show.
pub fn lengths(size: &Size) -> impl Iterator<Item = u64> {
    let most = (size.rows * 10).max(FEWEST);
    std::iter::successors(Some(FEWEST), |rows| rows.checked_mul(10))
        .take_while(move |rows| *rows <= most)
        .chain([most * 3])
}

/// What a length's rate is called.
pub fn rate_of(rows: u64) -> String {
    format!("{rows} rows, end to end")
}

/// What a length's memory is called.
pub fn peak_of(rows: u64) -> String {
    format!("{rows} rows, peak of the process")
}

/// What a process of its own does: submits one batch and works it off, and says how long it took and what memory.
pub async fn whole(at: &str, folder: &Path, rows: u64) -> Result<(), Failed> {
    let manager = manager(at, folder).await?;
    let took = end_to_end(&manager, "trivial", rows, Posting::nth).await?;
    println!("{} {}", took.as_secs_f64(), itself::peak()?);
    Ok(())
}

pub async fn linear(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    let mut before: Option<(f64, f64)> = None;
    for rows in lengths(size) {
        // A short one is over before anything can be said of it: it is made again and again.
        let times = (200_000 / rows).max(1);
        let (mut took, mut peak) = (Duration::ZERO, 0.0_f64);
        for _ in 0..times {
            let fresh = place.fresh()?;
            let [one_took, one_peak] = itself::alone("whole", &fresh, rows).await?;
            took += Duration::from_secs_f64(one_took);
            peak = peak.max(one_peak);
        }
        let rate = per_second(rows * times, took);
        figures.add(rate_of(rows), "/s", rate);
        figures.aim(peak_of(rows), "MB", peak, Target::Below(150.0));
        if let Some((best, least)) = before {
            let name = format!("{rows} rows, rate of the best shorter");
            figures.aim(name, "times", rate / best, Target::AtLeast(0.9));
            let name = format!("{rows} rows, peak of the least shorter");
            figures.add(name, "times", peak / least);
        }
        before = Some(match before {
            Some((best, least)) => (best.max(rate), least.min(peak)),
            None => (rate, peak),
        });
    }
    Ok(())
}
