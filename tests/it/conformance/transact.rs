//! transact: the application's writes and what they came to, in one transaction.

use rowmill::model::WorkerNo;
use rowmill::model::{Status, Token};
use rowmill::store::{ClaimRef, ClaimedTask, Part, StoreError, Transacted};

use crate::support::{Harness, Outcomes};

async fn transact(
    h: &impl Harness,
    worker: WorkerNo,
    claim: ClaimRef,
    n: i64,
    part: Option<Part>,
) -> Result<Transacted, StoreError> {
    let now = h.kit().now();
    let piece = h.piece(n, part);
    h.kit()
        .store
        .transact(worker, claim, piece, false, now)
        .await
}

/// A worker with a claimed task of so many rows.
async fn claimed(h: &impl Harness, rows: u32) -> (WorkerNo, ClaimedTask) {
    h.make_effects();
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(rows).await;
    (worker, kit.claim_one(worker, op).await)
}

pub async fn a_piece_commits_its_writes_with_its_part(h: &impl Harness) {
    let (worker, task) = claimed(h, 2).await;
    let part = Outcomes::of(&task).success(0).goes_on(None);
    let done = transact(h, worker, task.claim, 7, Some(part)).await;
    assert_eq!(done.unwrap(), Transacted::Done);
    assert_eq!(h.effects(), [7]);
    let rows = h.kit().rows(task.batch.id).await;
    let found: Vec<Status> = rows.iter().map(|r| r.status).collect();
    assert_eq!(found, [Status::Success, Status::Inprog]);
}

pub async fn a_piece_that_gives_up_leaves_nothing(h: &impl Harness) {
    let (worker, task) = claimed(h, 2).await;
    let before = h.facts().parts.len();
    let done = transact(h, worker, task.claim, 7, None).await;
    assert_eq!(done.unwrap(), Transacted::Undone);
    assert!(h.effects().is_empty());
    assert_eq!(h.facts().parts.len(), before);
    // The task is still its holder's.
    let part = Outcomes::of(&task).all_success().ends();
    let done = transact(h, worker, task.claim, 8, Some(part)).await;
    assert_eq!(done.unwrap(), Transacted::Done);
    assert_eq!(h.effects(), [8]);
}

pub async fn a_piece_under_an_old_token_is_not_begun(h: &impl Harness) {
    let (worker, task) = claimed(h, 1).await;
    let part = || Some(Outcomes::of(&task).all_success().ends());
    let old = ClaimRef {
        token: Token(task.claim.token.0 ^ 1),
        ..task.claim
    };
    let done = transact(h, worker, old, 7, part()).await;
    assert_eq!(done.unwrap(), Transacted::Fenced);
    let other = h.kit().worker().await;
    let done = transact(h, other, task.claim, 7, part()).await;
    assert_eq!(done.unwrap(), Transacted::Fenced);
    assert!(h.effects().is_empty());
    let done = transact(h, worker, task.claim, 8, part()).await;
    assert_eq!(done.unwrap(), Transacted::Done);
    let again = transact(h, worker, task.claim, 9, part()).await;
    assert_eq!(again.unwrap(), Transacted::Fenced);
    assert_eq!(h.effects(), [8]);
}

pub async fn a_piece_of_a_task_that_was_taken_over_is_not_begun(h: &impl Harness) {
    let (worker, task) = claimed(h, 2).await;
    h.kit().take_over(worker).await;
    let part = Outcomes::of(&task).all_success().ends();
    let done = transact(h, worker, task.claim, 7, Some(part)).await;
    assert_eq!(done.unwrap(), Transacted::Fenced);
    assert!(h.effects().is_empty());
}

pub async fn a_part_that_cannot_be_recorded_takes_the_writes_with_it(h: &impl Harness) {
    let (worker, task) = claimed(h, 2).await;
    let part = || Outcomes::of(&task).success(0).goes_on(None);
    let done = transact(h, worker, task.claim, 7, Some(part())).await;
    assert_eq!(done.unwrap(), Transacted::Done);
    // The same number again: what is recorded is never overwritten.
    let twice = transact(h, worker, task.claim, 8, Some(part())).await;
    assert!(matches!(twice, Err(StoreError::Corrupt(_))), "{twice:?}");
    assert_eq!(h.effects(), [7]);
}

pub async fn a_piece_that_panics_changes_nothing_and_holds_up_nobody(h: &impl Harness) {
    let (worker, task) = claimed(h, 1).await;
    let piece = h.piece_that_panics(7);
    let kit = h.kit();
    let now = kit.now();
    let done = kit
        .store
        .transact(worker, task.claim, piece, false, now)
        .await;
    assert!(matches!(done, Err(StoreError::Unavailable { .. })));
    assert!(h.effects().is_empty());
    kit.rows_of(1).await;
    let part = Outcomes::of(&task).all_success().ends();
    let done = transact(h, worker, task.claim, 8, Some(part)).await;
    assert_eq!(done.unwrap(), Transacted::Done);
    assert_eq!(h.effects(), [8]);
}

pub async fn pieces_and_parts_of_one_attempt_follow_each_other(h: &impl Harness) {
    let (worker, task) = claimed(h, 3).await;
    let first = Outcomes::of(&task).success(0).goes_on(None);
    transact(h, worker, task.claim, 1, Some(first))
        .await
        .unwrap();
    let second = Outcomes::of(&task).part(1).failed(1).goes_on(Some(2));
    h.kit().record(worker, second).await;
    let third = Outcomes::of(&task).part(2).success(2).ends();
    let done = transact(h, worker, task.claim, 3, Some(third)).await;
    assert_eq!(done.unwrap(), Transacted::Done);
    assert_eq!(h.effects(), [1, 3]);
    let batch = h.kit().batch(task.batch.id).await;
    assert_eq!((batch.counts.success, batch.counts.failed), (2, 1));
    assert!(batch.done);
}

pub async fn a_piece_that_says_all_ends_its_batch(h: &impl Harness) {
    let (worker, task) = claimed(h, 3).await;
    let part = Outcomes::of(&task).all_success().ends();
    let done = transact(h, worker, task.claim, 1, Some(part)).await;
    assert_eq!(done.unwrap(), Transacted::Done);
    let batch = h.kit().batch(task.batch.id).await;
    assert_eq!((batch.status, batch.done), (Status::Success, true));
    assert_eq!(h.facts().notices.len(), 1);
}

pub async fn rows_of_a_piece_that_go_again_are_queued_with_its_commit(h: &impl Harness) {
    let (worker, task) = claimed(h, 2).await;
    let part = Outcomes::of(&task).success(0).retry(1, None).ends();
    let done = transact(h, worker, task.claim, 1, Some(part)).await;
    assert_eq!(done.unwrap(), Transacted::Done);
    let tasks = h.facts().tasks;
    let again: Vec<_> = tasks.iter().filter(|t| !t.close).collect();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].pick.as_deref(), Some(&[1][..]));
}
