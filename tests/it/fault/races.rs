//! Steps of several processes that meet on PostgreSQL: one of them stands in the middle of its own until the other is through, or waits.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use rowmill::model::{JobKey, Kind, NewBatch, OutputFile, Status, Token};
use rowmill::store::{Claim, NewWorker, OpRegistration, Recorded, Serves};
use tokio_postgres::Client;

use crate::support::servers::Database;
use crate::support::{Harness as _, Kit, Outcomes, Postgres, invariants};

const LONG: Duration = Duration::from_secs(60);

/// Where the first statement of a kind stands, and no other.
struct Gate {
    holder: Client,
}

impl Gate {
    /// Stands before or after a statement: `after update on rowmill.queue`.
    async fn of(h: &Postgres, moment: &str) -> Self {
        Self::made(h, &format!("trigger gate {moment} for each statement")).await
    }

    /// Stands at the commit of whoever has changed a record of a table.
    async fn at_commit(h: &Postgres, table: &str) -> Self {
        let late = "deferrable initially deferred for each row";
        let trigger = format!("constraint trigger gate after update on {table} {late}");
        Self::made(h, &trigger).await
    }

    async fn made(h: &Postgres, trigger: &str) -> Self {
        let gate = format!(
            "create sequence public.first_come;
             create function public.gate() returns trigger language plpgsql as
             $$ begin if nextval('public.first_come') = 1 then perform pg_advisory_xact_lock(77); end if; return null; end $$;
             create {trigger} execute function public.gate()"
        );
        Database::run_at(h.url(), &gate);
        let connected = tokio_postgres::connect(h.url(), tokio_postgres::NoTls).await;
        let (holder, driver) = connected.expect("a connection");
        tokio::spawn(driver);
        let lock = "select pg_advisory_lock(77)";
        holder.batch_execute(lock).await.expect("the lock");
        Self { holder }
    }

    /// How many wait: for the gate, or for what the one who stands there has locked.
    async fn waiting(&self) -> i64 {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let found = self.holder.query_one(sql, &[]).await.expect("an answer");
        found.get(0)
    }

    async fn open(self) {
        let unlock = "select pg_advisory_unlock(77)";
        self.holder.batch_execute(unlock).await.expect("unlocked");
    }

    async fn stands(&self) {
        let stands = async { while self.waiting().await < 1 {} };
        tokio::time::timeout(LONG, stands).await.expect("it stands");
    }

    /// Begins `step`, and opens when that is through or waits, too.
    async fn meets<T>(self, step: impl Future<Output = T>) -> T {
        let mut step = pin!(step.fuse());
        let waits = async { while self.waiting().await < 2 {} };
        let waits = tokio::time::timeout(LONG, waits);
        let through = tokio::select! {
            done = &mut step => Some(done),
            waits = waits => { waits.expect("it waits"); None }
        };
        self.open().await;
        match through {
            Some(done) => done,
            None => step.await,
        }
    }
}

/// An op whose ends are told to nobody.
async fn quiet(kit: &Kit) -> (rowmill::model::OpId, rowmill::model::WorkerNo) {
    let op = kit.register(kit.key(), false, 3).await;
    (op, kit.worker().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_purge_a_batch_none_ends_it_before_all_of_it_is_gone() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = quiet(kit).await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    for (n, part) in [
        Outcomes::of(&task).success(0).goes_on(None),
        Outcomes::of(&task).part(1).success(1).goes_on(None),
        Outcomes::of(&task).part(2).success(2).ends(),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(kit.record(worker, part).await, Recorded::Done, "part {n}");
    }
    assert!(kit.mark_purged(id).await);
    let gate = Gate::of(&h, "before delete on rowmill.attempts").await;
    let other = h.again().await;
    let first = tokio::spawn(async move { other.purge_piece(id, 2).await });
    gate.stands().await;
    let second = gate.meets(kit.store.purge_piece(id, 2)).await;
    let first = first.await.expect("no panic");
    assert!(
        !(first.unwrap() && second.unwrap()),
        "more is left than two pieces"
    );
    while !kit.store.purge_piece(id, 2).await.unwrap() {}
    let facts = h.facts();
    assert!(facts.parts.is_empty(), "{:?}", facts.parts);
    assert!(facts.blocks.is_empty());
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_claim_holds_when_their_batch_expires_expire_with_a_later_look() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let new = NewBatch {
        expires_at: Some(kit.in_seconds(10)),
        ..kit.new_batch()
    };
    let id = kit.submit(new, &[2, 3]).await;
    // It locks what it looks at, and takes no more than fits.
    let ask = Claim {
        max_rows: 1,
        ..kit.ask(worker, op)
    };
    let gate = Gate::of(&h, "after update on rowmill.queue").await;
    let (other, now) = (h.again().await, kit.now());
    let claim = tokio::spawn(async move { other.claim(ask, now).await });
    gate.stands().await;
    kit.advance(10);
    let kept = gate.meets(kit.store.keep(kit.now())).await.unwrap();
    assert_eq!(kept.expired, 0, "others hold all of it");
    let claimed = claim.await.expect("no panic").unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().expired, 1);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().expired, 0);
    assert_eq!(kit.succeed(worker, &claimed[0]).await, Recorded::Done);
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.expired),
        (Status::Expired, 2, 3)
    );
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_last_blocks_are_given_while_its_others_end_is_not_closed_before_they_have_run()
 {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = quiet(kit).await;
    let id = kit.submit(kit.new_batch(), &[1; 10_001]).await;
    let mut last = None;
    loop {
        let tasks = kit.claim(worker, op).await;
        if tasks.is_empty() {
            break;
        }
        let mut parts = Vec::with_capacity(tasks.len());
        for task in &tasks {
            // The one of the last block that was given ends later.
            match task.claim.no {
                9_999 => last = Some(Outcomes::of(task).writes(0, "a.csv", "x\n").ends()),
                _ => parts.push(Outcomes::of(task).all_success().ends()),
            }
        }
        kit.store.record(worker, parts, kit.now()).await.unwrap();
    }
    let last = last.expect("its first ten thousand blocks are given");
    let gate = Gate::of(&h, "before insert on rowmill.queue").await;
    let (other, now) = (h.again().await, kit.now());
    let gives = tokio::spawn(async move { other.keep(now).await });
    gate.stands().await;
    let recorded = gate.meets(kit.record(worker, last)).await;
    assert_eq!(recorded, Recorded::Done);
    gives.await.expect("no panic").unwrap();
    let closes = async || {
        let token = Token::random().unwrap();
        let closes = kit.store.claim_close(worker, token, 10, kit.now()).await;
        closes.unwrap()
    };
    assert!(closes().await.is_empty(), "a row has not run");
    let task = kit.claim_one(worker, op).await;
    assert_eq!(task.claim.no, 10_000);
    kit.succeed(worker, &task).await;
    let close = closes().await.remove(0);
    let none: Vec<OutputFile> = Vec::new();
    let closed = kit.store.close(worker, close.claim, none, kit.now()).await;
    assert_eq!(closed.unwrap(), Recorded::Done);
    let batch = kit.batch(id).await;
    assert_eq!((batch.done, batch.counts.success), (true, 10_001));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_which_a_part_is_on_its_way_is_not_given_back_as_if_it_had_not_begun() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(3).await;
    let task = kit.claim_one(worker, op).await;
    let part = Outcomes::of(&task).success(0).goes_on(None);
    let gate = Gate::of(&h, "before insert on rowmill.attempts").await;
    let (other, now) = (h.again().await, kit.now());
    let record = tokio::spawn(async move { other.record(worker, vec![part], now).await });
    gate.stands().await;
    let back = kit.store.give_back(worker, vec![task.claim], kit.now());
    gate.meets(back).await.unwrap();
    assert_eq!(record.await.expect("no panic").unwrap(), [Recorded::Done]);
    kit.work_off(worker, op).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 3));
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_that_are_claimed_while_their_worker_leaves_are_told_by_another() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, leaver) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[1]).await;
    kit.abort(id).await;
    let gate = Gate::of(&h, "before update on rowmill.notices").await;
    let (other, now) = (h.again().await, kit.now());
    let token = || Token::random().unwrap();
    let first = token();
    let claim =
        tokio::spawn(async move { other.claim_notices(leaver, first, vec![op], now).await });
    gate.stands().await;
    gate.meets(kit.store.leave(leaver, kit.now()))
        .await
        .unwrap();
    assert_eq!(claim.await.expect("no panic").unwrap().len(), 1);
    let alive = kit.worker().await;
    for dead in kit.store.dead_workers().await.unwrap() {
        kit.take_over(dead).await;
    }
    let told = kit.store.claim_notices(alive, token(), vec![op], kit.now());
    assert_eq!(told.await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_claim_holds_when_their_batch_is_aborted_end_without_another_claim() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2, 3]).await;
    let ask = Claim {
        max_rows: 1,
        ..kit.ask(worker, op)
    };
    // It has seen no abort, and is not through.
    let gate = Gate::at_commit(&h, "rowmill.queue").await;
    let (other, now) = (h.again().await, kit.now());
    let claim = tokio::spawn(async move { other.claim(ask, now).await });
    gate.stands().await;
    let store = kit.store.clone();
    let abort = tokio::spawn(async move { store.abort(id, "eve".to_owned(), now).await });
    let marked = async { while h.facts().audit.is_empty() {} };
    tokio::time::timeout(LONG, marked).await.expect("marked");
    gate.open().await;
    let claimed = claim.await.expect("no panic").unwrap();
    abort.await.expect("no panic").unwrap();
    assert_eq!(claimed.len(), 1);
    let facts = h.facts();
    let left: Vec<i64> = facts.rows_tasks(id).iter().map(|task| task.no).collect();
    assert_eq!(left, [claimed[0].claim.no], "what runs, and nothing else");
    kit.succeed(worker, &claimed[0]).await;
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.success, batch.counts.aborted),
        (Status::Aborted, 2, 3)
    );
    invariants(&h).await;
}

/// Between the commit of the last rows and the look whether there are others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_worker_died_before_it_looked_whether_all_has_ended_is_closed() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[1, 1]).await;
    let tasks = kit.claim(worker, op).await;
    kit.succeed(worker, &tasks[0]).await;
    let last = Outcomes::of(&tasks[1]).writes(0, "a.csv", "x\n").ends();
    let gate = Gate::of(&h, "before update on rowmill.queue").await;
    let (dying, now) = (h.again().await, kit.now());
    let record = tokio::spawn(async move { dying.record(worker, vec![last], now).await });
    gate.stands().await;
    record.abort();
    assert!(record.await.is_err_and(|e| e.is_cancelled()));
    gate.open().await;
    let closes = async || {
        let token = Token::random().unwrap();
        let closes = kit.store.claim_close(worker, token, 10, kit.now()).await;
        closes.unwrap()
    };
    assert!(h.facts().rows_tasks(id).is_empty(), "all has ended");
    assert!(closes().await.is_empty(), "nobody has looked");
    kit.store.keep(kit.now()).await.unwrap();
    let close = closes().await.remove(0);
    let none: Vec<OutputFile> = Vec::new();
    let closed = kit.store.close(worker, close.claim, none, kit.now()).await;
    assert_eq!(closed.unwrap(), Recorded::Done);
    assert_eq!(kit.batch(id).await.counts.success, 2);
    invariants(&h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_stored_for_a_worker_that_enters_beside_one_that_tells_none() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let op = kit.op().await;
    // What it tells is noted already: it changes nothing of the op.
    let gate = Gate::of(&h, "after update on rowmill.ops").await;
    let (other, now) = (h.again().await, kit.now());
    let teller = NewWorker {
        host: "there".to_owned(),
        pid: 1,
        version: "0",
        ops: vec![Serves { op, notify: true }],
        only: None,
    };
    let enters = tokio::spawn(async move {
        let entered = other.enter(teller, now).await;
        // Its store lives as long as it does.
        (entered, other)
    });
    gate.stands().await;
    let serves = vec![Serves { op, notify: false }];
    gate.meets(kit.enter(&kit.store, serves, None)).await;
    let (entered, _lives) = enters.await.expect("no panic");
    entered.unwrap();
    let id = kit.submit(kit.held(), &[1]).await;
    kit.abort(id).await;
    assert_eq!(h.facts().notices.len(), 1, "somebody tells it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_registers_ops_beside_a_worker_that_enters_holds_none_that_it_waits_for() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let key = |op: &str| JobKey::new("bank", op, Kind::Batch).expect("a key");
    // Not in the order of their names.
    let mut ops = Vec::new();
    for op in ["last", "first"] {
        let op = kit.register(key(op), true, 3).await;
        ops.push(Serves { op, notify: true });
    }
    let gate = Gate::of(&h, "after insert on rowmill.worker_ops").await;
    let (other, now) = (h.again().await, kit.now());
    let enters = async { kit.enter(&kit.store, ops, None).await };
    let registers = async {
        gate.stands().await;
        let named = ["first", "last"].map(|op| OpRegistration {
            key: key(op),
            notify: true,
            max_lost: 3,
            keep: None,
        });
        let registers = tokio::spawn(async move { other.register_ops(named.into(), now).await });
        let waits = async { while gate.waiting().await < 2 {} };
        tokio::time::timeout(LONG, waits).await.expect("it waits");
        let first = "select 1 from rowmill.ops where op = 'first' for no key update nowait";
        let held = gate.holder.batch_execute(first).await;
        gate.open().await;
        held.expect("nobody holds it who waits for another");
        registers.await.expect("no panic").expect("registered")
    };
    let (_, registered) = tokio::join!(enters, registers);
    assert_eq!(registered.len(), 2);
    assert!(registered[0] > registered[1], "each in its place");
}
