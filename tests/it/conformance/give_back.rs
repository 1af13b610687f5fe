//! give_back: tasks that were claimed and not begun are queued again.

use rowmill::model::{NewBatch, Status, Token};
use rowmill::store::{ClaimRef, Recorded};

use crate::support::Harness;

pub async fn a_task_given_back_is_claimed_again_and_counts_no_failure(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    kit.store
        .give_back(worker, vec![task.claim], kit.now())
        .await
        .unwrap();
    assert_eq!(kit.batch(id).await.status, Status::Queued);
    assert_eq!(kit.succeed(worker, &task).await, Recorded::Fenced);
    let again = kit.claim_one(worker, op).await;
    assert_eq!(
        (again.failures, again.suspect, again.claim.attempt),
        (0, false, 2)
    );
    assert_eq!(
        kit.succeed(worker, &task).await,
        Recorded::Fenced,
        "the same worker under its old token"
    );
    kit.succeed(worker, &again).await;
}

pub async fn only_its_holder_gives_a_task_back(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let other = kit.worker().await;
    kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    let wrong = ClaimRef {
        token: Token(5),
        ..task.claim
    };
    kit.store
        .give_back(other, vec![task.claim], kit.now())
        .await
        .unwrap();
    kit.store
        .give_back(worker, vec![wrong], kit.now())
        .await
        .unwrap();
    assert!(kit.claim(other, op).await.is_empty());
    assert_eq!(kit.succeed(worker, &task).await, Recorded::Done);
}

pub async fn a_task_given_back_to_an_aborted_batch_ends(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    kit.abort(id).await;
    kit.store
        .give_back(worker, vec![task.claim], kit.now())
        .await
        .unwrap();
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.aborted), (Status::Aborted, 3));
    assert!(
        kit.row(id, 1).await.messages.is_none(),
        "it had not started"
    );
}

pub async fn a_task_given_back_to_an_expired_batch_ends(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let new = NewBatch {
        expires_at: Some(kit.in_seconds(10)),
        ..kit.new_batch()
    };
    let id = kit.submit(new, &[3]).await;
    let task = kit.claim_one(worker, op).await;
    kit.advance(10);
    kit.store
        .give_back(worker, vec![task.claim], kit.now())
        .await
        .unwrap();
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.expired), (Status::Expired, 3));
}
