//! mark_done: every end is told, at least once, and a bad receiver harms nobody else.

use std::time::Duration;

use futures_util::FutureExt;
use rowmill::RowFailure;
use rowmill::model::{Message, NewBatch, Status};
use serde_json::Value;

use super::world::{
    Answer, Ends, World, ask, inputs, key, numbers, queries, query, raw, rows, submit,
};

fn judged(input: &Value) -> Result<Value, RowFailure> {
    if input == "bad" {
        Err(Message::new("bad", 1).into())
    } else {
        Ok(Value::Null)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_of_both_kinds_is_told_once() {
    let world = World::new().await;
    let ends = Ends::default();
    let batches = rows(|_, input| async move { judged(&input) }.boxed()).telling(&ends);
    let answers = queries(|_, input| async move { judged(&input) }.boxed()).telling(&ends);
    let manager = world
        .builder()
        .batch("bank", "post", batches)
        .slow_query("bank", "ask", answers);
    let manager = manager.build().unwrap();
    manager.tick().await.unwrap();
    let mut expected = Vec::new();
    for (word, status) in [("good", Status::Success), ("bad", Status::Failed)] {
        expected.push((
            submit(&manager, "post", inputs(&[word.into()])).await,
            status,
        ));
        expected.push((ask(&manager, "ask", &format!("\"{word}\"")).await, status));
    }
    let held = |key| NewBatch {
        hold: true,
        context: raw("{}"),
        expires_at: Some(world.kit().in_seconds(60)),
        ..NewBatch::new(key)
    };
    for abort in [true, false] {
        let batch = manager
            .batch_submit(held(key("post")), numbers(2))
            .await
            .unwrap()
            .id;
        let asked = manager
            .slow_query_submit(held(query("ask")), raw("1"))
            .await
            .unwrap()
            .id;
        for id in [batch, asked] {
            if abort {
                manager.batch_abort(id, Duration::ZERO).await.unwrap();
                expected.push((id, Status::Aborted));
            } else {
                expected.push((id, Status::Expired));
            }
        }
    }
    world.kit().advance(60);
    world.work(&manager).await;
    assert_eq!(ends.told().len(), expected.len());
    for (id, status) in expected {
        assert_eq!(ends.of(id), [status]);
    }
    assert!(world.facts().notices.is_empty());
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_told_again_after_an_error_or_a_panic() {
    let world = World::new().await;
    let ends = Ends::answering(&[Answer::Error, Answer::Panic, Answer::Error]);
    let processor = rows(|_, _| async { Ok(Value::Null) }.boxed()).telling(&ends);
    let manager = world
        .builder()
        .batch("bank", "post", processor)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(1)).await;
    world.work(&manager).await;
    assert!(
        manager.batch_done(id).await.unwrap().done,
        "the end is durable before it is told"
    );
    assert_eq!(ends.told().len(), 1);
    world.work_to_the_end(&manager).await;
    let told = ends.told();
    assert_eq!(told.len(), 4);
    assert!(
        told.iter().all(|t| t.0 == told[0].0),
        "the event's id stays"
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_may_ask_for_the_batch_that_has_ended() {
    let world = World::new().await;
    let seen = super::world::log();
    struct Asks(rowmill::Store, super::world::Log<Status>);
    impl rowmill::BatchProcessor for Asks {
        type Block = ();
        type Context = Value;
        type Input = Value;
        type Output = Value;
        async fn process(
            &self,
            _: &mut rowmill::RowCx<'_, (), Value>,
            _: Value,
        ) -> Result<Value, RowFailure> {
            Ok(Value::Null)
        }
        async fn mark_done(
            &self,
            _: &rowmill::DoneCx<'_, ()>,
            batch: &rowmill::Batch,
        ) -> Result<(), rowmill::BoxError> {
            let client = rowmill::Client::new(self.0.clone());
            let asked = client.batch_done(batch.id).await?;
            client.batch_abort(batch.id, Duration::ZERO).await?;
            self.1.lock().unwrap().push(asked.status);
            Ok(())
        }
    }
    let manager = world.builder().batch(
        "bank",
        "post",
        Asks(world.kit().store.clone(), seen.clone()),
    );
    let manager = manager.build().unwrap();
    submit(&manager, "post", numbers(1)).await;
    world.work(&manager).await;
    assert_eq!(*seen.lock().unwrap(), [Status::Success]);
    world.end(&manager).await;
}

/// Says that it wants no ends, and would be wrong.
struct Quiet(Ends);

impl rowmill::BatchProcessor for Quiet {
    type Block = ();
    type Context = Value;
    type Input = Value;
    type Output = Value;
    async fn process(
        &self,
        _: &mut rowmill::RowCx<'_, (), Value>,
        input: Value,
    ) -> Result<Value, RowFailure> {
        judged(&input)
    }
    async fn mark_done(
        &self,
        cx: &rowmill::DoneCx<'_, ()>,
        batch: &rowmill::Batch,
    ) -> Result<(), rowmill::BoxError> {
        self.0.tell(cx.event(), batch)
    }
    fn wants_ends(&self) -> bool {
        false
    }
}

impl rowmill::SlowQueryProcessor for Quiet {
    type Block = ();
    type Context = Value;
    type Input = Value;
    type Output = Value;
    async fn query(
        &self,
        _: &mut rowmill::QueryCx<'_, (), Value>,
        input: Value,
    ) -> Result<Value, RowFailure> {
        judged(&input)
    }
    async fn mark_done(
        &self,
        cx: &rowmill::DoneCx<'_, ()>,
        batch: &rowmill::Batch,
    ) -> Result<(), rowmill::BoxError> {
        self.0.tell(cx.event(), batch)
    }
    fn wants_ends(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ends_of_a_processor_that_wants_none_are_neither_stored_nor_told() {
    let world = World::new().await;
    let ends = Ends::default();
    let loud = rows(|_, _| async { Ok(Value::Null) }.boxed()).telling(&ends);
    let manager = world
        .builder()
        .batch("bank", "post", Quiet(ends.clone()))
        .slow_query("bank", "ask", Quiet(ends.clone()))
        .batch("bank", "loud", loud);
    let manager = manager.build().unwrap();
    manager.tick().await.unwrap();
    let quiet = [
        submit(&manager, "post", inputs(&["good".into(), "bad".into()])).await,
        ask(&manager, "ask", "1").await,
    ];
    for id in quiet {
        manager.batch_abort(id, Duration::ZERO).await.unwrap();
        assert!(world.facts().notices.is_empty());
    }
    let quiet = [
        submit(&manager, "post", inputs(&["good".into(), "bad".into()])).await,
        ask(&manager, "ask", "1").await,
    ];
    let told = submit(&manager, "loud", numbers(1)).await;
    world.work(&manager).await;
    for id in quiet {
        assert!(manager.batch_done(id).await.unwrap().done);
    }
    assert_eq!(ends.told().iter().map(|t| t.1).collect::<Vec<_>>(), [told]);
    world.end(&manager).await;
}
