//! Which batch's rows run next.

use futures_util::FutureExt;
use rowmill::model::{BatchId, Kind, NewBatch};
use rowmill::{Client, JobManager, OpSettings};
use serde_json::Value;

use super::limits::run;
use super::world::{Log, World, done, key, log, numbers, raw, rows, settings};

/// Submits rows of a block each, under a name that the processor sees.
async fn named(client: &Client, name: &str, priority: i32, rows: u32) -> BatchId {
    let new = NewBatch {
        context: raw(&format!("\"{name}\"")),
        priority,
        ..NewBatch::new(key("post"))
    };
    client.batch_submit(new, numbers(rows)).await.unwrap().id
}

/// One row a turn, and the names of the batches whose rows ran, in their order.
fn one_by_one(world: &World, change: impl FnOnce(&mut OpSettings)) -> (JobManager, Log<String>) {
    let seen = log();
    let told = seen.clone();
    let processor = rows(move |cx, _| {
        let name = cx.context().as_str().unwrap().to_owned();
        told.lock().unwrap().push(name);
        async { Ok(Value::Null) }.boxed()
    });
    let one = settings(|s| {
        s.local_concurrency = Some(1);
        s.concurrency = Some(1);
        s.block_rows = 1;
        change(s);
    });
    let builder = world.builder().batch("bank", "post", processor);
    let builder = builder.settings("bank", "post", Kind::Batch, one);
    (builder.build().unwrap(), seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_batch_is_not_starved_by_a_huge_one() {
    let world = World::new().await;
    let (manager, seen) = one_by_one(&world, |_| {});
    let huge = named(&manager, "huge", 0, 200).await;
    for _ in 0..20 {
        manager.tick().await.unwrap();
    }
    world.kit().advance(1);
    let small = named(&manager, "small", 0, 10).await;
    while !manager.batch_done(small).await.unwrap().done {
        manager.tick().await.unwrap();
    }
    let batch = manager.batch_status(huge).await.unwrap();
    assert!(!batch.done);
    // Turn about, and every fourth for the oldest.
    assert!(batch.counts.success <= 20 + 20, "{:?}", batch.counts);
    world.work(&manager).await;
    assert_eq!(seen.lock().unwrap().len(), 210);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priority_beats_turn_and_the_oldest_has_its_quarter_under_a_cap() {
    let world = World::new().await;
    // More slots than the cap: every other claim meets a full cap and takes nothing.
    let (manager, seen) = one_by_one(&world, |s| s.local_concurrency = Some(4));
    let old = named(&manager, "old", -1, 8).await;
    world.kit().advance(1);
    named(&manager, "first", 0, 40).await;
    world.kit().advance(1);
    named(&manager, "urgent", 5, 40).await;
    let (stop, ran) = run(&manager);
    done(&manager, old).await;
    stop.cancel();
    ran.await.unwrap().unwrap();
    let seen: Vec<String> = seen.lock().unwrap().clone();
    let last = seen.iter().rposition(|name| name == "old").unwrap();
    assert!(last <= 32, "a quarter of the claims: {seen:?}");
    let before = &seen[..=last];
    let share = before.iter().filter(|name| *name == "old").count();
    assert_eq!(share, 8);
    assert!(
        !before.contains(&"first".to_owned()),
        "what is urgent comes before it: {seen:?}"
    );
    world.end(&manager).await;
}
