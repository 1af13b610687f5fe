//! notices: every end is told at least once, and by one worker at a time.

use rowmill::model::{NewBatch, OpId, Token, WorkerNo};
use rowmill::store::Notice;

use crate::support::{Harness, Kit};

async fn claim(kit: &Kit, worker: WorkerNo, op: OpId) -> Vec<Notice> {
    let token = Token::random().unwrap();
    kit.store
        .claim_notices(worker, token, vec![op], kit.now())
        .await
        .unwrap()
}

pub async fn an_end_is_told_until_it_is_settled(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    kit.work_off(worker, op).await;
    let notice = claim(kit, worker, op).await.remove(0);
    assert_eq!((notice.batch.id, notice.op, notice.attempts), (id, op, 0));
    assert!(notice.batch.done);
    assert_eq!(notice.batch.counts.success, 2);
    assert!(claim(kit, worker, op).await.is_empty(), "one worker has it");
    let again = (notice.claim, Some(kit.in_seconds(30)));
    kit.store.settle_notices(worker, vec![again]).await.unwrap();
    assert!(claim(kit, worker, op).await.is_empty(), "it is not due");
    assert_eq!(
        kit.store.keep(kit.now()).await.unwrap().next_due,
        Some(kit.in_seconds(30))
    );
    kit.advance(30);
    let second = claim(kit, worker, op).await.remove(0);
    assert_eq!(
        (second.claim.id, second.attempts),
        (notice.claim.id, 1),
        "the event's id stays"
    );
    kit.store
        .settle_notices(worker, vec![(second.claim, None)])
        .await
        .unwrap();
    kit.advance(3600);
    assert!(claim(kit, worker, op).await.is_empty());
    assert!(h.facts().notices.is_empty());
}

pub async fn a_notice_of_a_dead_worker_is_told_by_another(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[1]).await;
    kit.abort(id).await;
    let lost = claim(kit, dead, op).await.remove(0);
    kit.take_over(dead).await;
    kit.store
        .settle_notices(dead, vec![(lost.claim, None)])
        .await
        .unwrap();
    let alive = kit.worker().await;
    let again = claim(kit, alive, op).await.remove(0);
    assert_eq!(again.claim.id, lost.claim.id);
    kit.store
        .settle_notices(dead, vec![(lost.claim, None)])
        .await
        .unwrap();
    assert_eq!(h.facts().notices.len(), 1, "the old claim is fenced");
    kit.store
        .settle_notices(alive, vec![(again.claim, None)])
        .await
        .unwrap();
}

pub async fn a_notice_of_a_worker_that_left_is_told_by_another(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let other = h.again().await;
    let leaver = kit.worker_of(&other).await;
    let id = kit.submit(kit.held(), &[1]).await;
    kit.abort(id).await;
    let token = Token::random().unwrap();
    other
        .claim_notices(leaver, token, vec![op], kit.now())
        .await
        .unwrap();
    other.leave(leaver, kit.now()).await.unwrap();
    let alive = kit.worker().await;
    for dead in kit.store.dead_workers().await.unwrap() {
        kit.take_over(dead).await;
    }
    assert_eq!(claim(kit, alive, op).await.len(), 1);
}

pub async fn ends_are_told_only_to_their_op(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let other = kit.register(kit.key_of("other"), true, 3).await;
    let quiet = kit.register(kit.key_of("quiet"), false, 3).await;
    for op in ["post", "other", "quiet"] {
        let id = kit.submit(NewBatch::new(kit.key_of(op)), &[1]).await;
        kit.abort(id).await;
    }
    assert_eq!(
        claim(kit, worker, quiet).await.len(),
        0,
        "nobody asked to be told"
    );
    assert_eq!(claim(kit, worker, op).await.len(), 1);
    assert_eq!(claim(kit, worker, other).await.len(), 1);
}

pub async fn two_workers_never_tell_one_end_at_the_same_time(h: &impl Harness) {
    let kit = h.kit();
    let (op, one) = kit.op_and_worker().await;
    let two = kit.worker().await;
    for _ in 0..30 {
        let id = kit.submit(kit.held(), &[1]).await;
        kit.abort(id).await;
    }
    let claims = (0..6).map(|i| claim(kit, if i % 2 == 0 { one } else { two }, op));
    let mut ids: Vec<i64> = futures_util::future::join_all(claims)
        .await
        .concat()
        .iter()
        .map(|n| n.claim.id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 30);
    let left = h.facts().notices.iter().filter(|n| n.1.is_none()).count();
    assert_eq!(left, 0);
}
