//! A cluster keeps statuses as one server does.

use rowmill::StatusCache;
use rowmill::model::NewBatch;

use super::{manager, other, patient_at};
use crate::e2e::world::{World, query, raw};
use crate::support::servers::RedisCluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_are_spread_over_a_cluster_and_found_again() {
    let world = World::new().await;
    let cluster = RedisCluster::start();
    let manager = manager(&world, patient_at(&cluster.urls().join(",")).await);
    let mut ids = Vec::new();
    for n in 0..30 {
        let new = NewBatch::new(query("ask"));
        let asked = manager.slow_query_submit(new, raw(&n.to_string()));
        ids.push(asked.await.unwrap().id);
    }
    world.work(&manager).await;
    let counts = cluster
        .nodes()
        .iter()
        .map(|node| node.ask::<i64>(&["DBSIZE"]));
    let counts: Vec<i64> = counts.collect();
    assert!(counts.iter().all(|n| *n > 0), "{counts:?}");
    // One server of it leads to the others.
    let one = cluster.nodes()[2].url().replace("redis:", "redis-cluster:");
    let client = other(&world, patient_at(&one).await).await;
    let plain = other(&world, StatusCache::none()).await;
    client.batch_status(ids[0]).await.unwrap();
    for (n, id) in ids.iter().enumerate() {
        let keys = format!("*{{{id}}}:final");
        let found = |keys: &str| -> usize {
            let nodes = cluster.nodes().iter();
            nodes
                .map(|node| node.ask::<Vec<String>>(&["KEYS", keys]).len())
                .sum()
        };
        assert_eq!(found(&keys), 1);
        let batch = client.slow_query_done(*id).await.unwrap();
        assert_eq!(batch.answer().unwrap().get(), n.to_string());
        let expected = plain.batch_status(*id).await.unwrap();
        assert_eq!(format!("{batch:?}"), format!("{expected:?}"));
    }
    world.end(&manager).await;
}
