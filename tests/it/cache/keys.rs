//! Which keys there are, what stands under them, and for how long: as docs/cache.md says.

use std::time::Duration;

use rowmill::StatusCache;
use rowmill::model::{NewBatch, Status};
use serde_json::{Value, json};

use super::{manager, other, patient};
use crate::e2e::world::{World, inputs, key, query, raw};
use crate::support::servers::Redis;

fn epoch(world: &World) -> String {
    let sql = "select value from meta where key = 'epoch'";
    world.db().query_row(sql, [], |r| r.get(0)).unwrap()
}

/// A key with its time to live in milliseconds, and whether that is so far within `most` seconds.
fn lives(redis: &Redis, key: &str, most: i64) {
    let ttl: i64 = redis.ask(&["PTTL", key]);
    let most = most * 1000;
    assert!((most - 60_000).max(1) <= ttl && ttl <= most, "{key}: {ttl}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_statuses_live_for_c_and_final_ones_a_hundred_times_as_long() {
    let world = World::new().await;
    let redis = Redis::start();
    let cache = patient(&redis).await;
    let cache = cache.open_for(Duration::from_secs(30)).prefix("mine");
    let manager = manager(&world, cache);
    let new = NewBatch {
        external_id: Some("a name".to_owned()),
        ..NewBatch::new(query("ask"))
    };
    let id = manager.slow_query_submit(new, raw("7")).await.unwrap().id;
    let root = format!("mine:{}", epoch(&world));
    let (open, ended) = (
        format!("{root}:{{{id}}}:open"),
        format!("{root}:{{{id}}}:final"),
    );
    lives(&redis, &open, 30);
    let text: String = redis.ask(&["GET", &open]);
    let status: Value = serde_json::from_str(text.strip_prefix('1').unwrap()).unwrap();
    assert_eq!(status["status"], "queued");
    assert_eq!(redis.ask::<i64>(&["EXISTS", &ended]), 0);
    world.work(&manager).await;
    // By the worker: nobody has asked.
    lives(&redis, &ended, 3000);
    let text: String = redis.ask(&["GET", &ended]);
    let status: Value = serde_json::from_str(text.strip_prefix('1').unwrap()).unwrap();
    assert_eq!(
        (&status["status"], &status["result"]),
        (&json!("success"), &json!([7]))
    );
    let keys: Vec<String> = redis.ask(&["KEYS", "*:name:*"]);
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with(&format!("{root}:name:")), "{keys:?}");
    lives(&redis, &keys[0], 3000);
    assert_eq!(redis.ask::<String>(&["GET", &keys[0]]), id.to_string());
    let all: Vec<String> = redis.ask(&["KEYS", "*"]);
    assert!(all.iter().all(|key| key.starts_with(&root)), "{all:?}");
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_status_is_never_replaced_by_an_open_one() {
    let world = World::new().await;
    let redis = Redis::start();
    let manager = manager(&world, patient(&redis).await);
    let new = NewBatch::new(key("double"));
    let id = manager
        .batch_submit(new, inputs(&[json!(1)]))
        .await
        .unwrap()
        .id;
    let client = other(&world, patient(&redis).await).await;
    assert_eq!(
        client.batch_status(id).await.unwrap().status,
        Status::Queued
    );
    let open = format!("rowmill:{}:{{{id}}}:open", epoch(&world));
    let text: String = redis.ask(&["GET", &open]);
    world.work(&manager).await;
    assert_eq!(
        client.batch_status(id).await.unwrap().status,
        Status::Success
    );
    // Whoever read it before the end writes it now.
    redis.ask::<()>(&["SET", &open, &text, "PX", "5000"]);
    assert_eq!(
        client.batch_status(id).await.unwrap().status,
        Status::Success
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_of_another_epoch_or_version_is_not_met() {
    let world = World::new().await;
    let redis = Redis::start();
    let manager = manager(&world, patient(&redis).await);
    let new = NewBatch::new(query("ask"));
    let id = manager.slow_query_submit(new, raw("1")).await.unwrap().id;
    world.work(&manager).await;
    let ended = format!("rowmill:{}:{{{id}}}:final", epoch(&world));
    let text: String = redis.ask(&["GET", &ended]);
    // What is there says something else than the database.
    let lie = text.replace(r#""status":"success""#, r#""status":"failed""#);
    redis.ask::<()>(&["SET", &ended, &lie]);
    let status = async |cache: StatusCache| {
        let client = other(&world, cache).await;
        client.batch_status(id).await.unwrap().status
    };
    assert_eq!(status(patient(&redis).await).await, Status::Failed);
    let other_prefix = patient(&redis).await.prefix("other");
    assert_eq!(status(other_prefix).await, Status::Success);
    for other_version in [lie.replacen('1', "2", 1), "1{}".to_owned(), String::new()] {
        redis.ask::<()>(&["SET", &ended, &other_version]);
        assert_eq!(status(patient(&redis).await).await, Status::Success);
    }
    redis.ask::<()>(&["SET", &ended, &lie]);
    let sql = "update meta set value = 'restored' where key = 'epoch'";
    world.db().execute(sql, []).unwrap();
    assert_eq!(status(patient(&redis).await).await, Status::Success);
    world.end(&manager).await;
}
