//! rows: what users see of rows and of lines.

use rowmill::model::{BlockBuilder, Status};
use rowmill::store::StoreError;

use crate::support::{Harness, Kit, Outcomes};

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

/// The rows that a reader of one status sees, and how many pages it took.
async fn in_status(kit: &Kit, id: rowmill::BatchId, status: Status) -> (Vec<u32>, usize) {
    let (mut lines, mut pages, mut after) = (Vec::new(), 0, Some(0));
    while let Some(from) = after {
        let page = kit.store.rows(id, from, Some(status)).await.unwrap();
        assert!(page.rows.iter().all(|r| r.status == status));
        assert!(page.next.is_none_or(|next| next > from), "it gets on");
        lines.extend(page.rows.iter().map(|r| r.line.0));
        pages += 1;
        after = page.next;
    }
    (lines, pages)
}

/// Each status alone is what is in it of all the rows.
async fn agree(kit: &Kit, id: rowmill::BatchId) {
    let all = kit.rows(id).await;
    for status in Status::ALL {
        let expected = all.iter().filter(|r| r.status == status);
        let expected: Vec<u32> = expected.map(|r| r.line.0).collect();
        assert_eq!(in_status(kit, id, status).await.0, expected, "{status}");
    }
}

pub async fn rows_in_one_status_are_those_of_all_rows(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let mut blocks = kit.blocks(&[4, 3, 3, 3, 3, 3]);
    blocks[0] = kit.block_with_rejected(&[true, false, false, true]);
    let id = kit.try_submit(kit.held(), blocks).await.unwrap().id();
    agree(kit, id).await;
    kit.release(id).await.unwrap();
    agree(kit, id).await;
    let first = kit.claim_one(worker, op).await;
    let second = kit.claim_one(worker, op).await;
    let third = kit.claim_one(worker, op).await;
    agree(kit, id).await;
    let due = kit.in_seconds(9);
    let part = Outcomes::of(&second)
        .success(0)
        .failed(1)
        .retry(2, Some(due));
    kit.record(worker, part.ends()).await;
    let part = Outcomes::of(&third).failed(1).goes_on(None);
    kit.record(worker, part).await;
    agree(kit, id).await;
    kit.succeed(worker, &first).await;
    agree(kit, id).await;
    kit.abort(id).await;
    agree(kit, id).await;
    let part = Outcomes::of(&third).part(1);
    let part = part.ends_as(rowmill::model::EndedAs::Aborted, vec![0, 2]);
    kit.record(worker, part).await;
    assert!(kit.batch(id).await.done);
    agree(kit, id).await;
}

pub async fn blocks_without_rows_in_the_status_are_passed_over(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2; 300]).await;
    let (lines, pages) = in_status(kit, id, Status::Queued).await;
    assert_eq!((lines.len(), pages), (600, 301));
    for at in [3, 200] {
        let tasks = kit.claim_as(rowmill::store::Claim {
            max_tasks: at,
            ..kit.ask(worker, op)
        });
        for (i, task) in tasks.await.iter().enumerate() {
            let part = if i == 1 {
                Outcomes::of(task).failed(1)
            } else {
                Outcomes::of(task)
            };
            kit.record(worker, part.all_success().ends()).await;
        }
    }
    assert_eq!(in_status(kit, id, Status::Failed).await, (vec![4, 10], 3));
    let (lines, pages) = in_status(kit, id, Status::Queued).await;
    assert_eq!((lines.len(), pages), (2 * 97, 98));
    kit.work_off(worker, op).await;
    assert_eq!(in_status(kit, id, Status::Failed).await, (vec![4, 10], 3));
    for status in [
        Status::Queued,
        Status::Inprog,
        Status::Wait,
        Status::Aborted,
    ] {
        assert_eq!(in_status(kit, id, status).await, (vec![], 1), "{status}");
    }
}

pub async fn a_reader_goes_on_while_the_batch_is_worked_off(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[3; 20]).await;
    let (mut all, mut after) = (Vec::new(), Some(0));
    let (mut done, mut from) = (Vec::new(), Some(0));
    while after.is_some() || from.is_some() {
        if let Some(at) = after {
            let page = kit.store.rows(id, at, None).await.unwrap();
            all.extend(page.rows.iter().map(|r| r.line.0));
            after = page.next;
        }
        if let Some(at) = from {
            let page = kit.store.rows(id, at, Some(Status::Success)).await;
            let page = page.unwrap();
            done.extend(page.rows.iter().map(|r| r.line.0));
            from = page.next;
        }
        for task in kit
            .claim_as(rowmill::store::Claim {
                max_tasks: 2,
                ..kit.ask(worker, op)
            })
            .await
        {
            kit.succeed(worker, &task).await;
        }
    }
    assert!(all.into_iter().eq(1..=60), "every row once");
    assert!(done.is_sorted_by(|a, b| a < b), "none twice");
}
