//! give_back: tasks that were claimed and not begun are queued again.

use rowmill::model::{NewBatch, Status, Token, WorkerNo};
use rowmill::store::{Claim, ClaimRef, ClaimedTask, Recorded};

use crate::support::kit::rows_of;
use crate::support::{Harness, Outcomes};

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

pub async fn a_row_that_has_its_outcome_does_not_go_again(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    let part = Outcomes::of(&task).success(0).goes_on(None);
    kit.record(worker, part).await;
    give_back(h, worker, &task).await;
    let again = kit.claim_one(worker, op).await;
    assert_eq!((rows_of(&again), again.failures), (vec![1, 2], 0));
    assert_eq!(kit.succeed(worker, &again).await, Recorded::Done);
    let batch = kit.batch(id).await;
    assert_eq!((batch.done, batch.counts.success), (true, 3));
    assert_eq!(kit.row(id, 1).await.attempt, Some(1));
}

pub async fn a_task_whose_rows_all_have_their_outcomes_ends(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    let part = Outcomes::of(&task).all_success().goes_on(None);
    kit.record(worker, part).await;
    give_back(h, worker, &task).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.done, batch.counts.success), (true, 2));
}

pub async fn a_begun_task_that_comes_back_to_an_aborted_batch_keeps_its_outcomes(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    let part = Outcomes::of(&task).success(0).goes_on(None);
    kit.record(worker, part).await;
    kit.abort(id).await;
    give_back(h, worker, &task).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.done, batch.status), (true, Status::Aborted));
    assert_eq!((batch.counts.success, batch.counts.aborted), (1, 2));
}

pub async fn a_row_at_most_once_that_has_started_does_not_go_again(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let once = || Claim {
        once: true,
        ..kit.ask(worker, op)
    };
    let task = kit.claim_as(once()).await.remove(0);
    kit.start_row(worker, &task, 0, 0).await;
    give_back(h, worker, &task).await;
    let again = kit.claim_as(once()).await.remove(0);
    assert_eq!(rows_of(&again), [1, 2]);
    kit.succeed(worker, &again).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.counts.success, batch.counts.failed), (2, 1));
    let messages = kit.row(id, 1).await.messages.unwrap();
    assert!(messages.get().contains("worker_lost"), "{messages}");
}

async fn give_back(h: &impl Harness, worker: WorkerNo, task: &ClaimedTask) {
    let kit = h.kit();
    let given = kit.store.give_back(worker, vec![task.claim], kit.now());
    given.await.unwrap();
    crate::support::invariants(h).await;
}
