//! A cache that is down, slow, empty or full costs a moment, and fails no call.

use std::time::{Duration, Instant};

use rowmill::model::{BatchId, NewBatch};
use rowmill::{Client, JobManager, RedisOptions, StatusCache};

use super::{Log, manager, other, patient, until};
use crate::e2e::world::{World, query, raw};
use crate::support::servers::Redis;

/// What a busy machine may add to some milliseconds.
const SOON: Duration = Duration::from_millis(500);

async fn ended(world: &World, manager: &JobManager) -> BatchId {
    let new = NewBatch::new(query("ask"));
    let id = manager.slow_query_submit(new, raw("1")).await.unwrap().id;
    world.work(manager).await;
    id
}

/// Asks often, and returns the time that the slowest half of the answers took at least.
async fn median(client: &Client, id: BatchId) -> Duration {
    let mut took = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        assert!(client.batch_done(id).await.unwrap().done);
        took.push(began.elapsed());
    }
    took.sort();
    assert!(took[199] < SOON, "{:?}", took[199]);
    took[100]
}

async fn hurried(redis: &Redis) -> StatusCache {
    let options = RedisOptions::new(&redis.url()).response(Duration::from_millis(50));
    StatusCache::redis_by(options).await.unwrap()
}

fn gets(redis: &Redis) -> bool {
    let keys: Vec<String> = redis.ask(&["KEYS", "*:final"]);
    !keys.is_empty()
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_one_warning() {
    let (log, _guard) = Log::begin();
    let world = World::new().await;
    let mut redis = Redis::start();
    redis.kill();
    let began = Instant::now();
    let manager = manager(&world, hurried(&redis).await);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let id = ended(&world, &manager).await;
    median(&manager, id).await;
    assert_eq!((log.count("WARN"), log.count("INFO")), (1, 0));
    redis.restart();
    until("it is used again", async || {
        manager.batch_done(id).await.unwrap();
        gets(&redis)
    })
    .await;
    assert_eq!((log.count("WARN"), log.count("INFO")), (1, 1));
    world.end(&manager).await;
}

#[tokio::test]
async fn a_redis_that_dies_is_one_warning_and_comes_back() {
    let (log, _guard) = Log::begin();
    let world = World::new().await;
    let mut redis = Redis::start();
    let manager = manager(&world, patient(&redis).await);
    let id = ended(&world, &manager).await;
    assert!(gets(&redis));
    for times in 1..=2 {
        redis.kill();
        median(&manager, id).await;
        ended(&world, &manager).await;
        assert_eq!((log.count("WARN"), log.count("INFO")), (times, times - 1));
        redis.restart();
        until("it is used again", async || {
            manager.batch_done(id).await.unwrap();
            gets(&redis)
        })
        .await;
        assert_eq!((log.count("WARN"), log.count("INFO")), (times, times));
    }
    world.end(&manager).await;
}

#[tokio::test]
async fn a_redis_that_hangs_costs_some_calls_a_moment_and_the_others_nothing() {
    let (log, _guard) = Log::begin();
    let world = World::new().await;
    let redis = Redis::start();
    let manager = manager(&world, hurried(&redis).await);
    let id = ended(&world, &manager).await;
    redis.stop();
    let typical = median(&manager, id).await;
    assert!(typical < Duration::from_millis(40), "{typical:?}");
    let new = ended(&world, &manager).await;
    median(&manager, new).await;
    assert_eq!((log.count("WARN"), log.count("INFO")), (1, 0));
    redis.cont();
    until("it is back", async || log.count("INFO") == 1).await;
    until("it is used again", async || {
        manager.batch_done(new).await.unwrap();
        let keys: Vec<String> = redis.ask(&["KEYS", &format!("*{new}*:final")]);
        !keys.is_empty()
    })
    .await;
    world.end(&manager).await;
}

#[tokio::test]
async fn what_was_changed_while_redis_was_away_is_not_met_from_before() {
    let world = World::new().await;
    let redis = Redis::start();
    let manager = manager(&world, hurried(&redis).await);
    let id = ended(&world, &manager).await;
    assert!(manager.batch_done(id).await.unwrap().answer().is_some());
    redis.stop();
    assert!(manager.redact(id, 1).await.unwrap());
    redis.cont();
    let two = other(&world, patient(&redis).await).await;
    until("the old status goes", async || {
        two.batch_done(id).await.unwrap().answer().is_none()
    })
    .await;
    assert!(manager.batch_done(id).await.unwrap().answer().is_none());
    world.end(&manager).await;
}

#[tokio::test]
async fn a_redis_that_was_flushed_is_filled_again() {
    let (log, _guard) = Log::begin();
    let world = World::new().await;
    let redis = Redis::start();
    let manager = manager(&world, patient(&redis).await);
    let id = ended(&world, &manager).await;
    redis.ask::<()>(&["FLUSHALL"]);
    assert!(!gets(&redis));
    assert!(manager.batch_done(id).await.unwrap().done);
    assert!(gets(&redis));
    assert_eq!((log.count("WARN"), log.count("INFO")), (0, 0));
    world.end(&manager).await;
}

#[tokio::test]
async fn a_redis_that_is_full_is_one_warning_and_still_forgets() {
    let (log, _guard) = Log::begin();
    let world = World::new().await;
    let redis = Redis::start_with(&["--maxmemory-policy", "noeviction"]);
    let manager = manager(&world, patient(&redis).await);
    let before = ended(&world, &manager).await;
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let id = ended(&world, &manager).await;
    median(&manager, id).await;
    median(&manager, before).await;
    assert_eq!((log.count("WARN"), log.count("INFO")), (1, 0));
    assert!(manager.redact(before, 1).await.unwrap());
    assert!(!gets(&redis), "the old status is gone");
    assert!(manager.batch_done(before).await.unwrap().answer().is_none());
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(manager.batch_done(id).await.unwrap().done);
    assert!(gets(&redis));
    assert_eq!((log.count("WARN"), log.count("INFO")), (1, 1));
    world.end(&manager).await;
}

#[tokio::test]
async fn a_redis_that_allows_keys_of_a_prefix_alone_is_used() {
    let (log, _guard) = Log::begin();
    let world = World::new().await;
    let redis = Redis::start();
    redis.ask::<()>(&[
        "ACL", "SETUSER", "app", "on", ">pw", "~mine:*", "+get", "+mget", "+set", "+del",
    ]);
    let url = redis.url().replace("redis://", "redis://app:pw@");
    let cache = super::patient_at(&url).await;
    let manager = manager(&world, cache.clone().prefix("mine"));
    ended(&world, &manager).await;
    assert!(gets(&redis));
    assert_eq!((log.count("WARN"), log.count("INFO")), (0, 0));
    // Under another prefix all is refused, and that is told once.
    let client = other(&world, cache.prefix("yours")).await;
    let id = ended(&world, &manager).await;
    median(&client, id).await;
    assert_eq!((log.count("WARN"), log.count("INFO")), (1, 0));
    world.end(&manager).await;
}
