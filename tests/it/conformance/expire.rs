//! expire: rows that have not begun in time do not begin.

use rowmill::model::{NewBatch, Status};

use crate::support::{Harness, Kit, Outcomes};

fn expiring(kit: &Kit) -> NewBatch {
    NewBatch {
        expires_at: Some(kit.in_seconds(10)),
        ..kit.new_batch()
    }
}

pub async fn a_batch_that_has_not_begun_in_time_expires(h: &impl Harness) {
    let kit = h.kit();
    kit.op().await;
    let held = NewBatch {
        hold: true,
        ..expiring(kit)
    };
    let ids = [
        kit.submit(expiring(kit), &[2, 1]).await,
        kit.submit(held, &[2, 1]).await,
    ];
    assert_eq!(
        kit.store.keep(kit.now()).await.unwrap().next_due,
        Some(kit.in_seconds(10))
    );
    kit.advance(9);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().expired, 0);
    kit.advance(1);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().expired, 2);
    for id in ids {
        let batch = kit.batch(id).await;
        assert_eq!(
            (batch.status, batch.counts.expired, batch.done),
            (Status::Expired, 3, true)
        );
        let row = kit.row(id, 2).await;
        assert_eq!(row.status, Status::Expired);
        let messages = row.messages.expect("why it ended");
        let told: Vec<rowmill::Message> = serde_json::from_str(messages.get()).unwrap();
        assert_eq!((told[0].errcode.as_str(), told[0].msgid), ("expired", 30));
    }
    assert_eq!(h.facts().notices.len(), 2);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().expired, 0);
}

pub async fn rows_that_run_when_their_batch_expires_finish(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(expiring(kit), &[2, 3]).await;
    let task = kit.claim_one(worker, op).await;
    kit.advance(10);
    kit.store.keep(kit.now()).await.unwrap();
    assert!(!kit.batch(id).await.done);
    kit.succeed(worker, &task).await;
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.expired),
        (Status::Expired, 2, 3)
    );
}

pub async fn a_claim_that_meets_an_expired_batch_passes_over_it(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(expiring(kit), &[1, 1]).await;
    kit.advance(10);
    let good = kit.rows_of(1).await;
    let claimed = kit.claim(worker, op).await;
    assert_eq!(claimed.len(), 1, "the others are claimed all the same");
    assert_eq!(claimed[0].batch.id, good);
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.done), (Status::Queued, false));
    // A claim may be undone by a power failure; the end of a batch is synced.
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().expired, 1);
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.expired, batch.done),
        (Status::Expired, 2, true)
    );
}

pub async fn an_expired_batch_with_many_tasks_starves_no_other(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let urgent = NewBatch {
        priority: 100,
        ..expiring(kit)
    };
    kit.submit(urgent, &[1; 300]).await;
    kit.advance(10);
    let good = kit.submit(kit.new_batch(), &[1; 20]).await;
    let ask = rowmill::store::Claim {
        max_tasks: 8,
        ..kit.ask(worker, op)
    };
    let claimed = kit.claim_as(ask).await;
    assert_eq!(claimed.len(), 8, "as many as were asked for");
    assert!(claimed.iter().all(|task| task.batch.id == good));
    kit.store.keep(kit.now()).await.unwrap();
    assert_eq!(kit.claim(worker, op).await.len(), 12);
}

pub async fn a_retry_of_an_expired_batch_expires(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(expiring(kit), &[3]).await;
    let task = kit.claim_one(worker, op).await;
    kit.advance(10);
    kit.record(worker, Outcomes::of(&task).retry(0, None).goes_on(None))
        .await;
    kit.record(
        worker,
        Outcomes::of(&task).part(1).success(1).retry(2, None).ends(),
    )
    .await;
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.expired),
        (Status::Expired, 1, 2)
    );
}

pub async fn an_aborted_row_beside_an_expired_one_makes_the_batch_aborted(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(expiring(kit), &[1, 1, 1]).await;
    let task = kit.claim_one(worker, op).await;
    kit.advance(10);
    kit.store.keep(kit.now()).await.unwrap();
    kit.abort(id).await;
    kit.record(worker, Outcomes::of(&task).retry(0, None).ends())
        .await;
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.aborted, batch.counts.expired),
        (Status::Aborted, 1, 2)
    );
}

pub async fn a_hundred_batches_and_more_expire(h: &impl Harness) {
    let kit = h.kit();
    for _ in 0..120 {
        kit.submit(expiring(kit), &[1]).await;
    }
    kit.advance(10);
    let mut expired = 0;
    while expired < 120 {
        let kept = kit.store.keep(kit.now()).await.unwrap();
        assert!(kept.expired > 0, "each round goes on");
        expired += kept.expired;
    }
    assert_eq!(expired, 120);
}
