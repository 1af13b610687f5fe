//! append: rows are added to a held batch, all at once, and once.

mod keys;
mod load;
mod races;

pub use keys::*;
pub use load::*;
pub use races::*;

use rowmill::BatchId;
use rowmill::model::{BlockBuilder, Line, NewBatch, Status, Timestamp, Token};
use rowmill::store::{Added, AppendBlocks, AppendPiece, NewAppend, StoreError};

use crate::support::{Harness, Kit, Outcomes};

fn lines(added: &Added) -> (u64, u32, u32, bool) {
    (
        added.rows,
        added.first_line,
        added.last_line,
        added.repeated,
    )
}

/// One block of rows at these lines.
fn at(lines: &[u32]) -> rowmill::model::Block {
    let mut builder = BlockBuilder::new(u32::MAX, usize::MAX);
    for line in lines {
        assert!(builder.push(*line, &line.to_string()).is_none());
    }
    builder.finish().expect("a block")
}

/// A piece of one block whose first row was refused, at `line` and the line behind it.
fn refused_at(kit: &Kit, id: BatchId, token: Token, line: u32) -> AppendPiece {
    let mut block = kit.block_with_rejected(&[true, false]);
    block.first_line = line;
    AppendPiece {
        batch: id,
        token,
        blocks: AppendBlocks {
            following: Vec::new(),
            given: vec![block],
        },
    }
}

async fn append_blocks(
    kit: &Kit,
    append: NewAppend,
    blocks: AppendBlocks,
) -> Result<Added, StoreError> {
    let (blocks, content) = kit.content(blocks);
    kit.store.append(append, blocks, content, kit.now()).await
}

async fn given(kit: &Kit, append: NewAppend, lines: &[u32]) -> Result<Added, StoreError> {
    let blocks = AppendBlocks {
        following: Vec::new(),
        given: vec![at(lines)],
    };
    append_blocks(kit, append, blocks).await
}

pub async fn appended_rows_go_on_from_the_batchs_last_line(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[2, 1]).await;
    let added = kit.append(id, "a", &[2, 2]).await;
    assert_eq!(lines(&added), (4, 4, 7, false));
    let added = kit.append(id, "b", &[1]).await;
    assert_eq!(lines(&added), (1, 8, 8, false));
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.rows), (Status::Wait, 8));
    let rows = kit.rows(id).await;
    assert!(rows.iter().map(|r| r.line.0).eq(1..=8));
    let inputs: Vec<&str> = rows.iter().map(|r| r.input.get()).collect();
    assert_eq!(inputs, ["1", "2", "3", "1", "2", "3", "4", "1"]);
    assert!(kit.claim(worker, op).await.is_empty(), "it is still held");
    kit.release(id).await.unwrap();
    kit.work_off(worker, op).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 8));
}

pub async fn gaps_and_given_lines_are_kept(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[3]).await;
    let blocks = AppendBlocks {
        following: vec![at(&[2, 5])],
        given: vec![at(&[20, 22])],
    };
    let added = append_blocks(kit, kit.new_append(id, "a"), blocks).await;
    assert_eq!(lines(&added.unwrap()), (4, 5, 22, false));
    let rows = kit.rows(id).await;
    let seen: Vec<u32> = rows.iter().map(|r| r.line.0).collect();
    assert_eq!(seen, [1, 2, 3, 5, 8, 20, 22]);
    assert_eq!(kit.row(id, 8).await.input.get(), "5");
}

pub async fn lines_that_do_not_rise_add_nothing(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[3]).await;
    for lines in [&[3][..], &[1], &[2, 9]] {
        let refused = given(kit, kit.new_append(id, "a"), lines).await;
        let Err(StoreError::BadLine { line, last: 3 }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(line, i64::from(lines[0]));
    }
    // Two rows get the lines 4 and 5: 5 is taken then.
    let blocks = AppendBlocks {
        following: vec![at(&[1, 2])],
        given: vec![at(&[5])],
    };
    let refused = append_blocks(kit, kit.new_append(id, "a"), blocks).await;
    assert!(matches!(
        refused,
        Err(StoreError::BadLine { line: 5, last: 5 })
    ));
    let facts = h.facts();
    assert!(facts.appends.is_empty() && facts.audit.is_empty());
    assert_eq!(
        (facts.blocks.len(), kit.batch(id).await.counts.rows),
        (1, 3)
    );
    let added = given(kit, kit.new_append(id, "a"), &[4]).await.unwrap();
    assert_eq!(lines(&added), (1, 4, 4, false));
}

pub async fn there_is_a_last_line(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[1]).await;
    let max = Line::MAX.0;
    let beyond = given(kit, kit.new_append(id, "a"), &[max, max + 1]).await;
    assert!(matches!(beyond, Err(StoreError::BadLine { line, .. }) if line == i64::from(max) + 1));
    let added = given(kit, kit.new_append(id, "a"), &[max - 1])
        .await
        .unwrap();
    assert_eq!(added.last_line, max - 1);
    let beyond = kit.try_append(kit.new_append(id, "b"), &[2]).await;
    assert!(matches!(beyond, Err(StoreError::BadLine { .. })));
    assert_eq!(kit.append(id, "b", &[1]).await.last_line, max);
    let beyond = kit.try_append(kit.new_append(id, "c"), &[1]).await;
    assert!(matches!(beyond, Err(StoreError::BadLine { .. })));
    assert_eq!(kit.rows(id).await.len(), 3);
}

pub async fn only_a_held_batch_takes_an_append(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let missing = kit.try_append(kit.new_append(rowmill::BatchId::new(), "a"), &[1]);
    assert!(matches!(missing.await, Err(StoreError::NotFound(_))));
    let id = kit.submit(kit.held(), &[1]).await;
    kit.release(id).await.unwrap();
    let refused = |found: &'static str| async move {
        let append = kit.try_append(kit.new_append(id, "a"), &[1]).await;
        let Err(StoreError::WrongState {
            found: was,
            needs: "wait",
            ..
        }) = append
        else {
            panic!("{append:?}");
        };
        assert_eq!(was, found);
    };
    refused("queued").await;
    let task = kit.claim_one(worker, op).await;
    refused("queued").await;
    kit.succeed(worker, &task).await;
    refused("success").await;
    let aborted = kit.submit(kit.held(), &[1]).await;
    kit.abort(aborted).await;
    let append = kit.try_append(kit.new_append(aborted, "a"), &[1]).await;
    assert!(matches!(
        append,
        Err(StoreError::WrongState {
            found: "aborted",
            ..
        })
    ));
    assert!(h.facts().appends.is_empty());
}

pub async fn an_append_that_releases_does_both_or_neither(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[1]).await;
    let releasing = NewAppend {
        release: true,
        ..kit.new_append(id, "a")
    };
    let refused = given(kit, releasing.clone(), &[1]).await;
    assert!(refused.is_err());
    assert_eq!(kit.batch(id).await.status, Status::Wait);
    kit.try_append(releasing, &[2]).await.unwrap();
    assert_eq!(kit.batch(id).await.status, Status::Queued);
    let audit = h.facts().audit;
    let whats: Vec<&str> = audit.iter().map(|a| a.1.as_str()).collect();
    assert_eq!(whats, ["append", "release"]);
    assert!(audit.iter().all(|a| a.0 == "ann" && a.2 == Some(id)));
    assert_eq!(kit.claim(worker, op).await.len(), 2);
}

pub async fn rejected_rows_of_an_append_have_failed(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[1]).await;
    let blocks = AppendBlocks {
        following: vec![kit.block_with_rejected(&[true, false, true])],
        given: Vec::new(),
    };
    append_blocks(kit, kit.new_append(id, "a"), blocks)
        .await
        .unwrap();
    let counts = kit.batch(id).await.counts;
    assert_eq!((counts.rows, counts.failed, counts.pending), (4, 2, 2));
    let row = kit.row(id, 2).await;
    assert_eq!(row.status, Status::Failed);
    kit.release(id).await.unwrap();
    for task in kit.claim(worker, op).await {
        kit.record(worker, Outcomes::of(&task).all_success().ends())
            .await;
    }
    let counts = kit.batch(id).await.counts;
    assert_eq!((counts.success, counts.failed), (2, 2));
}

pub async fn an_append_leaves_what_tells_a_repeated_submit(h: &impl Harness) {
    let kit = h.kit();
    let named = |id| NewBatch {
        id,
        external_id: Some("march.csv".to_owned()),
        ..kit.held()
    };
    let first = kit.submit(named(rowmill::BatchId::new()), &[2, 1]).await;
    kit.append(first, "a", &[2]).await;
    for id in [first, rowmill::BatchId::new()] {
        let again = kit.try_submit(named(id), kit.blocks(&[3])).await.unwrap();
        assert_eq!(again, rowmill::store::Submitted::Existing(first));
        let all = kit.try_submit(named(id), kit.blocks(&[5])).await;
        assert!(
            matches!(all, Err(StoreError::Duplicate { .. })),
            "it was submitted with three rows"
        );
    }
    assert_eq!(kit.batch(first).await.counts.rows, 5);
}

pub async fn columns_that_are_new_are_added_to_the_batchs(h: &impl Harness) {
    let kit = h.kit();
    let names = |text: &str| Some(text.split(',').map(str::to_owned).collect::<Vec<_>>());
    let new = NewBatch {
        columns: names("a,b"),
        ..kit.held()
    };
    let id = kit.submit(new, &[1]).await;
    for (key, columns, then) in [
        ("1", names("b,a"), names("a,b")),
        ("2", None, names("a,b")),
        ("3", names("c,a"), names("a,b,c")),
    ] {
        let (blocks, mut content) = kit.following(&[1]);
        content.columns = columns;
        let added = kit
            .store
            .append(kit.new_append(id, key), blocks, content, kit.now());
        added.await.unwrap();
        assert_eq!(kit.batch(id).await.columns, then);
    }
    let none = kit.submit(kit.held(), &[1]).await;
    let (blocks, mut content) = kit.following(&[1]);
    content.columns = names("a");
    let added = kit
        .store
        .append(kit.new_append(none, "1"), blocks, content, kit.now());
    added.await.unwrap();
    assert_eq!(kit.batch(none).await.columns, None, "its rows were no CSV");
}

pub async fn a_later_start_is_that_of_appended_rows_too(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let start: Timestamp = kit.in_seconds(60);
    let new = NewBatch {
        run_at: Some(start),
        ..kit.held()
    };
    let id = kit.submit(new, &[1]).await;
    kit.append(id, "a", &[1]).await;
    kit.release(id).await.unwrap();
    assert!(kit.claim(worker, op).await.is_empty());
    kit.advance(60);
    kit.store.keep(kit.now()).await.unwrap();
    assert_eq!(kit.claim(worker, op).await.len(), 2);
}

pub async fn ten_thousand_small_appends_and_more_are_worked_off_in_line_order(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[1]).await;
    let mut lines = Vec::new();
    for round in 0..21 {
        let appends = (0..500).map(async |n| {
            let key = format!("{round}/{n}");
            kit.append(id, &key, &[1]).await.first_line
        });
        lines.extend(futures_util::future::join_all(appends).await);
    }
    lines.sort_unstable();
    assert!(
        lines.into_iter().eq(2..=10_501),
        "each has a line of its own"
    );
    assert_eq!(kit.batch(id).await.counts.rows, 10_501);
    kit.release(id).await.unwrap();
    assert_eq!(
        h.facts().rows_tasks(id).len(),
        10_000,
        "a release is made in pieces"
    );
    kit.store.keep(kit.now()).await.unwrap();
    let mut next = 1;
    loop {
        let tasks = kit.claim(worker, op).await;
        if tasks.is_empty() {
            break;
        }
        assert!(tasks.len() > 100, "a claim takes many small blocks");
        let mut parts = Vec::new();
        for task in &tasks {
            assert_eq!(task.first_line, next);
            next += 1;
            parts.push(Outcomes::of(task).all_success().ends());
        }
        kit.store.record(worker, parts, kit.now()).await.unwrap();
    }
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.success),
        (Status::Success, 10_501)
    );
    assert!(kit.rows(id).await.iter().map(|r| r.line.0).eq(1..=10_501));
}
