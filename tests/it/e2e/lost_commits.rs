//! Commits whose answers are lost on their way: each is looked up, and nothing is done twice or not at all.

use std::sync::Arc;

use futures_util::FutureExt;
use rowmill::Store;
use rowmill::model::{ContentHash, NewBatch, OutputFile, Status, Token};
use rowmill::store::postgres::{Options, PostgresStore};
use rowmill::store::{
    AppendBlocks, AppendPiece, Begun, ClaimedTask, Holder, LoadPiece, Piece, PostgresPiece,
    Recorded, Submitted, Transacted,
};

use super::world::key;
use crate::support::servers::Proxy;
use crate::support::{Harness as _, Kit, Outcomes, Postgres, invariants};

/// A store behind a network that fails.
struct Net {
    h: Postgres,
    proxy: Proxy,
    kit: Kit,
}

impl Net {
    async fn new() -> Self {
        let h = Postgres::open().await;
        h.make_effects();
        let proxy = Proxy::start(h.url());
        let options = Options::new(proxy.url()).expect("an address");
        let store = PostgresStore::open(options).await.expect("a store");
        let kit = Kit {
            store: Store::new(store),
            clock: Arc::clone(&h.kit().clock),
        };
        Self { h, proxy, kit }
    }

    /// Makes a step whose commit is made, and whose answer is lost.
    async fn lose<T>(&self, step: impl Future<Output = T>) -> T {
        let before = self.proxy.swallowed();
        self.proxy.swallow_next_answer_to(b"commit\0");
        let done = step.await;
        assert_eq!(self.proxy.swallowed(), before + 1, "no commit was sent");
        done
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_whose_commit_was_not_answered_is_looked_up_and_there_once() {
    let net = Net::new().await;
    let (kit, h) = (&net.kit, &net.h);
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.rows_of(2).await;
    let task = kit.claim_one(worker, op).await;
    let parts = [
        Outcomes::of(&task).success(0).goes_on(None),
        Outcomes::of(&task).part(1).success(1).ends(),
    ];
    for (n, part) in (1..).zip(parts) {
        net.proxy.swallow_next_answer_to(b"COMMIT\0");
        let piece = h.piece(n, Some(part));
        let done = kit
            .store
            .transact(worker, task.claim, piece, false, kit.now());
        assert_eq!(done.await.unwrap(), Transacted::Done);
    }
    assert_eq!(net.proxy.swallowed(), 2);
    assert_eq!(h.effects(), [1, 2]);
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 2));
    invariants(h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_whose_commit_did_not_arrive_is_not_there_and_runs_again() {
    let net = Net::new().await;
    let (kit, h) = (&net.kit, &net.h);
    let (op, worker) = kit.op_and_worker().await;
    kit.rows_of(1).await;
    let task = kit.claim_one(worker, op).await;
    let part = || Outcomes::of(&task).all_success().ends();
    let (first, proxy) = (part(), Arc::new(Proxy::start(h.url())));
    let options = Options::new(proxy.url()).expect("an address");
    let behind = PostgresStore::open(options).await.expect("a store");
    let cut = Arc::clone(&proxy);
    let piece = PostgresPiece::new(Box::new(move |piece| {
        async move {
            let insert = "insert into effects values (7)";
            piece
                .transaction()
                .execute(insert, &[])
                .await
                .expect("noted");
            tokio::task::spawn_blocking(move || cut.cut())
                .await
                .expect("cut");
            Some(first)
        }
        .boxed()
    }));
    let piece = Piece::Postgres(piece);
    let behind = Store::new(behind);
    let done = behind.transact(worker, task.claim, piece, false, kit.now());
    assert_ne!(done.await.ok(), Some(Transacted::Done));
    let again = kit.store.transact(
        worker,
        task.claim,
        h.piece(8, Some(part())),
        false,
        kit.now(),
    );
    assert_eq!(again.await.unwrap(), Transacted::Done);
    assert_eq!(h.effects(), [8]);
    invariants(h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_whose_commit_was_not_answered_are_recorded_once() {
    let net = Net::new().await;
    let kit = &net.kit;
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.new_batch(), &[3, 1]).await;
    let tasks = kit.claim(worker, op).await;
    let first = Outcomes::of(&tasks[0]).writes(0, "a.csv", "x\n");
    let first = first.goes_on(None);
    let last = Outcomes::of(&tasks[0]).part(1).success(1).failed(2).ends();
    let other = Outcomes::of(&tasks[1]).all_success().ends();
    for part in [first, last, other] {
        let recorded = net.lose(kit.record(worker, part)).await;
        assert_eq!(recorded, Recorded::Done);
    }
    assert_eq!(net.h.facts().parts.len(), 3);
    let token = Token::random().unwrap();
    let closes = kit
        .store
        .claim_close(worker, token, 10, kit.now())
        .await
        .unwrap();
    let none: Vec<OutputFile> = Vec::new();
    let close = kit.store.close(worker, closes[0].claim, none, kit.now());
    assert_eq!(net.lose(close).await.unwrap(), Recorded::Done);
    let batch = kit.batch(id).await;
    assert_eq!((batch.counts.success, batch.counts.failed), (3, 1));
    assert!(batch.done);
    invariants(&net.h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_of_one_call_are_there_and_end_once_whichever_commit_was_not_answered() {
    let net = Net::new().await;
    let (kit, h) = (&net.kit, &net.h);
    let op = kit.register(kit.query_key(), true, 3).await;
    let worker = kit.worker().await;
    let queries: Vec<_> = (0..30)
        .map(|_| {
            let block = kit.blocks(&[1]).remove(0);
            let hash = kit.hash(std::slice::from_ref(&block));
            (NewBatch::new(kit.query_key()), block, hash)
        })
        .collect();
    let ids: Vec<_> = queries.iter().map(|(query, ..)| query.id).collect();
    let submitted = net.lose(kit.store.submit_many(queries, kit.now())).await;
    let submitted = submitted.unwrap().into_iter();
    let submitted: Vec<_> = submitted.map(Submitted::id).collect();
    assert_eq!(submitted, ids);
    let tasks = kit.claim(worker, op).await;
    assert_eq!(tasks.len(), 30, "each is there once");
    let parts = |some: &[ClaimedTask]| {
        let part = |task: &ClaimedTask| Outcomes::of(task).all_success().ends();
        some.iter().map(part).collect::<Vec<_>>()
    };
    for some in [&tasks[..10], &tasks[10..20]] {
        let recorded = net
            .lose(kit.store.record(worker, parts(some), kit.now()))
            .await;
        assert_eq!(recorded.unwrap(), [Recorded::Done; 10]);
    }
    let rest = kit.store.record(worker, parts(&tasks[20..]), kit.now());
    assert_eq!(rest.await.unwrap(), [Recorded::Done; 10]);
    for id in ids {
        assert_eq!(kit.batch(id).await.status, Status::Success);
    }
    assert_eq!(h.facts().notices.len(), 30);
    invariants(h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_for_a_free_slot_whose_commit_was_not_answered_is_there_once_and_given_back_by_its_claim()
 {
    let net = Net::new().await;
    let kit = &net.kit;
    let op = kit.register(kit.query_key(), false, 3).await;
    let worker = kit.worker().await;
    let holder = Holder {
        worker,
        op,
        token: Token::random().unwrap(),
        once: false,
    };
    let block = kit.blocks(&[1]).remove(0);
    let hash = ContentHash::of(&block);
    let query = NewBatch::new(kit.query_key());
    let id = query.id;
    let asked = (query, block, hash);
    let query = Arc::new((asked.clone(), kit.now()));
    let stored = net.lose(kit.store.submit_at_once(query, holder, kit.now()));
    assert!(stored.await.unwrap().is_none(), "it is not known");
    let again = kit.store.submit_many(vec![asked], kit.now()).await;
    assert_eq!(again.unwrap(), [Submitted::Existing(id)]);
    let claim = holder.claim(id);
    let running = kit.store.beat(worker).await.unwrap();
    assert!(running.iter().map(|running| running.claim).eq([claim]));
    let given = kit.store.give_back(worker, vec![claim], kit.now()).await;
    given.unwrap();
    kit.work_off(worker, op).await;
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.success), (Status::Success, 1));
    // Of what is not there nothing is given back.
    let given = kit.store.give_back(worker, vec![claim], kit.now()).await;
    given.unwrap();
    assert_eq!(kit.batch(id).await.status, Status::Success);
    invariants(&net.h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submits_and_loads_whose_commit_was_not_answered_are_there_once() {
    let net = Net::new().await;
    let kit = &net.kit;
    let whole = net.lose(kit.submit(kit.new_batch(), &[2])).await;
    assert_eq!(kit.batch(whole).await.counts.rows, 2);
    let (batch, token) = (kit.new_batch(), Token::random().unwrap());
    let begun = kit.store.begin_load(batch.clone(), token, kit.now());
    assert_eq!(net.lose(begun).await.unwrap(), Submitted::New(batch.id));
    let sizes = [2, 3, 1];
    for no in 0..3 {
        let piece = LoadPiece {
            id: batch.id,
            token,
            first_no: no,
            blocks: kit
                .blocks(&sizes)
                .into_iter()
                .skip(no as usize)
                .take(1)
                .collect(),
        };
        net.lose(kit.store.load(piece, kit.now())).await.unwrap();
    }
    let hash = kit.hash(&kit.blocks(&sizes));
    let done = kit.store.finish_load(batch.clone(), token, hash, kit.now());
    assert_eq!(net.lose(done).await.unwrap().id(), batch.id);
    assert_eq!(kit.batch(batch.id).await.counts.rows, 6);
    let batches = net.h.facts().batches.len();
    assert_eq!(batches, 2);
    invariants(&net.h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_and_a_release_whose_commit_was_not_answered_are_made_once() {
    let net = Net::new().await;
    let kit = &net.kit;
    let id = kit.submit(kit.held(), &[2]).await;
    assert_eq!(net.lose(kit.append(id, "a", &[2])).await.rows, 2);
    let (append, token) = (kit.new_append(id, "b"), Token::random().unwrap());
    let begun = kit.store.begin_append(append.clone(), token, kit.now());
    assert_eq!(net.lose(begun).await.unwrap(), Begun::New);
    let sizes = [2, 3];
    for at in 0..2 {
        let blocks = kit.blocks(&sizes).into_iter().skip(at).take(1).collect();
        let piece = AppendPiece {
            batch: id,
            token,
            blocks: AppendBlocks {
                following: blocks,
                given: Vec::new(),
            },
        };
        net.lose(kit.store.append_piece(piece, kit.now()))
            .await
            .unwrap();
    }
    let (_, content) = kit.following(&sizes);
    let done = kit.store.finish_append(append, token, content, kit.now());
    assert_eq!(net.lose(done).await.unwrap().rows, 5);
    net.lose(kit.release(id)).await.unwrap();
    let batch = kit.batch(id).await;
    assert_eq!((batch.status, batch.counts.rows), (Status::Queued, 9));
    net.lose(kit.abort(id)).await;
    assert_eq!(kit.batch(id).await.status, Status::Aborted);
    invariants(&net.h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_whose_commit_was_not_answered_is_made_though_its_batch_has_ended_since() {
    let net = Net::new().await;
    let kit = &net.kit;
    // No row of it is to run: it ends with its release.
    let refused = vec![kit.block_with_rejected(&[true, true])];
    let id = kit.try_submit(kit.held(), refused).await.unwrap().id();
    net.lose(kit.release(id)).await.unwrap();
    assert_eq!(kit.batch(id).await.status, Status::Failed);
    assert!(kit.release(id).await.is_err(), "one that has ended before");
    invariants(&net.h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_whose_claim_was_not_answered_are_told_by_who_claimed_them() {
    let net = Net::new().await;
    let kit = &net.kit;
    let (op, worker) = kit.op_and_worker().await;
    let id = kit.submit(kit.held(), &[1]).await;
    kit.abort(id).await;
    let token = Token::random().unwrap();
    let claim = kit.store.claim_notices(worker, token, vec![op], kit.now());
    let claimed = net.lose(claim).await.unwrap();
    let [notice] = claimed.as_slice() else {
        panic!("{claimed:?}");
    };
    assert_eq!(notice.batch.id, id);
    let told = vec![(notice.claim, None)];
    kit.store.settle_notices(worker, told).await.unwrap();
    assert!(net.h.facts().notices.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_an_op_whose_commit_was_not_answered_are_told_as_made() {
    let net = Net::new().await;
    let kit = &net.kit;
    let by = || "ann".to_owned();
    let pause = kit.store.pause_op(key("post"), by(), kit.now());
    assert!(net.lose(pause).await.unwrap());
    let resume = kit.store.resume_op(key("post"), by(), kit.now());
    assert!(net.lose(resume).await.unwrap());
    let to = Some(r#"{"parallel":2}"#.to_owned());
    let set = kit
        .store
        .set_op(key("post"), None, to.clone(), by(), kit.now());
    assert_eq!(net.lose(set).await.unwrap(), Recorded::Done);
    let other = kit.store.set_op(key("post"), None, to, by(), kit.now());
    assert_eq!(
        other.await.unwrap(),
        Recorded::Fenced,
        "it was set from something else"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_entry_was_not_answered_lives_once() {
    let net = Net::new().await;
    let kit = &net.kit;
    let op = kit.op().await;
    let worker = net.lose(kit.worker()).await;
    // Whoever entered and does not live holds no lock, and is found dead.
    let dead = net.h.kit().store.dead_workers().await.unwrap();
    assert!(!dead.contains(&worker), "{dead:?}");
    let alive = kit.store.workers().await.unwrap();
    let alive: Vec<_> = alive.iter().filter(|w| w.alive).map(|w| w.no).collect();
    assert_eq!(alive, [worker]);
    let batch = NewBatch::new(key("post"));
    kit.submit(batch, &[1]).await;
    assert_eq!(kit.claim(worker, op).await.len(), 1);
}
