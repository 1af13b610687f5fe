//! batch: what users see of a batch, and what others see of a step.

use rowmill::model::{BatchId, NewBatch, Status};
use rowmill::store::Ended;

use crate::support::{Harness, Outcomes};

pub async fn a_batch_that_is_not_there_is_none(h: &impl Harness) {
    let kit = h.kit();
    assert!(kit.find(rowmill::BatchId::new()).await.is_none());
    let none = kit
        .store
        .find_external("bank".to_owned(), "x".to_owned())
        .await;
    assert_eq!(none.unwrap(), None);
}

pub async fn a_query_has_its_result_and_messages_when_it_has_ended(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.query_key(), false, 3).await;
    let worker = kit.worker().await;
    let good = kit.submit(NewBatch::new(kit.query_key()), &[1]).await;
    let query = kit.batch(good).await;
    assert!(query.result.unwrap().is_none() && query.messages.unwrap().is_none());
    let task = kit.claim_one(worker, op).await;
    kit.succeed(worker, &task).await;
    let query = kit.batch(good).await;
    assert_eq!(query.result.unwrap().unwrap().get(), "{\"row\":0}");
    let bad = kit.submit(NewBatch::new(kit.query_key()), &[1]).await;
    let task = kit.claim_one(worker, op).await;
    kit.record(worker, Outcomes::of(&task).failed(0).ends())
        .await;
    let query = kit.batch(bad).await;
    assert_eq!(
        (query.status, query.result.unwrap().is_none()),
        (Status::Failed, true)
    );
    assert!(
        query
            .messages
            .unwrap()
            .unwrap()
            .get()
            .contains("no_such_account")
    );
}

pub async fn a_query_that_goes_again_shows_no_result_and_no_messages(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.query_key(), false, 3).await;
    let worker = kit.worker().await;
    let id = kit.submit(NewBatch::new(kit.query_key()), &[1]).await;
    let task = kit.claim_one(worker, op).await;
    kit.record(worker, Outcomes::of(&task).retry(0, None).ends())
        .await;
    let query = kit.batch(id).await;
    assert!(!query.done && query.messages.unwrap().is_none());
}

pub async fn a_query_that_went_again_shows_what_its_last_attempt_said(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.query_key(), false, 3).await;
    let worker = kit.worker().await;
    // Each again is a task of a number that is drawn: its order is no attempt's.
    for _ in 0..12 {
        let id = kit.submit(NewBatch::new(kit.query_key()), &[1]).await;
        for _ in 0..2 {
            let task = kit.claim_one(worker, op).await;
            kit.record(worker, Outcomes::of(&task).retry(0, None).ends())
                .await;
        }
        let task = kit.claim_one(worker, op).await;
        assert_eq!(task.claim.attempt, 3);
        assert!(matches!(kit.store.ended(id).await, Ok(Ended::NotYet)));
        kit.record(worker, Outcomes::of(&task).failed(0).ends())
            .await;
        let query = kit.batch(id).await;
        let said = query.messages.clone().unwrap().unwrap();
        assert!(said.get().contains("no_such_account"), "{said}");
        let Ended::Yes(ended) = kit.store.ended(id).await.unwrap() else {
            panic!("it has ended");
        };
        let json = |batch| serde_json::to_string(&batch).unwrap();
        assert_eq!(json(*ended), json(query));
    }
    let none = kit.store.ended(BatchId::new()).await;
    assert!(matches!(none, Ok(Ended::Unknown)));
}

pub async fn counts_grow_while_a_batch_runs(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2, 2, 2]).await;
    let tasks = kit.claim(worker, op).await;
    for (task, ended) in tasks.iter().zip([2, 4]) {
        kit.succeed(worker, task).await;
        let c = kit.batch(id).await.counts;
        assert_eq!((c.success, c.pending), (ended, 6 - ended));
    }
}

pub async fn ops_are_listed_as_they_were_registered(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    kit.submit(NewBatch::new(kit.query_key()), &[1]).await;
    let ops = kit.store.ops().await.unwrap();
    assert_eq!(ops.len(), 2, "submitted or registered");
    let known = ops.iter().find(|o| o.id == Some(op)).unwrap();
    assert_eq!((&known.key, known.paused), (&kit.key(), false));
}

pub async fn one_bad_step_does_not_spoil_its_neighbours(h: &impl Harness) {
    let kit = h.kit();
    let there = kit.new_batch();
    kit.submit(there.clone(), &[1]).await;
    let steps = (0..60).map(|i| {
        let new = if i % 3 == 0 {
            there.clone()
        } else {
            kit.new_batch()
        };
        kit.try_submit(new, kit.blocks(&[2]))
    });
    let answers = futures_util::future::join_all(steps).await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_err(), i % 3 == 0, "{answer:?}");
    }
    assert_eq!(h.facts().batches.len(), 41);
}

pub async fn a_step_whose_caller_is_gone_is_made_whole(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let blocks = kit.blocks(&[1, 1]);
    let hash = kit.hash(&blocks);
    let mut step = kit.store.submit(new.clone(), blocks, hash, kit.now());
    let begun = futures_util::poll!(&mut step);
    drop((begun, step));
    let again = kit
        .try_submit(new.clone(), kit.blocks(&[1, 1]))
        .await
        .unwrap();
    assert_eq!(again.id(), new.id);
    assert_eq!(h.facts().rows_tasks(new.id).len(), 2);
}

pub async fn a_change_is_signalled_to_whoever_looked_before_it(h: &impl Harness) {
    let kit = h.kit();
    let other = h.again().await;
    let (mut here, mut there) = (kit.store.signal(), other.signal());
    here.take();
    there.take();
    kit.rows_of(1).await;
    // Neither waits for ever: the change came after they looked.
    here.changed().await;
    there.changed().await;
}

pub async fn what_was_acknowledged_is_there_after_the_store_is_opened_again(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2, 1]).await;
    let task = kit.claim_one(worker, op).await;
    kit.succeed(worker, &task).await;
    let again = h.again().await;
    let batch = again.batch(id).await.unwrap().unwrap();
    assert_eq!((batch.counts.success, batch.counts.pending), (2, 1));
}
