//! What docs/operations.md says of partitions is so.

use rowmill::model::{BatchId, Kind, NewBatch, Status};
use rowmill::store::postgres::{Options, PostgresStore};
use rowmill::{JobManager, Purge};
use serde_json::Value;
use uuid::{NoContext, Timestamp, Uuid};

use futures_util::FutureExt;

use super::world::{key, numbers, rows, rows_of, settings};
use crate::support::servers::Database;
use crate::support::{Harness as _, Postgres};

/// A batch's id as it was made in this second since 1970.
fn made_at(seconds: u64) -> BatchId {
    BatchId(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0)))
}

/// In which tables a batch's records are.
fn places(h: &Postgres, id: BatchId) -> Vec<String> {
    let of = |table: &str| {
        let sql = format!(
            "select distinct tableoid::regclass::text from rowmill.{table} where batch = '{}'",
            id.0
        );
        Database::rows_at(h.url(), &sql)
    };
    let found = ["blocks", "attempts"].map(of).into_iter().flatten();
    found.map(|r| r.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_partitioned_by_month_are_worked_on_and_dropped_as_any() {
    let h = Postgres::open().await;
    let store = h.again().await;
    let processor = rows(|_, _| async move { Ok(Value::Null) }.boxed());
    let builder = JobManager::builder(store).batch("bank", "post", processor);
    let small = settings(|s| s.block_rows = 10);
    let builder = builder.settings("bank", "post", Kind::Batch, small);
    let manager = builder.build().expect("a manager");
    let work = async |id: BatchId| {
        let new = NewBatch {
            id,
            ..NewBatch::new(key("post"))
        };
        let submitted = manager.batch_submit(new, numbers(30)).await;
        submitted.expect("submitted");
        while !manager.batch_done(id).await.is_ok_and(|b| b.done) {
            manager.tick().await.expect("a turn");
        }
        assert_eq!(
            manager.batch_done(id).await.unwrap().status,
            Status::Success
        );
        assert_eq!(rows_of(&manager, id).await.len(), 30);
        assert_eq!(h.batchrows(id).len(), 30, "a person reads them too");
    };
    let well = async || {
        let options = Options::new(h.url()).expect("an address");
        let found = PostgresStore::doctor(&options, jiff::Timestamp::now()).await;
        let checks = found.expect("a look").checks;
        let check = checks.iter().find(|c| c.name == "catalogue");
        assert!(check.is_some_and(|c| c.ok), "{check:#?}");
    };
    let before = made_at(1_790_000_000);
    work(before).await;
    Database::run_at(h.url(), include_str!("../../../docs/sql/partition.sql"));
    let months =
        "call rowmill_ops.add_month('2026-11-01'); call rowmill_ops.add_month('2026-12-01')";
    Database::run_at(h.url(), months);
    // The seconds of 15 November and of 15 December 2026.
    let (november, december) = (made_at(1_794_700_000), made_at(1_797_300_000));
    work(november).await;
    work(december).await;
    assert_eq!(places(&h, before), ["blocks_rest", "attempts_rest"]);
    assert_eq!(places(&h, november), ["blocks_2026_11", "attempts_2026_11"]);
    assert_eq!(places(&h, december), ["blocks_2026_12", "attempts_2026_12"]);

    well().await;

    Database::run_at(h.url(), "call rowmill_ops.drop_month('2026-11-01')");
    for id in [before, december] {
        assert_eq!(rows_of(&manager, id).await.len(), 30);
    }
    // What a purge would have removed row by row is gone already; its tombstone is made all the same.
    let purged = manager.purge(&Purge::default()).await.expect("purged");
    assert_eq!(purged.batches, 3);
    let batch = manager.batch_status(november).await.expect("a tombstone");
    assert!(batch.purged_at.is_some());
    manager.stop().await.expect("stopped");
}
