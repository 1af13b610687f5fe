//! kill -9 within a purge: what is half purged is seen by nobody, and the next one goes on.

use rowmill::{Client, Status, Store};

use super::child::Task;

/// The points within a purge.
pub(super) const POINTS: [&str; 3] = ["purge_marked", "purge_files_removed", "purge_piece"];

fn left(task: &Task) -> (i64, bool) {
    let db = rusqlite::Connection::open(task.database()).unwrap();
    let sql = "select (select count(*) from blocks) + (select count(*) from attempts)";
    let records = db.query_row(sql, [], |r| r.get(0)).unwrap();
    let folder = task.dir.join("files/fault/work").join(task.id.to_string());
    (records, folder.exists())
}

async fn purge_survives_kill_at(point: &str) {
    let dir = tempfile::tempdir().unwrap();
    // More records than one piece removes.
    let mut task = Task::new(dir.path(), 2000);
    task.block_rows = 20;
    task.purge = true;
    assert!(!task.start(&format!("{point}=kill")).wait());
    let (records, files) = left(&task);
    assert!(records > 0, "killed before the last piece");
    assert_eq!(files, point == "purge_marked");
    let client = Client::new(Store::sqlite(task.database()).await.unwrap());
    let seen = client.batch_status(task.id).await.unwrap();
    assert!(seen.done && seen.purged_at.is_some(), "{seen:?}");
    assert_eq!(client.files(task.id).await.unwrap_err().code(), "purged");

    // Submits the same again, finds it purged, and purges.
    assert!(task.start("").wait());
    assert_eq!(left(&task), (0, false));
    let batch = client.batch_status(task.id).await.unwrap();
    assert_eq!(batch.status, Status::Failed);
    assert_eq!((batch.counts.success, batch.counts.failed), (1980, 20));
    assert_eq!(
        task.starts().values().copied().max(),
        Some(1),
        "no row ran again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_batch_was_marked() {
    purge_survives_kill_at("purge_marked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_output_files_were_removed() {
    purge_survives_kill_at("purge_files_removed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_pieces_of_a_purge() {
    purge_survives_kill_at("purge_piece").await;
}
