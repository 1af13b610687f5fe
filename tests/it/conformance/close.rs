//! close: a batch with output files ends when they are published.

use rowmill::model::{BatchId, OutputFile, Status, Token, WorkerNo};
use rowmill::store::{CloseTask, Recorded};

use crate::support::{Harness, Kit, Outcomes};

async fn claim_close(kit: &Kit, worker: WorkerNo) -> Vec<CloseTask> {
    let token = Token::random().unwrap();
    kit.store
        .claim_close(worker, token, 10, kit.now())
        .await
        .unwrap()
}

fn file(kit: &Kit, id: BatchId) -> OutputFile {
    OutputFile {
        name: "credit.csv".to_owned(),
        key: format!("{}/{id}/credit.csv", kit.key()),
        size: 7,
        sha256: "ab".to_owned(),
        content_type: "text/csv".to_owned(),
    }
}

/// A batch whose rows have all ended and wrote to an output file.
async fn written(kit: &Kit, sizes: &[u32]) -> (WorkerNo, BatchId) {
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), sizes).await;
    for task in kit.claim(worker, op).await {
        let part = Outcomes::of(&task)
            .writes(0, "credit.csv", "x\n")
            .all_success();
        kit.record(worker, part.ends()).await;
    }
    (worker, id)
}

pub async fn a_batch_with_output_files_ends_when_it_is_closed(h: &impl Harness) {
    let kit = h.kit();
    for sizes in [&[2][..], &[1, 1]] {
        let (worker, id) = written(kit, sizes).await;
        let batch = kit.batch(id).await;
        assert_eq!(
            (batch.done, batch.counts.pending, batch.status),
            (false, 0, Status::Inprog)
        );
        let closes = claim_close(kit, worker).await;
        assert_eq!(closes.len(), 1);
        assert_eq!((&closes[0].key, closes[0].attempt), (&kit.key(), 1));
        assert!(
            claim_close(kit, worker).await.is_empty(),
            "it is claimed once"
        );
        let done = kit
            .store
            .close(worker, closes[0].claim, vec![file(kit, id)], kit.now())
            .await;
        assert_eq!(done.unwrap(), Recorded::Done);
        let batch = kit.batch(id).await;
        assert_eq!((batch.status, batch.counts.success), (Status::Success, 2));
        assert_eq!(batch.files, [file(kit, id)]);
    }
    assert_eq!(h.facts().notices.len(), 2);
}

pub async fn a_close_waits_for_every_row(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[1, 1]).await;
    let task = kit.claim_one(worker, op).await;
    kit.record(worker, Outcomes::of(&task).writes(0, "a.csv", "x\n").ends())
        .await;
    assert!(claim_close(kit, worker).await.is_empty());
    let task = kit.claim_one(worker, op).await;
    kit.record(worker, Outcomes::of(&task).retry(0, None).ends())
        .await;
    assert!(
        claim_close(kit, worker).await.is_empty(),
        "a row goes again"
    );
    kit.work_off(worker, op).await;
    assert_eq!(claim_close(kit, worker).await[0].claim.batch, id);
}

pub async fn a_fenced_close_ends_nothing(h: &impl Harness) {
    let kit = h.kit();
    let (old, id) = written(kit, &[1]).await;
    let lost = claim_close(kit, old).await.remove(0);
    let running = kit.store.beat(old).await.unwrap();
    assert!(running[0].close);
    kit.take_over(old).await;
    let late = kit
        .store
        .close(old, lost.claim, vec![file(kit, id)], kit.now())
        .await;
    assert_eq!(late.unwrap(), Recorded::Fenced);
    let worker = kit.worker().await;
    let again = claim_close(kit, worker).await.remove(0);
    assert_eq!(again.attempt, 2);
    let late = kit
        .store
        .close_later(old, lost.claim, String::new(), kit.now())
        .await;
    assert_eq!(late.unwrap(), Recorded::Fenced);
    kit.store
        .close(worker, again.claim, Vec::new(), kit.now())
        .await
        .unwrap();
    let twice = kit
        .store
        .close(worker, again.claim, Vec::new(), kit.now())
        .await;
    assert_eq!(twice.unwrap(), Recorded::Fenced);
    assert!(kit.batch(id).await.files.is_empty());
    assert_eq!(h.facts().notices.len(), 1);
}

pub async fn a_close_that_is_put_off_comes_again_without_end(h: &impl Harness) {
    let kit = h.kit();
    let (worker, id) = written(kit, &[1, 1]).await;
    for attempt in 1..=20 {
        let close = claim_close(kit, worker).await.remove(0);
        assert_eq!(close.attempt, attempt);
        let due = kit.in_seconds(300);
        let later = kit
            .store
            .close_later(worker, close.claim, "down".to_owned(), due)
            .await;
        assert_eq!(later.unwrap(), Recorded::Done);
        assert!(claim_close(kit, worker).await.is_empty());
        kit.advance(300);
        kit.store.keep(kit.now()).await.unwrap();
    }
    assert_eq!(
        kit.batch(id).await.counts.success,
        2,
        "nothing of it has failed"
    );
}

pub async fn outcomes_come_block_after_block_in_pages(h: &impl Harness) {
    let kit = h.kit();
    let (_, id) = written(kit, &[2, 1, 3]).await;
    let all = kit.store.outcomes(id, 0, usize::MAX).await.unwrap();
    assert_eq!(
        all.iter().map(|b| (b.no, b.rows)).collect::<Vec<_>>(),
        [(0, 2), (1, 1), (2, 3)]
    );
    assert!(
        all.iter()
            .all(|b| b.parts.len() == 1 && b.parts[0].body.contains("credit.csv"))
    );
    let mut from = 0;
    let mut seen = Vec::new();
    loop {
        let page = kit.store.outcomes(id, from, 1).await.unwrap();
        assert!(page.len() <= 1);
        let Some(block) = page.last() else { break };
        seen.push(block.no);
        from = block.no + 1;
    }
    assert_eq!(seen, [0, 1, 2]);
}

pub async fn a_batch_without_output_files_needs_no_close(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[1, 1, 1]).await;
    kit.work_off(worker, op).await;
    assert!(kit.batch(id).await.done);
    assert!(claim_close(kit, worker).await.is_empty());
}
