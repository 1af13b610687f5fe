//! Queries that were submitted together: whatever the store makes of that, each is claimed, aborted, lost and told of by itself.

use rowmill::model::{BatchId, ContentHash, NewBatch, OpId, RawJson, Status, WorkerNo};
use rowmill::store::{Claim, ClaimedTask, Part, QueryBlock, Recorded, Submitted};

use crate::support::kit::Kit;
use crate::support::{Harness, Outcomes};

/// More than one record of the queue stands for.
const MANY: usize = 130;

fn query(kit: &Kit, priority: i32) -> QueryBlock {
    let block = kit.blocks(&[1]).remove(0);
    let hash = ContentHash::of(&block);
    let query = NewBatch {
        priority,
        ..NewBatch::new(kit.query_key())
    };
    (query, block, hash)
}

async fn store(kit: &Kit, queries: Vec<QueryBlock>) -> Vec<BatchId> {
    let ids: Vec<BatchId> = queries.iter().map(|(query, ..)| query.id).collect();
    let submitted = kit.store.submit_many(queries, kit.now()).await;
    let new: Vec<Submitted> = ids.iter().map(|id| Submitted::New(*id)).collect();
    assert_eq!(submitted.expect("submitted"), new);
    ids
}

/// So many queries of one call, whose ends are told.
async fn queries(kit: &Kit, number: usize) -> (OpId, WorkerNo, Vec<BatchId>) {
    let op = kit.register(kit.query_key(), true, 3).await;
    let worker = kit.worker().await;
    let ids = store(kit, (0..number).map(|_| query(kit, 0)).collect()).await;
    (op, worker, ids)
}

fn of(tasks: &[ClaimedTask]) -> Vec<BatchId> {
    tasks.iter().map(|task| task.batch.id).collect()
}

async fn succeed(kit: &Kit, worker: WorkerNo, tasks: &[ClaimedTask]) -> Vec<Recorded> {
    let parts: Vec<Part> = tasks
        .iter()
        .map(|task| Outcomes::of(task).all_success().ends())
        .collect();
    let recorded = kit.store.record(worker, parts, kit.now()).await;
    recorded.expect("recorded")
}

/// What is claimed until there is nothing more: what stands together may be claimed before or after what does not.
async fn claim_all(kit: &Kit, worker: WorkerNo, op: OpId) -> Vec<ClaimedTask> {
    let mut all = Vec::new();
    loop {
        let some = kit.claim(worker, op).await;
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

async fn with_status(kit: &Kit, ids: &[BatchId], status: Status) -> usize {
    let mut found = 0;
    for id in ids {
        let batch = kit.batch(*id).await;
        let row = kit.row(*id, 1).await;
        assert_eq!(batch.status, row.status, "a query is its row");
        found += usize::from(batch.status == status);
    }
    found
}

pub async fn each_query_of_a_call_is_claimed_and_ends_once(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, MANY).await;
    assert_eq!(with_status(kit, &ids, Status::Queued).await, MANY);
    let tasks = kit.claim(worker, op).await;
    assert_eq!(of(&tasks), ids, "in their order");
    assert!(tasks.iter().all(|t| (t.rows, t.claim.attempt) == (1, 1)));
    assert_eq!(with_status(kit, &ids, Status::Inprog).await, MANY);
    assert!(kit.claim(worker, op).await.is_empty());
    let (first, rest) = tasks.split_at(40);
    assert_eq!(succeed(kit, worker, first).await, [Recorded::Done; 40]);
    assert_eq!(with_status(kit, &ids, Status::Success).await, 40);
    let failed = Outcomes::of(&rest[0]).failed(0).ends();
    assert_eq!(kit.record(worker, failed).await, Recorded::Done);
    let again = succeed(kit, worker, &tasks).await;
    assert_eq!(again[..41], [Recorded::Fenced; 41], "they have ended");
    assert_eq!(again[41..], [Recorded::Done; MANY - 41]);
    assert_eq!(with_status(kit, &ids, Status::Success).await, MANY - 1);
    assert_eq!(kit.batch(ids[40]).await.status, Status::Failed);
    let facts = h.facts();
    assert!(facts.tasks.is_empty());
    assert_eq!(facts.notices.len(), MANY, "each end is told");
}

pub async fn queries_of_a_call_are_claimed_one_by_one_where_few_are_asked_for(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, MANY).await;
    let other = kit.worker().await;
    for (at, id) in ids.iter().take(20).enumerate() {
        let who = if at % 2 == 0 { worker } else { other };
        let task = kit.claim_one(who, op).await;
        assert_eq!(task.batch.id, *id);
        let wrong = if at % 2 == 0 { other } else { worker };
        assert_eq!(kit.succeed(wrong, &task).await, Recorded::Fenced);
        assert_eq!(kit.succeed(who, &task).await, Recorded::Done);
    }
    let rest = claim_all(kit, worker, op).await;
    assert_eq!(of(&rest), ids[20..]);
    assert_eq!(
        succeed(kit, worker, &rest).await,
        [Recorded::Done; MANY - 20]
    );
}

pub async fn a_query_of_a_call_is_aborted_alone(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, 30).await;
    kit.abort(ids[5]).await;
    assert_eq!(kit.batch(ids[5]).await.status, Status::Aborted);
    let tasks = kit.claim(worker, op).await;
    assert_eq!(tasks.len(), 29);
    assert!(!of(&tasks).contains(&ids[5]));
    assert!(
        succeed(kit, worker, &tasks)
            .await
            .iter()
            .all(|r| *r == Recorded::Done)
    );
}

pub async fn a_running_query_of_a_call_is_aborted_alone(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, 30).await;
    let tasks = kit.claim(worker, op).await;
    assert_eq!(succeed(kit, worker, &tasks[..3]).await, [Recorded::Done; 3]);
    kit.abort(ids[5]).await;
    let batch = kit.batch(ids[5]).await;
    assert_eq!((batch.status, batch.aborting), (Status::Inprog, true));
    let running = kit.store.beat(worker).await.expect("a beat");
    assert_eq!(running.len(), 27);
    for task in &running {
        assert_eq!(task.aborting, task.claim.batch == ids[5]);
        assert!(tasks.iter().any(|claimed| claimed.claim == task.claim));
    }
    let row = Outcomes::of(&tasks[5]).retry(0, None).ends();
    assert_eq!(kit.record(worker, row).await, Recorded::Done);
    assert_eq!(kit.batch(ids[5]).await.status, Status::Aborted);
    let rest: Vec<ClaimedTask> = [&tasks[3..5], &tasks[6..]].concat();
    assert_eq!(succeed(kit, worker, &rest).await, [Recorded::Done; 26]);
    assert_eq!(with_status(kit, &ids, Status::Success).await, 29);
}

pub async fn queries_of_a_worker_that_died_go_again_but_for_those_that_ended(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, MANY).await;
    let tasks = kit.claim(worker, op).await;
    succeed(kit, worker, &tasks[..90]).await;
    assert_eq!(kit.take_over(worker).await.tasks, 40);
    assert_eq!(
        succeed(kit, worker, &tasks[90..]).await,
        [Recorded::Fenced; 40],
        "they are not its own any more"
    );
    let other = kit.worker().await;
    let again = kit.claim(other, op).await;
    assert_eq!(of(&again), ids[90..]);
    assert!(
        again
            .iter()
            .all(|t| (t.claim.attempt, t.suspect) == (2, true))
    );
    assert_eq!(succeed(kit, other, &again).await, [Recorded::Done; 40]);
    assert_eq!(with_status(kit, &ids, Status::Success).await, MANY);
}

pub async fn a_query_of_a_call_that_goes_again_leaves_the_others(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, 30).await;
    let tasks = kit.claim(worker, op).await;
    let mut parts: Vec<Part> = tasks
        .iter()
        .map(|task| Outcomes::of(task).all_success().ends())
        .collect();
    parts[7] = Outcomes::of(&tasks[7]).retry(0, None).ends();
    let recorded = kit.store.record(worker, parts, kit.now()).await;
    assert_eq!(recorded.expect("recorded"), [Recorded::Done; 30]);
    let again = kit.claim_one(worker, op).await;
    assert_eq!(
        (again.batch.id, again.claim.attempt, again.failures),
        (ids[7], 2, 1)
    );
    assert!(kit.claim(worker, op).await.is_empty());
    assert_eq!(kit.succeed(worker, &again).await, Recorded::Done);
    assert_eq!(with_status(kit, &ids, Status::Success).await, 30);
}

pub async fn queries_of_a_call_that_are_given_back_are_claimed_again(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, 30).await;
    let tasks = kit.claim(worker, op).await;
    assert_eq!(
        succeed(kit, worker, &tasks[..10]).await,
        [Recorded::Done; 10]
    );
    let back = tasks[10..20].iter().map(|task| task.claim).collect();
    kit.store
        .give_back(worker, back, kit.now())
        .await
        .expect("given back");
    assert_eq!(
        succeed(kit, worker, &tasks[20..]).await,
        [Recorded::Done; 10]
    );
    let other = kit.worker().await;
    let again = kit.claim(other, op).await;
    assert_eq!(of(&again), ids[10..20]);
    assert!(
        again
            .iter()
            .all(|t| (t.claim.attempt, t.failures) == (2, 0))
    );
    assert_eq!(succeed(kit, other, &again).await, [Recorded::Done; 10]);
    let left = kit.store.leave(worker, kit.now()).await;
    left.expect("it holds nothing");
}

pub async fn the_work_of_an_op_is_counted_whatever_stands_together(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, MANY).await;
    let counted = async || {
        let ops = kit.store.ops().await.expect("the ops");
        let op = ops
            .iter()
            .find(|entry| entry.key == kit.query_key())
            .expect("the op")
            .clone();
        (
            (op.queued.tasks, op.queued.rows),
            (op.running.tasks, op.running.rows),
            op.oldest_queued,
        )
    };
    let many = u64::try_from(MANY).unwrap();
    assert_eq!(counted().await, ((many, many), (0, 0), Some(kit.now())));
    kit.abort(ids[120]).await;
    let some = Claim {
        max_tasks: 50,
        ..kit.ask(worker, op)
    };
    let tasks = [kit.claim_as(some.clone()).await, kit.claim_as(some).await].concat();
    assert_eq!(tasks.len(), 100);
    assert_eq!(counted().await, ((29, 29), (100, 100), Some(kit.now())));
    succeed(kit, worker, &tasks[..60]).await;
    assert_eq!(counted().await, ((29, 29), (40, 40), Some(kit.now())));
    succeed(kit, worker, &tasks[60..]).await;
    assert_eq!(counted().await.1, (0, 0));
}

pub async fn queries_of_a_call_take_their_place_by_priority_and_turn(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, low) = queries(kit, 20).await;
    let alone = store(kit, vec![query(kit, 5)]).await;
    let high = store(kit, (0..20).map(|_| query(kit, 9)).collect()).await;
    let last = store(kit, vec![query(kit, 0)]).await;
    let mut order = Vec::new();
    for most in [1, 7, 1000, 1000, 1000, 1000] {
        let ask = Claim {
            max_tasks: most,
            ..kit.ask(worker, op)
        };
        order.extend(of(&kit.claim_as(ask).await));
    }
    assert_eq!(order, [high, alone, low, last].concat());
}

pub async fn the_oldest_queries_of_a_call_come_first_where_it_is_asked_for(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, low) = queries(kit, 20).await;
    kit.advance(5);
    store(kit, (0..20).map(|_| query(kit, 9)).collect()).await;
    let ask = Claim {
        max_tasks: 20,
        oldest: true,
        ..kit.ask(worker, op)
    };
    // What there is to claim was seen, as it is by a worker.
    let heads = kit.heads(op, None).await.expect("heads");
    assert_eq!(heads[0].priority, 9);
    // One claim may loosen what the next takes.
    let first = kit.claim_as(ask.clone()).await;
    assert_eq!(of(&first), low);
}

pub async fn a_cap_holds_for_queries_of_a_call(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, MANY).await;
    let other = kit.worker().await;
    let capped = |worker, cap| Claim {
        cap: Some((cap, 1)),
        ..kit.ask(worker, op)
    };
    let first = kit.claim_as(capped(worker, 10)).await;
    assert_eq!(of(&first), ids[..10]);
    assert!(kit.claim_as(capped(other, 10)).await.is_empty());
    let free = claim_all(kit, other, op).await;
    assert_eq!(free.len(), 120, "of which nobody had asked for a cap");
    assert!(kit.claim_as(capped(worker, 130)).await.is_empty());
    succeed(kit, other, &free[..1]).await;
    let late = store(kit, (0..20).map(|_| query(kit, 0)).collect()).await;
    assert_eq!(of(&kit.claim_as(capped(worker, 130)).await), late[..1]);
}

pub async fn a_worker_of_one_query_of_a_call_claims_that_one(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, 30).await;
    let heads = kit.heads(op, Some(ids[7])).await.expect("heads");
    assert_eq!(heads.len(), 1);
    let only = Claim {
        only: Some(ids[7]),
        ..kit.ask(worker, op)
    };
    assert_eq!(of(&kit.claim_as(only.clone()).await), [ids[7]]);
    assert!(kit.claim_as(only).await.is_empty());
    let heads = kit.heads(op, Some(ids[7])).await.expect("heads");
    assert!(heads.is_empty());
    assert_eq!(kit.claim(worker, op).await.len(), 29);
}

pub async fn queries_of_a_call_at_most_once_are_suspect_from_their_first_claim(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, 30).await;
    let once = Claim {
        once: true,
        ..kit.ask(worker, op)
    };
    let tasks = kit.claim_as(once).await;
    assert_eq!(of(&tasks), ids);
    assert!(tasks.iter().all(|task| task.suspect));
}

pub async fn queries_of_a_paused_op_are_claimed_by_nobody(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, 30).await;
    let pause = kit
        .store
        .pause_op(kit.query_key(), "eve".to_owned(), kit.now())
        .await;
    pause.expect("paused");
    assert!(kit.heads(op, None).await.expect("heads").is_empty());
    assert!(kit.claim(worker, op).await.is_empty());
    assert_eq!(with_status(kit, &ids, Status::Queued).await, 30);
}

pub async fn a_call_made_again_is_answered_with_what_is_there(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.query_key(), true, 3).await;
    let worker = kit.worker().await;
    let asked: Vec<QueryBlock> = (0..30).map(|_| query(kit, 0)).collect();
    let ids = store(kit, asked.clone()).await;
    let there: Vec<Submitted> = ids.iter().map(|id| Submitted::Existing(*id)).collect();
    let again = kit.store.submit_many(asked.clone(), kit.now()).await;
    assert_eq!(again.expect("answered"), there);
    let tasks = kit.claim(worker, op).await;
    assert_eq!(of(&tasks), ids, "each once");
    succeed(kit, worker, &tasks).await;
    let again = kit.store.submit_many(asked, kit.now()).await;
    assert_eq!(again.expect("answered"), there);
    assert!(kit.claim(worker, op).await.is_empty());
}

pub async fn the_attempt_of_a_query_of_a_call_is_told(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, 30).await;
    let running = async || {
        let history = kit.store.history(ids[3], 0).await.expect("a history");
        history.entries
    };
    assert!(running().await.iter().all(|entry| entry.worker.is_none()));
    let tasks = kit.claim(worker, op).await;
    let told = running().await;
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].worker, told[0].attempt), (Some(worker), 1));
    succeed(kit, worker, &tasks).await;
    assert_eq!(running().await.len(), 1);
}

/// Whoever is aborted while the others are recorded has one end, and so has each of the others.
pub async fn aborts_and_records_at_the_same_moment_end_each_query_once(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker, ids) = queries(kit, MANY).await;
    let tasks = kit.claim(worker, op).await;
    assert_eq!(tasks.len(), MANY);
    let record = async {
        for some in tasks.chunks(10) {
            succeed(kit, worker, some).await;
        }
    };
    let abort = async {
        for id in ids.iter().step_by(13) {
            kit.abort(*id).await;
        }
    };
    tokio::join!(record, abort);
    kit.work_off(worker, op).await;
    let ended = with_status(kit, &ids, Status::Success).await;
    let aborted = with_status(kit, &ids, Status::Aborted).await;
    assert_eq!(ended + aborted, MANY);
}

pub async fn claims_of_many_workers_never_share_a_query_of_a_call(h: &impl Harness) {
    let kit = h.kit();
    let (op, first, ids) = queries(kit, 5 * MANY).await;
    let mut workers = vec![first];
    for _ in 0..3 {
        workers.push(kit.worker().await);
    }
    let claims = workers
        .iter()
        .zip([1_u32, 40, 150, 1000])
        .map(|(worker, most)| async move {
            let mut claimed = Vec::new();
            for _ in 0..40 {
                let ask = Claim {
                    max_tasks: most,
                    ..kit.ask(*worker, op)
                };
                claimed.extend(of(&kit.claim_as(ask).await));
            }
            claimed
        });
    let mut claimed = futures_util::future::join_all(claims).await.concat();
    // What one of them passed over, because another held it at that moment.
    claimed.extend(of(&kit.claim(first, op).await));
    claimed.sort_unstable();
    let mut ids = ids;
    ids.sort_unstable();
    assert_eq!(claimed, ids);
}

/// What is larger than a record of many may hold stands alone, and is claimed like the others.
pub async fn large_and_later_queries_of_a_call_are_as_any(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.query_key(), true, 3).await;
    let worker = kit.worker().await;
    let mut asked: Vec<QueryBlock> = (0..20).map(|_| query(kit, 0)).collect();
    asked[3].0.run_at = Some(kit.in_seconds(60));
    asked[4].0.expires_at = Some(kit.in_seconds(60));
    asked[5].0.hold = true;
    asked[6].0.context = RawJson::from_string("{\"a\": 1}".to_owned()).expect("JSON");
    let ids = store(kit, asked).await;
    let tasks = kit.claim(worker, op).await;
    let more = kit.claim(worker, op).await;
    let claimed = [of(&tasks), of(&more)].concat();
    assert_eq!(claimed.len(), 18);
    assert!(!claimed.contains(&ids[3]) && !claimed.contains(&ids[5]));
    let with = tasks
        .iter()
        .chain(&more)
        .find(|task| task.batch.id == ids[6]);
    assert_eq!(with.expect("claimed").batch.context.get(), "{\"a\": 1}");
}
