//! submit: stored and acknowledged in one step, or not there at all.

use jiff::SignedDuration;
use rowmill::model::{Batch, BatchId, ContentHash, NewBatch, RawJson, Status};
use rowmill::store::{StoreError, Submitted};

use crate::support::Harness;

pub async fn a_submitted_batch_is_queued_with_all_its_rows(h: &impl Harness) {
    let kit = h.kit();
    let id = kit.submit(kit.new_batch(), &[3, 2]).await;
    let batch = kit.batch(id).await;
    assert_eq!(batch.status, Status::Queued);
    assert!(!batch.done);
    assert_eq!((batch.counts.rows, batch.counts.pending), (5, 5));
    assert_eq!(batch.created_at, kit.now());
    assert_eq!((batch.app.as_str(), batch.op.as_str()), ("bank", "post"));
}

pub async fn the_same_id_with_the_same_content_returns_the_batch_that_is_there(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    let first = kit.try_submit(new.clone(), kit.blocks(&[3])).await.unwrap();
    assert_eq!(first, Submitted::New(new.id));
    kit.advance(3600);
    let again = kit.try_submit(new.clone(), kit.blocks(&[3])).await.unwrap();
    assert_eq!(again, Submitted::Existing(new.id));
    let cut = kit
        .try_submit(new.clone(), kit.blocks(&[1, 2]))
        .await
        .unwrap();
    assert_eq!(
        cut,
        Submitted::Existing(new.id),
        "how it is cut into blocks is no content"
    );
    assert_eq!(h.facts().rows_tasks(new.id).len(), 1);
}

pub async fn the_same_id_with_other_content_is_refused(h: &impl Harness) {
    let kit = h.kit();
    let new = kit.new_batch();
    kit.submit(new.clone(), &[3]).await;
    let other_rows = kit.try_submit(new.clone(), kit.blocks(&[4])).await;
    let other_context = NewBatch {
        context: RawJson::from_string("7".to_owned()).unwrap(),
        ..new.clone()
    };
    let other_context = kit.try_submit(other_context, kit.blocks(&[3])).await;
    let other_op = NewBatch {
        key: kit.key_of("other"),
        ..new.clone()
    };
    let other_op = kit.try_submit(other_op, kit.blocks(&[3])).await;
    for refused in [other_rows, other_context, other_op] {
        let Err(StoreError::Duplicate { existing, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(existing, new.id);
    }
    assert_eq!(kit.batch(new.id).await.counts.rows, 3);
}

pub async fn an_external_id_names_one_batch_of_its_app(h: &impl Harness) {
    let kit = h.kit();
    let named = |id| NewBatch {
        id,
        external_id: Some("march.csv".to_owned()),
        ..kit.new_batch()
    };
    let first = kit.submit(named(BatchId::new()), &[2]).await;
    let again = kit
        .try_submit(named(BatchId::new()), kit.blocks(&[2]))
        .await;
    assert_eq!(again.unwrap(), Submitted::Existing(first));
    let other = kit
        .try_submit(named(BatchId::new()), kit.blocks(&[3]))
        .await;
    assert!(matches!(other, Err(StoreError::Duplicate { existing, .. }) if existing == first));
    let find = |app: &str| {
        kit.store
            .find_external(app.to_owned(), "march.csv".to_owned())
    };
    assert_eq!(find("bank").await.unwrap(), Some(first));
    assert_eq!(find("shop").await.unwrap(), None);
    assert_eq!(
        h.facts().batches.len(),
        1,
        "a refused submit leaves nothing"
    );
}

pub async fn an_external_id_outlives_the_end_of_its_batch(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let named = NewBatch {
        external_id: Some("a".to_owned()),
        ..kit.new_batch()
    };
    let first = kit.submit(named.clone(), &[1]).await;
    kit.work_off(worker, op).await;
    assert!(kit.batch(first).await.done);
    let again = NewBatch {
        id: BatchId::new(),
        ..named
    };
    let again = kit.try_submit(again, kit.blocks(&[1])).await.unwrap();
    assert_eq!(again, Submitted::Existing(first));
}

pub async fn names_of_an_app_and_an_op_are_never_joined(h: &impl Harness) {
    let kit = h.kit();
    let of = |app: &str, op: &str| {
        let key = rowmill::JobKey::new(app, op, rowmill::Kind::Batch).unwrap();
        NewBatch::new(key)
    };
    let one = kit.submit(of("ab", "c"), &[1]).await;
    let two = kit.submit(of("a", "bc"), &[1]).await;
    let (worker, op) = (
        kit.worker().await,
        kit.register(of("a", "bc").key, false, 3).await,
    );
    let claimed = kit.claim(worker, op).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].batch.id, two);
    assert_eq!(kit.batch(one).await.status, Status::Queued);
}

pub async fn an_op_has_one_queue_whatever_the_case_it_is_written_in(h: &impl Harness) {
    let kit = h.kit();
    let key = |op| rowmill::JobKey::new("bank", op, rowmill::Kind::Query).unwrap();
    let small = kit.register(key("genreport"), false, 3).await;
    let large = kit.register(key("GenReport"), false, 3).await;
    assert_eq!(small, large);
    let app = rowmill::JobKey::new("Bank", "genreport", rowmill::Kind::Query).unwrap();
    assert_ne!(
        kit.register(app, false, 3).await,
        small,
        "an app is as written"
    );
}

pub async fn a_pair_has_an_op_of_each_kind(h: &impl Harness) {
    let kit = h.kit();
    let worker = kit.worker().await;
    let query = rowmill::JobKey::new("bank", "post", rowmill::Kind::Query).unwrap();
    let queries = kit.register(query.clone(), false, 3).await;
    let batches = kit.op().await;
    assert_ne!(queries, batches);
    let id = kit.submit(NewBatch::new(query), &[1]).await;
    assert!(kit.claim(worker, batches).await.is_empty());
    assert_eq!(kit.claim(worker, queries).await[0].batch.id, id);
}

pub async fn many_queries_are_submitted_together_or_not_at_all(h: &impl Harness) {
    let kit = h.kit();
    let query = |n: u32| {
        let block = kit.blocks(&[n]).remove(0);
        let hash = ContentHash::of(&block);
        (NewBatch::new(kit.query_key()), block, hash)
    };
    let there = query(1);
    let first = kit
        .store
        .submit_many(vec![there.clone()], kit.now())
        .await
        .unwrap();
    assert_eq!(first, [Submitted::New(there.0.id)]);
    let mut other = query(2);
    other.0.id = there.0.id;
    let good = query(1);
    let refused = kit
        .store
        .submit_many(vec![good.clone(), other], kit.now())
        .await;
    assert!(matches!(refused, Err(StoreError::Duplicate { .. })));
    assert!(kit.find(good.0.id).await.is_none(), "none of them is there");
    let both = kit
        .store
        .submit_many(vec![good.clone(), there.clone()], kit.now())
        .await
        .unwrap();
    assert_eq!(
        both,
        [Submitted::New(good.0.id), Submitted::Existing(there.0.id)]
    );
}

/// With times that are finer than what is stored.
pub async fn what_the_submit_of_a_query_answers_is_what_is_read(h: &impl Harness) {
    let kit = h.kit();
    let client = kit.client();
    let now = kit.now();
    let fine = |seconds| kit.in_seconds(seconds) + SignedDuration::from_nanos(1_234_567);
    for hold in [true, false] {
        let new = NewBatch {
            context: RawJson::from_string("{\"b\": 1.10}".to_owned()).unwrap(),
            hold,
            priority: 7,
            run_at: Some(fine(60)),
            expires_at: Some(fine(90)),
            external_id: Some(format!("held {hold}")),
            by: "ann".to_owned(),
            ..NewBatch::new(kit.query_key())
        };
        let input = || RawJson::from_string("1".to_owned()).unwrap();
        let told = client
            .slow_query_submit(new.clone(), input())
            .await
            .unwrap();
        let read = client.batch_status(told.id).await.unwrap();
        let all = |batch: &Batch| format!("{batch:#?}");
        assert_eq!(all(&told), all(&read));
        assert_eq!(told.created_at, now);
        let again = client.slow_query_submit(new, input()).await.unwrap();
        assert_eq!(all(&again), all(&read), "and so is that of the same again");
    }
}

pub async fn of_queries_that_come_at_the_same_moment_a_refused_one_refuses_no_other(
    h: &impl Harness,
) {
    let kit = h.kit();
    let query = |n: u32| {
        let block = kit.blocks(&[n]).remove(0);
        let hash = ContentHash::of(&block);
        (NewBatch::new(kit.query_key()), block, hash)
    };
    let there = query(1);
    let submit = |one| kit.store.submit_many(vec![one], kit.now());
    submit(there.clone()).await.unwrap();
    let mut other = query(2);
    other.0.id = there.0.id;
    let good: Vec<_> = (0..40).map(|_| query(1)).collect();
    let mut asked = good.clone();
    asked.insert(20, other);
    asked.insert(30, there.clone());
    let answers = futures_util::future::join_all(asked.into_iter().map(submit)).await;
    for (at, answer) in answers.into_iter().enumerate() {
        match at {
            20 => assert!(matches!(answer, Err(StoreError::Duplicate { .. }))),
            30 => assert_eq!(answer.unwrap(), [Submitted::Existing(there.0.id)]),
            _ => assert!(matches!(answer.unwrap()[..], [Submitted::New(_)])),
        }
    }
    for (query, ..) in good {
        assert_eq!(kit.batch(query.id).await.status, Status::Queued);
    }
}

pub async fn everything_that_was_submitted_is_read_back(h: &impl Harness) {
    let kit = h.kit();
    let new = NewBatch {
        context: RawJson::from_string("{\"b\": 1.10, \"a\":\"\\u0000é\"}".to_owned()).unwrap(),
        priority: -100,
        run_at: Some(kit.in_seconds(60)),
        expires_at: Some(kit.in_seconds(90)),
        external_id: Some("x'y".to_owned()),
        by: "ann".to_owned(),
        columns: Some(vec!["id".to_owned(), "é".to_owned()]),
        ..kit.held()
    };
    let id = kit.submit(new.clone(), &[1]).await;
    let batch = kit.batch(id).await;
    assert_eq!(batch.context.get(), new.context.get(), "byte for byte");
    assert_eq!((batch.priority, batch.status), (-100, Status::Wait));
    assert_eq!(
        (batch.run_at, batch.expires_at),
        (new.run_at, new.expires_at)
    );
    assert_eq!(
        (batch.external_id, batch.created_by),
        (new.external_id, new.by)
    );
    assert_eq!(batch.columns, new.columns);
    assert_eq!((batch.root, batch.parent, batch.generation), (id, None, 0));
}

pub async fn submits_at_the_same_moment_are_all_there(h: &impl Harness) {
    let kit = h.kit();
    let submits = (0..50).map(|_| kit.submit(kit.new_batch(), &[2]));
    let ids = futures_util::future::join_all(submits).await;
    let facts = h.facts();
    assert_eq!(facts.batches.len(), 50);
    assert!(ids.iter().all(|id| facts.rows_tasks(*id).len() == 1));
}
