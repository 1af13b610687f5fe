//! record: outcomes are written under the token of their claim, or not at all.

use rowmill::NewQuery;
use rowmill::model::{EndedAs, Message, NewBatch, OutcomeStatus, RowOutcome, Status, Token};
use rowmill::store::{ClaimRef, Dialect, Recorded, StoreError};

use crate::support::{Harness, Outcomes};

pub async fn the_last_record_of_a_one_task_batch_ends_it(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    kit.advance(5);
    let part = Outcomes::of(&task).success(0).failed(1).success(2).ends();
    assert_eq!(kit.record(worker, part).await, Recorded::Done);
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.done), (Status::Failed, true));
    assert_eq!((batch.counts.success, batch.counts.failed), (2, 1));
    assert_eq!(
        (batch.started_at, batch.done_at),
        (Some(crate::support::start()), Some(kit.now()))
    );
    let row = kit.row(id, 2).await;
    assert_eq!(
        (row.status, row.attempt, row.done_at),
        (Status::Failed, Some(1), Some(kit.now()))
    );
    assert!(row.messages.unwrap().get().contains("no_such_account"));
    assert_eq!(kit.row(id, 3).await.result.unwrap().get(), "{\"row\":2}");
}

pub async fn a_batch_of_successes_is_a_success(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2, 2]).await;
    kit.work_off(worker, op).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 4));
}

pub async fn a_record_under_an_old_token_is_fenced_and_changes_nothing(h: &impl Harness) {
    let kit = h.kit();
    let (op, old) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let lost = kit.claim_one(old, op).await;
    kit.take_over(old).await;
    let before = h.facts();
    let part = Outcomes::of(&lost).success(0).failed(1);
    assert_eq!(kit.record(old, part.ends()).await, Recorded::Fenced);
    assert_eq!(format!("{before:?}"), format!("{:?}", h.facts()));
    let new = kit.worker().await;
    let task = kit.claim_one(new, op).await;
    assert_eq!(
        kit.succeed(old, &lost).await,
        Recorded::Fenced,
        "the task runs elsewhere"
    );
    assert_eq!(kit.succeed(new, &task).await, Recorded::Done);
    assert_eq!(
        kit.succeed(old, &lost).await,
        Recorded::Fenced,
        "the batch has ended"
    );
    assert_eq!(kit.batch(id).await.counts.success, 2);
}

pub async fn a_record_needs_worker_token_and_task(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let other = kit.worker().await;
    kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    assert_eq!(kit.succeed(other, &task).await, Recorded::Fenced);
    let mut wrong = task.clone();
    wrong.claim = ClaimRef {
        token: Token(task.claim.token.0.wrapping_add(1)),
        ..task.claim
    };
    assert_eq!(kit.succeed(worker, &wrong).await, Recorded::Fenced);
    wrong.claim = ClaimRef {
        task: rowmill::model::TaskId(77),
        ..task.claim
    };
    assert_eq!(kit.succeed(worker, &wrong).await, Recorded::Fenced);
    assert_eq!(kit.succeed(worker, &task).await, Recorded::Done);
}

pub async fn a_record_twice_is_recorded_once(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    assert_eq!(kit.succeed(worker, &task).await, Recorded::Done);
    assert_eq!(kit.succeed(worker, &task).await, Recorded::Fenced);
    assert_eq!(kit.batch(id).await.counts.success, 2);
}

pub async fn parts_of_many_tasks_whose_rows_go_again_are_recorded_by_one_call(h: &impl Harness) {
    const BLOCKS: usize = 150;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[3; BLOCKS]).await;
    let tasks = kit.claim(worker, op).await;
    assert_eq!(tasks.len(), BLOCKS);
    let of = |at: usize| Outcomes::of(&tasks[at]);
    let mut parts = vec![of(7).success(0).goes_on(None)];
    for (at, task) in tasks.iter().enumerate() {
        parts.push(match at {
            7 => of(at).part(1).failed(1).retry(2, None).ends(),
            _ => Outcomes::of(task)
                .success(0)
                .failed(1)
                .retry(2, None)
                .ends(),
        });
    }
    parts[20].claim.token = Token(1);
    let answers = kit.store.record(worker, parts, kit.now()).await.unwrap();
    let mut wanted = vec![Recorded::Done; BLOCKS + 1];
    wanted[20] = Recorded::Fenced;
    assert_eq!(answers, wanted);
    let counts = kit.batch(id).await.counts;
    let most = BLOCKS as u64 - 1;
    assert_eq!((counts.success, counts.failed), (most, most));
    assert_eq!(
        counts.pending,
        most + 3,
        "those that go again, and a task that runs"
    );
    let again = kit.claim(worker, op).await;
    assert_eq!(again.len(), BLOCKS - 1);
    let rows = again
        .iter()
        .map(|t| (t.pick.clone(), t.failures, t.claim.attempt));
    assert!(rows.into_iter().all(|row| row == (Some(vec![2]), 1, 2)));
    let parts = again.iter().map(|t| Outcomes::of(t).all_success().ends());
    let answers = kit.store.record(worker, parts.collect(), kit.now()).await;
    assert_eq!(answers.unwrap(), vec![Recorded::Done; BLOCKS - 1]);
    kit.succeed(worker, &tasks[19]).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.done, batch.counts.success), (true, most * 2 + 3));
}

pub async fn damage_of_one_of_many_tasks_is_told_as_what_it_is(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2; 60]).await;
    let tasks = kit.claim(worker, op).await;
    // Somebody has said something of the task in its middle.
    let there = "insert into attempts (batch, no, task, attempt, part, at, success, ordinals, body) \
         select batch, no, id, attempt, 0, started_at, 1, ";
    let of = " from queue where batch = ?1 and no = 40";
    let list = match h.kit().store.dialect() {
        Dialect::Sqlite => "'[0]', '{\"st\":1}' || char(10)",
        Dialect::Postgres => "'{0}', e'{\"st\":1}\\n'",
    };
    h.damage(id, &format!("{there}{list}{of}"));
    let parts = tasks
        .iter()
        .map(|t| Outcomes::of(t).success(0).retry(1, None).ends());
    let refused = kit.store.record(worker, parts.collect(), kit.now()).await;
    assert!(
        matches!(refused, Err(StoreError::Corrupt(_))),
        "{refused:?}"
    );
    h.damage(id, "delete from attempts where batch = ?1");
    let parts = tasks.iter().map(|t| Outcomes::of(t).all_success().ends());
    let answers = kit.store.record(worker, parts.collect(), kit.now()).await;
    assert_eq!(answers.unwrap(), vec![Recorded::Done; 60]);
}

pub async fn queries_of_one_call_that_go_again_are_recorded_by_one_call(h: &impl Harness) {
    const QUERIES: usize = 120;
    let kit = h.kit();
    let op = kit.register(kit.query_key(), false, 3).await;
    let worker = kit.worker().await;
    let queries = (0..QUERIES).map(|_| NewQuery {
        query: NewBatch::new(kit.query_key()),
        input: rowmill::RawJson::from_string("1".to_owned()).unwrap(),
    });
    let client = kit.client();
    let ids = client
        .slow_query_submit_many(queries.collect())
        .await
        .unwrap();
    let tasks = kit.claim(worker, op).await;
    assert_eq!(tasks.len(), QUERIES);
    let parts = tasks.iter().map(|t| Outcomes::of(t).retry(0, None).ends());
    let answers = kit.store.record(worker, parts.collect(), kit.now()).await;
    assert_eq!(answers.unwrap(), vec![Recorded::Done; QUERIES]);
    let again = kit.claim(worker, op).await;
    assert_eq!(again.len(), QUERIES);
    let parts = again.iter().map(|t| Outcomes::of(t).all_success().ends());
    let answers = kit.store.record(worker, parts.collect(), kit.now()).await;
    assert_eq!(answers.unwrap(), vec![Recorded::Done; QUERIES]);
    for query in ids {
        assert_eq!(kit.batch(query.id).await.status, Status::Success);
    }
}

pub async fn a_fenced_part_does_not_hold_back_its_neighbours(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[1, 1, 1]).await;
    let tasks = kit.claim(worker, op).await;
    let mut parts: Vec<_> = tasks
        .iter()
        .map(|t| Outcomes::of(t).all_success().ends())
        .collect();
    parts[1].claim.token = Token(1);
    let answers = kit.store.record(worker, parts, kit.now()).await.unwrap();
    assert_eq!(answers, [Recorded::Done, Recorded::Fenced, Recorded::Done]);
    let batch = kit.batch(id).await;
    assert_eq!((batch.counts.success, batch.counts.pending), (2, 1));
    kit.succeed(worker, &tasks[1]).await;
    assert!(kit.batch(id).await.done);
}

pub async fn parts_of_a_long_attempt_are_kept_when_its_worker_dies(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(4).await;
    let task = kit.claim_one(worker, op).await;
    kit.record(
        worker,
        Outcomes::of(&task).success(0).failed(1).goes_on(None),
    )
    .await;
    assert_eq!(kit.batch(id).await.counts.pending, 2);
    kit.record(worker, Outcomes::of(&task).part(1).success(2).goes_on(None))
        .await;
    kit.take_over(worker).await;
    let next = kit.worker().await;
    let task = kit.claim_one(next, op).await;
    assert_eq!(
        (task.pick.as_deref(), task.claim.attempt),
        (Some(&[3][..]), 2)
    );
    kit.succeed(next, &task).await;
    let counts = kit.batch(id).await.counts;
    assert_eq!((counts.success, counts.failed), (3, 1));
}

pub async fn a_retry_goes_again_when_it_is_due(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    let due = kit.in_seconds(30);
    let part = Outcomes::of(&task)
        .success(0)
        .retry(1, Some(due))
        .success(2);
    kit.record(worker, part.ends()).await;
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().next_due, Some(due));
    assert!(kit.claim(worker, op).await.is_empty());
    let row = kit.row(id, 2).await;
    assert_eq!(
        (row.status, row.attempt, row.result.is_some()),
        (Status::Queued, Some(1), false)
    );
    assert!(row.messages.unwrap().get().contains("busy"));
    kit.advance(30);
    kit.store.keep(kit.now()).await.unwrap();
    let task = kit.claim_one(worker, op).await;
    assert_eq!(
        (task.pick.as_deref(), task.failures, task.claim.attempt),
        (Some(&[1][..]), 1, 2)
    );
    let row = kit.row(id, 2).await;
    assert_eq!((row.status, row.attempt), (Status::Inprog, Some(2)));
    kit.succeed(worker, &task).await;
    let row = kit.row(id, 2).await;
    assert_eq!(
        (row.status, row.attempt, row.messages.is_none()),
        (Status::Success, Some(2), true)
    );
}

pub async fn a_row_that_comes_later_counts_no_failure(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(1).await;
    for laters in 0..3 {
        let task = kit.claim_one(worker, op).await;
        assert_eq!((task.failures, task.laters), (0, laters));
        let due = kit.in_seconds(10);
        kit.record(worker, Outcomes::of(&task).later(0, due).ends())
            .await;
        kit.advance(10);
        kit.store.keep(kit.now()).await.unwrap();
    }
}

pub async fn rows_that_leave_a_task_that_goes_on_run_beside_it(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let other = kit.worker().await;
    let id = kit.rows_of(4).await;
    let task = kit.claim_one(worker, op).await;
    kit.record(worker, Outcomes::of(&task).retry(1, None).goes_on(None))
        .await;
    let mut beside = kit.claim_one(other, op).await;
    assert_eq!(beside.pick, Some(vec![1]));
    kit.succeed(other, &beside).await;
    beside.pick = Some(vec![0, 2, 3]);
    let rest = Outcomes::of(&task).part(1).success(0).success(2).success(3);
    kit.record(worker, rest.ends()).await;
    assert_eq!(kit.batch(id).await.counts.success, 4);
}

pub async fn the_end_of_a_batch_stores_one_notice(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[1, 1]).await;
    for task in kit.claim(worker, op).await {
        assert!(h.facts().notices.is_empty());
        kit.succeed(worker, &task).await;
    }
    assert_eq!(h.facts().notices, [(id, None)]);
}

pub async fn a_batch_with_one_aborted_row_is_aborted_however_the_others_ended(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    kit.abort(id).await;
    let cut = RowOutcome::of(OutcomeStatus::Aborted, Message::new("interrupted", 17));
    let part = Outcomes::of(&task).success(0).failed(1).put(2, cut);
    kit.record(worker, part.ends_as(EndedAs::Aborted, Vec::new()))
        .await;
    let batch = kit.batch(id).await;
    assert_eq!(batch.status, Status::Aborted);
    let c = batch.counts;
    assert_eq!((c.success, c.failed, c.aborted), (1, 1, 1));
    assert!(
        kit.row(id, 3)
            .await
            .messages
            .unwrap()
            .get()
            .contains("interrupted")
    );
}

pub async fn counts_of_an_ended_batch_are_exact(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let mut blocks = kit.blocks(&[5, 5, 5]);
    let mut last = kit.block_with_rejected(&[true, false, true]);
    last.first_line = 16;
    blocks.push(last);
    let id = kit.try_submit(kit.new_batch(), blocks).await.unwrap().id();
    let tasks = kit.claim(worker, op).await;
    kit.record(worker, Outcomes::of(&tasks[0]).success(0).goes_on(None))
        .await;
    kit.record(
        worker,
        Outcomes::of(&tasks[0])
            .part(1)
            .failed(1)
            .retry(2, None)
            .goes_on(None),
    )
    .await;
    kit.record(
        worker,
        Outcomes::of(&tasks[0])
            .part(2)
            .success(3)
            .retry(4, None)
            .ends(),
    )
    .await;
    kit.succeed(worker, &tasks[1]).await;
    let running = kit.batch(id).await.counts;
    assert_eq!(
        (running.success, running.failed),
        (7, 3),
        "progress while it runs"
    );
    kit.abort(id).await;
    kit.record(
        worker,
        Outcomes::of(&tasks[2])
            .success(0)
            .ends_as(EndedAs::Aborted, vec![1, 2, 3, 4]),
    )
    .await;
    kit.succeed(worker, &tasks[3]).await;
    let c = kit.batch(id).await.counts;
    assert_eq!(
        (c.rows, c.success, c.failed, c.aborted, c.expired),
        (18, 9, 3, 6, 0)
    );
}

pub async fn a_part_that_repeats_a_number_spoils_nothing(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    kit.record(worker, Outcomes::of(&task).success(0).goes_on(None))
        .await;
    let twice = kit
        .try_record(worker, Outcomes::of(&task).success(0).goes_on(None))
        .await;
    assert!(
        !matches!(twice, Ok(Recorded::Done)),
        "it was recorded already: {twice:?}"
    );
    kit.record(worker, Outcomes::of(&task).part(1).success(1).ends())
        .await;
    assert_eq!(kit.batch(id).await.counts.success, 2);
}

pub async fn progress_is_told_while_a_batch_is_aborting(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2, 2, 2]).await;
    let task = kit.claim_one(worker, op).await;
    kit.abort(id).await;
    let batch = kit.batch(id).await;
    assert!(batch.aborting);
    assert_eq!((batch.counts.aborted, batch.counts.pending), (4, 2));
    kit.succeed(worker, &task).await;
}
