//! retry: when a child batch counts, and what is known of a batch's retries.

use std::sync::Arc;

use rowmill::model::{BatchId, NewBatch, RetryOf, Status, Token};
use rowmill::store::{LoadPiece, StoreError, Submitted};
use tokio::sync::Barrier;

use crate::support::{Harness, Kit, Outcomes};

/// An ended batch of rows that failed.
async fn failed(kit: &Kit, rows: u32) -> BatchId {
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(rows).await;
    let task = kit.claim_one(worker, op).await;
    let mut part = Outcomes::of(&task);
    for row in 0..rows {
        part = part.failed(row);
    }
    kit.record(worker, part.ends()).await;
    id
}

fn retry(kit: &Kit, parent: BatchId, before: u32) -> NewBatch {
    let retry_of = RetryOf {
        parent,
        root: parent,
        generation: 1,
        before,
    };
    NewBatch {
        retry_of: Some(retry_of),
        by: "rita".to_owned(),
        ..kit.new_batch()
    }
}

async fn children(kit: &Kit, id: BatchId) -> Vec<BatchId> {
    let children = kit.store.children(id).await.unwrap();
    assert!(!children.purged);
    children.batches.iter().map(|c| c.id).collect()
}

/// Loads and finishes.
async fn load(kit: &Kit, new: NewBatch, sizes: &[u32]) -> Result<Submitted, StoreError> {
    let token = Token::random().unwrap();
    let store = &kit.store;
    store.begin_load(new.clone(), token, kit.now()).await?;
    let blocks = kit.blocks(sizes);
    let hash = kit.hash(&blocks);
    let piece = LoadPiece {
        id: new.id,
        token,
        first_no: 0,
        blocks,
    };
    store.load(piece, kit.now()).await?;
    store.finish_load(new, token, hash, kit.now()).await
}

pub async fn a_retry_knows_its_parent_root_and_generation(h: &impl Harness) {
    let kit = h.kit();
    let parent = failed(kit, 2).await;
    let small = kit.submit(retry(kit, parent, 0), &[2]).await;
    kit.advance(1);
    let several = kit.submit(retry(kit, parent, 1), &[1, 1]).await;
    kit.advance(1);
    let large = load(kit, retry(kit, parent, 2), &[1, 1])
        .await
        .unwrap()
        .id();
    for id in [small, several, large] {
        let child = kit.batch(id).await;
        let line = (child.parent, child.root, child.generation);
        assert_eq!(line, (Some(parent), parent, 1));
        assert_eq!(child.status, Status::Queued);
    }
    assert_eq!(children(kit, parent).await, [small, several, large]);
    let audit = h.facts().audit;
    let retries = audit.iter().filter(|(by, what, batch)| {
        (by.as_str(), what.as_str(), *batch) == ("rita", "retry", Some(parent))
    });
    assert_eq!(retries.count(), 3);
}

pub async fn a_task_of_a_retry_names_its_root(h: &impl Harness) {
    let kit = h.kit();
    let parent = failed(kit, 1).await;
    let (op, worker) = kit.op_and_worker().await;
    kit.submit(retry(kit, parent, 0), &[1]).await;
    let task = kit.claim_one(worker, op).await;
    assert_eq!((task.batch.root, task.batch.generation), (parent, 1));
    kit.succeed(worker, &task).await;
}

pub async fn of_two_retries_at_the_same_moment_one_counts(h: &impl Harness) {
    let kit = h.kit();
    let parent = failed(kit, 2).await;
    let barrier = Arc::new(Barrier::new(4));
    let mut asked = Vec::new();
    for _ in 0..4 {
        let new = retry(kit, parent, 0);
        let blocks = kit.blocks(&[2]);
        let (store, hash, now) = (kit.store.clone(), kit.hash(&blocks), kit.now());
        let barrier = Arc::clone(&barrier);
        asked.push(tokio::spawn(async move {
            barrier.wait().await;
            store.submit(new, blocks, hash, now).await
        }));
    }
    let mut made = Vec::new();
    for answer in asked {
        match answer.await.unwrap() {
            Ok(Submitted::New(id)) => made.push(id),
            Err(StoreError::Retried(id)) => assert_eq!(id, parent),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(made.len(), 1);
    assert_eq!(children(kit, parent).await, made);
}

pub async fn a_retry_that_was_loaded_while_another_came_counts_for_nothing(h: &impl Harness) {
    let kit = h.kit();
    let parent = failed(kit, 2).await;
    let loading = retry(kit, parent, 0);
    let token = Token::random().unwrap();
    let store = &kit.store;
    store
        .begin_load(loading.clone(), token, kit.now())
        .await
        .unwrap();
    assert!(children(kit, parent).await.is_empty(), "a load is no retry");
    let first = kit.submit(retry(kit, parent, 0), &[2]).await;
    let blocks = kit.blocks(&[2]);
    let hash = kit.hash(&blocks);
    let piece = LoadPiece {
        id: loading.id,
        token,
        first_no: 0,
        blocks,
    };
    store.load(piece, kit.now()).await.unwrap();
    let finished = store
        .finish_load(loading.clone(), token, hash, kit.now())
        .await;
    assert!(matches!(finished, Err(StoreError::Retried(id)) if id == parent));
    store.discard_load(loading.id, token).await.unwrap();
    assert_eq!(children(kit, parent).await, [first]);
}

pub async fn a_batch_that_goes_on_has_no_retry(h: &impl Harness) {
    let kit = h.kit();
    let open = kit.rows_of(1).await;
    let refused = kit.try_submit(retry(kit, open, 0), kit.blocks(&[1])).await;
    assert!(matches!(refused, Err(StoreError::Retried(_))));
    let missing = BatchId::new();
    let refused = kit.try_submit(retry(kit, missing, 0), kit.blocks(&[1]));
    assert!(matches!(refused.await, Err(StoreError::NotFound(id)) if id == missing));
    let asked = kit.store.children(missing).await;
    assert!(matches!(asked, Err(StoreError::NotFound(id)) if id == missing));
}

pub async fn a_retry_that_is_submitted_twice_is_one(h: &impl Harness) {
    let kit = h.kit();
    let parent = failed(kit, 1).await;
    let new = retry(kit, parent, 0);
    let id = kit.submit(new.clone(), &[1]).await;
    let again = kit.try_submit(new, kit.blocks(&[1])).await.unwrap();
    assert_eq!(again, Submitted::Existing(id));
    assert_eq!(children(kit, parent).await, [id]);
}
