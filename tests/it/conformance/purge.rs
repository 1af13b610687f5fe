//! purge: what ended long ago goes in pieces, and a tombstone stays.

use std::time::Duration;

use rowmill::Status;
use rowmill::model::{BatchId, NewBatch, OpId, OutputFile, RawJson};
use rowmill::store::{OpRegistration, PurgePage, PurgeScan, StoreError, Submitted};

use crate::support::{Harness, Kit, Outcomes};

const DAY: u64 = 86_400;

async fn look(kit: &Kit, op: OpId, after: Option<&PurgePage>, limit: u32) -> PurgePage {
    let scan = PurgeScan {
        op,
        before: kit.now(),
        after: after.and_then(|page| page.next),
        limit,
    };
    kit.store.purgeable(scan, kit.now()).await.unwrap()
}

fn ids(page: &PurgePage) -> Vec<BatchId> {
    page.batches.iter().map(|batch| batch.id).collect()
}

/// An op whose ends are told to nobody.
async fn quiet_op(kit: &Kit) -> OpId {
    kit.register(kit.key(), false, 3).await
}

/// A batch that has ended, and an hour has passed since.
async fn ended(kit: &Kit, new: NewBatch, sizes: &[u32]) -> BatchId {
    let op = quiet_op(kit).await;
    let worker = kit.worker().await;
    let id = kit.submit(new, sizes).await;
    kit.work_off(worker, op).await;
    kit.store.leave(worker, kit.now()).await.unwrap();
    kit.advance(3600);
    id
}

fn assert_purged<T: std::fmt::Debug>(answer: Result<T, StoreError>, id: BatchId) {
    match answer {
        Err(StoreError::Purged { id: purged, .. }) => assert_eq!(purged, id),
        other => panic!("{other:?}"),
    }
}

pub async fn a_purged_batch_leaves_its_counts_and_names(h: &impl Harness) {
    let kit = h.kit();
    let new = NewBatch {
        external_id: Some("march".to_owned()),
        context: RawJson::from_string("{\"secret\":1}".to_owned()).unwrap(),
        columns: Some(vec!["n".to_owned()]),
        ..kit.new_batch()
    };
    let id = ended(kit, new, &[3, 2]).await;
    let before = kit.batch(id).await;
    kit.purge(id).await;
    let after = kit.batch(id).await;
    assert_eq!((after.status, after.done), (Status::Success, true));
    assert_eq!(after.counts, before.counts);
    assert_eq!(after.done_at, before.done_at);
    assert_eq!(after.external_id.as_deref(), Some("march"));
    assert_eq!(after.context.get(), "null");
    assert_eq!(after.columns, None);
    assert_eq!(after.purged_at, Some(kit.now()));
    let facts = h.facts();
    assert_eq!((facts.blocks.len(), facts.parts.len()), (0, 0));
    let who = ("pam".to_owned(), "purge".to_owned(), Some(id));
    assert!(facts.audit.contains(&who));
}

pub async fn rows_of_a_purged_batch_are_gone_for_every_reader(h: &impl Harness) {
    let kit = h.kit();
    let id = ended(kit, kit.new_batch(), &[3]).await;
    assert!(kit.mark_purged(id).await);
    // From the mark on, before anything is removed.
    for _ in 0..2 {
        assert_purged(kit.store.rows(id, 0, None).await, id);
        let by = "auditor".to_owned();
        assert_purged(kit.store.redact(id, 1, by, kit.now()).await, id);
        assert!(kit.batch(id).await.done);
        while !kit.store.purge_piece(id, 1000).await.unwrap() {}
    }
}

pub async fn a_purge_goes_in_pieces_and_is_taken_up_where_it_was_cut_off(h: &impl Harness) {
    let kit = h.kit();
    let id = ended(kit, kit.new_batch(), &[1; 10]).await;
    assert!(kit.mark_purged(id).await);
    let mut pieces = 0;
    loop {
        let marked = kit.store.purging(10).await.unwrap();
        let [found] = marked.as_slice() else {
            panic!("what is half purged is found: {marked:?}")
        };
        assert_eq!((found.id, found.rows, &found.key), (id, 10, &kit.key()));
        let whole = kit.store.purge_piece(id, 4).await.unwrap();
        pieces += 1;
        let facts = h.facts();
        let left = facts.blocks.len() + facts.parts.len();
        assert_eq!(
            left,
            20_usize.saturating_sub(4 * pieces),
            "4 records a piece"
        );
        if whole {
            break;
        }
    }
    assert_eq!(pieces, 6);
    assert_eq!(kit.store.purging(10).await.unwrap(), []);
    assert!(
        kit.store.purge_piece(id, 4).await.unwrap(),
        "again is no error"
    );
}

pub async fn a_batch_that_goes_on_is_not_purged(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let held = kit.submit(kit.held(), &[2]).await;
    let running = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    kit.advance(DAY);
    assert_eq!(ids(&look(kit, op, None, 10).await), []);
    for id in [held, running, BatchId::new()] {
        assert!(!kit.mark_purged(id).await);
        assert!(kit.store.purge_piece(id, 10).await.unwrap());
    }
    assert_eq!(kit.rows(held).await.len(), 2);
    kit.succeed(worker, &task).await;
    assert_eq!(kit.batch(running).await.status, Status::Success);
}

pub async fn a_batch_is_marked_once(h: &impl Harness) {
    let kit = h.kit();
    let id = ended(kit, kit.new_batch(), &[1]).await;
    let (a, b) = futures_util::join!(kit.mark_purged(id), kit.mark_purged(id));
    assert!(a ^ b, "one of two purges has it");
    assert!(!kit.mark_purged(id).await);
    while !kit.store.purge_piece(id, 10).await.unwrap() {}
    assert!(!kit.mark_purged(id).await);
}

pub async fn ended_batches_are_found_oldest_end_first_in_pages(h: &impl Harness) {
    let kit = h.kit();
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(ended(kit, kit.new_batch(), &[1]).await);
    }
    let op = quiet_op(kit).await;
    let other = kit.register(kit.key_of("other"), false, 3).await;
    let first = look(kit, op, None, 2).await;
    let second = look(kit, op, Some(&first), 2).await;
    let third = look(kit, op, Some(&second), 2).await;
    let found = [ids(&first), ids(&second), ids(&third)].concat();
    assert_eq!(found, all);
    assert!(third.next.is_none());
    assert_eq!(ids(&look(kit, other, None, 10).await), []);
    let young = PurgeScan {
        op,
        before: kit.now() - Duration::from_secs(2 * 3600),
        after: None,
        limit: 10,
    };
    let page = kit.store.purgeable(young, kit.now()).await.unwrap();
    assert_eq!(ids(&page), all[..3], "those that ended before that time");
    kit.purge(all[0]).await;
    assert_eq!(ids(&look(kit, op, None, 10).await), all[1..]);
}

pub async fn a_batch_whose_end_waits_to_be_told_is_kept_for_30_days(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(1).await;
    kit.work_off(worker, op).await;
    kit.advance(29 * DAY);
    let page = look(kit, op, None, 10).await;
    assert_eq!((ids(&page), page.waiting), (Vec::new(), 1));
    assert!(!kit.mark_purged(id).await);
    kit.advance(2 * DAY);
    assert_eq!(ids(&look(kit, op, None, 10).await), [id]);
    kit.purge(id).await;
    assert!(h.facts().notices.is_empty(), "it goes with its batch");
}

pub async fn a_told_end_keeps_nothing(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(1).await;
    kit.work_off(worker, op).await;
    let token = rowmill::model::Token::random().unwrap();
    let told = kit.store.claim_notices(worker, token, vec![op], kit.now());
    let told: Vec<_> = told
        .await
        .unwrap()
        .iter()
        .map(|n| (n.claim, None))
        .collect();
    kit.advance(60);
    assert!(!kit.mark_purged(id).await, "it is being told");
    kit.store.settle_notices(worker, told).await.unwrap();
    kit.purge(id).await;
}

pub async fn the_same_content_is_known_after_the_purge(h: &impl Harness) {
    let kit = h.kit();
    let new = NewBatch {
        external_id: Some("march".to_owned()),
        ..kit.new_batch()
    };
    let id = ended(kit, new.clone(), &[2]).await;
    kit.purge(id).await;
    let again = |new: &NewBatch, sizes: &[u32]| {
        let (new, blocks) = (new.clone(), kit.blocks(sizes));
        async move { kit.try_submit(new, blocks).await }
    };
    let by_id = NewBatch {
        external_id: None,
        ..new.clone()
    };
    let by_name = NewBatch {
        id: BatchId::new(),
        ..new.clone()
    };
    for new in [&by_id, &by_name] {
        let same = again(new, &[2]).await.unwrap();
        assert_eq!(same, Submitted::Existing(id));
        let other = again(new, &[3]).await;
        assert!(matches!(other, Err(StoreError::Duplicate { existing, .. }) if existing == id));
    }
    let other_op = NewBatch {
        key: kit.key_of("other"),
        ..by_name
    };
    let refused = again(&other_op, &[2]).await;
    assert!(matches!(refused, Err(StoreError::Duplicate { .. })));
}

pub async fn a_tombstone_is_forgotten_after_400_days(h: &impl Harness) {
    let kit = h.kit();
    let new = NewBatch {
        external_id: Some("march".to_owned()),
        ..kit.new_batch()
    };
    let id = ended(kit, new, &[1]).await;
    let kept = ended(kit, kit.new_batch(), &[1]).await;
    kit.purge(id).await;
    kit.advance(399 * DAY);
    assert_eq!(kit.store.forget(kit.now(), 10).await.unwrap(), 0);
    kit.advance(2 * DAY);
    assert_eq!(kit.store.forget(kit.now(), 10).await.unwrap(), 1);
    assert_eq!(kit.store.forget(kit.now(), 10).await.unwrap(), 0);
    assert!(kit.find(id).await.is_none());
    let external = kit
        .store
        .find_external("bank".to_owned(), "march".to_owned());
    assert_eq!(external.await.unwrap(), None);
    assert_eq!(kit.rows(kept).await.len(), 1, "what was not purged stays");
}

pub async fn a_half_purged_batch_is_not_forgotten(h: &impl Harness) {
    let kit = h.kit();
    let id = ended(kit, kit.new_batch(), &[2]).await;
    assert!(kit.mark_purged(id).await);
    kit.advance(401 * DAY);
    assert_eq!(kit.store.forget(kit.now(), 10).await.unwrap(), 0);
    assert_eq!(kit.store.purging(1).await.unwrap()[0].id, id);
}

pub async fn names_of_output_files_are_counted_and_go_with_their_batch(h: &impl Harness) {
    let kit = h.kit();
    let op = quiet_op(kit).await;
    let worker = kit.worker().await;
    let id = kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    let part = Outcomes::of(&task).writes(0, "a.csv", "text").ends();
    kit.record(worker, part).await;
    let token = rowmill::model::Token::random().unwrap();
    let closes = kit.store.claim_close(worker, token, 1, kit.now()).await;
    let file = OutputFile {
        name: "a.csv".to_owned(),
        key: format!("bank/post/{id}/a.csv"),
        size: 40,
        sha256: "0".repeat(64),
        content_type: "text/csv".to_owned(),
    };
    let claim = closes.unwrap()[0].claim;
    let closed = kit.store.close(worker, claim, vec![file], kit.now());
    closed.await.unwrap();
    kit.advance(1);
    let page = look(kit, op, None, 10).await;
    assert_eq!((page.batches[0].files, page.batches[0].bytes), (1, 42));
    kit.purge(id).await;
    assert!(kit.batch(id).await.files.is_empty());
}

pub async fn how_long_an_op_keeps_is_what_was_registered_last(h: &impl Harness) {
    let kit = h.kit();
    let register = |keep| OpRegistration {
        key: kit.key(),
        notify: false,
        max_lost: 3,
        keep,
    };
    assert_eq!(kit.store.keeps().await.unwrap(), []);
    let week = Duration::from_secs(7 * DAY);
    let ops = kit
        .store
        .register_ops(vec![register(Some(week))], kit.now());
    let op = ops.await.unwrap()[0];
    // Who only submits says nothing of it.
    kit.rows_of(1).await;
    assert_eq!(kit.store.keeps().await.unwrap(), [(op, week)]);
    let ops = kit.store.register_ops(vec![register(None)], kit.now());
    ops.await.unwrap();
    assert_eq!(kit.store.keeps().await.unwrap(), []);
}
