//! A small batch that comes behind a huge one of the same op.

use std::time::Instant;

use rowmill::{BatchProcessor, CancellationToken, JobKey, JobManager, Kind, NewBatch, NewRow};
use rowmill::{RowCx, RowFailure};

use crate::Size;
use crate::batch::held;
use crate::figures::{Failed, Figures};
use crate::place::Place;

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
    let huge = held(&client, "count", 0..(size.rows * 5).max(2_000_000)).await?;
    let stop = CancellationToken::new();
    let works = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
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
    figures.add(
        "10 rows behind many, submit to done",
        "ms",
        took.as_secs_f64() * 1e3,
    );
    client
        .batch_abort(huge, std::time::Duration::from_secs(60))
        .await?;
    stop.cancel();
    works.await??;
    Ok(())
}
