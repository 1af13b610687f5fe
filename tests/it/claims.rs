//! Claims on PostgreSQL that meet what one writer alone never meets.

use rowmill::model::Status;

use crate::e2e::world::LONG;
use crate::support::{Harness as _, Postgres, invariants};

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
