//! keep: what time alone changes, and nothing more.

use rowmill::model::{NewBatch, Status};

use crate::support::{Harness, Outcomes};

pub async fn an_idle_store_has_nothing_due(h: &impl Harness) {
    let kit = h.kit();
    let kept = kit.store.keep(kit.now()).await.unwrap();
    assert_eq!(
        (kept.woken, kept.expired, kept.swept, kept.next_due),
        (0, 0, 0, None)
    );
}

pub async fn the_next_due_time_is_the_first_of_all(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let starts = NewBatch {
        run_at: Some(kit.in_seconds(300)),
        ..kit.new_batch()
    };
    kit.submit(starts, &[1]).await;
    let expires = NewBatch {
        expires_at: Some(kit.in_seconds(200)),
        ..kit.held()
    };
    kit.submit(expires, &[1]).await;
    kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    let due = kit.in_seconds(100);
    kit.record(worker, Outcomes::of(&task).later(0, due).ends())
        .await;
    for _ in 0..3 {
        let next = kit.store.keep(kit.now()).await.unwrap().next_due.unwrap();
        let wait = u64::try_from(next.duration_since(kit.now()).as_secs()).unwrap();
        assert_eq!(wait, 100);
        kit.advance(wait);
    }
    let kept = kit.store.keep(kit.now()).await.unwrap();
    assert_eq!((kept.woken, kept.next_due), (1, None));
}

pub async fn due_tasks_wake_once(h: &impl Harness) {
    let kit = h.kit();
    let starts = NewBatch {
        run_at: Some(kit.in_seconds(60)),
        ..kit.new_batch()
    };
    kit.submit(starts, &[1; 25]).await;
    kit.advance(60);
    let (a, b) = futures_util::join!(kit.store.keep(kit.now()), kit.store.keep(kit.now()));
    assert_eq!(a.unwrap().woken + b.unwrap().woken, 25);
}

pub async fn a_notice_that_nobody_takes_is_no_work_for_the_keeper(h: &impl Harness) {
    let kit = h.kit();
    kit.op().await;
    let id = kit.submit(kit.held(), &[1]).await;
    kit.abort(id).await;
    kit.advance(1);
    let kept = kit.store.keep(kit.now()).await.unwrap();
    assert_eq!(
        kept.next_due, None,
        "whoever waits for that time would never rest"
    );
    assert_eq!((kept.woken, kept.expired, kept.swept), (0, 0, 0));
}

pub async fn a_damaged_batch_holds_up_no_other(h: &impl Harness) {
    let kit = h.kit();
    let expires = || NewBatch {
        expires_at: Some(kit.in_seconds(10)),
        ..kit.held()
    };
    let rejected = vec![kit.block_with_rejected(&[false, true])];
    let damaged = kit.try_submit(expires(), rejected).await.unwrap().id();
    let good = kit.submit(expires(), &[2]).await;
    let starts = NewBatch {
        run_at: Some(kit.in_seconds(10)),
        ..kit.new_batch()
    };
    kit.submit(starts, &[1]).await;
    h.damage(
        damaged,
        "update attempts set ordinals = '[' where batch = ?1",
    );
    kit.advance(10);
    let kept = kit.store.keep(kit.now()).await.unwrap();
    assert_eq!((kept.woken, kept.expired), (1, 1));
    assert_eq!(kit.batch(good).await.status, Status::Expired);
    let again = kit.store.keep(kit.now()).await.unwrap();
    assert_eq!(
        (again.expired, again.next_due),
        (0, None),
        "whoever waits for that time would never rest"
    );
    h.damage(
        damaged,
        "update attempts set ordinals = '[1]' where batch = ?1",
    );
    assert_eq!(kit.batch(damaged).await.status, Status::Wait);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().expired, 1);
    assert!(kit.batch(damaged).await.done, "as soon as it is repaired");
}
