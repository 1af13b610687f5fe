//! How PostgreSQL is reached: pools, TLS, poolers, roles with few rights.

mod pooler;
pub mod pools;
mod tls;

use futures_util::FutureExt;
use rowmill::model::{Batch, Status};
use rowmill::{JobManager, ObjectStore, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::e2e::world::{done, numbers, read, rows, settings, submit};

/// A process of its own on the store, as far as the store can tell.
fn manager(store: Store, folder: &TempDir) -> JobManager {
    let processor = rows(|cx, input| {
        cx.write_line("all.csv", &input.to_string());
        async move { Ok(Value::Null) }.boxed()
    });
    let small = settings(|s| s.block_rows = 50);
    JobManager::builder(store)
        .objects(ObjectStore::folder(folder.path()))
        .batch("bank", "post", processor)
        .settings("bank", "post", rowmill::model::Kind::Batch, small)
        .build()
        .expect("a manager")
}

/// Works a batch of 1,000 rows off by as many workers as there are stores, and looks at all that came of it.
async fn works_off(stores: Vec<Store>) -> Batch {
    let folder = tempfile::tempdir().expect("a folder");
    let managers: Vec<JobManager> = stores.into_iter().map(|s| manager(s, &folder)).collect();
    let stop = CancellationToken::new();
    let works: Vec<_> = managers
        .iter()
        .map(|m| {
            let (m, stop) = (m.clone(), stop.clone());
            tokio::spawn(async move { m.run(stop).await })
        })
        .collect();
    let id = submit(&managers[0], "post", numbers(1_000)).await;
    let batch = done(managers.last().expect("a manager"), id).await;
    let counts = (batch.status, batch.counts.success);
    assert_eq!(counts, (Status::Success, 1_000));
    let lines: String = (1..=1_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(read(&managers[0], &batch, "all.csv").await, lines);
    stop.cancel();
    for work in works {
        work.await.expect("no panic").expect("stopped");
    }
    batch
}
