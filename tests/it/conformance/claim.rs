//! claim: a worker takes tasks of one op, under a token.

use std::collections::BTreeSet;

use rowmill::model::{NewBatch, Status, Token};
use rowmill::store::{Claim, StoreError};

use crate::support::{Harness, Outcomes};

pub async fn a_claimed_task_has_its_rows_and_its_batch(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let ask = kit.ask(worker, op);
    let task = kit.claim_as(ask.clone()).await.remove(0);
    assert_eq!(task.batch.id, id);
    assert_eq!(task.batch.key, kit.key());
    assert_eq!(
        (task.claim.batch, task.claim.token, task.claim.attempt),
        (id, ask.token, 1)
    );
    assert_eq!(
        (task.rows, task.first_line, task.body.as_str()),
        (3, 1, "1\n2\n3\n")
    );
    assert_eq!((task.failures, task.laters, task.suspect), (0, 0, false));
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.started_at),
        (Status::Inprog, Some(kit.now()))
    );
    assert!(
        kit.rows(id)
            .await
            .iter()
            .all(|r| r.status == Status::Inprog)
    );
}

pub async fn a_claim_takes_tasks_of_its_op_alone(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let other = NewBatch::new(kit.key_of("other"));
    kit.submit(other, &[1]).await;
    assert!(kit.claim(worker, op).await.is_empty());
    let id = kit.rows_of(1).await;
    let claimed = kit.claim(worker, op).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].batch.id, id);
}

pub async fn a_claim_for_one_batch_takes_no_other(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let older = kit.rows_of(2).await;
    let wanted = kit.rows_of(3).await;
    let heads = kit.heads(op, Some(wanted)).await.unwrap();
    assert_eq!(heads.len(), 1);
    let ask = Claim {
        only: Some(wanted),
        ..kit.ask(worker, op)
    };
    let claimed = kit.claim_as(ask).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].batch.id, wanted);
    let none = kit.heads(op, Some(wanted)).await.unwrap();
    assert!(none.is_empty());
    assert_eq!(kit.batch(older).await.status, Status::Queued);
    kit.take_over(worker).await;
    kit.work_off(kit.worker().await, op).await;
}

pub async fn work_of_an_op_that_nobody_registered_stays_queued(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(NewBatch::new(kit.key_of("nobody")), &[2]).await;
    assert!(kit.heads(op, None).await.unwrap().is_empty());
    kit.work_off(worker, op).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.failed), (Status::Queued, 0));
}

pub async fn two_claimers_never_share_a_task(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    kit.submit(kit.new_batch(), &[1; 200]).await;
    let other = h.again().await;
    let (one, two) = (kit.worker().await, kit.worker_of(&other).await);
    let few = |worker| Claim {
        max_tasks: 7,
        ..kit.ask(worker, op)
    };
    let mut seen = BTreeSet::new();
    loop {
        let (a, b, c) = futures_util::join!(
            kit.store.claim(few(one), kit.now()),
            other.claim(few(two), kit.now()),
            kit.store.claim(few(one), kit.now()),
        );
        let claimed = [a, b, c].map(Result::unwrap).concat();
        if claimed.is_empty() {
            break;
        }
        for task in claimed {
            assert!(
                seen.insert(task.claim.task),
                "{:?} was claimed twice",
                task.claim
            );
        }
    }
    assert_eq!(seen.len(), 200);
}

pub async fn a_claim_of_nothing_is_harmless(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(1).await;
    let none = Claim {
        max_tasks: 0,
        ..kit.ask(worker, op)
    };
    assert!(kit.claim_as(none).await.is_empty());
    let unknown = kit.ask(worker, rowmill::model::OpId(999));
    assert!(kit.claim_as(unknown).await.is_empty());
    assert_eq!(kit.claim(worker, op).await.len(), 1);
}

pub async fn what_is_damaged_is_claimed_by_nobody_and_holds_up_no_other(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let (context, pick) = (kit.rows_of(2).await, kit.rows_of(2).await);
    let good = kit.rows_of(2).await;
    h.damage(context, "update batches set context = '{' where id = ?1");
    h.damage(pick, "update queue set pick = '[' where batch = ?1");
    let ask = Claim {
        max_tasks: 1,
        ..kit.ask(worker, op)
    };
    let claimed = kit.claim_as(ask).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].batch.id, good);
    for only in [context, pick] {
        let ask = Claim {
            only: Some(only),
            ..kit.ask(worker, op)
        };
        let told = kit.store.claim(ask, kit.now()).await;
        assert!(
            matches!(told, Err(StoreError::Corrupt(_))),
            "whoever works on it alone is told: {told:?}"
        );
    }
    h.damage(context, "update batches set context = '{}' where id = ?1");
    h.damage(pick, "update queue set pick = null where batch = ?1");
    kit.work_off(worker, op).await;
    for id in [context, pick] {
        assert_eq!(kit.batch(id).await.status, Status::Success);
    }
}

pub async fn higher_priority_comes_first(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let of = |priority| NewBatch {
        priority,
        ..kit.new_batch()
    };
    let mut ids = Vec::new();
    for priority in [-100, 0, 100] {
        ids.push(kit.submit(of(priority), &[1]).await);
    }
    let heads = kit.heads(op, None).await.unwrap();
    assert_eq!((heads.len(), heads[0].op, heads[0].priority), (1, op, 100));
    for id in ids.iter().rev() {
        assert_eq!(kit.claim_one(worker, op).await.batch.id, *id);
    }
}

pub async fn blocks_of_a_batch_go_in_line_order(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    kit.submit(kit.new_batch(), &[2, 2, 2]).await;
    for line in [1, 3, 5] {
        assert_eq!(kit.claim_one(worker, op).await.first_line, line);
    }
}

pub async fn a_new_batch_takes_turns_with_the_old_ones(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let old = kit.submit(kit.new_batch(), &[1; 10]).await;
    for _ in 0..4 {
        kit.claim_one(worker, op).await;
    }
    kit.advance(1);
    let new = kit.submit(kit.new_batch(), &[1; 3]).await;
    let mut order = Vec::new();
    for _ in 0..9 {
        order.push(kit.claim_one(worker, op).await.batch.id);
    }
    assert_eq!(order, [old, new, old, new, old, new, old, old, old]);
}

pub async fn the_oldest_batch_comes_first_where_it_is_asked_for(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let low = NewBatch {
        priority: -100,
        ..kit.new_batch()
    };
    let old = kit.submit(low, &[1, 1]).await;
    kit.advance(1);
    let high = NewBatch {
        priority: 100,
        ..kit.new_batch()
    };
    kit.submit(high, &[1; 10]).await;
    let oldest = Claim {
        oldest: true,
        max_tasks: 1,
        ..kit.ask(worker, op)
    };
    let claimed = kit.claim_as(oldest).await;
    assert_eq!(claimed[0].batch.id, old);
}

pub async fn a_claim_stops_at_its_rows_and_bytes(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    kit.submit(kit.new_batch(), &[4; 10]).await;
    let rows = Claim {
        max_rows: 9,
        ..kit.ask(worker, op)
    };
    assert_eq!(
        kit.claim_as(rows).await.len(),
        3,
        "until there are so many rows"
    );
    let bytes = Claim {
        max_bytes: 13,
        ..kit.ask(worker, op)
    };
    assert_eq!(kit.claim_as(bytes).await.len(), 2);
    let tasks = Claim {
        max_tasks: 1,
        ..kit.ask(worker, op)
    };
    assert_eq!(kit.claim_as(tasks).await.len(), 1);
}

pub async fn a_long_task_is_split_and_its_rest_stays_queued(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(10).await;
    let ask = || Claim {
        split_over: Some(4),
        max_tasks: 1,
        ..kit.ask(worker, op)
    };
    let mut seen = Vec::new();
    for rows in [4, 4, 2] {
        let task = kit.claim_as(ask()).await.remove(0);
        assert_eq!((task.rows, task.claim.attempt), (rows, 1));
        seen.extend(crate::support::kit::rows_of(&task));
        kit.succeed(worker, &task).await;
    }
    assert!(seen.into_iter().eq(0..10));
    assert_eq!(kit.batch(id).await.status, Status::Success);
}

pub async fn a_split_task_keeps_its_failures_and_attempts(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(4).await;
    let task = kit.claim_one(worker, op).await;
    let mut part = Outcomes::of(&task);
    for row in 0..4 {
        part = part.retry(row, None);
    }
    let mut part = part.ends();
    part.again[0].ordinals = vec![0, 1, 2, 3];
    part.again.truncate(1);
    kit.record(worker, part).await;
    let split = Claim {
        split_over: Some(1),
        max_tasks: 1,
        ..kit.ask(worker, op)
    };
    kit.claim_as(split).await;
    let facts = h.facts();
    let tasks = facts.rows_tasks(id);
    assert_eq!(tasks.len(), 2);
    assert!(tasks.iter().all(|t| t.failures == 1));
    let attempts: BTreeSet<_> = tasks.iter().map(|t| (t.rows, t.attempt)).collect();
    assert_eq!(attempts, BTreeSet::from([(1, 2), (3, 1)]));
}

pub async fn a_cap_counts_the_running_rows_of_all_workers(h: &impl Harness) {
    let kit = h.kit();
    let (op, one) = kit.op_and_worker().await;
    let two = kit.worker().await;
    kit.submit(kit.new_batch(), &[1; 10]).await;
    let capped = |worker, cap| Claim {
        cap: Some(cap),
        ..kit.ask(worker, op)
    };
    let first = kit.claim_as(capped(one, (3, 1))).await;
    assert_eq!(first.len(), 3);
    assert!(kit.claim_as(capped(two, (3, 1))).await.is_empty());
    kit.succeed(one, &first[0]).await;
    assert_eq!(kit.claim_as(capped(two, (3, 1))).await.len(), 1);
    assert_eq!(
        kit.claim_as(capped(two, (9, 2))).await.len(),
        1,
        "four tasks of two rows are eight"
    );
    assert!(kit.claim_as(capped(two, (0, 1))).await.is_empty());
}

pub async fn caps_hold_when_all_ask_at_the_same_moment(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    kit.submit(kit.new_batch(), &[1; 40]).await;
    let other = h.again().await;
    let (one, two) = (kit.worker().await, kit.worker_of(&other).await);
    let asks = (0..20).map(|i| {
        let (store, worker) = if i % 2 == 0 {
            (&kit.store, one)
        } else {
            (&other, two)
        };
        let ask = Claim {
            cap: Some((5, 1)),
            max_tasks: 2,
            ..kit.ask(worker, op)
        };
        store.claim(ask, kit.now())
    });
    let claims = futures_util::future::join_all(asks).await;
    let claimed: usize = claims.into_iter().map(|c| c.unwrap().len()).sum();
    assert_eq!(claimed, 5);
    kit.take_over(two).await;
}

pub async fn a_worker_that_was_declared_dead_claims_nothing(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let alive = kit.worker().await;
    let id = kit.rows_of(1).await;
    let task = kit.claim_one(alive, op).await;
    kit.record(alive, Outcomes::of(&task).writes(0, "a.csv", "x\n").ends())
        .await;
    kit.take_over(worker).await;
    let token = Token::random().unwrap();
    let rows = kit.store.claim(kit.ask(worker, op), kit.now()).await;
    assert!(matches!(rows, Err(StoreError::Fenced(w)) if w == worker));
    let close = kit.store.claim_close(worker, token, 1, kit.now()).await;
    assert!(
        matches!(close, Err(StoreError::Fenced(w)) if w == worker),
        "{close:?}"
    );
    kit.abort(kit.submit(kit.held(), &[1]).await).await;
    let notices = kit
        .store
        .claim_notices(worker, token, vec![op], kit.now())
        .await;
    assert!(
        matches!(notices, Err(StoreError::Fenced(w)) if w == worker),
        "{notices:?}"
    );
    assert_eq!(kit.batch(id).await.status, Status::Inprog);
}

pub async fn each_claim_of_a_row_has_a_higher_attempt(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(1).await;
    for attempt in 1..=5 {
        let task = kit.claim_one(worker, op).await;
        assert_eq!((task.claim.attempt, task.failures), (attempt, attempt - 1));
        kit.record(worker, Outcomes::of(&task).retry(0, None).ends())
            .await;
    }
    assert_eq!(kit.row(id, 1).await.attempt, Some(5));
}

pub async fn rows_at_most_once_are_suspect_from_their_first_claim(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(2).await;
    let once = Claim {
        once: true,
        ..kit.ask(worker, op)
    };
    assert!(kit.claim_as(once).await[0].suspect);
}
