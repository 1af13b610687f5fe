//! release: a held batch's tasks are made.

use rowmill::model::{NewBatch, Status};
use rowmill::store::StoreError;

use crate::support::{Harness, Outcomes};

pub async fn a_held_batch_is_not_worked_until_it_is_released(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[2, 2]).await;
    assert_eq!(kit.batch(id).await.status, Status::Wait);
    assert!(kit.rows(id).await.iter().all(|r| r.status == Status::Wait));
    assert!(kit.claim(worker, op).await.is_empty());
    kit.release(id).await.unwrap();
    assert_eq!(kit.batch(id).await.status, Status::Queued);
    assert_eq!(kit.claim(worker, op).await.len(), 2);
}

pub async fn a_released_batch_may_be_released_again(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[1]).await;
    kit.release(id).await.unwrap();
    kit.release(id).await.unwrap();
    assert_eq!(h.facts().rows_tasks(id).len(), 1);
    let task = kit.claim_one(worker, op).await;
    kit.release(id).await.unwrap();
    kit.succeed(worker, &task).await;
    let ended = kit.release(id).await;
    assert!(
        matches!(
            ended,
            Err(StoreError::WrongState {
                found: "success",
                ..
            })
        ),
        "{ended:?}"
    );
}

pub async fn a_batch_that_is_not_there_cannot_be_released(h: &impl Harness) {
    let missing = h.kit().release(rowmill::BatchId::new()).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
}

pub async fn a_release_after_an_abort_brings_nothing_back(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[3]).await;
    kit.abort(id).await;
    assert!(matches!(
        kit.release(id).await,
        Err(StoreError::WrongState {
            found: "aborted",
            ..
        })
    ));
    assert!(kit.claim(worker, op).await.is_empty());
    assert_eq!(kit.batch(id).await.counts.aborted, 3);
}

pub async fn a_release_says_who_asked_for_it(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[1]).await;
    kit.release(id).await.unwrap();
    kit.release(id).await.unwrap();
    let audit = h.facts().audit;
    assert_eq!(audit, [("rob".to_owned(), "release".to_owned(), Some(id))]);
}

pub async fn a_batch_of_rejected_rows_only_ends_at_its_release(h: &impl Harness) {
    let kit = h.kit();
    kit.op().await;
    for blocks in [1, 2] {
        let all = |n| {
            let mut blocks = vec![kit.block_with_rejected(&[true, true]); n];
            for (at, block) in (0..).zip(&mut blocks) {
                block.first_line += at * 2;
            }
            blocks
        };
        let new = kit.held();
        let id = kit.try_submit(new, all(blocks)).await.unwrap().id();
        assert_eq!(kit.batch(id).await.status, Status::Wait);
        kit.release(id).await.unwrap();
        let batch = kit.batch(id).await;
        assert_eq!((batch.status, batch.done), (Status::Failed, true));
        assert_eq!(batch.counts.failed, batch.counts.rows);
        let row = kit.row(id, 1).await;
        assert!(row.messages.unwrap().get().contains("bad_json"));
    }
    assert_eq!(h.facts().notices.len(), 2, "their ends are told");
}

pub async fn a_rejected_row_is_in_no_task(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let block = kit.block_with_rejected(&[true, false, true, false]);
    let id = kit
        .try_submit(kit.new_batch(), vec![block])
        .await
        .unwrap()
        .id();
    let task = kit.claim_one(worker, op).await;
    assert_eq!((task.pick.as_deref(), task.rows), (Some(&[1, 3][..]), 2));
    assert_eq!(
        kit.batch(id).await.counts.failed,
        2,
        "they have ended already"
    );
    kit.record(worker, Outcomes::of(&task).success(1).failed(3).ends())
        .await;
    let counts = kit.batch(id).await.counts;
    assert_eq!((counts.success, counts.failed), (1, 3));
}

pub async fn a_batch_with_a_later_start_is_not_claimed_before_it(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let new = NewBatch {
        run_at: Some(kit.in_seconds(60)),
        ..kit.new_batch()
    };
    let id = kit.submit(new, &[1]).await;
    let kept = kit.store.keep(kit.now()).await.unwrap();
    assert_eq!((kept.woken, kept.next_due), (0, Some(kit.in_seconds(60))));
    assert!(kit.claim(worker, op).await.is_empty());
    kit.advance(60);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().woken, 1);
    assert_eq!(kit.claim(worker, op).await[0].batch.id, id);
}

pub async fn a_batch_of_ten_thousand_blocks_and_more_is_given_piece_by_piece(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let before = kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    assert_eq!(task.batch.id, before);
    kit.submit(kit.new_batch(), &[1; 5]).await;
    for _ in 0..3 {
        let task = kit.claim_one(worker, op).await;
        kit.succeed(worker, &task).await;
    }
    kit.advance(1);
    let id = kit.submit(kit.held(), &[1; 10_002]).await;
    kit.release(id).await.unwrap();
    assert_eq!(h.facts().rows_tasks(id).len(), 10_000);
    assert_eq!(kit.batch(id).await.counts.pending, 10_002);
    kit.store.keep(kit.now()).await.unwrap();
    assert_eq!(h.facts().rows_tasks(id).len(), 10_002);
    kit.store.keep(kit.now()).await.unwrap();
    assert_eq!(h.facts().rows_tasks(id).len(), 10_002);
    let all = rowmill::store::Claim {
        max_tasks: 20_000,
        ..kit.ask(worker, op)
    };
    let claimed = kit.claim_as(all).await;
    let lines: Vec<u32> = claimed
        .iter()
        .filter(|t| t.batch.id == id)
        .map(|t| t.first_line)
        .collect();
    assert!(lines.into_iter().eq(1..=10_002), "in line order");
    let (late, rest) = claimed.split_last().expect("tasks");
    let back = rest.iter().map(|t| t.claim).collect();
    kit.store.give_back(worker, back, kit.now()).await.unwrap();
    kit.abort(id).await;
    kit.succeed(worker, late).await;
    let counts = kit.batch(id).await.counts;
    assert_eq!((counts.success, counts.aborted), (1, 10_001));
    kit.succeed(worker, &task).await;
}

pub async fn an_abort_ends_rows_whose_tasks_were_not_made_yet(h: &impl Harness) {
    let kit = h.kit();
    let mut blocks = kit.blocks(&[1; 10_001]);
    let mut last = kit.block_with_rejected(&[false, true, false]);
    last.first_line = 10_002;
    blocks.push(last);
    let id = kit.try_submit(kit.new_batch(), blocks).await.unwrap().id();
    assert_eq!(h.facts().rows_tasks(id).len(), 10_000);
    kit.abort(id).await;
    let counts = kit.batch(id).await.counts;
    assert_eq!((counts.aborted, counts.failed), (10_003, 1));
}
