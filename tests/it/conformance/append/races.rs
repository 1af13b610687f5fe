//! What may come between the steps of an append, and at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rowmill::model::{NewBatch, Status};
use rowmill::store::{NewAppend, StoreError};
use tokio::sync::Barrier;

use super::load::{begin, begun, finish, piece, token};
use super::refused_at;
use crate::e2e::world::LONG;
use crate::support::servers::Database;
use crate::support::{Harness, Kit, Postgres};

/// What a loader meets whose batch is held no more: nothing of it counts, and nothing is left when it goes.
async fn is_too_late(
    h: &impl Harness,
    kit: &Kit,
    found: &str,
    stop: impl AsyncFn(rowmill::BatchId),
) {
    let (id, append, token) = begun(kit).await;
    stop(id).await;
    let wrong = |step: Result<(), StoreError>| {
        assert!(
            matches!(&step, Err(StoreError::WrongState { found: was, .. }) if *was == found),
            "{step:?}"
        );
    };
    let before = kit.batch(id).await;
    wrong(piece(kit, id, token, &[2, 1], 1).await);
    wrong(finish(kit, &append, token, &[2]).await.map(drop));
    assert_eq!(kit.rows(id).await.len(), 2);
    kit.store.discard_append(id, token).await.unwrap();
    let facts = h.facts();
    assert!(facts.appends_of(id).is_empty());
    assert_eq!(facts.blocks.iter().filter(|b| b.batch == id).count(), 1);
    let after = kit.batch(id).await;
    assert_eq!((before.status, before.counts), (after.status, after.counts));
}

pub async fn an_append_to_a_batch_that_is_released_meanwhile_fails(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    is_too_late(h, kit, "queued", async |id| kit.release(id).await.unwrap()).await;
    kit.work_off(worker, op).await;
    is_too_late(h, kit, "success", async |id| {
        kit.release(id).await.unwrap();
        kit.work_off(worker, op).await;
        assert_eq!(kit.batch(id).await.counts.success, 2);
    })
    .await;
}

pub async fn an_append_to_a_batch_that_is_aborted_meanwhile_fails(h: &impl Harness) {
    let kit = h.kit();
    is_too_late(h, kit, "aborted", async |id| kit.abort(id).await).await;
}

pub async fn an_append_to_a_batch_that_expires_meanwhile_fails(h: &impl Harness) {
    let kit = h.kit();
    let new = NewBatch {
        expires_at: Some(kit.in_seconds(10)),
        ..kit.held()
    };
    let id = kit.submit(new, &[2]).await;
    let (append, token) = (kit.new_append(id, "a"), token());
    begin(kit, &append, token).await.unwrap();
    piece(kit, id, token, &[2], 0).await.unwrap();
    kit.advance(10);
    kit.store.keep(kit.now()).await.unwrap();
    let late = finish(kit, &append, token, &[2]).await;
    assert!(matches!(
        late,
        Err(StoreError::WrongState {
            found: "expired",
            ..
        })
    ));
    let counts = kit.batch(id).await.counts;
    assert_eq!((counts.rows, counts.expired), (2, 2));
}

pub async fn an_append_whose_loader_died_is_swept_from_a_batch_that_has_ended(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let (id, append, token) = begun(kit).await;
    let rejected = refused_at(kit, id, token, 9);
    kit.store.append_piece(rejected, kit.now()).await.unwrap();
    kit.release(id).await.unwrap();
    kit.work_off(worker, op).await;
    let batch = kit.batch(id).await;
    assert_eq!(
        (batch.status, batch.counts.success),
        (Status::Success, 2),
        "none of it counted"
    );
    kit.advance(61);
    assert_eq!(kit.store.keep(kit.now()).await.unwrap().swept, 1);
    let facts = h.facts();
    assert!(facts.appends.is_empty());
    assert_eq!(facts.blocks.len(), 1);
    assert!(finish(kit, &append, token, &[2]).await.is_err());
}

/// Two calls that begin at the same moment, the second through another process's store.
async fn together<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let barrier = Arc::new(Barrier::new(2));
    let meet = || Arc::clone(&barrier);
    let (one, two) = (meet(), meet());
    tokio::join!(
        async move {
            one.wait().await;
            first.await
        },
        async move {
            two.wait().await;
            second.await
        }
    )
}

pub async fn of_an_append_and_a_release_at_the_same_moment_none_is_half_made(h: &impl Harness) {
    let kit = h.kit();
    let (op, worker) = kit.op_and_worker().await;
    let other = h.again().await;
    for _ in 0..20 {
        let id = kit.submit(kit.held(), &[2]).await;
        let append = kit.try_append(kit.new_append(id, "a"), &[2]);
        let release = other.release(id, "rob".to_owned(), kit.now());
        let (appended, released) = together(append, release).await;
        released.unwrap();
        let rows = match appended {
            Ok(added) => 2 + added.rows,
            Err(StoreError::WrongState {
                found: "queued", ..
            }) => 2,
            Err(other) => panic!("{other:?}"),
        };
        kit.work_off(worker, op).await;
        let batch = kit.batch(id).await;
        assert!(batch.done);
        assert_eq!((batch.counts.rows, batch.counts.success), (rows, rows));
    }
}

pub async fn of_an_append_and_an_abort_at_the_same_moment_none_is_half_made(h: &impl Harness) {
    let kit = h.kit();
    let other = h.again().await;
    for _ in 0..20 {
        let id = kit.submit(kit.held(), &[2]).await;
        let releasing = NewAppend {
            release: true,
            ..kit.new_append(id, "a")
        };
        let append = kit.try_append(releasing, &[2]);
        let abort = other.abort(id, "eve".to_owned(), kit.now());
        let (appended, aborted) = together(append, abort).await;
        aborted.unwrap();
        let rows = match appended {
            Ok(added) => 2 + added.rows,
            Err(StoreError::WrongState { .. }) => 2,
            Err(other) => panic!("{other:?}"),
        };
        let batch = kit.batch(id).await;
        assert_eq!((batch.status, batch.done), (Status::Aborted, true));
        assert_eq!((batch.counts.rows, batch.counts.aborted), (rows, rows));
    }
}

pub async fn appends_at_the_same_moment_share_no_line(h: &impl Harness) {
    let kit = h.kit();
    let other = h.again().await;
    let id = kit.submit(kit.held(), &[1]).await;
    for round in 0..10 {
        let keys = [format!("{round}a"), format!("{round}b")];
        let (blocks, content) = kit.following(&[1, 2]);
        let mine = kit.try_append(kit.new_append(id, &keys[0]), &[2]);
        let theirs = other.append(kit.new_append(id, &keys[1]), blocks, content, kit.now());
        let (mine, theirs) = together(mine, theirs).await;
        let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
        let apart = mine.last_line < theirs.first_line || theirs.last_line < mine.first_line;
        assert!(apart, "{mine:?} {theirs:?}");
    }
    assert!(kit.rows(id).await.iter().map(|r| r.line.0).eq(1..=51));
}

pub async fn the_same_append_at_the_same_moment_is_made_once(h: &impl Harness) {
    let kit = h.kit();
    let other = h.again().await;
    for key in [Some("a".to_owned()), None] {
        let id = kit.submit(kit.held(), &[1]).await;
        let append = NewAppend {
            key,
            ..kit.new_append(id, "")
        };
        let (blocks, content) = kit.following(&[3]);
        let mine = kit.try_append(append.clone(), &[3]);
        let theirs = other.append(append, blocks, content, kit.now());
        let (mine, theirs) = together(mine, theirs).await;
        let (mine, theirs) = (mine.unwrap(), theirs.unwrap());
        assert_ne!(mine.repeated, theirs.repeated);
        assert_eq!((mine.first_line, theirs.last_line), (2, 4));
        assert_eq!(kit.batch(id).await.counts.rows, 4);
    }
}

pub async fn of_two_loaders_that_begin_at_the_same_moment_one_is_refused(h: &impl Harness) {
    let kit = h.kit();
    let other = h.again().await;
    let id = kit.submit(kit.held(), &[1]).await;
    let (first, second) = (token(), token());
    let (a, b) = (kit.new_append(id, "a"), kit.new_append(id, "b"));
    let theirs = other.begin_append(b, second, kit.now());
    let (mine, theirs) = together(begin(kit, &a, first), theirs).await;
    let refused =
        |step: &Result<_, StoreError>| matches!(step, Err(StoreError::AppendInProgress(_)));
    assert_ne!(mine.is_ok(), theirs.is_ok());
    assert!(refused(&mine) || refused(&theirs));
}

pub async fn whoever_takes_a_place_keeps_it_while_the_old_blocks_go(h: &impl Harness) {
    let kit = h.kit();
    let (id, _, first) = begun(kit).await;
    piece(kit, id, first, &[2; 300], 1).await.unwrap();
    let next = kit.new_append(id, "b");
    let take = async {
        loop {
            let second = token();
            match begin(kit, &next, second).await {
                Ok(_) => break second,
                Err(StoreError::AppendInProgress(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    // The discard goes on in pieces when the place has been taken.
    let (discarded, second) = tokio::join!(kit.store.discard_append(id, first), async {
        let second = take.await;
        piece(kit, id, second, &[1; 100], 0).await.unwrap();
        second
    });
    discarded.unwrap();
    finish(kit, &next, second, &[1; 100]).await.unwrap();
    assert_eq!(kit.rows(id).await.len(), 102);
}

/// As above on PostgreSQL, where the discard stands between its look at whose the place is and its first delete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_discard_that_has_looked_takes_no_block_of_whoever_comes_in_its_place() {
    let h = Postgres::open().await;
    let kit = h.kit();
    let (id, _, first) = begun(kit).await;
    let next = kit.new_append(id, "b");
    // The first that deletes waits for a lock that this test holds, and so does nobody else.
    let gate = "create sequence public.first_come;
                create function public.gate() returns trigger language plpgsql as
                $$ begin if nextval('public.first_come') = 1 then perform pg_advisory_xact_lock(77); end if; return null; end $$;
                create trigger gate before delete on rowmill.attempts for each statement execute function public.gate()";
    Database::run_at(h.url(), gate);
    let connected = tokio_postgres::connect(h.url(), tokio_postgres::NoTls).await;
    let (holder, driver) = connected.expect("a connection");
    tokio::spawn(driver);
    let lock = "select pg_advisory_lock(77)";
    holder.batch_execute(lock).await.expect("the lock");
    let waiting = async || {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let found = holder.query_one(sql, &[]).await.expect("an answer");
        found.get::<_, i64>(0)
    };
    let store = kit.store.clone();
    let discard = tokio::spawn(async move { store.discard_append(id, first).await });
    let stands = async { while waiting().await < 1 {} };
    tokio::time::timeout(LONG, stands).await.expect("it stands");
    let stored = AtomicBool::new(false);
    let comes = async {
        let second = token();
        loop {
            match begin(kit, &next, second).await {
                Ok(_) => break,
                Err(StoreError::AppendInProgress(_)) => {}
                // Whoever removes the last of the old one comes first, and that is no damage.
                Err(other) => panic!("{other:?}"),
            }
        }
        piece(kit, id, second, &[1; 100], 0).await.unwrap();
        stored.store(true, Ordering::SeqCst);
        second
    };
    let opens = async {
        // Whoever comes waits too, or has the place already.
        while !stored.load(Ordering::SeqCst) && waiting().await < 2 {
            tokio::task::yield_now().await;
        }
        let unlock = "select pg_advisory_unlock(77)";
        holder.batch_execute(unlock).await.expect("unlocked");
    };
    let both = async { tokio::join!(comes, opens) };
    let (second, ()) = tokio::time::timeout(LONG, both).await.expect("they end");
    discard.await.expect("no panic").unwrap();
    finish(kit, &next, second, &[1; 100]).await.unwrap();
    assert_eq!(kit.rows(id).await.len(), 102);
}
