//! What is told of a batch is the same with each cache, and the first time as the next.

use rowmill::model::NewBatch;
use rowmill::{Batch, StatusCache};
use serde_json::json;

use super::{manager, other, patient};
use crate::e2e::world::{World, inputs, key, query, raw};
use crate::support::servers::Redis;

fn told(batch: &Batch) -> (String, String) {
    let wire = serde_json::to_string(batch).expect("JSON");
    (wire, format!("{batch:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_is_the_same_with_each_cache() {
    let world = World::new().await;
    let redis = Redis::start();
    let manager = manager(&world, patient(&redis).await);
    let mut ids = Vec::new();
    let named = NewBatch {
        external_id: Some("March \u{1F4B6}.csv".to_owned()),
        priority: -7,
        columns: Some(vec!["n".to_owned()]),
        ..NewBatch::new(key("double"))
    };
    let rows = inputs(&[json!(1), json!(13)]);
    ids.push(manager.batch_submit(named, rows).await.unwrap().id);
    for input in ["null", r#"{"a" : "\u0000", "b": 1e200000}"#] {
        let asked = NewBatch::new(query("ask"));
        ids.push(
            manager
                .slow_query_submit(asked, raw(input))
                .await
                .unwrap()
                .id,
        );
    }
    let held = NewBatch {
        hold: true,
        ..NewBatch::new(key("double"))
    };
    ids.push(
        manager
            .batch_submit(held, inputs(&[json!(1)]))
            .await
            .unwrap()
            .id,
    );
    world.work(&manager).await;

    let plain = other(&world, StatusCache::none()).await;
    let caches = [StatusCache::memory(), patient(&redis).await];
    for cache in caches {
        let client = other(&world, cache.clone()).await;
        let next = client.cached(cache);
        for id in &ids {
            let expected = told(&plain.batch_status(*id).await.unwrap());
            assert_eq!(told(&client.batch_status(*id).await.unwrap()), expected);
            assert_eq!(told(&client.batch_status(*id).await.unwrap()), expected);
            assert_eq!(told(&next.batch_done(*id).await.unwrap()), expected);
        }
        let found = client.find_external("bank", "March \u{1F4B6}.csv").await;
        assert_eq!(found.unwrap(), Some(ids[0]));
        assert_eq!(client.find_external("bank", "no").await.unwrap(), None);
        assert_eq!(client.find_external("Bank", "March").await.unwrap(), None);
    }
    let end = plain.batch_status(ids[0]).await.unwrap();
    assert_eq!((end.counts.failed, end.files.len()), (1, 1));
    world.end(&manager).await;
}
