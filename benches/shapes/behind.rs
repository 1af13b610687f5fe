//! Batches that are not alone: a small one behind a huge one of the same op, and a thousand small ones.

use std::time::Instant;

use rowmill::{BatchProcessor, JobKey, JobManager, Kind, NewBatch, NewRow, RowCx, RowFailure};

use crate::Size;
use crate::batch::{self, Posting};
use crate::figures::{Failed, Figures, Target, milliseconds, per_second};
use crate::place::Place;
use crate::profile::Profiled;
use crate::works::{Works, all_ended, end_to_end, held};

/// A shorter one could be over before the small one.
const ENOUGH: u64 = 2_000_000;

struct Count;

impl BatchProcessor for Count {
    type Block = ();
    type Context = ();
    type Input = u64;
    type Output = u64;

    async fn process(&self, _: &mut RowCx<'_, (), ()>, n: u64) -> Result<u64, RowFailure> {
        Ok(n)
    }
}

pub async fn small(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    let fresh = place.fresh()?;
    let manager = JobManager::builder(fresh.store().await?)
        .objects(fresh.objects())
        .batch("bench", "count", Count)
        .build()?;
    let client = manager.client();
    let many = (size.rows * 5).max(ENOUGH);
    let huge = held(&client, "count", 0..many).await?;
    let works = Works::begin(&manager);
    client.wait_off(huge).await?;
    // It runs.
    while client.batch_status(huge).await?.counts.success == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let profiled = Profiled::of("small")?;
    let began = Instant::now();
    let rows = (0..10_u64)
        .map(|n| NewRow::json(&n))
        .collect::<Result<Vec<_>, _>>()?;
    let new = NewBatch::new(JobKey::new("bench", "count", Kind::Batch)?);
    let small = client.batch_submit(new, rows).await?.id;
    client.wait_done(small, None).await?;
    let took = began.elapsed();
    drop(profiled);
    let left = client.batch_done(huge).await?;
    if left.done {
        return Err("the huge batch had ended before the small one".into());
    }
    let name = format!("10 rows behind {many}, submit to done");
    figures.aim(name, "ms", milliseconds(took), Target::Below(1e3));
    client
        .batch_abort(huge, std::time::Duration::from_secs(60))
        .await?;
    works.end().await
}

/// Rows in many small batches, and as many in one: from the first byte to the last outcome.
pub async fn batches(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    const EACH: u64 = 100;
    let number = (size.rows / 10 / EACH).max(1);
    let rows = number * EACH;
    let fresh = place.fresh()?;
    let manager = batch::manager(&fresh.at(), fresh.folder()).await?;
    let one = end_to_end(&manager, "trivial", rows, Posting::nth).await?;
    let fresh = place.fresh()?;
    let manager = batch::manager(&fresh.at(), fresh.folder()).await?;
    let client = manager.client();
    let key = JobKey::new("bench", "trivial", Kind::Batch)?;
    let works = Works::begin(&manager);
    let profiled = Profiled::of("batches")?;
    let began = Instant::now();
    for from in (0..rows).step_by(EACH as usize) {
        let inputs = (from..from + EACH).map(|n| NewRow::json(&Posting::nth(n)));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        client
            .batch_submit(NewBatch::new(key.clone()), inputs)
            .await?;
    }
    let submitted = began.elapsed();
    all_ended(&client).await?;
    let many = began.elapsed();
    drop(profiled);
    works.end().await?;
    let (one, many) = (per_second(rows, one), per_second(rows, many));
    figures.add(
        format!("{number} batches of {EACH}, submitted"),
        "/s",
        per_second(number, submitted),
    );
    figures.add(format!("rows of {number} batches, end to end"), "/s", many);
    figures.add("as many rows of one batch, end to end", "/s", one);
    figures.add("of those of one batch", "times", many / one);
    Ok(())
}
