//! A small batch that comes behind a huge one of the same op.

use std::time::Instant;

use rowmill::{BatchProcessor, JobKey, JobManager, Kind, NewBatch, NewRow, RowCx, RowFailure};

use crate::Size;
use crate::figures::{Failed, Figures, Target, milliseconds};
use crate::place::Place;
use crate::works::{Works, held};

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
    let began = Instant::now();
    let rows = (0..10_u64)
        .map(|n| NewRow::json(&n))
        .collect::<Result<Vec<_>, _>>()?;
    let new = NewBatch::new(JobKey::new("bench", "count", Kind::Batch)?);
    let small = client.batch_submit(new, rows).await?.id;
    client.wait_done(small, None).await?;
    let took = began.elapsed();
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
