//! Tables that hold hours of history: what comes then is to be as fast as what comes first.

use rowmill::JobManager;

use crate::Size;
use crate::batch::{self, Posting};
use crate::figures::{Failed, Figures, per_second};
use crate::place::Place;
use crate::profile::Profiled;
use crate::works::{end_to_end, queries};

/// Trivial rows of one batch, then as many queries of one row: each a second.
async fn rates(manager: &JobManager, rows: u64, place: &str) -> Result<[f64; 2], Failed> {
    let profiled = Profiled::of(&format!("rows {place}"))?;
    let batch = end_to_end(manager, "trivial", rows, Posting::nth).await?;
    drop(profiled);
    let profiled = Profiled::of(&format!("queries {place}"))?;
    let queries = queries(manager, rows).await?;
    drop(profiled);
    Ok([per_second(rows, batch), per_second(rows, queries)])
}

pub async fn history(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    let (rows, ended) = ((size.rows / 10).max(1), size.rows);
    figures.note(format!(
        "{rows} rows and {rows} queries; history: {ended} queries that were submitted by calls of 1000 and worked off"
    ));
    let fresh = place.fresh()?;
    let old = batch::manager(&fresh.at(), fresh.folder()).await?;
    queries(&old, ended).await?;
    // Measured second, the empty tables are met by a process that has worked, too.
    let empty = place.fresh()?;
    let new = batch::manager(&empty.at(), empty.folder()).await?;
    let before = rates(&new, rows, "in empty tables").await?;
    let after = rates(&old, rows, "behind the history").await?;
    for (what, (before, after)) in ["rows", "queries"].iter().zip(before.iter().zip(&after)) {
        figures.add(format!("{what}, empty tables"), "/s", *before);
        figures.add(format!("{what}, behind the history"), "/s", *after);
        let name = format!("{what}, of those in empty tables");
        figures.add(name, "times", after / before);
    }
    Ok(())
}
