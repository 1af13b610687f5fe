//! What tells a repeat: the key, or without one the content of the latest append.

use rowmill::model::Status;
use rowmill::store::{AppendBlocks, NewAppend, StoreError};

use super::{append_blocks, at, given, lines};
use crate::support::{Harness, Kit};

fn unkeyed(kit: &Kit, id: rowmill::BatchId) -> NewAppend {
    NewAppend {
        key: None,
        ..kit.new_append(id, "")
    }
}

pub async fn a_key_that_was_used_is_answered_or_refused_by_its_content(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[1]).await;
    let first = kit.append(id, "a", &[2]).await;
    kit.append(id, "b", &[1]).await;
    let again = kit.append(id, "a", &[2]).await;
    assert_eq!(lines(&again), (2, first.first_line, first.last_line, true));
    let cut = kit.append(id, "a", &[1, 1]).await;
    assert!(cut.repeated, "how it is cut into blocks is no content");
    let other = kit.try_append(kit.new_append(id, "a"), &[3]).await;
    assert!(matches!(other, Err(StoreError::AppendDuplicate { key, .. }) if key == "a"));
    let elsewhere = kit.submit(kit.held(), &[1]).await;
    assert!(!kit.append(elsewhere, "a", &[2]).await.repeated);
    assert_eq!(kit.batch(id).await.counts.rows, 4);
    assert_eq!(
        kit.append(id, "c", &[1]).await.first_line,
        5,
        "another key adds the same once more"
    );
}

pub async fn without_a_key_what_the_latest_append_had_is_a_repeat(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[2]).await;
    let append = |sizes: &'static [u32]| async move {
        let added = kit.try_append(unkeyed(kit, id), sizes).await;
        lines(&added.expect("appended"))
    };
    assert_eq!(
        append(&[2]).await,
        (2, 3, 4, false),
        "a submit is no append"
    );
    assert_eq!(append(&[2]).await, (2, 3, 4, true));
    assert_eq!(append(&[1, 1]).await, (2, 3, 4, true));
    assert_eq!(append(&[1]).await, (1, 5, 5, false));
    assert_eq!(
        append(&[2]).await,
        (2, 6, 7, false),
        "another one is between them"
    );
    kit.append(id, "a", &[1]).await;
    assert_eq!(
        append(&[1]).await,
        (1, 8, 8, true),
        "whatever the latest one's key"
    );
    assert_eq!(kit.batch(id).await.counts.rows, 8);
}

pub async fn given_lines_are_content(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[3]).await;
    for repeated in [false, true] {
        let added = given(kit, unkeyed(kit, id), &[4, 5]).await.unwrap();
        assert_eq!(lines(&added), (2, 4, 5, repeated));
    }
    // The same inputs at lines that the batch counts are others than those at given lines.
    let following = AppendBlocks {
        following: vec![at(&[4, 5])],
        given: Vec::new(),
    };
    let added = append_blocks(kit, unkeyed(kit, id), following)
        .await
        .unwrap();
    assert_eq!(lines(&added), (2, 9, 10, false));
}

pub async fn a_repeat_is_answered_when_the_batch_is_held_no_more(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    for key in [Some("a".to_owned()), None] {
        let id = kit.submit(kit.held(), &[1]).await;
        let append = NewAppend {
            key,
            release: true,
            ..unkeyed(kit, id)
        };
        let first = kit.try_append(append.clone(), &[2]).await.unwrap();
        for _ in 0..2 {
            let again = kit.try_append(append.clone(), &[2]).await.unwrap();
            assert_eq!(lines(&again), (2, first.first_line, first.last_line, true));
            kit.work_off(worker, op).await;
            assert_eq!(kit.batch(id).await.status, Status::Success);
        }
        let other = kit.try_append(append, &[3]).await;
        assert!(matches!(
            other,
            Err(StoreError::WrongState { .. } | StoreError::AppendDuplicate { .. })
        ));
        let counts = kit.batch(id).await.counts;
        assert_eq!((counts.rows, counts.success), (3, 3));
    }
}

pub async fn a_repeat_that_asks_for_a_release_releases(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[1]).await;
    kit.append(id, "a", &[1]).await;
    let again = NewAppend {
        release: true,
        ..kit.new_append(id, "a")
    };
    assert!(kit.try_append(again, &[1]).await.unwrap().repeated);
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.rows), (Status::Queued, 2));
}
