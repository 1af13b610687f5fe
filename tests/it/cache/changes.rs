//! Who changes a status is seen by everybody who shares the cache, at once.

use std::time::Duration;

use rowmill::model::{NewBatch, Status};
use rowmill::{AppendOptions, Purge};
use serde_json::json;

use super::{manager, other, patient};
use crate::e2e::world::{World, inputs, key, query, raw};
use crate::support::servers::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_an_append_and_an_abort_are_seen_at_once() {
    let world = World::new().await;
    let redis = Redis::start();
    // Nothing goes away by itself.
    let long = Duration::from_secs(3600);
    let one = other(&world, patient(&redis).await.open_for(long)).await;
    let two = other(&world, patient(&redis).await.open_for(long)).await;
    let held = NewBatch {
        hold: true,
        ..NewBatch::new(key("double"))
    };
    let id = one
        .batch_submit(held, inputs(&[json!(1)]))
        .await
        .unwrap()
        .id;
    assert_eq!(two.batch_status(id).await.unwrap().counts.rows, 1);
    let added = one.batch_append(id, inputs(&[json!(2)]), AppendOptions::default());
    assert_eq!(added.await.unwrap().rows, 1);
    let seen = two.batch_status(id).await.unwrap();
    assert_eq!((seen.status, seen.counts.rows), (Status::Wait, 2));
    one.wait_off(id).await.unwrap();
    assert_eq!(two.batch_status(id).await.unwrap().status, Status::Queued);
    one.batch_abort(id, Duration::ZERO).await.unwrap();
    let seen = two.batch_status(id).await.unwrap();
    assert!(seen.done || seen.aborting, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_for_an_end_is_not_answered_by_an_open_copy() {
    let world = World::new().await;
    let redis = Redis::start();
    let long = Duration::from_secs(3600);
    let plain = manager(&world, rowmill::StatusCache::none());
    let new = NewBatch::new(query("ask"));
    let id = plain.slow_query_submit(new, raw("1")).await.unwrap().id;
    let client = other(&world, patient(&redis).await.open_for(long)).await;
    assert!(!client.batch_status(id).await.unwrap().done);
    // By a worker that tells the cache nothing.
    world.work(&plain).await;
    assert!(
        client
            .wait_done(id, Some(Duration::from_secs(60)))
            .await
            .unwrap()
            .done
    );
    assert!(client.batch_status(id).await.unwrap().done);
    world.end(&plain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redacted_result_is_answered_by_nobody_who_shares_the_cache() {
    let world = World::new().await;
    let redis = Redis::start();
    let manager = manager(&world, patient(&redis).await);
    let new = NewBatch::new(query("ask"));
    let id = manager
        .slow_query_submit(new, raw("\"secret\""))
        .await
        .unwrap()
        .id;
    world.work(&manager).await;
    let two = other(&world, patient(&redis).await).await;
    let old = two.slow_query_done(id).await.unwrap();
    assert_eq!(old.answer().unwrap().get(), "\"secret\"");
    let keys: Vec<String> = redis.ask(&["KEYS", "*:final"]);
    let text: String = redis.ask(&["GET", &keys[0]]);
    assert!(manager.redact(id, 1).await.unwrap());
    assert!(two.slow_query_done(id).await.unwrap().answer().is_none());
    // A reader that was under way leaves its copy only where nothing is.
    let late: Option<String> = redis.ask(&["SET", &keys[0], &text, "NX"]);
    assert_eq!(late, None);
    assert!(two.slow_query_done(id).await.unwrap().answer().is_none());
    assert!(!manager.redact(id, 2).await.unwrap());
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redacted_result_is_gone_from_this_process_memory() {
    let world = World::new().await;
    let manager = manager(&world, rowmill::StatusCache::memory());
    let new = NewBatch::new(query("ask"));
    let id = manager.slow_query_submit(new, raw("1")).await.unwrap().id;
    world.work(&manager).await;
    assert!(
        manager
            .slow_query_done(id)
            .await
            .unwrap()
            .answer()
            .is_some()
    );
    assert!(manager.redact(id, 1).await.unwrap());
    assert!(
        manager
            .slow_query_done(id)
            .await
            .unwrap()
            .answer()
            .is_none()
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_batch_is_answered_as_purged() {
    let world = World::new().await;
    let redis = Redis::start();
    let manager = manager(&world, patient(&redis).await);
    let rows = inputs(&[json!(1)]);
    let new = NewBatch::new(key("double"));
    let id = manager.batch_submit(new, rows).await.unwrap().id;
    world.work(&manager).await;
    let two = other(&world, patient(&redis).await).await;
    assert_eq!(two.batch_status(id).await.unwrap().files.len(), 1);
    world.kit().clock.advance(Duration::from_secs(1));
    let purged = manager.purge(&Purge::default()).await.unwrap();
    assert_eq!(purged.batches, 1);
    let seen = two.batch_status(id).await.unwrap();
    assert_eq!((seen.files.len(), seen.counts.success), (0, 1));
    assert!(seen.purged_at.is_some());
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_batch_is_told_to_the_cache_however_it_was_recorded() {
    use rowmill::sqlite::{TransactionalProcessor, Tx};
    struct Nothing;
    impl TransactionalProcessor for Nothing {
        type Block = ();
        type Context = ();
        type Input = i64;
        type Output = ();
        fn process(
            &self,
            _: &mut Tx<'_>,
            _: &mut rowmill::RowCx<'_, (), ()>,
            _: i64,
        ) -> Result<(), rowmill::RowFailure> {
            Ok(())
        }
    }
    let world = World::new().await;
    let redis = Redis::start();
    let builder = world.builder().cache(patient(&redis).await);
    let manager = builder
        .transactional("bank", "note", Nothing)
        .build()
        .unwrap();
    let new = NewBatch::new(key("note"));
    let rows = inputs(&[json!(1), json!(2)]);
    let id = manager.batch_submit(new, rows).await.unwrap().id;
    world.work(&manager).await;
    let keys: Vec<String> = redis.ask(&["KEYS", &format!("*{{{id}}}:final")]);
    assert_eq!(keys.len(), 1);
    world.end(&manager).await;
}
