//! Appends too large for one transaction: seen when they are whole, or gone.

use rowmill::BatchId;
use rowmill::model::{Status, Token};
use rowmill::store::{Added, AppendBlocks, AppendPiece, Begun, NewAppend, StoreError};

use super::{lines, refused_at};
use crate::support::{Harness, Kit};

pub(super) fn token() -> Token {
    Token::random().expect("a token")
}

pub(super) async fn begin(
    kit: &Kit,
    append: &NewAppend,
    token: Token,
) -> Result<Begun, StoreError> {
    let now = kit.now();
    kit.store.begin_append(append.clone(), token, now).await
}

/// Stores the blocks of `sizes`, of which `before` are there already.
pub(super) async fn piece(
    kit: &Kit,
    id: BatchId,
    token: Token,
    sizes: &[u32],
    before: usize,
) -> Result<(), StoreError> {
    let blocks = AppendBlocks {
        following: kit.blocks(sizes).split_off(before),
        given: Vec::new(),
    };
    let piece = AppendPiece {
        batch: id,
        token,
        blocks,
    };
    kit.store.append_piece(piece, kit.now()).await
}

pub(super) async fn finish(
    kit: &Kit,
    append: &NewAppend,
    token: Token,
    sizes: &[u32],
) -> Result<Added, StoreError> {
    let (_, content) = kit.following(sizes);
    let now = kit.now();
    let finish = kit.store.finish_append(append.clone(), token, content, now);
    finish.await
}

/// A held batch of two rows, and an append to it of which a block was stored.
pub(super) async fn begun(kit: &Kit) -> (BatchId, NewAppend, Token) {
    let id = kit.submit(kit.held(), &[2]).await;
    let (append, token) = (kit.new_append(id, "a"), token());
    assert_eq!(begin(kit, &append, token).await.unwrap(), Begun::New);
    piece(kit, id, token, &[2], 0).await.unwrap();
    (id, append, token)
}

pub async fn an_append_is_seen_when_it_is_finished(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let (id, append, token) = begun(kit).await;
    let rejected = refused_at(kit, id, token, 7);
    kit.store.append_piece(rejected, kit.now()).await.unwrap();
    let batch = kit.batch(id).await;
    assert_eq!((batch.counts.rows, batch.counts.failed), (2, 0));
    assert_eq!(kit.rows(id).await.len(), 2);
    let outcomes = kit.store.outcomes(id, 0, usize::MAX).await.unwrap();
    assert!(outcomes.is_empty(), "not even what was refused of it");
    let added = finish(kit, &append, token, &[2, 2]).await.unwrap();
    assert_eq!(lines(&added), (4, 3, 8, false));
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.rows, batch.counts.failed),
        (Status::Wait, 6, 1)
    );
    assert!(
        kit.rows(id)
            .await
            .iter()
            .map(|r| r.line.0)
            .eq([1, 2, 3, 4, 7, 8])
    );
    let append = h.facts().appends_of(id)[0].clone();
    assert_eq!((append.open, append.by.as_str()), (false, "ann"));
    kit.release(id).await.unwrap();
    assert_eq!(kit.claim(worker, op).await.len(), 3);
}

pub async fn one_append_at_a_time_is_loaded(h: &impl Harness) {
    let kit = h.kit();
    let (id, append, first) = begun(kit).await;
    let refused = |step: Result<(), StoreError>| {
        assert!(
            matches!(step, Err(StoreError::AppendInProgress(of)) if of == id),
            "{step:?}"
        );
    };
    kit.advance(50);
    for key in ["a", "b"] {
        refused(
            begin(kit, &kit.new_append(id, key), token())
                .await
                .map(drop),
        );
        refused(
            kit.try_append(kit.new_append(id, key), &[1])
                .await
                .map(drop),
        );
    }
    // A loader that waits for its input says that it lives.
    piece(kit, id, first, &[2], 1).await.unwrap();
    kit.advance(50);
    refused(
        begin(kit, &kit.new_append(id, "b"), token())
            .await
            .map(drop),
    );
    let elsewhere = kit.submit(kit.held(), &[1]).await;
    kit.append(elsewhere, "a", &[1]).await;
    finish(kit, &append, first, &[2]).await.unwrap();
    assert_eq!(kit.append(id, "b", &[1]).await.first_line, 5);
}

pub async fn a_silent_append_makes_place_and_its_loader_is_fenced(h: &impl Harness) {
    let kit = h.kit();
    for whole in [true, false] {
        let (id, append, first) = begun(kit).await;
        // More blocks than one step removes.
        piece(kit, id, first, &[2; 200], 1).await.unwrap();
        kit.advance(60);
        let second = token();
        let other = kit.new_append(id, "b");
        if whole {
            assert_eq!(kit.append(id, "b", &[1, 1]).await.first_line, 3);
        } else {
            assert_eq!(begin(kit, &other, second).await.unwrap(), Begun::New);
        }
        let late = piece(kit, id, first, &[2; 201], 200).await;
        assert!(matches!(late, Err(StoreError::AppendLost(_))), "{late:?}");
        let late = finish(kit, &append, first, &[2; 200]).await;
        assert!(matches!(late, Err(StoreError::AppendLost(_))), "{late:?}");
        kit.store.discard_append(id, first).await.unwrap();
        if !whole {
            piece(kit, id, second, &[1, 1], 0).await.unwrap();
            finish(kit, &other, second, &[1, 1]).await.unwrap();
        }
        assert!(kit.rows(id).await.iter().map(|r| r.line.0).eq(1..=4));
        let blocks = h.facts().blocks.into_iter().filter(|b| b.batch == id);
        assert_eq!(blocks.count(), 3, "nothing of it is left");
    }
}

pub async fn an_abandoned_append_is_swept_piece_by_piece(h: &impl Harness) {
    let kit = h.kit();
    let (id, append, token) = begun(kit).await;
    piece(kit, id, token, &[2; 100], 1).await.unwrap();
    kit.advance(59);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().swept, 0);
    kit.advance(2);
    assert_eq!(
        kit.store.keep(kit.now()).await.unwrap().swept,
        0,
        "some of it"
    );
    let late = piece(kit, id, token, &[2; 101], 100).await;
    assert!(
        matches!(late, Err(StoreError::AppendLost(_))),
        "what goes is not added to"
    );
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().swept, 1);
    let facts = h.facts();
    assert!(facts.appends.is_empty());
    assert_eq!(facts.blocks.len(), 1);
    let lost = finish(kit, &append, token, &[2; 100]).await;
    assert!(matches!(lost, Err(StoreError::AppendLost(_))), "{lost:?}");
    assert_eq!(kit.append(id, "a", &[1]).await.first_line, 3);
}

pub async fn a_discarded_append_leaves_nothing(h: &impl Harness) {
    let kit = h.kit();
    let (id, append, token) = begun(kit).await;
    let rejected = AppendBlocks {
        following: Vec::new(),
        given: vec![{
            let mut block = kit.block_with_rejected(&[true]);
            block.first_line = 9;
            block
        }],
    };
    let rejected = AppendPiece {
        batch: id,
        token,
        blocks: rejected,
    };
    kit.store.append_piece(rejected, kit.now()).await.unwrap();
    kit.store.discard_append(id, token).await.unwrap();
    let facts = h.facts();
    assert!(facts.appends.is_empty() && facts.parts.is_empty() && facts.audit.is_empty());
    assert_eq!(facts.blocks.len(), 1);
    kit.store.discard_append(id, token).await.unwrap();
    let added = kit.try_append(append, &[1]).await.unwrap();
    assert_eq!(
        lines(&added),
        (1, 3, 3, false),
        "its numbers and its key are free"
    );
}

pub async fn an_append_that_was_finished_is_answered_when_it_is_made_again(h: &impl Harness) {
    let kit = h.kit();
    for key in [Some("a".to_owned()), None] {
        let id = kit.submit(kit.held(), &[2]).await;
        let append = NewAppend {
            key,
            ..kit.new_append(id, "")
        };
        let first = token();
        begin(kit, &append, first).await.unwrap();
        piece(kit, id, first, &[2, 1], 0).await.unwrap();
        finish(kit, &append, first, &[2, 1]).await.unwrap();
        let answer = finish(kit, &append, first, &[2, 1]).await.unwrap();
        assert_eq!(
            lines(&answer),
            (3, 3, 5, true),
            "the first answer may have been lost"
        );
        kit.store.discard_append(id, first).await.unwrap();
        assert_eq!(kit.batch(id).await.counts.rows, 5, "it counts");

        let again = token();
        let begun = begin(kit, &append, again).await.unwrap();
        if begun == Begun::New {
            assert_eq!(append.key, None, "content is known at the end");
            piece(kit, id, again, &[3], 0).await.unwrap();
        }
        let answer = finish(kit, &append, again, &[3]).await.unwrap();
        assert_eq!(lines(&answer), (3, 3, 5, true));
        let facts = h.facts();
        assert_eq!(
            facts.appends_of(id).len(),
            1,
            "what was loaded again is gone"
        );
    }
}

pub async fn a_repeat_of_a_released_append_is_read_and_not_stored(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[2]).await;
    let unkeyed = NewAppend {
        key: None,
        release: true,
        ..kit.new_append(id, "")
    };
    kit.try_append(unkeyed.clone(), &[2]).await.unwrap();
    let again = token();
    assert_eq!(begin(kit, &unkeyed, again).await.unwrap(), Begun::Known);
    let answer = finish(kit, &unkeyed, again, &[2]).await.unwrap();
    assert_eq!(lines(&answer), (2, 3, 4, true));
    let other = finish(kit, &unkeyed, again, &[3]).await;
    assert!(matches!(
        other,
        Err(StoreError::WrongState {
            found: "queued",
            ..
        })
    ));
    let keyed = begin(kit, &kit.new_append(id, "new"), token()).await;
    assert!(matches!(keyed, Err(StoreError::WrongState { .. })));
    assert_eq!(kit.batch(id).await.counts.rows, 4);
}

pub async fn a_key_with_other_content_is_refused_at_the_end(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.held(), &[2]).await;
    let append = kit.new_append(id, "a");
    kit.try_append(append.clone(), &[2]).await.unwrap();
    let token = token();
    assert_eq!(begin(kit, &append, token).await.unwrap(), Begun::Known);
    let refused = finish(kit, &append, token, &[3]).await;
    assert!(matches!(refused, Err(StoreError::AppendDuplicate { .. })));
    assert_eq!(kit.batch(id).await.counts.rows, 4);
}
