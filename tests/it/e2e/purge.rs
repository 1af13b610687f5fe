//! purge: rows and files go, the tombstone stays, and ops keep what they are told to keep.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{FutureExt, TryStreamExt};
use rowmill::model::{BatchId, Kind, NewBatch, Status};
use rowmill::{ErrorKind, JobManager, Purge, Purged};
use serde_json::Value;

use super::world::{
    Ends, World, ask, key, numbers, queries, raw, read, rows, rows_of, settings, submit,
};

const DAY: Duration = Duration::from_secs(86_400);

fn database(world: &World) -> rusqlite::Connection {
    let path = world.folder().with_file_name("rowmill.db");
    rusqlite::Connection::open(path).unwrap()
}

/// Rows write to `all.txt`; batches of `kept` go after two days.
fn manager(world: &World) -> JobManager {
    let writes = || {
        rows(|cx, input| {
            cx.write_line("all.txt", &input.to_string());
            async { Ok(Value::Null) }.boxed()
        })
    };
    let answers = queries(|_, input| async { Ok(input) }.boxed());
    world
        .builder()
        .batch("bank", "post", writes())
        .batch("bank", "kept", writes())
        .slow_query("bank", "ask", answers)
        .settings(
            "bank",
            "kept",
            Kind::Batch,
            settings(|s| s.keep = Some(2 * DAY)),
        )
        .build()
        .unwrap()
}

fn older(days: u32) -> Purge {
    Purge {
        older_than: DAY * days,
        ..Purge::default()
    }
}

fn dir_of(world: &World, op: &str, id: BatchId) -> PathBuf {
    world.folder().join("bank").join(op).join(id.to_string())
}

async fn is_purged(manager: &JobManager, id: BatchId) -> bool {
    manager.batch_status(id).await.unwrap().purged_at.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_takes_rows_and_files_and_leaves_what_is_younger() {
    let world = World::new().await;
    let manager = manager(&world);
    let old = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    world.kit().clock.advance(10 * DAY);
    let young = submit(&manager, "post", numbers(2)).await;
    let held = NewBatch {
        hold: true,
        ..NewBatch::new(key("post"))
    };
    let held = manager.batch_submit(held, numbers(1)).await.unwrap().id;
    world.work(&manager).await;
    world.kit().clock.advance(DAY);

    let dry = Purge {
        dry_run: true,
        ..older(5)
    };
    let would = manager.purge(&dry).await.unwrap();
    let bytes = 6 + 6;
    let one = Purged {
        batches: 1,
        rows: 3,
        bytes,
        files: 1,
        waiting: 0,
    };
    assert_eq!(would, one);
    assert_eq!(rows_of(&manager, old).await.len(), 3, "nothing went");
    assert_eq!(manager.purge(&older(5)).await.unwrap(), one);
    assert_eq!(manager.purge(&older(5)).await.unwrap(), Purged::default());

    assert!(!dir_of(&world, "post", old).exists());
    let batch = manager.batch_status(old).await.unwrap();
    assert_eq!((batch.done, batch.counts.success), (true, 3));
    let refused = [
        manager.files(old).await.map(drop),
        manager
            .rows(old, None)
            .try_collect::<Vec<_>>()
            .await
            .map(drop),
    ];
    for refused in refused {
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.code()),
            (ErrorKind::Conflict, "purged")
        );
        assert!(
            refused.to_string().contains("was purged at 2026-01-12"),
            "{refused}"
        );
    }
    let batch = manager.batch_status(young).await.unwrap();
    assert_eq!(read(&manager, &batch, "all.txt").await, "1\n2\n");
    assert_eq!(rows_of(&manager, held).await.len(), 1);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_submission_is_known_after_a_purge() {
    let world = World::new().await;
    let manager = manager(&world);
    let new = NewBatch {
        external_id: Some("march".to_owned()),
        context: raw("{\"a\":1}"),
        ..NewBatch::new(key("post"))
    };
    let id = manager
        .batch_submit(new.clone(), numbers(3))
        .await
        .unwrap()
        .id;
    world.work(&manager).await;
    world.kit().clock.advance(DAY);
    manager.purge(&older(0)).await.unwrap();
    let again = NewBatch {
        id: BatchId::new(),
        ..new
    };
    let found = manager
        .batch_submit(again.clone(), numbers(3))
        .await
        .unwrap();
    assert_eq!((found.id, found.done, found.counts.success), (id, true, 3));
    let other = manager.batch_submit(again, numbers(4)).await.unwrap_err();
    assert_eq!(other.code(), "duplicate");
    assert!(
        manager.tick().await.unwrap().is_idle(),
        "nothing runs again"
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_query_has_no_result_any_more() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = ask(&manager, "ask", "7").await;
    world.work(&manager).await;
    world.kit().clock.advance(DAY);
    manager.purge(&older(0)).await.unwrap();
    let query = manager.slow_query_done(id).await.unwrap();
    assert_eq!((query.status, query.done), (Status::Success, true));
    assert!(matches!(
        (query.result, query.messages),
        (Some(None), Some(None))
    ));
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_may_be_of_one_op_alone() {
    let world = World::new().await;
    let manager = manager(&world);
    let post = submit(&manager, "post", numbers(1)).await;
    let query = ask(&manager, "ask", "7").await;
    world.work(&manager).await;
    world.kit().clock.advance(DAY);
    let of = |app: &str, op: &str| Purge {
        app: Some(app.parse().unwrap()),
        op: Some(op.parse().unwrap()),
        ..older(0)
    };
    assert_eq!(
        manager.purge(&of("bank", "other")).await.unwrap().batches,
        0
    );
    assert_eq!(
        manager.purge(&of("other", "post")).await.unwrap().batches,
        0
    );
    assert_eq!(manager.purge(&of("bank", "ASK")).await.unwrap().batches, 1);
    assert!(is_purged(&manager, query).await);
    assert!(!is_purged(&manager, post).await);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_purges_what_its_op_keeps_no_longer_and_nothing_else() {
    let world = World::new().await;
    let manager = manager(&world);
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(submit(&manager, "kept", numbers(2)).await);
    }
    let post = submit(&manager, "post", numbers(2)).await;
    world.work(&manager).await;
    world.kit().clock.advance(DAY);
    world.work(&manager).await;
    for id in &kept {
        assert!(!is_purged(&manager, *id).await, "it is kept for two days");
    }
    world.kit().clock.advance(DAY + Duration::from_secs(60));
    let purged = manager.tick().await.unwrap().purged;
    assert_eq!(purged, 3);
    for id in &kept {
        assert!(is_purged(&manager, *id).await);
        assert!(!dir_of(&world, "kept", *id).exists());
    }
    world.kit().clock.advance(1000 * DAY);
    assert_eq!(manager.tick().await.unwrap().purged, 0);
    assert_eq!(rows_of(&manager, post).await.len(), 2);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_looks_for_what_is_to_be_purged_once_a_minute() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit(&manager, "kept", numbers(1)).await;
    world.work(&manager).await;
    // It has just looked; a moment before the minute is over it does not look again.
    world.kit().clock.advance(2 * DAY);
    assert_eq!(
        manager.tick().await.unwrap().purged,
        0,
        "two days to the moment"
    );
    world.kit().clock.advance(Duration::from_secs(59));
    assert_eq!(manager.tick().await.unwrap().purged, 0);
    world.kit().clock.advance(Duration::from_secs(1));
    assert_eq!(manager.tick().await.unwrap().purged, 1);
    assert!(is_purged(&manager, id).await);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_which_a_retry_is_open_waits_for_it() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit(&manager, "post", numbers(1)).await;
    world.work(&manager).await;
    let child = NewBatch {
        hold: true,
        ..NewBatch::new(key("post"))
    };
    let child = manager.batch_submit(child, numbers(1)).await.unwrap().id;
    let params = [child, id].map(|id| id.0.into_bytes());
    let made = database(&world).execute("update batches set parent = ?2 where id = ?1", params);
    assert_eq!(made.unwrap(), 1);
    world.kit().clock.advance(DAY);
    let purged = manager.purge(&older(0)).await.unwrap();
    assert_eq!((purged.batches, purged.waiting), (0, 1));
    let until = (world.kit().now() + DAY).as_microsecond();
    let kept = "update batches set keep_until = ?2 where id = ?1";
    let params = rusqlite::params![child.0.into_bytes(), until + 1];
    assert_eq!(database(&world).execute(kept, params).unwrap(), 1);
    manager.wait_off(child).await.unwrap();
    world.work(&manager).await;
    world.kit().clock.advance(DAY);
    let purged = manager.purge(&older(0)).await.unwrap();
    assert_eq!(
        (purged.batches, purged.waiting),
        (1, 1),
        "one is kept until then"
    );
    world.kit().clock.advance(Duration::from_secs(1));
    assert_eq!(manager.purge(&older(0)).await.unwrap().batches, 1);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_view_for_people_shows_no_row_of_a_batch_that_is_being_purged() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    world.kit().clock.advance(DAY);
    let db = database(&world);
    let seen = || -> i64 {
        let sql = "select count(*) from batchrows";
        db.query_row(sql, [], |r| r.get(0)).unwrap()
    };
    assert_eq!(seen(), 3);
    let store = &world.kit().store;
    let marked = store.purge_mark(vec![id], None, world.kit().now());
    assert_eq!(marked.await.unwrap(), [id]);
    assert_eq!(seen(), 0);
    // A worker goes on with it, whatever its op keeps.
    world.kit().clock.advance(DAY);
    assert_eq!(manager.tick().await.unwrap().purged, 1);
    assert!(!dir_of(&world, "post", id).exists());
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_removed_stop_a_purge_and_the_next_goes_on() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    world.kit().clock.advance(DAY);
    let dir = dir_of(&world, "post", id);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "a file where the folder was").unwrap();
    let stopped = manager.purge(&older(0)).await.unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Unavailable);
    assert!(stopped.to_string().contains(&id.to_string()), "{stopped}");
    let blocks = || world.facts().blocks.len();
    assert_eq!(blocks(), 1, "records stay as long as files do");
    std::fs::remove_file(&dir).unwrap();
    // Files that are gone already are no error.
    let purged = manager.purge(&older(5)).await.unwrap();
    assert_eq!((purged.batches, purged.rows), (1, 3));
    assert_eq!(blocks(), 0);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_removed_keeps_no_other_batch_from_a_workers_purge() {
    let world = World::new().await;
    let manager = manager(&world);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(submit(&manager, "kept", numbers(2)).await);
    }
    world.work(&manager).await;
    let dir = dir_of(&world, "kept", ids[0]);
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "a file where the folder was").unwrap();
    world.kit().clock.advance(2 * DAY + Duration::from_secs(60));
    let minute = Duration::from_secs(60);
    assert_eq!(manager.tick().await.unwrap().purged, 2);
    assert_eq!(
        world.facts().blocks.len(),
        1,
        "that of the batch that stays"
    );
    std::fs::remove_file(&dir).unwrap();
    let mut purged = 0;
    while purged == 0 {
        world.kit().clock.advance(minute);
        purged = manager.tick().await.unwrap().purged;
    }
    assert_eq!(world.facts().blocks.len(), 0);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applications_foreign_key_keeps_nothing_from_a_purge() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    let theirs = "
        create table theirs (batch blob not null references batches (id), no integer not null,
                             foreign key (batch, no) references blocks (batch, no));
        insert into theirs select batch, no from blocks;";
    database(&world).execute_batch(theirs).unwrap();
    world.kit().clock.advance(DAY);
    assert_eq!(manager.purge(&older(0)).await.unwrap().batches, 1);
    assert_eq!(world.facts().blocks.len(), 0);
    world.kit().clock.advance(401 * DAY);
    let forgotten = world.kit().store.forget(world.kit().now(), 10).await;
    assert_eq!(forgotten.unwrap(), 1);
    assert_eq!(
        manager.batch_status(id).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_was_not_told_yet_is_told_before_its_batch_is_purged() {
    let world = World::new().await;
    let ends = Ends::answering(&[super::world::Answer::Error]);
    let processor = rows(|_, _| async { Ok(Value::Null) }.boxed()).telling(&ends);
    let quick = settings(|s| s.keep = Some(Duration::ZERO));
    let manager = world
        .builder()
        .batch("bank", "post", processor)
        .settings("bank", "post", Kind::Batch, quick)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(1)).await;
    world.work(&manager).await;
    assert_eq!(ends.of(id), [Status::Success], "it was told once, in vain");
    assert!(!is_purged(&manager, id).await);
    world.kit().clock.advance(DAY);
    world.work(&manager).await;
    assert_eq!(ends.of(id).len(), 2);
    world.kit().clock.advance(DAY);
    world.work(&manager).await;
    assert!(is_purged(&manager, id).await);
    world.end(&manager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_appends_goes_with_their_batch() {
    let world = World::new().await;
    let manager = manager(&world);
    let id = submit(&manager, "post", numbers(3)).await;
    world.work(&manager).await;
    let db = database(&world);
    let made = db.execute(
        "insert into appends (batch, key, first_no, after_line, last_line, hash, by, at) \
         values (?1, 'k', 1, 3, 3, zeroblob(32), '', 1)",
        [id.0.into_bytes()],
    );
    assert_eq!(made.unwrap(), 1);
    world.kit().clock.advance(DAY);
    assert_eq!(manager.purge(&older(0)).await.unwrap().batches, 1);
    let sql = "select count(*) from appends";
    let left: i64 = db.query_row(sql, [], |r| r.get(0)).unwrap();
    assert_eq!(left, 0);
    world.end(&manager).await;
}
