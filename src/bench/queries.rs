//! Many slow queries of one row each, submitted a thousand at a time by two callers.

use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::place::Place;
use super::report::Rates;
use super::work::{self, APP, OP, Post};
use super::{failed, per_second};
use crate::client::NewQuery;
use crate::error::Result;
use crate::model::{JobKey, Kind, NewBatch, Status};

/// Queries of one call.
const CALL: usize = 1000;
/// Calls at the same time.
const CALLERS: usize = 2;

/// Submits, then works until the last outcome is recorded.
pub(super) async fn measure(place: &Place, queries: u64) -> Result<Rates> {
    let manager = place
        .manager("queries", |builder| builder.slow_query(APP, OP, Post))
        .await?;
    let key = JobKey::new(APP, OP, Kind::Query).map_err(|e| failed("naming the op", e))?;
    let began = Instant::now();
    let calls = (0..queries).step_by(CALL).map(|from| {
        let to = queries.min(from + CALL as u64);
        let call = (from..to).map(|i| NewQuery {
            query: NewBatch::new(key.clone()),
            input: work::input(i),
        });
        manager.slow_query_submit_many(call.collect())
    });
    let mut submitted = stream::iter(calls).buffered(CALLERS);
    let mut last = None;
    while let Some(call) = submitted.try_next().await? {
        last = call.last().map(|query| query.id);
    }
    drop(submitted);
    let acknowledged = Instant::now();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
    place.all_ended("queries").await?;
    let ended = Instant::now();
    if let Some(id) = last {
        let query = manager.slow_query_done(id).await?;
        if query.status != Status::Success {
            return Err(failed("working", format!("a query is {}", query.status)));
        }
    }
    stop.cancel();
    running.await.map_err(|e| failed("stopping", e))??;
    Ok(Rates {
        submit_rows_per_s: per_second(queries, acknowledged - began),
        process_rows_per_s: per_second(queries, ended - acknowledged),
        end_to_end_rows_per_s: per_second(queries, ended - began),
    })
}
