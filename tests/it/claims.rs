//! Claims on PostgreSQL that meet what one writer alone never meets.

use rowmill::model::{BatchId, OpId, Status, WorkerNo};
use rowmill::store::Recorded;

use crate::e2e::world::LONG;
use crate::support::{Harness as _, Outcomes, Postgres, invariants};

/// An abort passes over tasks that a claim holds; where that claim then comes to nothing they stay queued.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_an_abort_had_to_pass_over_end_where_a_claim_meets_them() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let passed = kit.submit(kit.new_batch(), &[2, 2]).await;
    let other = kit.rows_of(3).await;
    let sql = "with now as (select created_at from batches where id = ?1) update batches set abort_at = now.created_at, aborted_by = 'test' from now where id = ?1";
    h.damage(passed, sql);
    let mut ask = kit.ask(worker, op);
    ask.max_tasks = 10;
    let claimed = kit.claim_as(ask).await;
    assert_eq!(
        claimed.iter().map(|t| t.batch.id).collect::<Vec<_>>(),
        [other]
    );
    let batch = kit.batch(passed).await;
    assert_eq!((batch.status, batch.counts.aborted), (Status::Aborted, 4));
    kit.succeed(worker, &claimed[0]).await;
    invariants(&h).await;
}

/// Workers of one batch would else wait at its record for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_and_records_of_a_batch_wait_for_nobody_who_holds_its_record() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2, 2, 2]).await;
    let connected = tokio_postgres::connect(h.url(), tokio_postgres::NoTls).await;
    let (holder, driver) = connected.expect("a connection");
    tokio::spawn(driver);
    let hold = "begin; select 1 from rowmill.batches for update";
    holder.batch_execute(hold).await.expect("held");
    let works = async {
        let tasks = kit.claim(worker, op).await;
        assert_eq!(tasks.len(), 3);
        for task in &tasks[..2] {
            kit.succeed(worker, task).await;
        }
        tasks
    };
    let tasks = tokio::time::timeout(LONG, works).await;
    let tasks = tasks.expect("nobody waits");
    holder.batch_execute("rollback").await.expect("let go");
    kit.succeed(worker, &tasks[2]).await;
    assert_eq!(kit.batch(id).await.counts.success, 6);
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_takes_no_more_than_its_rows_and_bytes_and_leaves_the_others() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[3; 8]).await;
    let mut ask = kit.ask(worker, op);
    (ask.max_tasks, ask.max_rows) = (8, 5);
    let lines = |tasks: &[rowmill::store::ClaimedTask]| {
        tasks.iter().map(|t| t.first_line).collect::<Vec<_>>()
    };
    assert_eq!(lines(&kit.claim_as(ask.clone()).await), [1, 4]);
    ask.token = rowmill::model::Token(71);
    (ask.max_rows, ask.max_bytes, ask.only) = (100, 1, Some(id));
    assert_eq!(lines(&kit.claim_as(ask.clone()).await), [7]);
    ask.token = rowmill::model::Token(72);
    (ask.max_bytes, ask.only, ask.oldest) = (1 << 20, None, true);
    let rest = kit.claim_as(ask).await;
    assert_eq!(lines(&rest), [10, 13, 16, 19, 22]);
}

/// So many tasks of the op have ended since a snapshot that is still held: a look from the beginning passes over all.
const ENDED: &str = "
    insert into rowmill.queue (batch, id, no, what, op, state, priority, turn, age, rows)
    select '00000000-0000-7000-8000-000000000001', n, 0, 0, 1, 1, 0, -1, to_timestamp(0), 1 from generate_series(1, 100000) n;
    delete from rowmill.queue where turn = -1";

/// Claims of an op beside a snapshot that keeps what has ended before its tasks.
struct Beside {
    h: Postgres,
    op: OpId,
    worker: WorkerNo,
    oldest: bool,
    /// Whose snapshot is held.
    _reader: tokio_postgres::Client,
}

impl Beside {
    /// An op with so many batches, in their order, and looks from the beginning that take long.
    async fn of(batches: usize, oldest: bool) -> (Self, Vec<BatchId>) {
        let h = Postgres::open().await;
        let kit = h.kit();
        let (op, worker) = kit.op_and_worker().await;
        assert_eq!(op, OpId(1));
        let connected = tokio_postgres::connect(h.url(), tokio_postgres::NoTls).await;
        let (reader, driver) = connected.expect("a connection");
        tokio::spawn(driver);
        let held = "begin isolation level repeatable read; select from rowmill.ops";
        reader.batch_execute(held).await.expect("a snapshot");
        h.run(ENDED);
        let mut ids = Vec::new();
        for _ in 0..batches {
            kit.advance(1);
            ids.push(kit.rows_of(2).await);
        }
        let beside = Self {
            h,
            op,
            worker,
            oldest,
            _reader: reader,
        };
        (beside, ids)
    }

    /// Claims one task, and ends it.
    async fn next(&self) -> Option<BatchId> {
        let kit = self.h.kit();
        let mut ask = kit.ask(self.worker, self.op);
        (ask.oldest, ask.max_tasks) = (self.oldest, 1);
        let tasks = kit.claim_as(ask).await;
        let task = tasks.first()?;
        assert_eq!(kit.succeed(self.worker, task).await, Recorded::Done);
        Some(task.batch.id)
    }

    /// A batch that comes before all others.
    async fn first_of_all(&self) -> BatchId {
        let mut batch = self.h.kit().new_batch();
        batch.priority = 100;
        let id = self.h.kit().submit(batch, &[2]).await;
        let age = "update rowmill.queue set age = to_timestamp(1) where priority = 100";
        self.h.run(age);
        id
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_beside_an_old_snapshot_begins_where_the_last_one_did_and_later_again_at_the_beginning()
 {
    for oldest in [false, true] {
        let (beside, ids) = Beside::of(6, oldest).await;
        // Each looks from the beginning: one that takes long may be chance.
        assert_eq!(beside.next().await, Some(ids[0]));
        let passed = beside.first_of_all().await;
        assert_eq!(beside.next().await, Some(passed));
        if !oldest {
            // The place is one of the first's priority: behind it is nothing.
            assert_eq!(beside.next().await, Some(ids[1]));
        }
        let mut rest = ids[usize::from(!oldest) + 1..].iter();
        assert_eq!(beside.next().await.as_ref(), rest.next());
        let waits = beside.first_of_all().await;
        assert_eq!(beside.next().await.as_ref(), rest.next(), "spared");
        // However long a look takes here.
        beside.h.kit().advance(60);
        assert_eq!(beside.next().await, Some(waits), "looked for again");
        for id in rest {
            assert_eq!(beside.next().await, Some(*id));
        }
        assert_eq!(beside.next().await, None);
        invariants(&beside.h).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_left_behind_its_place_a_claim_beside_an_old_snapshot_looks_at_the_beginning()
 {
    for oldest in [false, true] {
        let (beside, ids) = Beside::of(3, oldest).await;
        for id in &ids[..2] {
            assert_eq!(beside.next().await, Some(*id));
        }
        let before = beside.first_of_all().await;
        assert_eq!(beside.next().await, Some(ids[2]));
        assert_eq!(beside.next().await, Some(before));
        assert_eq!(beside.next().await, None);
        invariants(&beside.h).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_a_batch_has_ended_is_asked_where_its_worker_has_no_more_of_it_and_by_a_keeper() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2, 2, 2]).await;
    let tasks = kit.claim(worker, op).await;
    for task in &tasks {
        let mut part = Outcomes::of(task).all_success().ends();
        // It was given back, by the time that this is recorded, and others have ended it.
        part.more = true;
        assert_eq!(kit.record(worker, part).await, Recorded::Done);
    }
    assert_eq!(kit.batch(id).await.status, Status::Inprog);
    kit.store.keep(kit.now()).await.expect("kept");
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 6));
    invariants(&h).await;
}
