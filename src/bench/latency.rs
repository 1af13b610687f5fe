//! How long one slow query takes from its submission to its end, while nothing else runs.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::failed;
use super::place::Place;
use super::work::{self, APP, OP, Post};
use crate::error::Result;
use crate::manager::JobManager;
use crate::model::{JobKey, Kind, NewBatch};

/// Half of the queries were faster, and all but one in a hundred.
pub(super) struct Latency {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

pub(super) async fn measure(place: &Place, queries: u32) -> Result<Latency> {
    let manager = place
        .manager("latency", |builder| builder.slow_query(APP, OP, Post))
        .await?;
    let key = JobKey::new(APP, OP, Kind::Query).map_err(|e| failed("naming the op", e))?;
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
    let asks = manager.clone();
    // Where a service asks, too: not in the thread that waits for the runtime, which each answer has to wake.
    let asked = tokio::spawn(async move { one_by_one(&asks, &key, queries).await });
    let mut times = asked.await.map_err(|e| failed("asking", e))??;
    stop.cancel();
    running.await.map_err(|e| failed("stopping", e))??;
    times.sort_unstable();
    let part = |percent: usize| {
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(at).copied().unwrap_or_default()
    };
    Ok(Latency {
        p50: part(50),
        p99: part(99),
    })
}

/// How long each of these takes.
async fn one_by_one(manager: &JobManager, key: &JobKey, queries: u32) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for i in 0..queries {
        let began = Instant::now();
        let query = NewBatch::new(key.clone());
        let query = manager
            .slow_query_submit(query, work::input(i.into()))
            .await?;
        manager.wait_done(query.id, None).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}
