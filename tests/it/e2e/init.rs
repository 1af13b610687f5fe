//! Init blocks: opened once, closed at the stop; where one cannot be opened, no row is touched.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rowmill::clock::{Clock, ManualClock};
use rowmill::model::{AppName, Status, Timestamp};
use rowmill::{
    BatchProcessor, BoxError, CancellationToken, InitBlock, Initializer, QueryCx, RowCx,
    RowFailure, SlowQueryProcessor,
};
use serde_json::Value;

use super::world::{LONG, World, ask, numbers, statuses, submit};

#[derive(Clone, Copy, PartialEq)]
enum Opening {
    Works,
    Fails,
    Panics,
    Hangs,
}

#[derive(Clone, Default)]
struct Seen {
    opened: Arc<AtomicU32>,
    closed: Arc<AtomicU32>,
    next: Arc<Mutex<Vec<Opening>>>,
}

struct Pool(Seen);

impl InitBlock for Pool {
    async fn close(&self) -> Result<(), BoxError> {
        self.0.closed.fetch_add(1, SeqCst);
        Ok(())
    }
}

struct Open(Seen);

impl Initializer for Open {
    type Block = Pool;

    async fn init(&self, app: &AppName) -> Result<Pool, BoxError> {
        assert_eq!(app.as_str(), "bank");
        self.0.opened.fetch_add(1, SeqCst);
        let opening = self.0.next.lock().unwrap().pop();
        match opening.unwrap_or(Opening::Works) {
            Opening::Works => Ok(Pool(self.0.clone())),
            Opening::Fails => Err("the pool is down".into()),
            Opening::Panics => panic!("the pool is broken"),
            Opening::Hangs => std::future::pending().await,
        }
    }
}

struct Uses;

impl BatchProcessor for Uses {
    type Block = Pool;
    type Context = Value;
    type Input = Value;
    type Output = Value;

    async fn process(
        &self,
        cx: &mut RowCx<'_, Pool, Value>,
        input: Value,
    ) -> Result<Value, RowFailure> {
        assert_eq!(
            cx.block().0.closed.load(SeqCst),
            0,
            "no row uses a closed block"
        );
        Ok(input)
    }
}

impl SlowQueryProcessor for Uses {
    type Block = Pool;
    type Context = Value;
    type Input = Value;
    type Output = u32;

    async fn query(&self, cx: &mut QueryCx<'_, Pool, Value>, _: Value) -> Result<u32, RowFailure> {
        Ok(cx.block().0.opened.load(SeqCst))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_opened_once_and_closed_at_the_stop() {
    let world = World::new().await;
    let seen = Seen::default();
    let manager = world
        .builder()
        .initializer("bank", Open(seen.clone()))
        .batch("bank", "post", Uses)
        .batch("bank", "other", Uses)
        .slow_query("bank", "ask", Uses);
    let manager = manager.build().unwrap();
    for op in ["post", "other", "post"] {
        submit(&manager, op, numbers(5)).await;
        world.work(&manager).await;
    }
    let query = ask(&manager, "ask", "1").await;
    world.work(&manager).await;
    let query = manager.slow_query_done(query).await.unwrap();
    assert_eq!(query.result.unwrap().unwrap().get(), "1", "the same block");
    assert_eq!((seen.opened.load(SeqCst), seen.closed.load(SeqCst)), (1, 0));
    world.end(&manager).await;
    assert_eq!((seen.opened.load(SeqCst), seen.closed.load(SeqCst)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_cannot_be_opened_touches_no_row_and_is_tried_again() {
    let world = World::new().await;
    let seen = Seen::default();
    *seen.next.lock().unwrap() = vec![Opening::Fails, Opening::Panics, Opening::Fails];
    let manager = world
        .builder()
        .initializer("bank", Open(seen.clone()))
        .batch("bank", "post", Uses);
    let manager = manager.build().unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    for tries in 1..=3 {
        world.work(&manager).await;
        assert_eq!(
            seen.opened.load(SeqCst),
            tries,
            "not again before its back-off"
        );
        let facts = world.facts();
        let task = facts.rows_tasks(id)[0];
        assert_eq!((task.attempt, task.failures), (0, 0));
        assert_eq!(statuses(&manager, id).await, [Status::Queued; 3]);
        world.kit().advance(100);
    }
    world.work(&manager).await;
    assert_eq!(
        manager.batch_done(id).await.unwrap().status,
        Status::Success
    );
    assert_eq!(seen.opened.load(SeqCst), 4);
    world.end(&manager).await;
    assert_eq!(seen.closed.load(SeqCst), 1);
}

/// A clock that is set back, as one is that was wrong when its machine started.
struct SetBack {
    under: Arc<ManualClock>,
    days: AtomicU32,
}

impl Clock for SetBack {
    fn now(&self) -> Timestamp {
        let back = Duration::from_secs(86_400) * self.days.load(SeqCst);
        self.under.now() - back
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_could_not_be_opened_is_tried_again_when_the_clock_was_set_back() {
    let world = World::new().await;
    let seen = Seen::default();
    *seen.next.lock().unwrap() = vec![Opening::Fails];
    let clock = Arc::new(SetBack {
        under: Arc::clone(&world.kit().clock),
        days: AtomicU32::new(0),
    });
    let manager = world
        .builder()
        .clock(Arc::clone(&clock))
        .initializer("bank", Open(seen.clone()))
        .batch("bank", "post", Uses);
    let manager = manager.build().unwrap();
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    assert_eq!(seen.opened.load(SeqCst), 1);
    clock.days.store(1, SeqCst);
    world.work(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert_eq!((batch.done, batch.counts.success), (true, 3));
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_block_that_is_being_opened() {
    let world = World::new().await;
    let seen = Seen::default();
    *seen.next.lock().unwrap() = vec![Opening::Hangs];
    let manager = world
        .builder()
        .initializer("bank", Open(seen.clone()))
        .batch("bank", "post", Uses);
    let manager = manager.grace(LONG * 10).build().unwrap();
    let id = submit(&manager, "post", numbers(1)).await;
    let stop = CancellationToken::new();
    let (running, until) = (manager.clone(), stop.clone());
    let run = tokio::spawn(async move { running.run(until).await });
    while seen.opened.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    tokio::time::timeout(LONG, run)
        .await
        .expect("it stops")
        .unwrap()
        .unwrap();
    assert_eq!(statuses(&manager, id).await, [Status::Queued]);
    world.end(&manager).await;
}
