//! load: a batch too large for one transaction is seen when it is whole.

use rowmill::model::{BatchId, NewBatch, RawJson, Status, Token};
use rowmill::store::{LoadPiece, StoreError, Submitted};

use crate::support::{Harness, Kit};

fn token() -> Token {
    Token::random().unwrap()
}

async fn begin(kit: &Kit, batch: &NewBatch, token: Token) -> Result<Submitted, StoreError> {
    kit.store.begin_load(batch.clone(), token, kit.now()).await
}

async fn piece(
    kit: &Kit,
    id: BatchId,
    token: Token,
    no: i64,
    sizes: &[u32],
) -> Result<(), StoreError> {
    let blocks = kit.blocks(&[&vec![1; usize::try_from(no).unwrap()], sizes].concat());
    let piece = LoadPiece {
        id,
        token,
        first_no: no,
        blocks: blocks
            .into_iter()
            .skip(usize::try_from(no).unwrap())
            .collect(),
    };
    kit.store.load(piece, kit.now()).await
}

async fn finish(
    kit: &Kit,
    batch: &NewBatch,
    token: Token,
    sizes: &[u32],
) -> Result<Submitted, StoreError> {
    let hash = kit.hash(&kit.blocks(sizes));
    kit.store
        .finish_load(batch.clone(), token, hash, kit.now())
        .await
}

/// A loader that was fenced hears why, and what to do.
fn is_lost(step: Result<(), StoreError>) {
    let error = rowmill::Error::from(step.expect_err("it is fenced"));
    let kind = (error.kind(), error.code());
    assert_eq!(kind, (rowmill::ErrorKind::Conflict, "submit_lost"));
    assert!(error.to_string().contains("submit again"), "{error}");
}

async fn load_all(kit: &Kit, batch: &NewBatch, sizes: &[u32]) -> Result<Submitted, StoreError> {
    let token = token();
    if let Submitted::New(id) = begin(kit, batch, token).await? {
        piece(kit, id, token, 0, sizes).await?;
    }
    finish(kit, batch, token, sizes).await
}

pub async fn a_load_is_seen_by_nobody_until_it_is_finished(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let new = kit.new_batch();
    let token = token();
    assert_eq!(
        begin(kit, &new, token).await.unwrap(),
        Submitted::New(new.id)
    );
    piece(kit, new.id, token, 0, &[1, 1]).await.unwrap();
    assert!(kit.find(new.id).await.is_none());
    assert!(kit.claim(worker, op).await.is_empty());
    let rows = kit.store.rows(new.id, 0, None).await;
    assert!(matches!(rows, Err(StoreError::NotFound(_))));
    assert!(matches!(
        kit.release(new.id).await,
        Err(StoreError::NotFound(_))
    ));
    let abort = kit.store.abort(new.id, String::new(), kit.now()).await;
    assert!(matches!(abort, Err(StoreError::NotFound(_))));
    piece(kit, new.id, token, 2, &[3]).await.unwrap();
    let done = finish(kit, &new, token, &[1, 1, 3]).await.unwrap();
    assert_eq!(done, Submitted::New(new.id));
    assert_eq!(kit.batch(new.id).await.counts.rows, 5);
    assert_eq!(kit.claim(worker, op).await.len(), 3);
}

pub async fn a_held_load_waits_for_its_release(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.held();
    load_all(kit, &new, &[1, 1]).await.unwrap();
    assert_eq!(kit.batch(new.id).await.status, Status::Wait);
    assert!(h.facts().rows_tasks(new.id).is_empty());
}

pub async fn the_same_id_is_refused_while_its_loader_writes(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let (first, second) = (token(), token());
    begin(kit, &new, first).await.unwrap();
    let refused = begin(kit, &new, second).await;
    assert!(matches!(refused, Err(StoreError::SubmitInProgress(id)) if id == new.id));
    kit.advance(50);
    piece(kit, new.id, first, 0, &[1]).await.unwrap();
    kit.advance(50);
    let refused = begin(kit, &new, second).await;
    assert!(
        matches!(refused, Err(StoreError::SubmitInProgress(_))),
        "it has just written"
    );
    let one_step = kit.try_submit(new.clone(), kit.blocks(&[1])).await;
    assert!(matches!(one_step, Err(StoreError::SubmitInProgress(_))));
}

pub async fn a_silent_load_is_replaced_and_its_loader_is_fenced(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let (first, second) = (token(), token());
    begin(kit, &new, first).await.unwrap();
    piece(kit, new.id, first, 0, &[1, 1, 1]).await.unwrap();
    kit.advance(60);
    assert_eq!(
        begin(kit, &new, second).await.unwrap(),
        Submitted::New(new.id)
    );
    is_lost(piece(kit, new.id, first, 3, &[1]).await);
    is_lost(finish(kit, &new, first, &[1, 1, 1]).await.map(drop));
    piece(kit, new.id, second, 0, &[2]).await.unwrap();
    // A block of this number is there.
    is_lost(piece(kit, new.id, first, 0, &[1]).await);
    kit.store.discard_load(new.id, first).await.unwrap();
    finish(kit, &new, second, &[2]).await.unwrap();
    assert_eq!(kit.batch(new.id).await.counts.rows, 2);
}

pub async fn a_silent_load_goes_piece_by_piece_when_it_is_replaced(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let new = kit.new_batch();
    let [first, second, third] = [token(), token(), token()];
    begin(kit, &new, first).await.unwrap();
    piece(kit, new.id, first, 0, &[1; 1000]).await.unwrap();
    kit.advance(60);
    {
        // Each step is begun by a poll, so that others commit in between.
        let mut replaces = std::pin::pin!(begin(kit, &new, second));
        loop {
            let done = futures_util::poll!(&mut replaces);
            assert!(done.is_pending(), "all of it at once");
            let left = h.facts().blocks.len();
            if left < 1000 {
                assert!(left > 0);
                break;
            }
        }
        // It is cut off here: what follows finds what it has left.
    }
    let other = kit.submit(kit.new_batch(), &[1]).await;
    assert_eq!(kit.claim(worker, op).await[0].claim.batch, other);
    is_lost(piece(kit, new.id, first, 1000, &[1]).await);
    is_lost(finish(kit, &new, first, &[1; 1000]).await.map(drop));
    assert!(kit.find(new.id).await.is_none());
    let one_step = kit.try_submit(new.clone(), kit.blocks(&[2]));
    let (loads, whole) = tokio::join!(begin(kit, &new, third), one_step);
    match (loads, whole) {
        (Ok(Submitted::New(_)), whole) => {
            assert!(matches!(whole, Err(StoreError::SubmitInProgress(_))));
            piece(kit, new.id, third, 0, &[2]).await.unwrap();
            finish(kit, &new, third, &[2]).await.unwrap();
        }
        (loads, whole) => {
            // Whoever comes later hears of the batch, not of the load that was there before it.
            assert_eq!(loads.unwrap(), Submitted::Existing(new.id));
            assert_eq!(whole.unwrap(), Submitted::New(new.id));
        }
    }
    is_lost(piece(kit, new.id, first, 1000, &[1]).await);
    assert_eq!(kit.rows(new.id).await.len(), 2);
    assert_eq!(h.facts().blocks.len(), 2, "one of each batch");
}

pub async fn an_abandoned_load_is_swept(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let token = token();
    begin(kit, &new, token).await.unwrap();
    piece(kit, new.id, token, 0, &[1, 1]).await.unwrap();
    kit.advance(59);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().swept, 0);
    kit.advance(2);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().swept, 1);
    let facts = h.facts();
    assert!(facts.batches.is_empty() && facts.blocks.is_empty());
    is_lost(piece(kit, new.id, token, 2, &[1]).await);
    is_lost(finish(kit, &new, token, &[1, 1]).await.map(drop));
    // Once another has submitted the same, it is there.
    kit.try_submit(new.clone(), kit.blocks(&[1, 1]))
        .await
        .unwrap();
    is_lost(piece(kit, new.id, token, 2, &[1]).await);
    let there = finish(kit, &new, token, &[1, 1]).await.unwrap();
    assert_eq!(there, Submitted::Existing(new.id));
}

pub async fn a_load_that_is_swept_piece_by_piece_is_taken_from_its_loader_first(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let token = token();
    begin(kit, &new, token).await.unwrap();
    piece(kit, new.id, token, 0, &[1; 100]).await.unwrap();
    kit.advance(61);
    let swept = kit.store.keep(kit.now()).await.unwrap().swept;
    assert_eq!(
        (swept, h.facts().blocks.is_empty()),
        (0, false),
        "some of it"
    );
    // Blocks before it are gone.
    is_lost(piece(kit, new.id, token, 100, &[1]).await);
    is_lost(finish(kit, &new, token, &[1; 101]).await.map(drop));
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().swept, 1);
    assert!(h.facts().blocks.is_empty());
}

pub async fn whoever_takes_an_id_keeps_it_while_the_old_load_goes(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let (first, second) = (token(), token());
    begin(kit, &new, first).await.unwrap();
    piece(kit, new.id, first, 0, &[1; 300]).await.unwrap();
    // The discard goes on in pieces when the id has been taken.
    let (discarded, ()) = tokio::join!(kit.store.discard_load(new.id, first), async {
        while begin(kit, &new, second).await.is_err() {}
        piece(kit, new.id, second, 0, &[1; 100]).await.unwrap();
    });
    discarded.unwrap();
    finish(kit, &new, second, &[1; 100]).await.unwrap();
    assert_eq!(kit.rows(new.id).await.len(), 100);
}

pub async fn a_discarded_load_leaves_nothing(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let token = token();
    begin(kit, &new, token).await.unwrap();
    let load = LoadPiece {
        id: new.id,
        token,
        first_no: 0,
        blocks: vec![kit.block_with_rejected(&[true, false])],
    };
    kit.store.load(load, kit.now()).await.unwrap();
    kit.store.discard_load(new.id, token).await.unwrap();
    let facts = h.facts();
    assert!(facts.batches.is_empty() && facts.blocks.is_empty() && facts.parts.is_empty());
    load_all(kit, &new, &[1]).await.unwrap();
}

pub async fn a_load_that_was_finished_is_answered_when_it_is_finished_again(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let token = token();
    begin(kit, &new, token).await.unwrap();
    piece(kit, new.id, token, 0, &[1, 2]).await.unwrap();
    finish(kit, &new, token, &[1, 2]).await.unwrap();
    let again = finish(kit, &new, token, &[1, 2]).await.unwrap();
    assert_eq!(
        again,
        Submitted::Existing(new.id),
        "the first answer may have been lost"
    );
    kit.store.discard_load(new.id, token).await.unwrap();
    assert_eq!(
        kit.batch(new.id).await.counts.rows,
        3,
        "a batch is no load any more"
    );
}

pub async fn a_load_of_a_batch_that_is_there_is_answered_by_its_content(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    load_all(kit, &new, &[1, 2]).await.unwrap();
    assert_eq!(
        begin(kit, &new, token()).await.unwrap(),
        Submitted::Existing(new.id)
    );
    let same = finish(kit, &new, token(), &[1, 2]).await.unwrap();
    assert_eq!(same, Submitted::Existing(new.id));
    let other = finish(kit, &new, token(), &[1, 3]).await;
    assert!(matches!(other, Err(StoreError::Duplicate { existing, .. }) if existing == new.id));
}

pub async fn a_load_under_a_known_external_id_is_answered_by_its_content(h: &impl Harness) {
    let kit = h.kit();
    let named = || NewBatch {
        external_id: Some("large.csv".to_owned()),
        ..kit.new_batch()
    };
    let first = named();
    load_all(kit, &first, &[1, 2]).await.unwrap();
    let again = load_all(kit, &named(), &[1, 2]).await.unwrap();
    assert_eq!(again, Submitted::Existing(first.id));
    let other = load_all(kit, &named(), &[1, 3]).await;
    assert!(matches!(other, Err(StoreError::Duplicate { existing, .. }) if existing == first.id));
    assert_eq!(h.facts().batches.len(), 1);
}

pub async fn of_two_loads_under_one_external_id_the_first_to_finish_wins(h: &impl Harness) {
    let kit = h.kit();
    let named = |context: &str| NewBatch {
        external_id: Some("large.csv".to_owned()),
        context: RawJson::from_string(context.to_owned()).unwrap(),
        ..kit.new_batch()
    };
    let (winner, same, other, context) = (named("1"), named("1"), named("1"), named("2"));
    let token = token();
    for batch in [&winner, &same, &other, &context] {
        begin(kit, batch, token).await.unwrap();
        let rows: &[u32] = if batch.id == other.id { &[3] } else { &[2] };
        piece(kit, batch.id, token, 0, rows).await.unwrap();
    }
    finish(kit, &winner, token, &[2]).await.unwrap();
    let answer = finish(kit, &same, token, &[2]).await.unwrap();
    assert_eq!(answer, Submitted::Existing(winner.id));
    for (batch, rows) in [(&other, 3), (&context, 2)] {
        let refused = finish(kit, batch, token, &[rows]).await;
        assert!(
            matches!(refused, Err(StoreError::Duplicate { existing, .. }) if existing == winner.id),
            "{refused:?}"
        );
        kit.store.discard_load(batch.id, token).await.unwrap();
    }
    assert_eq!(h.facts().batches.len(), 1);
}
