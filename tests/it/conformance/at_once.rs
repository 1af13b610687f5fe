//! A query that is submitted alone while a worker of the process has a free slot: stored as claimed by that, or as any.
//!
//! A store may have no use for such slots; there a query is queued, whoever has one.

use std::sync::Arc;

use rowmill::model::{
    BatchId, ContentHash, EndedAs, NewBatch, OpId, RetryOf, Status, Timestamp, Token, WorkerNo,
};
use rowmill::store::{ClaimedTask, FreeSlot, Holder, QueryBlock, Recorded, Submitted};

use crate::support::kit::Kit;
use crate::support::{Harness, Outcomes};

/// What is said of a query.
type Change = Box<dyn FnOnce(&mut NewBatch)>;

fn holder(worker: WorkerNo, op: OpId) -> Holder {
    Holder {
        worker,
        op,
        token: Token::random().expect("a token"),
        once: false,
    }
}

/// Stores a query for a slot; `None`: nobody has it.
async fn fill(kit: &Kit, query: QueryBlock, holder: Holder) -> (BatchId, Option<ClaimedTask>) {
    let id = query.0.id;
    let query = Arc::new((query, kit.now()));
    let stored = kit.store.submit_at_once(query, holder, kit.now()).await;
    let (submitted, task) = stored.expect("stored").expect("answered");
    assert_eq!(submitted, Submitted::New(id));
    (id, task)
}

fn query(kit: &Kit, with: impl FnOnce(&mut NewBatch)) -> QueryBlock {
    let block = kit.blocks(&[1]).remove(0);
    let hash = ContentHash::of(&block);
    let mut query = NewBatch::new(kit.query_key());
    with(&mut query);
    (query, block, hash)
}

async fn submit(kit: &Kit, query: QueryBlock) -> BatchId {
    let id = query.0.id;
    let submitted = kit.store.submit_many(vec![query], kit.now()).await;
    assert_eq!(submitted.expect("submitted"), [Submitted::New(id)]);
    id
}

async fn op_and_worker(kit: &Kit) -> (OpId, WorkerNo) {
    let op = kit.register(kit.query_key(), true, 3).await;
    (op, kit.worker().await)
}

async fn status(kit: &Kit, id: BatchId) -> Status {
    let (batch, row) = (kit.batch(id).await, kit.row(id, 1).await);
    assert_eq!(batch.status, row.status, "a query is its row");
    batch.status
}

/// It is where any query is: nobody has it, and it is claimed and ends.
async fn waits_and_ends(kit: &Kit, op: OpId, id: BatchId) {
    assert_eq!(status(kit, id).await, Status::Queued);
    kit.work_off(kit.worker().await, op).await;
    assert_eq!(status(kit, id).await, Status::Success);
}

/// Whether this store has a use for free slots.
fn has_slots(kit: &Kit, op: OpId, worker: WorkerNo) -> bool {
    let (slot, _asked) = FreeSlot::new(holder(worker, op));
    let has = kit.store.offer(&kit.query_key(), Arc::clone(&slot));
    assert!(slot.take_back());
    has
}

/// What fills the slot, where the store has a use for one.
async fn claimed(
    kit: &Kit,
    query: QueryBlock,
    holder: Holder,
) -> Result<(BatchId, ClaimedTask), BatchId> {
    let (id, task) = fill(kit, query, holder).await;
    assert_eq!(task.is_some(), has_slots(kit, holder.op, holder.worker));
    task.map(|task| (id, task)).ok_or(id)
}

pub async fn a_query_is_claimed_for_the_slot_that_it_is_stored_in(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    let by = holder(worker, op);
    let asked = query(kit, |query| query.external_id = Some("first".to_owned()));
    let (id, task) = match claimed(kit, asked, by).await {
        Ok(claimed) => claimed,
        Err(id) => return waits_and_ends(kit, op, id).await,
    };
    assert_eq!(
        (task.claim.batch, task.claim.token, task.claim.attempt),
        (id, by.token, 1)
    );
    assert_eq!((task.batch.id, task.batch.root), (id, id));
    assert_eq!(task.batch.key, kit.query_key());
    assert_eq!(
        (task.rows, task.first_line, task.body.as_str()),
        (1, 1, "1\n")
    );
    assert_eq!((task.failures, task.laters, task.suspect), (0, 0, false));
    assert_eq!(status(kit, id).await, Status::Inprog);
    assert_eq!(kit.batch(id).await.started_at, Some(kit.now()));
    assert!(
        kit.claim(worker, op).await.is_empty(),
        "it is nobody else's"
    );
    let running = kit.store.beat(worker).await.expect("heard");
    assert!(running.iter().map(|running| running.claim).eq([task.claim]));
    let end = Outcomes::of(&task).all_success().ends();
    let recorded = kit.store.record(worker, vec![end], kit.now()).await;
    assert_eq!(recorded.expect("recorded"), [Recorded::Done]);
    assert_eq!(status(kit, id).await, Status::Success);
    let found = kit
        .store
        .find_external("bank".to_owned(), "first".to_owned());
    assert_eq!(found.await.expect("found"), Some(id));
}

pub async fn a_query_behind_others_waits_as_they_do(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    for others in [1, 20] {
        let many = (0..others).map(|_| query(kit, |query| query.priority = -5));
        let many: Vec<QueryBlock> = many.collect();
        let ids: Vec<BatchId> = many.iter().map(|(query, ..)| query.id).collect();
        let submitted = kit.store.submit_many(many, kit.now()).await;
        assert_eq!(submitted.expect("submitted").len(), ids.len());
        let (id, task) = fill(kit, query(kit, |_| {}), holder(worker, op)).await;
        assert!(task.is_none());
        waits_and_ends(kit, op, id).await;
        for other in ids {
            assert_eq!(status(kit, other).await, Status::Success);
        }
    }
}

pub async fn a_query_of_a_paused_op_fills_no_slot(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    let paused = kit
        .store
        .pause_op(kit.query_key(), "ops".to_owned(), kit.now());
    assert!(paused.await.expect("paused"));
    let (id, task) = fill(kit, query(kit, |_| {}), holder(worker, op)).await;
    assert!(task.is_none());
    assert!(kit.claim(worker, op).await.is_empty());
    let resumed = kit
        .store
        .resume_op(kit.query_key(), "ops".to_owned(), kit.now());
    assert!(resumed.await.expect("resumed"));
    waits_and_ends(kit, op, id).await;
}

pub async fn a_slot_of_a_worker_that_is_gone_is_not_filled(h: &impl Harness) {
    let kit = h.kit();
    let (op, dead) = op_and_worker(kit).await;
    let left = kit.worker().await;
    kit.take_over(dead).await;
    kit.store.leave(left, kit.now()).await.expect("left");
    for gone in [dead, left] {
        let (id, task) = fill(kit, query(kit, |_| {}), holder(gone, op)).await;
        assert!(task.is_none());
        waits_and_ends(kit, op, id).await;
    }
}

pub async fn what_may_not_begin_at_once_is_claimed_by_nobody(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    let other = kit.register(kit.key_of("other"), false, 3).await;
    let (of_another, task) = fill(kit, query(kit, |_| {}), holder(worker, other)).await;
    assert!(task.is_none(), "the slot is another op's");
    let failed = kit.claim_one(worker, op).await;
    assert_eq!(failed.claim.batch, of_another);
    let end = Outcomes::of(&failed).failed(0).ends();
    let recorded = kit.store.record(worker, vec![end], kit.now()).await;
    assert_eq!(recorded.expect("recorded"), [Recorded::Done]);
    let later: Timestamp = kit.in_seconds(60);
    let retry = RetryOf {
        parent: of_another,
        root: of_another,
        generation: 1,
        before: 0,
    };
    let changes: [Change; 4] = [
        Box::new(|query| query.hold = true),
        Box::new(move |query| query.run_at = Some(later)),
        Box::new(move |query| query.expires_at = Some(later)),
        Box::new(move |query| query.retry_of = Some(retry)),
    ];
    for change in changes {
        // Who submits leaves the slot free.
        let (slot, _asked) = FreeSlot::new(holder(worker, op));
        kit.store.offer(&kit.query_key(), Arc::clone(&slot));
        let asked = query(kit, change);
        let id = submit(kit, asked.clone()).await;
        assert!(slot.take_back());
        assert_ne!(status(kit, id).await, Status::Inprog);
        kit.store
            .abort(id, "ops".to_owned(), kit.now())
            .await
            .expect("aborted");
        // Nor does one who stores it for one claim it.
        let mut again = asked;
        again.0.id = BatchId::new();
        if let Some(of) = &mut again.0.retry_of {
            of.before = 1;
        }
        let (id, task) = fill(kit, again, holder(worker, op)).await;
        assert!(task.is_none());
        kit.store
            .abort(id, "ops".to_owned(), kit.now())
            .await
            .expect("aborted");
    }
    let (slot, _asked) = FreeSlot::new(holder(worker, op));
    kit.store.offer(&kit.query_key(), Arc::clone(&slot));
    let two = vec![query(kit, |_| {}), query(kit, |_| {})];
    let submitted = kit.store.submit_many(two, kit.now()).await;
    assert_eq!(submitted.expect("submitted").len(), 2);
    assert!(slot.take_back(), "many of one call ask for none");
    kit.work_off(kit.worker().await, op).await;
}

pub async fn a_query_that_is_there_already_fills_no_slot(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    let asked = query(kit, |_| {});
    let id = submit(kit, asked.clone()).await;
    kit.work_off(worker, op).await;
    let again = Arc::new((asked.clone(), kit.now()));
    let again = kit
        .store
        .submit_at_once(again, holder(worker, op), kit.now());
    let (submitted, task) = again.await.expect("stored").expect("answered");
    assert_eq!(submitted, Submitted::Existing(id));
    assert!(task.is_none());
    let mut other = asked;
    other.2 = [7; 32];
    let other = Arc::new((other, kit.now()));
    let refused = kit
        .store
        .submit_at_once(other, holder(worker, op), kit.now());
    assert!(
        refused.await.is_err(),
        "other content under the same id is refused"
    );
    let running = kit.store.beat(worker).await.expect("heard");
    assert!(running.is_empty(), "nothing of it was claimed");
}

pub async fn a_query_in_a_slot_goes_again_when_its_worker_dies(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    let (id, task) = match claimed(kit, query(kit, |_| {}), holder(worker, op)).await {
        Ok(claimed) => claimed,
        Err(id) => return waits_and_ends(kit, op, id).await,
    };
    kit.take_over(worker).await;
    assert_eq!(status(kit, id).await, Status::Queued);
    let end = Outcomes::of(&task).all_success().ends();
    let recorded = kit.store.record(worker, vec![end], kit.now()).await;
    assert!(
        !matches!(recorded.as_deref(), Ok([Recorded::Done])),
        "it is the dead's"
    );
    let next = kit.worker().await;
    let again = kit.claim_one(next, op).await;
    assert_eq!((again.claim.batch, again.claim.attempt), (id, 2));
    let end = Outcomes::of(&again).all_success().ends();
    let recorded = kit.store.record(next, vec![end], kit.now()).await;
    assert_eq!(recorded.expect("recorded"), [Recorded::Done]);
    assert_eq!(status(kit, id).await, Status::Success);
}

pub async fn a_query_in_a_slot_is_given_back_as_any(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    let (id, task) = fill(kit, query(kit, |_| {}), holder(worker, op)).await;
    let claims = task.map(|task| task.claim).into_iter().collect();
    let given = kit.store.give_back(worker, claims, kit.now()).await;
    given.expect("given back");
    waits_and_ends(kit, op, id).await;
}

pub async fn a_query_at_most_once_is_suspect_in_its_slot(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    let once = Holder {
        once: true,
        ..holder(worker, op)
    };
    let (id, task) = match claimed(kit, query(kit, |_| {}), once).await {
        Ok(claimed) => claimed,
        Err(id) => return waits_and_ends(kit, op, id).await,
    };
    assert!(task.suspect && !task.accused && !task.believed);
    let begun = Outcomes::of(&task).goes_on(Some(0));
    let recorded = kit.store.record(worker, vec![begun], kit.now()).await;
    assert_eq!(recorded.expect("recorded"), [Recorded::Done]);
    kit.take_over(worker).await;
    assert_eq!(status(kit, id).await, Status::Failed, "it has started");
}

pub async fn an_abort_reaches_a_query_in_a_slot(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    let (id, task) = fill(kit, query(kit, |_| {}), holder(worker, op)).await;
    let aborted = kit.store.abort(id, "ops".to_owned(), kit.now()).await;
    aborted.expect("aborted");
    if let Some(task) = task {
        let running = kit.store.beat(worker).await.expect("heard");
        let aborting: Vec<_> = running.iter().map(|r| (r.claim, r.aborting)).collect();
        assert_eq!(aborting, [(task.claim, true)]);
        let end = Outcomes::of(&task).ends_as(EndedAs::Aborted, vec![0]);
        let recorded = kit.store.record(worker, vec![end], kit.now()).await;
        assert_eq!(recorded.expect("recorded"), [Recorded::Done]);
    }
    assert_eq!(status(kit, id).await, Status::Aborted);
}

pub async fn of_queries_that_come_at_the_same_moment_each_has_one_worker(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = op_and_worker(kit).await;
    let mut ended = 0;
    for _ in 0..10 {
        let asked: Vec<QueryBlock> = (0..6).map(|_| query(kit, |_| {})).collect();
        let mut all: Vec<BatchId> = asked.iter().map(|(query, ..)| query.id).collect();
        let fills = asked
            .into_iter()
            .map(|query| fill(kit, query, holder(worker, op)));
        let (filled, waiting) =
            tokio::join!(futures_util::future::join_all(fills), kit.claim(worker, op));
        let filled = filled.into_iter().filter_map(|(_, task)| task);
        let mut tasks: Vec<ClaimedTask> = filled.chain(waiting).collect();
        loop {
            let more = kit.claim(worker, op).await;
            if more.is_empty() {
                break;
            }
            tasks.extend(more);
        }
        let mut claimed: Vec<BatchId> = tasks.iter().map(|task| task.claim.batch).collect();
        claimed.sort_unstable();
        all.sort_unstable();
        assert_eq!(claimed, all, "each once");
        let parts = tasks
            .iter()
            .map(|task| Outcomes::of(task).all_success().ends());
        let recorded = kit
            .store
            .record(worker, parts.collect(), kit.now())
            .await
            .expect("recorded");
        assert!(recorded.iter().all(|one| *one == Recorded::Done));
        ended += recorded.len();
    }
    assert_eq!(ended, 60);
}
