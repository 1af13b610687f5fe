//! list: which batches are in it, in which order, and where it goes on.

use rowmill::model::{
    BatchFilter, BatchId, BlockBuilder, ContentHash, JobKey, Kind, NewBatch, RetryOf, Status, Token,
};
use rowmill::store::LoadPiece;

use crate::support::{Harness, Kit, Outcomes};

/// The whole list, by pages of `limit`.
async fn listed(kit: &Kit, filter: &BatchFilter, limit: u32) -> Vec<BatchId> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = kit.store.list(filter.clone(), after, limit).await.unwrap();
        assert!(page.data.len() <= usize::try_from(limit).unwrap());
        for batch in &page.data {
            let alone = kit.batch(batch.id).await;
            assert_eq!(
                serde_json::to_value(batch).unwrap(),
                serde_json::to_value(&alone).unwrap(),
                "a list shows a batch as it is seen"
            );
        }
        ids.extend(page.data.iter().map(|b| b.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

pub async fn batches_are_listed_newest_first_by_pages_without_a_gap(h: &impl Harness) {
    let kit = h.kit();
    let mut made = Vec::new();
    for i in 0..11 {
        // Some are made at the same moment.
        kit.advance(i % 3);
        made.push((kit.now(), kit.rows_of(1).await));
    }
    made.sort_unstable_by(|a, b| b.cmp(a));
    let made: Vec<BatchId> = made.into_iter().map(|(_, id)| id).collect();
    for limit in [1, 2, 3, 11, 100] {
        assert_eq!(listed(kit, &BatchFilter::default(), limit).await, made);
    }
    let page = kit.store.list(BatchFilter::default(), None, 4);
    let page = page.await.unwrap();
    kit.advance(1);
    kit.rows_of(1).await;
    let rest = kit.store.list(BatchFilter::default(), page.next, 100);
    let rest: Vec<BatchId> = rest.await.unwrap().data.iter().map(|b| b.id).collect();
    assert_eq!(rest, made[4..], "what is new does not move the place");
    let none = kit.store.list(BatchFilter::default(), None, 0);
    assert!(none.await.unwrap().data.is_empty());
}

pub async fn a_list_has_what_fits_alone(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let parent = kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    kit.record(worker, Outcomes::of(&task).failed(0).ends())
        .await;
    kit.advance(1);
    let second = kit.now();
    let other = |app: &str, op: &str, kind| NewBatch {
        external_id: Some("x".to_owned()),
        ..NewBatch::new(JobKey::new(app, op, kind).unwrap())
    };
    let shop = kit.submit(other("shop", "post", Kind::Batch), &[1]).await;
    let query = kit.submit(other("bank", "sum", Kind::Query), &[1]).await;
    kit.advance(1);
    let third = kit.now();
    let retry_of = Some(RetryOf {
        parent,
        root: parent,
        generation: 1,
        before: 0,
    });
    let child = NewBatch {
        retry_of,
        hold: true,
        ..kit.new_batch()
    };
    let child = kit.submit(child, &[1]).await;
    let of = |change: &dyn Fn(&mut BatchFilter)| {
        let mut filter = BatchFilter::default();
        change(&mut filter);
        filter
    };
    let cases: [(BatchFilter, &[BatchId]); 17] = [
        (of(&|_| ()), &[child, query, shop, parent]),
        (
            of(&|f| f.app = Some("bank".parse().unwrap())),
            &[child, query, parent],
        ),
        (of(&|f| f.app = Some("nobody".parse().unwrap())), &[]),
        (
            of(&|f| f.op = Some("POST".parse().unwrap())),
            &[child, shop, parent],
        ),
        (of(&|f| f.kind = Some(Kind::Query)), &[query]),
        (of(&|f| f.status = Some(Status::Failed)), &[parent]),
        (of(&|f| f.status = Some(Status::Wait)), &[child]),
        (of(&|f| f.status = Some(Status::Queued)), &[query, shop]),
        (of(&|f| f.status = Some(Status::Success)), &[]),
        (
            of(&|f| f.created_after = Some(second)),
            &[child, query, shop],
        ),
        (of(&|f| f.created_after = Some(third)), &[child]),
        (
            of(&|f| f.created_before = Some(third)),
            &[query, shop, parent],
        ),
        (
            of(&|f| {
                f.created_after = Some(second);
                f.created_before = Some(third);
            }),
            &[query, shop],
        ),
        (of(&|f| f.parent = Some(parent)), &[child]),
        (
            of(&|f| {
                f.parent = Some(parent);
                f.kind = Some(Kind::Query);
            }),
            &[],
        ),
        (
            of(&|f| f.external_id = Some("x".to_owned())),
            &[query, shop],
        ),
        (
            of(&|f| {
                f.external_id = Some("x".to_owned());
                f.app = Some("shop".parse().unwrap());
            }),
            &[shop],
        ),
    ];
    for (filter, expected) in cases {
        let mut expected = expected.to_vec();
        for limit in [1, 10] {
            let mut found = listed(kit, &filter, limit).await;
            // Those of one moment are in the order of their random ids.
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{filter:?}");
        }
    }
}

pub async fn a_list_goes_by_the_status_that_is_seen(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let in_status = |status| BatchFilter {
        status: Some(status),
        ..BatchFilter::default()
    };
    let id = kit.submit(kit.new_batch(), &[1, 1]).await;
    let is = async |expected: Status| {
        for status in Status::ALL {
            let found = listed(kit, &in_status(status), 10).await;
            let there = if status == expected { vec![id] } else { vec![] };
            assert_eq!(found, there, "{status} while it is {expected}");
        }
    };
    is(Status::Queued).await;
    let first = kit.claim_one(worker, op).await;
    is(Status::Inprog).await;
    kit.succeed(worker, &first).await;
    is(Status::Inprog).await;
    let second = kit.claim_one(worker, op).await;
    kit.abort(id).await;
    is(Status::Inprog).await;
    let part = Outcomes::of(&second).ends_as(rowmill::model::EndedAs::Aborted, vec![0]);
    kit.record(worker, part).await;
    is(Status::Aborted).await;
}

pub async fn a_load_is_in_no_list(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let token = Token::random().unwrap();
    let store = &kit.store;
    store
        .begin_load(new.clone(), token, kit.now())
        .await
        .unwrap();
    let blocks = kit.blocks(&[2]);
    let hash = kit.hash(&blocks);
    let piece = LoadPiece {
        id: new.id,
        token,
        first_no: 0,
        blocks,
    };
    store.load(piece, kit.now()).await.unwrap();
    assert!(listed(kit, &BatchFilter::default(), 9).await.is_empty());
    let id = new.id;
    store
        .finish_load(new, token, hash, kit.now())
        .await
        .unwrap();
    assert_eq!(listed(kit, &BatchFilter::default(), 9).await, [id]);
}

pub async fn a_step_of_a_list_looks_at_so_much_alone(h: &impl Harness) {
    let kit = h.kit();
    let wanted = kit.rows_of(1).await;
    kit.advance(1);
    let queries = (0..2_500).map(|_| {
        let mut builder = BlockBuilder::new(1, usize::MAX);
        builder.push(1, "1");
        let block = builder.finish().unwrap();
        let hash = ContentHash::of(&block);
        (NewBatch::new(kit.query_key()), block, hash)
    });
    let made = kit.store.submit_many(queries.collect(), kit.now());
    assert_eq!(made.await.unwrap().len(), 2_500);
    let filter = BatchFilter {
        kind: Some(Kind::Batch),
        ..BatchFilter::default()
    };
    let first = kit.store.list(filter.clone(), None, 1).await.unwrap();
    assert!(first.data.is_empty() && first.next.is_some());
    assert_eq!(listed(kit, &filter, 1).await, [wanted]);
    let all = listed(kit, &BatchFilter::default(), 1_000).await;
    assert_eq!(all.len(), 2_501);
}
