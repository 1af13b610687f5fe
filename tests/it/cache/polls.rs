//! Asking for what has ended costs the database nothing.

use rowmill::model::{BatchId, NewBatch};
use rowmill::{Client, JobManager, NewQuery, ObjectStore, StatusCache, Store};

use super::{manager, manager_by, other, patient};
use crate::e2e::world::{World, query, raw};
use crate::support::servers::{Proxy, Redis};
use crate::support::{Harness as _, Postgres};

fn name(n: usize) -> String {
    format!("question {n}")
}

/// A thousand queries that have ended, by names of their own.
async fn thousand(world: &World, cache: StatusCache) -> (Client, Vec<BatchId>) {
    asked(manager(world, cache)).await
}

async fn asked(manager: JobManager) -> (Client, Vec<BatchId>) {
    let asked = (0..1000).map(|n| NewQuery {
        query: NewBatch {
            external_id: Some(name(n)),
            ..NewBatch::new(query("ask"))
        },
        input: raw(&n.to_string()),
    });
    let asked = manager
        .slow_query_submit_many(asked.collect())
        .await
        .unwrap();
    while !manager.tick().await.unwrap().is_idle() {}
    manager.stop().await.unwrap();
    (
        manager.client(),
        asked.iter().map(|asked| asked.id).collect(),
    )
}

async fn poll(client: &Client, ids: &[BatchId]) {
    for (n, id) in ids.iter().enumerate() {
        let found = client.find_external("bank", &name(n)).await.unwrap();
        assert_eq!(found, Some(*id));
        let batch = client.slow_query_done(*id).await.unwrap();
        assert_eq!(batch.answer().unwrap().get(), n.to_string());
    }
}

/// Takes the tables away: whoever reads one from now on fails.
fn hide_the_tables(world: &World) {
    let hide = "alter table batches rename to hidden_batches;
        alter table external_ids rename to hidden_external_ids";
    // A view names one of them.
    let db = world.db();
    db.execute_batch("drop view if exists batchrows").unwrap();
    db.execute_batch(hide).unwrap();
}

async fn reads_the_database(client: &Client) {
    let read = client.batch_status(BatchId::new()).await.unwrap_err();
    assert_eq!(read.kind(), rowmill::ErrorKind::Unavailable, "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polling_a_thousand_finished_batches_issues_no_sql_with_the_memory_alone() {
    let world = World::new().await;
    let (client, ids) = thousand(&world, StatusCache::memory()).await;
    poll(&client, &ids).await;
    hide_the_tables(&world);
    reads_the_database(&client).await;
    poll(&client, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polling_a_thousand_finished_batches_issues_no_sql_in_any_process_with_redis() {
    let world = World::new().await;
    let redis = Redis::start();
    let (_, ids) = thousand(&world, patient(&redis).await).await;
    // Names are copied by who asks for them first, ends by the worker.
    let first = other(&world, patient(&redis).await).await;
    for n in 0..ids.len() {
        first.find_external("bank", &name(n)).await.unwrap();
    }
    let second = other(&world, patient(&redis).await).await;
    hide_the_tables(&world);
    reads_the_database(&second).await;
    poll(&second, &ids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polling_a_thousand_finished_batches_on_postgres_issues_no_sql_with_redis() {
    let (h, redis) = (Postgres::open().await, Redis::start());
    let folder = tempfile::tempdir().unwrap();
    let builder =
        JobManager::builder(h.kit().store.clone()).objects(ObjectStore::folder(folder.path()));
    let (first, ids) = asked(manager_by(builder, patient(&redis).await)).await;
    for n in 0..ids.len() {
        first.find_external("bank", &name(n)).await.unwrap();
    }
    // A process that has seen none of them but the first, by which it learns under which keys this database's copies
    // are; then there is no way to the database any more.
    let proxy = Proxy::start(h.url());
    let store = Store::postgres_url(proxy.url()).await.unwrap();
    let second = Client::new(store).cached(patient(&redis).await);
    assert!(second.slow_query_done(ids[0]).await.unwrap().done);
    proxy.refuse();
    proxy.cut();
    reads_the_database(&second).await;
    poll(&second, &ids).await;
}
