//! keep: what time alone changes, and nothing more.

use rowmill::model::NewBatch;

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
