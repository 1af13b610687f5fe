//! abort: a request, and a fact when nothing runs any more.

use rowmill::model::{EndedAs, NewBatch, Status};
use rowmill::store::{Recorded, StoreError};

use crate::support::{Harness, Outcomes};

pub async fn an_abort_ends_queued_rows_and_leaves_running_ones(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2, 2, 2]).await;
    let task = kit.claim_one(worker, op).await;
    kit.abort(id).await;
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.done, batch.aborting),
        (Status::Inprog, false, true)
    );
    let rows = kit.rows(id).await;
    assert!(rows[..2].iter().all(|r| r.status == Status::Inprog));
    assert!(
        rows[2..]
            .iter()
            .all(|r| r.status == Status::Aborted && r.attempt.is_none())
    );
    assert!(kit.claim(worker, op).await.is_empty());
    assert_eq!(kit.succeed(worker, &task).await, Recorded::Done);
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.aborting), (Status::Aborted, false));
    assert_eq!((batch.counts.success, batch.counts.aborted), (2, 4));
}

pub async fn an_abort_of_a_batch_that_has_not_begun_ends_it(h: &impl Harness) {
    let kit = h.kit();
    kit.op().await;
    for new in [kit.new_batch(), kit.held()] {
        let id = kit.submit(new, &[2, 1]).await;
        kit.abort(id).await;
        let batch = kit.batch(id).await;
        assert_eq!((batch.status, batch.done), (Status::Aborted, true));
        assert_eq!((batch.counts.aborted, batch.started_at), (3, None));
        assert_eq!(batch.done_at, Some(kit.now()));
        assert_eq!(kit.row(id, 1).await.done_at, Some(kit.now()));
    }
    assert_eq!(
        h.facts().notices.len(),
        2,
        "an abort is an end like any other"
    );
}

pub async fn an_abort_that_comes_too_late_changes_nothing(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(1).await;
    kit.work_off(worker, op).await;
    kit.advance(5);
    kit.abort(id).await;
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.success, batch.aborting),
        (Status::Success, 1, false)
    );
}

pub async fn rows_that_finish_during_an_abort_are_what_they_were(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    kit.abort(id).await;
    kit.record(worker, Outcomes::of(&task).success(0).failed(1).ends())
        .await;
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.aborted),
        (Status::Failed, 0),
        "the abort came too late"
    );
}

pub async fn a_row_that_would_go_again_is_aborted(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    kit.abort(id).await;
    kit.record(worker, Outcomes::of(&task).retry(0, None).goes_on(None))
        .await;
    assert!(kit.claim(worker, op).await.is_empty());
    let due = kit.in_seconds(5);
    kit.record(
        worker,
        Outcomes::of(&task)
            .part(1)
            .later(1, due)
            .ends_as(EndedAs::Aborted, vec![2]),
    )
    .await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.aborted), (Status::Aborted, 3));
}

pub async fn an_abort_ends_rows_that_wait_for_another_go(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    let due = Some(kit.in_seconds(60));
    kit.record(worker, Outcomes::of(&task).success(0).retry(1, due).ends())
        .await;
    kit.abort(id).await;
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.aborted),
        (Status::Aborted, 1, 1)
    );
    kit.advance(60);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().woken, 0);
}

pub async fn an_abort_twice_is_one_abort(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[1, 1]).await;
    kit.claim_one(worker, op).await;
    kit.abort(id).await;
    kit.abort(id).await;
    let facts = h.facts();
    assert_eq!(
        facts.audit,
        [("eve".to_owned(), "abort".to_owned(), Some(id))]
    );
    assert_eq!(facts.ended(id), [0, 0, 1, 0]);
}

pub async fn a_batch_that_is_not_there_cannot_be_aborted(h: &impl Harness) {
    let kit = h.kit();
    let missing = kit
        .store
        .abort(rowmill::BatchId::new(), String::new(), kit.now())
        .await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
}

pub async fn an_abort_counts_rejected_rows_as_failed(h: &impl Harness) {
    let kit = h.kit();
    kit.op().await;
    for new in [kit.new_batch(), kit.held()] {
        let block = kit.block_with_rejected(&[false, true, false]);
        let id = kit.try_submit(new, vec![block]).await.unwrap().id();
        kit.abort(id).await;
        let c = kit.batch(id).await.counts;
        assert_eq!((c.aborted, c.failed), (2, 1));
    }
}

pub async fn an_abort_waits_for_output_files_of_rows_that_ended(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[1, 1]).await;
    let task = kit.claim_one(worker, op).await;
    kit.record(worker, Outcomes::of(&task).writes(0, "a.csv", "x\n").ends())
        .await;
    kit.abort(id).await;
    assert!(!kit.batch(id).await.done);
    let token = rowmill::model::Token::random().unwrap();
    let closes = kit
        .store
        .claim_close(worker, token, 1, kit.now())
        .await
        .unwrap();
    assert_eq!(closes[0].claim.batch, id);
    kit.store
        .close(worker, closes[0].claim, Vec::new(), kit.now())
        .await
        .unwrap();
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.aborted),
        (Status::Aborted, 1, 1)
    );
}

pub async fn an_abort_of_a_query_ends_it(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(NewBatch::new(kit.query_key()), &[1]).await;
    kit.abort(id).await;
    let query = kit.batch(id).await;
    assert_eq!((query.status, query.done), (Status::Aborted, true));
    assert!(query.result.unwrap().is_none());
}

pub async fn a_row_that_was_claimed_before_its_abort_keeps_its_attempt(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    let given = kit.store.give_back(worker, vec![task.claim], kit.now());
    given.await.unwrap();
    kit.abort(id).await;
    let never = kit.rows_of(1).await;
    kit.abort(never).await;
    assert_eq!(kit.row(id, 2).await.attempt, Some(1));
    assert_eq!(kit.row(never, 1).await.attempt, None, "it never started");
}
