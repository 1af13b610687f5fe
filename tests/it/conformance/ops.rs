//! ops: pause, resume, set; what waits, who works on it, and whose ends are told.

use rowmill::model::{Amount, JobKey, NewBatch, OpEntry, OpId, Status, WorkerNo};
use rowmill::store::{LiveOp, OpState, Recorded, Serves};

use crate::support::{Harness, Kit, Outcomes};

async fn pause(kit: &Kit, key: JobKey) -> bool {
    let paused = kit.store.pause_op(key, "ann".to_owned(), kit.now());
    paused.await.unwrap()
}

async fn resume(kit: &Kit, key: JobKey) -> bool {
    let resumed = kit.store.resume_op(key, "bob".to_owned(), kit.now());
    resumed.await.unwrap()
}

async fn set(kit: &Kit, from: Option<&str>, to: Option<&str>) -> Recorded {
    let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
    let set = kit
        .store
        .set_op(kit.key(), from, to, "cid".to_owned(), kit.now());
    set.await.unwrap()
}

async fn entry(kit: &Kit, key: &JobKey) -> Option<OpEntry> {
    let ops = kit.store.ops().await.unwrap();
    ops.into_iter().find(|op| op.key == *key)
}

async fn workers(kit: &Kit) -> u32 {
    let state = kit.store.op(kit.key(), None).await.unwrap().unwrap();
    let listed = entry(kit, &kit.key()).await.unwrap().workers;
    assert_eq!(state.workers, listed, "both answers agree");
    listed
}

fn telling(op: OpId) -> Vec<Serves> {
    vec![Serves { op, notify: true }]
}

fn silent(op: OpId) -> Vec<Serves> {
    vec![Serves { op, notify: false }]
}

fn tasks(tasks: u64, rows: u64) -> Amount {
    Amount {
        tasks,
        rows,
        more: false,
    }
}

pub async fn a_paused_op_is_claimed_by_nobody_until_it_is_resumed(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    assert!(pause(kit, kit.key()).await);
    assert!(kit.heads(op, None).await.unwrap().is_empty());
    let of = kit.heads(op, Some(id)).await.unwrap();
    assert!(of.is_empty(), "for one batch neither");
    assert!(kit.claim(worker, op).await.is_empty());
    assert_eq!(kit.batch(id).await.status, Status::Queued);
    assert!(resume(kit, kit.key()).await);
    assert_eq!(kit.heads(op, None).await.unwrap().len(), 1);
    kit.work_off(worker, op).await;
    assert_eq!(kit.batch(id).await.status, Status::Success);
}

pub async fn pausing_and_resuming_twice_is_no_error_and_is_audited_once(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    assert!(!resume(kit, kit.key()).await, "it was not paused");
    assert!(pause(kit, kit.key()).await);
    assert!(!pause(kit, kit.key()).await);
    assert!(resume(kit, kit.key()).await);
    assert!(!resume(kit, kit.key()).await);
    assert_eq!(
        h.facts().audit_ops,
        [
            ("ann".to_owned(), "pause_op".to_owned(), op.0, None),
            ("bob".to_owned(), "resume_op".to_owned(), op.0, None),
        ]
    );
}

pub async fn an_op_that_nobody_used_becomes_known_when_it_is_paused(h: &impl Harness) {
    let kit = h.kit();
    assert_eq!(kit.store.op(kit.key(), None).await.unwrap(), None);
    assert!(pause(kit, kit.key()).await);
    assert!(entry(kit, &kit.key()).await.unwrap().paused);
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(1).await;
    assert!(
        kit.claim(worker, op).await.is_empty(),
        "registering resumes nothing"
    );
}

pub async fn a_pause_is_of_one_kind_alone(h: &impl Harness) {
    let kit = h.kit();
    let query = JobKey {
        kind: rowmill::Kind::Query,
        ..kit.key()
    };
    kit.op().await;
    kit.register(query.clone(), false, 3).await;
    assert!(pause(kit, query.clone()).await);
    assert!(!entry(kit, &kit.key()).await.unwrap().paused);
    assert!(entry(kit, &query).await.unwrap().paused);
}

pub async fn a_pause_leaves_running_tasks_to_their_workers(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[2, 2]).await;
    let task = kit.claim_one(worker, op).await;
    pause(kit, kit.key()).await;
    assert_eq!(kit.succeed(worker, &task).await, Recorded::Done);
    assert_eq!(kit.batch(id).await.counts.success, 2);
    assert!(kit.claim(worker, op).await.is_empty());
}

pub async fn batches_of_a_paused_op_expire_and_are_aborted(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let expires = NewBatch {
        expires_at: Some(kit.in_seconds(60)),
        ..kit.new_batch()
    };
    let expires = kit.submit(expires, &[3]).await;
    let aborted = kit.submit(kit.new_batch(), &[2, 2]).await;
    let running = kit.rows_of(1).await;
    let ask = rowmill::store::Claim {
        only: Some(running),
        ..kit.ask(worker, op)
    };
    let task = kit.claim_as(ask).await.remove(0);
    pause(kit, kit.key()).await;
    kit.abort(aborted).await;
    let batch = kit.batch(aborted).await;
    assert_eq!((batch.status, batch.counts.aborted), (Status::Aborted, 4));
    kit.abort(running).await;
    assert!(kit.batch(running).await.aborting);
    kit.succeed(worker, &task).await;
    assert_eq!(kit.batch(running).await.status, Status::Success);
    kit.advance(60);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().expired, 1);
    let batch = kit.batch(expires).await;
    assert_eq!((batch.status, batch.counts.expired), (Status::Expired, 3));
}

pub async fn settings_are_set_only_where_they_are_what_they_were(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let (first, second) = (r#"{"concurrency":1}"#, r#"{"concurrency":2}"#);
    assert_eq!(set(kit, None, Some(first)).await, Recorded::Done);
    assert_eq!(set(kit, None, Some(second)).await, Recorded::Fenced);
    let known = entry(kit, &kit.key()).await.unwrap();
    assert_eq!(known.settings.as_deref(), Some(first));
    assert_eq!(set(kit, Some(first), Some(second)).await, Recorded::Done);
    assert_eq!(set(kit, Some(second), None).await, Recorded::Done);
    assert_eq!(entry(kit, &kit.key()).await.unwrap().settings, None);
    let audit = h.facts().audit_ops;
    let details: Vec<&str> = audit.iter().map(|a| a.3.as_deref().unwrap()).collect();
    assert_eq!(details, [first, second, "{}"]);
    assert!(audit.iter().all(|a| (a.0.as_str(), a.2) == ("cid", op.0)));
}

pub async fn workers_see_the_ops_that_are_paused_or_set(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let other = kit.register(kit.key_of("other"), false, 3).await;
    kit.register(kit.key_of("third"), false, 3).await;
    assert_eq!(kit.store.live_ops().await.unwrap(), []);
    let text = r#"{"timeout":"5s"}"#;
    set(kit, None, Some(text)).await;
    pause(kit, kit.key_of("other")).await;
    let mut live = kit.store.live_ops().await.unwrap();
    live.sort_by_key(|live| live.id);
    let of = |id, paused, settings: Option<&str>| LiveOp {
        id,
        paused,
        settings: settings.map(str::to_owned),
    };
    assert_eq!(live, [of(op, false, Some(text)), of(other, true, None)]);
}

pub async fn losses_that_are_allowed_are_what_is_set(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.key(), false, 3).await;
    let mut before = None;
    // Whatever is read as a whole number may have been written so.
    for written in ["1", "+1", "01"] {
        let mut live = rowmill::config::LiveSettings::default();
        live.set("max_lost", written).unwrap();
        let text = live.to_json().unwrap();
        set(kit, before.as_deref(), Some(&text)).await;
        before = Some(text);
        let id = kit.rows_of(1).await;
        let mut died = 0;
        while !kit.batch(id).await.done {
            let worker = kit.worker().await;
            let task = kit.claim_one(worker, op).await;
            if task.suspect {
                kit.start_row(worker, &task, 0, 0).await;
            }
            kit.take_over(worker).await;
            died += 1;
        }
        assert_eq!(died, 2, "the first loss only makes it suspect");
        assert_eq!(kit.batch(id).await.status, Status::Failed);
    }
}

pub async fn the_work_of_each_op_is_counted(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let first = kit.now();
    kit.submit(kit.new_batch(), &[3, 4]).await;
    kit.advance(10);
    kit.submit(kit.new_batch(), &[5]).await;
    let starts = NewBatch {
        run_at: Some(kit.in_seconds(60)),
        ..kit.new_batch()
    };
    kit.submit(starts, &[6, 1]).await;
    kit.submit(kit.held(), &[9]).await;
    kit.submit(NewBatch::new(kit.key_of("other")), &[2]).await;
    let known = entry(kit, &kit.key()).await.unwrap();
    assert_eq!(known.id, Some(op));
    assert_eq!((known.queued, known.later), (tasks(3, 12), tasks(2, 7)));
    assert_eq!(
        (known.running, known.oldest_queued),
        (tasks(0, 0), Some(first))
    );
    let task = kit.claim_one(worker, op).await;
    let known = entry(kit, &kit.key()).await.unwrap();
    assert_eq!((known.queued, known.running), (tasks(2, 9), tasks(1, 3)));
    let due = kit.in_seconds(5);
    kit.record(
        worker,
        Outcomes::of(&task).later(0, due).all_success().ends(),
    )
    .await;
    let known = entry(kit, &kit.key()).await.unwrap();
    assert_eq!((known.running, known.later), (tasks(0, 0), tasks(3, 8)));
    let other = entry(kit, &kit.key_of("other")).await.unwrap();
    assert_eq!((other.queued, other.later), (tasks(1, 2), tasks(0, 0)));
    assert!(other.is_unserved());
}

pub async fn a_count_ends_at_its_bound(h: &impl Harness) {
    let kit = h.kit();
    kit.op().await;
    let most = usize::try_from(Amount::MOST).unwrap();
    kit.submit(kit.new_batch(), &vec![1; most + 1]).await;
    let queued = entry(kit, &kit.key()).await.unwrap().queued;
    assert_eq!(
        queued,
        tasks(Amount::MOST, Amount::MOST),
        "all that were given"
    );
    kit.store.keep(kit.now()).await.unwrap();
    let queued = entry(kit, &kit.key()).await.unwrap().queued;
    assert_eq!((queued.tasks, queued.more), (Amount::MOST, true));
    assert!(queued.rows >= Amount::MOST);
}

pub async fn an_op_is_served_as_long_as_a_worker_of_it_lives(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    assert_eq!(workers(kit).await, 0);
    let other = h.again().await;
    let one = kit.enter(&kit.store, telling(op), None).await;
    let two = kit.enter(&other, telling(op), None).await;
    kit.worker().await;
    assert_eq!(workers(kit).await, 2, "one of no op serves none");
    drop(other);
    wait_dead(kit, two).await;
    assert_eq!(workers(kit).await, 1, "a dead one serves nothing");
    let dead = kit.store.workers().await.unwrap();
    let dead = dead.iter().find(|w| w.no == two).unwrap();
    assert!(!dead.alive);
    kit.take_over(two).await;
    let left = kit.store.workers().await.unwrap();
    assert!(left.iter().all(|w| w.no != two && w.alive));
    kit.store.leave(one, kit.now()).await.unwrap();
    assert_eq!(workers(kit).await, 0);
    assert_eq!(kit.store.workers().await.unwrap().len(), 1);
}

/// A store that is dropped lets go of its workers when its threads have ended.
pub(super) async fn wait_dead(kit: &Kit, worker: WorkerNo) {
    for _ in 0..100_000 {
        if kit.store.dead_workers().await.unwrap().contains(&worker) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it lives");
}

pub async fn a_worker_of_one_batch_serves_that_batch_alone(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let (mine, other) = (kit.rows_of(1).await, kit.rows_of(1).await);
    kit.enter(&kit.store, telling(op), Some(mine)).await;
    assert_eq!(workers(kit).await, 0);
    for (batch, workers) in [(mine, 1), (other, 0)] {
        let state = kit.store.op(kit.key(), Some(batch)).await.unwrap();
        let wanted = OpState {
            id: op,
            paused: false,
            settings: None,
            workers,
        };
        assert_eq!(state, Some(wanted));
    }
}

pub async fn workers_are_told_with_what_they_work_on(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.op().await;
    let asks = kit.register(kit.query_key(), false, 3).await;
    let id = kit.rows_of(2).await;
    let both = [telling(op), silent(asks)].concat();
    let all = kit.enter(&kit.store, both, None).await;
    let one = kit.enter(&kit.store, telling(op), Some(id)).await;
    let task = kit.claim_one(all, op).await;
    let told = kit.store.workers().await.unwrap();
    assert_eq!(told.iter().map(|w| w.no).collect::<Vec<_>>(), [all, one]);
    assert_eq!(told[0].ops, [kit.key(), kit.query_key()]);
    assert_eq!(
        (told[0].running, told[0].only, told[0].alive),
        (1, None, true)
    );
    assert_eq!((told[0].host.as_str(), told[0].pid), ("here", 1));
    assert_eq!(
        (told[0].version.as_str(), told[0].started_at),
        ("0", kit.now())
    );
    assert_eq!((told[1].running, told[1].only), (0, Some(id)));
    kit.succeed(all, &task).await;
    assert_eq!(kit.store.workers().await.unwrap()[0].running, 0);
}

/// Ends a batch; whether its end was stored to be told.
async fn is_told(h: &impl Harness) -> bool {
    let kit = h.kit();
    let before = h.facts().notices.len();
    let id = kit.submit(kit.held(), &[1]).await;
    kit.abort(id).await;
    h.facts().notices.len() > before
}

pub async fn ends_are_stored_no_longer_once_only_workers_that_tell_none_enter(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.key(), false, 3).await;
    assert!(!is_told(h).await);
    let teller = kit.enter(&kit.store, telling(op), None).await;
    assert!(is_told(h).await);
    kit.store.leave(teller, kit.now()).await.unwrap();
    assert!(is_told(h).await, "a receiver that is down misses nothing");
    kit.enter(&kit.store, silent(op), None).await;
    assert!(!is_told(h).await, "the op has another processor now");
    assert_eq!(h.facts().notices.len(), 2, "what was stored is told yet");
    kit.enter(&kit.store, telling(op), None).await;
    assert!(is_told(h).await, "and back again");
}

pub async fn ends_are_stored_while_a_live_worker_tells_them(h: &impl Harness) {
    let kit = h.kit();
    let op = kit.register(kit.key(), false, 3).await;
    let other = h.again().await;
    let teller = kit.enter(&other, telling(op), None).await;
    kit.enter(&kit.store, silent(op), None).await;
    assert!(is_told(h).await, "both work side by side");
    drop(other);
    wait_dead(kit, teller).await;
    assert!(is_told(h).await, "it is merely down");
    kit.enter(&kit.store, silent(op), None).await;
    assert!(!is_told(h).await);
}
