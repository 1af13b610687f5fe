//! rows: what users see of rows and of lines.

use rowmill::model::{BlockBuilder, Status};
use rowmill::store::StoreError;

use crate::support::{Harness, Outcomes};

pub async fn rows_come_in_line_order_with_their_gaps(h: &impl Harness) {
    let kit = h.kit();
    let lines = [2, 3, 7, 100, 101, 2_147_483_647];
    let mut builder = BlockBuilder::new(2, usize::MAX);
    let mut blocks = Vec::new();
    for line in lines {
        blocks.extend(builder.push(line, "{}"));
    }
    blocks.extend(builder.finish());
    assert_eq!(blocks.len(), 3);
    let id = kit.try_submit(kit.new_batch(), blocks).await.unwrap().id();
    let seen: Vec<u32> = kit.rows(id).await.iter().map(|r| r.line.0).collect();
    assert_eq!(seen, lines);
    for (after, next) in [
        (0, 2),
        (1, 2),
        (2, 3),
        (6, 7),
        (7, 100),
        (99, 100),
        (101, 2_147_483_647),
    ] {
        let page = kit.store.rows(id, after, None).await.unwrap();
        assert_eq!(page.rows[0].line.0, next, "after {after}");
    }
    let end = kit.store.rows(id, 2_147_483_647, None).await.unwrap();
    assert!(end.rows.is_empty() && end.next.is_none());
}

pub async fn inputs_are_kept_byte_for_byte(h: &impl Harness) {
    let kit = h.kit();
    let inputs = [
        "1.10",
        "{\"b\" : 1, \"a\":1e200000}",
        "\"\\u0000 é\u{2028}\"",
        "null",
        "-0",
        "[]",
    ];
    let mut builder = BlockBuilder::new(100, usize::MAX);
    for (line, input) in (1..).zip(inputs) {
        builder.push(line, input);
    }
    let blocks = vec![builder.finish().unwrap()];
    let id = kit.try_submit(kit.new_batch(), blocks).await.unwrap().id();
    let rows = kit.rows(id).await;
    assert!(rows.iter().map(|r| r.input.get()).eq(inputs));
}

pub async fn a_row_is_seen_as_its_task(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[1, 4]).await;
    assert!(
        kit.rows(id)
            .await
            .iter()
            .all(|r| r.status == Status::Queued)
    );
    let first = kit.claim_one(worker, op).await;
    let task = kit.claim_one(worker, op).await;
    let due = kit.in_seconds(9);
    let part = Outcomes::of(&task)
        .success(0)
        .failed(1)
        .later(2, due)
        .goes_on(None);
    kit.record(worker, part).await;
    let seen: Vec<Status> = kit.rows(id).await.iter().map(|r| r.status).collect();
    use Status::{Failed, Inprog, Queued, Success};
    assert_eq!(seen, [Inprog, Success, Failed, Queued, Inprog]);
    kit.succeed(worker, &first).await;
}

pub async fn rows_of_a_batch_that_is_not_there_are_not_found(h: &impl Harness) {
    let missing = h.kit().store.rows(rowmill::BatchId::new(), 0, None).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
}

pub async fn rows_of_many_blocks_are_paged_without_a_gap(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.new_batch(), &[7; 40]).await;
    let rows = kit.rows(id).await;
    assert!(rows.iter().map(|r| r.line.0).eq(1..=280));
}
