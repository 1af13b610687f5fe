//! Queries that stand in PostgreSQL's queue as one record, at moments when others hold it, take it apart, or do not know of it.

use futures_util::FutureExt;
use rowmill::model::{BatchId, NewBatch, OpId, Status, WorkerNo};
use rowmill::store::{ClaimedTask, Piece, PostgresPiece, Recorded, Transacted};

use crate::support::servers::until;
use crate::support::{Harness as _, Kit, Outcomes, Postgres, invariants};

const LOOSEN: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/sql/postgres_alone/bundle_loosen.sql"
));

struct Scene {
    h: Postgres,
    op: OpId,
    worker: WorkerNo,
    /// Another session, in which what it holds stays held.
    other: tokio_postgres::Client,
}

impl Scene {
    async fn new() -> Self {
        let h = Postgres::open().await;
        let op = h.kit().register(h.kit().query_key(), true, 3).await;
        let worker = h.kit().worker().await;
        let connected = tokio_postgres::connect(h.url(), tokio_postgres::NoTls).await;
        let (other, connection) = connected.expect("a connection");
        tokio::spawn(connection);
        let place = other.batch_execute("set search_path to rowmill; begin");
        place.await.expect("a transaction");
        Self {
            h,
            op,
            worker,
            other,
        }
    }

    fn kit(&self) -> &Kit {
        self.h.kit()
    }

    async fn submit(&self, number: usize) -> Vec<BatchId> {
        let kit = self.kit();
        let query = |_| {
            let block = kit.blocks(&[1]).remove(0);
            let hash = kit.hash(std::slice::from_ref(&block));
            (NewBatch::new(kit.query_key()), block, hash)
        };
        let queries: Vec<_> = (0..number).map(query).collect();
        let ids = queries.iter().map(|(query, ..)| query.id).collect();
        let submitted = kit.store.submit_many(queries, kit.now()).await;
        submitted.expect("submitted");
        ids
    }

    async fn claim(&self) -> Vec<ClaimedTask> {
        self.kit().claim(self.worker, self.op).await
    }

    /// What others do to a batch's task, and do not commit yet.
    async fn hold(&self, id: BatchId) {
        let held = "select 1 from queue where batch = $1 for update";
        let held = self.other.query(held, &[&id.0]).await;
        assert_eq!(held.expect("held").len(), 1);
    }

    async fn let_go(&self) {
        self.other.batch_execute("commit").await.expect("committed");
    }

    /// Waits until somebody waits for what is held.
    async fn is_waited_for(&self) {
        let waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        let url = self.h.url().to_owned();
        let look = move || {
            until("who waits", || {
                let rows = crate::support::servers::Database::rows_at(&url, waits);
                (!rows.is_empty()).then_some(())
            });
        };
        tokio::task::spawn_blocking(look).await.expect("it waits");
    }
}

fn ids_of(tasks: &[ClaimedTask]) -> Vec<BatchId> {
    tasks.iter().map(|task| task.batch.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_recorded_though_others_let_its_query_stand_alone_meanwhile() {
    let scene = Scene::new().await;
    let (kit, worker) = (scene.kit(), scene.worker);
    let ids = scene.submit(30).await;
    let tasks = scene.claim().await;
    for again in [true, false] {
        // One that goes again, and one that ends.
        let part = match again {
            true => Outcomes::of(&tasks[2]).retry(0, None).ends(),
            false => Outcomes::of(&tasks[3]).all_success().ends(),
        };
        if again {
            let loosened = scene.other.execute(LOOSEN, &[&ids[0].0]).await;
            assert_eq!(loosened.expect("loosened"), 30);
            let (recorded, ()) = tokio::join!(kit.record(worker, part), async {
                scene.is_waited_for().await;
                scene.let_go().await;
            });
            assert_eq!(recorded, Recorded::Done);
        } else {
            assert_eq!(kit.record(worker, part).await, Recorded::Done);
        }
    }
    let again = scene.claim().await;
    assert_eq!(ids_of(&again), [ids[2]]);
    assert_eq!((again[0].failures, again[0].claim.attempt), (1, 2));
    invariants(&scene.h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_parts_are_recorded_though_others_let_their_queries_stand_alone_meanwhile() {
    let scene = Scene::new().await;
    let (kit, worker) = (scene.kit(), scene.worker);
    let ids = scene.submit(30).await;
    let tasks = scene.claim().await;
    let part = |task| Outcomes::of(task).all_success().ends();
    let parts = tasks[..10].iter().map(part).collect();
    let loosened = scene.other.execute(LOOSEN, &[&ids[0].0]).await;
    assert_eq!(loosened.expect("loosened"), 30);
    let (recorded, ()) = tokio::join!(kit.store.record(worker, parts, kit.now()), async {
        scene.is_waited_for().await;
        scene.let_go().await;
    });
    assert_eq!(recorded.expect("recorded"), [Recorded::Done; 10]);
    for id in &ids[..10] {
        assert_eq!(kit.batch(*id).await.status, Status::Success);
    }
    invariants(&scene.h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_recorded_by_a_process_that_does_not_know_what_stands_together() {
    let scene = Scene::new().await;
    let (kit, worker) = (scene.kit(), scene.worker);
    let ids = scene.submit(30).await;
    let tasks = scene.claim().await;
    let forgetful = scene.h.again().await;
    let part = |task| Outcomes::of(task).all_success().ends();
    let parts = tasks[..10].iter().map(part).collect();
    let recorded = forgetful.record(worker, parts, kit.now()).await;
    assert_eq!(recorded.expect("recorded"), [Recorded::Done; 10]);
    let parts = tasks[10..].iter().map(part).collect();
    let recorded = kit.store.record(worker, parts, kit.now()).await;
    assert_eq!(recorded.expect("recorded"), [Recorded::Done; 20]);
    for id in ids {
        assert_eq!(kit.batch(id).await.status, Status::Success);
    }
    assert!(scene.h.facts().tasks.is_empty());
    invariants(&scene.h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_of_a_query_that_stood_with_others_holds_up_none_of_them() {
    for forgetful in [false, true] {
        let scene = Scene::new().await;
        let (kit, worker) = (scene.kit(), scene.worker);
        let ids = scene.submit(30).await;
        let tasks = scene.claim().await;
        let (other, now) = (tasks[1].clone(), kit.now());
        // While the piece is open, another of them is recorded.
        let (store, own) = (
            kit.store.clone(),
            Outcomes::of(&tasks[0]).all_success().ends(),
        );
        let piece = PostgresPiece::new(Box::new(move |_| {
            async move {
                let part = Outcomes::of(&other).all_success().ends();
                let recorded = store.record(worker, vec![part], now).await;
                (recorded.expect("recorded") == [Recorded::Done]).then_some(own)
            }
            .boxed()
        }));
        let piece = Piece::Postgres(piece);
        let by = match forgetful {
            true => scene.h.again().await,
            false => kit.store.clone(),
        };
        let done = by.transact(worker, tasks[0].claim, piece, false, now);
        assert_eq!(done.await.expect("made"), Transacted::Done);
        let ended = [kit.batch(ids[0]).await, kit.batch(ids[1]).await];
        assert_eq!(ended.map(|batch| batch.status), [Status::Success; 2]);
        invariants(&scene.h).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_holds_keeps_nobody_from_what_stands_behind_it() {
    let scene = Scene::new().await;
    let alone = scene.submit(1).await;
    let together = scene.submit(30).await;
    let behind = scene.submit(1).await;
    scene.hold(alone[0]).await;
    let claimed = ids_of(&scene.claim().await);
    assert_eq!(claimed, [together, behind].concat());
    scene.let_go().await;
    assert_eq!(ids_of(&scene.claim().await), alone);
    let together = scene.submit(30).await;
    let behind = scene.submit(1).await;
    scene.other.batch_execute("begin").await.expect("begun");
    scene.hold(together[0]).await;
    assert_eq!(ids_of(&scene.claim().await), behind);
    scene.let_go().await;
    assert_eq!(ids_of(&scene.claim().await), together);
    invariants(&scene.h).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_nobody_can_claim_keeps_none_from_those_behind_it() {
    let wrong = [
        (
            "update batches set context = '{' where id = $1",
            "update batches set context = 'null' where id = $1",
        ),
        (
            "update blocks set body_bin = convert_to(body, 'utf8'), body = null, format = 9 where batch = $1",
            "update blocks set body = convert_from(body_bin, 'utf8'), body_bin = null, format = 0 where batch = $1",
        ),
    ];
    let each = wrong
        .into_iter()
        .flat_map(|one| [(one, false), (one, true)]);
    for ((damage, mend), is_together) in each {
        let scene = Scene::new().await;
        scene.let_go().await;
        let alone = scene.submit(1).await;
        let together = scene.submit(30).await;
        let damaged = scene
            .other
            .execute("set session_replication_role to replica", &[])
            .await;
        damaged.expect("no triggers");
        let wrong = if is_together { together[3] } else { alone[0] };
        let damaged = scene.other.execute(damage, &[&wrong.0]).await;
        assert_eq!(damaged.expect("damaged"), 1);
        let mut claimed = Vec::new();
        for _ in 0..3 {
            claimed.extend(ids_of(&scene.claim().await));
        }
        let all = [alone, together].concat();
        let others: Vec<_> = all.into_iter().filter(|id| *id != wrong).collect();
        assert_eq!(claimed, others, "{damage}");
        let mended = scene.other.execute(mend, &[&wrong.0]).await;
        assert_eq!(mended.expect("mended"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_ends_a_query_that_was_aborted_while_it_stands_with_others() {
    let scene = Scene::new().await;
    scene.let_go().await;
    let kit = scene.kit();
    let ids = scene.submit(30).await;
    // As an abort leaves it whose first look was before the submit's commit, and its mark after it.
    let mark = "update batches set abort_at = now(), aborted_by = 'eve' where id = $1";
    let marked = scene.other.execute(mark, &[&ids[3].0]).await;
    assert_eq!(marked.expect("marked"), 1);
    let claimed = ids_of(&scene.claim().await);
    assert_eq!(claimed, [&ids[..3], &ids[4..]].concat());
    assert_eq!(kit.batch(ids[3]).await.status, Status::Aborted);
    invariants(&scene.h).await;
}
