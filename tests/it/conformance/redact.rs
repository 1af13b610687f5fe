//! redact: what a row held is gone, that it was there stays.

use rowmill::Status;
use rowmill::store::StoreError;

use crate::support::Harness;

pub async fn a_redacted_row_keeps_its_place_and_its_status_alone(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    kit.work_off(worker, op).await;
    let before = kit.rows(id).await;
    let redacted = kit
        .store
        .redact(id, 2, "auditor".to_owned(), kit.now())
        .await;
    assert!(redacted.unwrap());
    let after = kit.rows(id).await;
    assert_eq!(after.len(), 3);
    assert_eq!(after[1].input.get(), "null");
    assert!(after[1].result.is_none() && after[1].messages.is_none());
    assert_eq!(after[1].status, before[1].status);
    for at in [0, 2] {
        assert_eq!(after[at].input.get(), before[at].input.get());
        assert_eq!(
            after[at].result.as_ref().map(|r| r.get().to_owned()),
            before[at].result.as_ref().map(|r| r.get().to_owned())
        );
    }
    let missing = kit
        .store
        .redact(id, 4, "auditor".to_owned(), kit.now())
        .await;
    assert!(!missing.unwrap());
}

pub async fn rows_of_a_batch_that_goes_on_are_not_redacted(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.rows_of(2).await;
    let refused = kit
        .store
        .redact(id, 1, "auditor".to_owned(), kit.now())
        .await;
    assert!(matches!(refused, Err(StoreError::WrongState { .. })));
    assert_eq!(kit.batch(id).await.status, Status::Queued);
    assert_eq!(kit.row(id, 1).await.input.get(), "1");
}
