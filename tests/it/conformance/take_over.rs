//! take_over: a dead worker's tasks go on, and a row that kills workers costs itself alone.

use rowmill::model::{OpId, Status, WorkerNo};
use rowmill::store::{Claim, Recorded, TakenOver};

use crate::support::{Harness, Kit, Outcomes};

pub async fn a_dead_process_is_found_and_its_tasks_are_queued_at_once(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let alive = kit.worker().await;
    let other = h.again().await;
    let dead = kit.worker_of(&other).await;
    kit.submit(kit.new_batch(), &[1, 1]).await;
    other.claim(kit.ask(dead, op), kit.now()).await.unwrap();
    assert!(kit.store.dead_workers().await.unwrap().is_empty());
    drop(other);
    super::ops::wait_dead(kit, dead).await;
    assert_eq!(kit.store.dead_workers().await.unwrap(), [dead]);
    assert_eq!(
        kit.take_over(dead).await,
        TakenOver {
            tasks: 2,
            lost_rows: 0
        }
    );
    assert!(kit.store.dead_workers().await.unwrap().is_empty());
    assert_eq!(kit.claim(alive, op).await.len(), 2);
}

pub async fn a_worker_is_taken_over_once(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let alive = kit.worker().await;
    kit.rows_of(1).await;
    kit.claim_one(dead, op).await;
    assert_eq!(kit.take_over(dead).await.tasks, 1);
    let task = kit.claim_one(alive, op).await;
    assert_eq!(kit.take_over(dead).await, TakenOver::default());
    assert_eq!(kit.succeed(alive, &task).await, Recorded::Done);
}

pub async fn a_damaged_task_keeps_no_other_from_coming_back(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(kit.rows_of(2).await);
        kit.claim_one(dead, op).await;
    }
    // A list that is none, a number that cannot be, and a batch in no state.
    h.damage(ids[0], "update queue set pick = '[' where batch = ?1");
    h.damage(ids[1], "update queue set rows = -1 where batch = ?1");
    h.damage(ids[3], "update batches set state = -1 where id = ?1");
    assert_eq!(kit.take_over(dead).await.tasks, 2);
    let alive = kit.worker().await;
    let claimed = kit.claim(alive, op).await;
    let came_back: Vec<_> = claimed.iter().map(|task| task.batch.id).collect();
    assert_eq!(came_back, [ids[2], ids[4]]);
    for task in &claimed {
        kit.succeed(alive, task).await;
    }
    let repair = "update queue set state = 1, token = null, worker = null, started_at = null, rows = 2, pick = null where batch = ?1";
    h.damage(ids[3], "update batches set state = 2 where id = ?1");
    for id in [ids[0], ids[1], ids[3]] {
        h.damage(id, repair);
    }
    kit.work_off(alive, op).await;
    for id in ids {
        assert_eq!(kit.batch(id).await.status, Status::Success);
    }
}

pub async fn what_others_run_is_left_alone(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let alive = kit.worker().await;
    let id = kit.submit(kit.new_batch(), &[1, 1]).await;
    let mine = kit.claim_one(alive, op).await;
    kit.claim_one(dead, op).await;
    assert_eq!(kit.take_over(dead).await.tasks, 1);
    assert_eq!(kit.succeed(alive, &mine).await, Recorded::Done);
    assert_eq!(kit.batch(id).await.counts.success, 1);
}

pub async fn a_worker_that_leaves_strands_nothing(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let other = h.again().await;
    let leaver = kit.worker_of(&other).await;
    let id = kit.rows_of(2).await;
    other.claim(kit.ask(leaver, op), kit.now()).await.unwrap();
    other.leave(leaver, kit.now()).await.unwrap();
    crate::support::invariants(h).await;
    let alive = kit.worker().await;
    for dead in kit.store.dead_workers().await.unwrap() {
        kit.take_over(dead).await;
    }
    kit.work_off(alive, op).await;
    assert_eq!(kit.batch(id).await.status, Status::Success);
    assert!(kit.store.dead_workers().await.unwrap().is_empty());
}

pub async fn a_worker_that_left_is_not_dead(h: &impl Harness) {
    let kit = h.kit();
    let worker = kit.worker().await;
    kit.store.leave(worker, kit.now()).await.unwrap();
    assert!(kit.store.dead_workers().await.unwrap().is_empty());
    assert_eq!(kit.take_over(worker).await, TakenOver::default());
}

pub async fn worker_numbers_are_never_used_again(h: &impl Harness) {
    let kit = h.kit();
    let first = kit.worker().await;
    kit.store.leave(first, kit.now()).await.unwrap();
    assert!(kit.worker().await > first);
}

pub async fn a_lost_task_is_suspect_and_counts_no_failure(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    kit.claim_one(dead, op).await;
    kit.take_over(dead).await;
    let task = &h.facts().rows_tasks(id)[0].clone();
    // Nobody is to blame yet.
    assert_eq!((task.losses, task.suspect, task.failures), (0, 1, 0));
    let next = kit.claim_one(kit.worker().await, op).await;
    assert!(next.suspect);
    assert_eq!((next.failures, next.claim.attempt, next.rows), (0, 2, 3));
}

pub async fn suspect_rows_are_committed_before_they_start(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    kit.claim_one(dead, op).await;
    kit.take_over(dead).await;
    let next = kit.worker().await;
    let task = kit.claim_one(next, op).await;
    kit.start_row(next, &task, 0, 0).await;
    assert_eq!(h.facts().rows_tasks(id)[0].row_now, Some(0));
    let with_outcome = Outcomes::of(&task).part(1).success(0).goes_on(Some(1));
    kit.record(next, with_outcome).await;
    assert_eq!(h.facts().rows_tasks(id)[0].row_now, Some(1));
    kit.take_over(next).await;
    let facts = h.facts();
    let tasks = facts.rows_tasks(id);
    let alone = tasks
        .iter()
        .find(|t| t.rows == 1 && t.suspect == 1)
        .unwrap();
    assert_eq!((alone.pick.as_deref(), alone.losses), (Some(&[1][..]), 1));
    let others = tasks.iter().find(|t| t.suspect == 0).unwrap();
    assert_eq!((others.pick.as_deref(), others.losses), (Some(&[2][..]), 0));
}

/// Claims all that is ready and dies at the first suspect task with `poison`, or at any task with it.
async fn die_of(h: &impl Harness, op: OpId, poison: u32) -> bool {
    let kit = h.kit();
    let worker = kit.worker().await;
    loop {
        let ask = Claim {
            max_tasks: 1,
            ..kit.ask(worker, op)
        };
        let Some(task) = kit.claim_as(ask).await.pop() else {
            return false;
        };
        let rows = crate::support::kit::rows_of(&task);
        let mut part = 0;
        if task.believed {
            kit.record(worker, Outcomes::of(&task).goes_on(None)).await;
            part += 1;
        }
        for row in &rows {
            if task.suspect {
                kit.start_row(worker, &task, part, *row).await;
                part += 1;
            }
            if *row == poison {
                kit.take_over(worker).await;
                return true;
            }
            if task.suspect {
                kit.record(
                    worker,
                    Outcomes::of(&task).part(part).success(*row).goes_on(None),
                )
                .await;
                part += 1;
            }
        }
        let end = Outcomes::of(&task).part(part);
        let end = if task.suspect { end } else { end.all_success() };
        kit.record(worker, end.ends()).await;
    }
}

pub async fn a_poison_row_costs_itself_alone(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let id = kit.rows_of(20).await;
    let mut deaths = 0;
    while die_of(h, op, 7).await {
        deaths += 1;
        assert!(
            deaths <= 4,
            "a row that was to blame three times has failed"
        );
    }
    // Once with its block, then three times when it was known to be running.
    assert_eq!(deaths, 4);
    let batch = kit.batch(id).await;
    assert_eq!((batch.counts.success, batch.counts.failed), (19, 1));
    let row = kit.row(id, 8).await;
    assert_eq!(row.status, Status::Failed);
    assert!(row.messages.unwrap().get().contains("worker_lost"));
}

pub async fn a_poison_row_among_many_costs_itself_alone_however_few_losses_are_allowed(
    h: &impl Harness,
) {
    let kit = h.kit();
    for max_lost in [1, 2] {
        let op = kit.register(kit.key(), true, max_lost).await;
        let id = kit.rows_of(20).await;
        while die_of(h, op, 7).await {}
        let batch = kit.batch(id).await;
        assert_eq!((batch.counts.success, batch.counts.failed), (19, 1));
        assert_eq!(kit.row(id, 8).await.status, Status::Failed);
    }
}

pub async fn a_poison_row_of_a_large_block_costs_itself_and_five_workers_at_most(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let id = kit.rows_of(100).await;
    let mut deaths = 0;
    while die_of(h, op, 70).await {
        deaths += 1;
        assert!(
            deaths <= 5,
            "it was believed until it began, and its block blamed once"
        );
    }
    let batch = kit.batch(id).await;
    assert_eq!((batch.counts.success, batch.counts.failed), (99, 1));
    assert_eq!(kit.row(id, 71).await.status, Status::Failed);
}

pub async fn a_good_row_of_many_does_not_fail_when_its_worker_dies_twice(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.key(), true, 2).await;
    let id = kit.rows_of(10).await;
    for row in [3, 6] {
        let worker = kit.worker().await;
        let task = kit.claim_one(worker, op).await;
        if task.suspect {
            kit.start_row(worker, &task, 0, row).await;
        }
        assert_eq!(
            kit.take_over(worker).await.lost_rows,
            0,
            "only a task of one row can have failed"
        );
    }
    kit.work_off(kit.worker().await, op).await;
    assert_eq!(kit.batch(id).await.status, Status::Success);
}

/// A small generator, so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(most)).unwrap()
    }
}

/// Runs the next task up to a random row and dies there.
async fn die_somewhere(kit: &Kit, op: OpId, dice: &mut Dice) {
    let worker = kit.worker().await;
    let task = kit.claim_one(worker, op).await;
    let rows = crate::support::kit::rows_of(&task);
    let done = usize::try_from(dice.below(u32::try_from(rows.len()).unwrap())).unwrap();
    let mut part = Outcomes::of(&task);
    for row in &rows[..done.min(5)] {
        part = part.success(*row);
    }
    let row_now = task.suspect.then(|| rows[done.min(5)]);
    kit.record(worker, part.goes_on(row_now)).await;
    assert_eq!(kit.take_over(worker).await.lost_rows, 0);
}

pub async fn fifty_losses_at_random_rows_fail_no_good_row(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let id = kit.rows_of(500).await;
    let mut dice = Dice(2026);
    for _ in 0..50 {
        die_somewhere(kit, op, &mut dice).await;
    }
    kit.work_off(kit.worker().await, op).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 500));
}

pub async fn tasks_that_waited_behind_a_poison_row_are_not_blamed(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.query_key(), false, 3).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        kit.advance(1);
        ids.push(
            kit.submit(rowmill::NewBatch::new(kit.query_key()), &[1])
                .await,
        );
    }
    let mut deaths = 0;
    while !kit.batch(ids[0]).await.done {
        let worker = kit.worker().await;
        let tasks = kit.claim(worker, op).await;
        let poison = tasks.iter().find(|t| t.batch.id == ids[0]).unwrap();
        if poison.suspect {
            kit.start_row(worker, poison, 0, 0).await;
        }
        kit.take_over(worker).await;
        deaths += 1;
        assert!(deaths < 10);
    }
    kit.work_off(kit.worker().await, op).await;
    assert_eq!(kit.batch(ids[0]).await.status, Status::Failed);
    for id in &ids[1..] {
        assert_eq!(kit.batch(*id).await.status, Status::Success);
    }
}

async fn claim_once(kit: &Kit, worker: WorkerNo, op: OpId) -> rowmill::store::ClaimedTask {
    let ask = Claim {
        once: true,
        ..kit.ask(worker, op)
    };
    kit.claim_as(ask).await.remove(0)
}

pub async fn a_row_at_most_once_fails_at_its_first_loss_and_the_others_go_on(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = claim_once(kit, dead, op).await;
    kit.start_row(dead, &task, 0, 0).await;
    kit.record(
        dead,
        Outcomes::of(&task).part(1).success(0).goes_on(Some(1)),
    )
    .await;
    assert_eq!(
        kit.take_over(dead).await,
        TakenOver {
            tasks: 1,
            lost_rows: 1
        }
    );
    let next = kit.worker().await;
    let task = claim_once(kit, next, op).await;
    assert_eq!(task.pick, Some(vec![2]));
    kit.succeed(next, &task).await;
    let c = kit.batch(id).await.counts;
    assert_eq!((c.success, c.failed), (2, 1));
    assert!(
        kit.row(id, 2)
            .await
            .messages
            .unwrap()
            .get()
            .contains("worker_lost")
    );
}

pub async fn a_row_at_most_once_that_had_not_started_runs(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let id = kit.rows_of(1).await;
    claim_once(kit, dead, op).await;
    assert_eq!(kit.take_over(dead).await.lost_rows, 0);
    let next = kit.worker().await;
    let task = claim_once(kit, next, op).await;
    kit.succeed(next, &task).await;
    assert_eq!(kit.batch(id).await.status, Status::Success);
}

pub async fn rows_of_an_op_that_is_at_least_once_again_are_not_failed_by_a_death(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = claim_once(kit, worker, op).await;
    // As a worker does it that sees that the op's delivery has changed.
    let given = kit.store.give_back(worker, vec![task.claim], kit.now());
    given.await.unwrap();
    let task = kit.claim_one(worker, op).await;
    kit.start_row(worker, &task, 0, 0).await;
    assert_eq!(kit.take_over(worker).await.lost_rows, 0);
    let worker = kit.worker().await;
    kit.work_off(worker, op).await;
    assert_eq!(kit.batch(id).await.counts.success, 2);
}

pub async fn a_lost_row_of_an_aborted_batch_is_aborted_at_once(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[3, 2]).await;
    let task = kit.claim_one(dead, op).await;
    kit.record(dead, Outcomes::of(&task).success(0).goes_on(None))
        .await;
    kit.abort(id).await;
    assert!(kit.batch(id).await.aborting);
    kit.take_over(dead).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.aborting), (Status::Aborted, false));
    assert_eq!((batch.counts.success, batch.counts.aborted), (1, 4));
    assert!(
        kit.row(id, 2)
            .await
            .messages
            .unwrap()
            .get()
            .contains("interrupted")
    );
    assert!(kit.row(id, 4).await.messages.is_none());
}

pub async fn a_lost_task_of_an_expired_batch_expires(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let new = rowmill::NewBatch {
        expires_at: Some(kit.in_seconds(10)),
        ..kit.new_batch()
    };
    let id = kit.submit(new, &[2]).await;
    kit.claim_one(dead, op).await;
    kit.advance(11);
    kit.store.keep(kit.now()).await.unwrap();
    assert!(!kit.batch(id).await.done, "what runs may finish");
    kit.take_over(dead).await;
    assert_eq!(kit.batch(id).await.counts.expired, 2);
}

pub async fn a_task_whose_rows_had_all_ended_ends_when_its_worker_dies(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(dead, op).await;
    kit.record(dead, Outcomes::of(&task).success(0).failed(1).goes_on(None))
        .await;
    kit.take_over(dead).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Failed, 1));
}

pub async fn the_beat_tells_what_a_worker_runs_and_what_is_aborting(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let keep = kit.rows_of(1).await;
    kit.advance(1);
    let stop = kit.rows_of(1).await;
    let tasks = kit.claim(worker, op).await;
    kit.abort(stop).await;
    let beat = kit.store.beat(worker).await.unwrap();
    assert_eq!(beat.len(), 2);
    for running in beat {
        assert!(tasks.iter().any(|t| t.claim == running.claim));
        assert_eq!(running.aborting, running.claim.batch == stop);
        assert!(!running.close);
    }
    assert!(!kit.batch(keep).await.aborting);
    kit.store
        .give_back(worker, tasks.iter().map(|t| t.claim).collect(), kit.now())
        .await
        .unwrap();
    assert!(kit.store.beat(worker).await.unwrap().is_empty());
}
