//! A power failure takes back what was written and not synced: the end of the WAL.
//!
//! The child is killed and its WAL cut by its last commit, as the disk of a machine without power may
//! have it. That commit is one of those that need not survive: who runs what.

use std::path::Path;

use super::child::Task;
use super::points::assert_whole;
use super::transfer::assert_moved;

/// The ends of the commits in a WAL.
fn commits(wal: &[u8]) -> Vec<usize> {
    let number = |at: usize| u32::from_be_bytes(wal[at..at + 4].try_into().unwrap());
    let frame = 24 + usize::try_from(number(8)).unwrap();
    let salt = &wal[16..24];
    let mut ends = Vec::new();
    for at in (32..=wal.len() - frame).step_by(frame) {
        if &wal[at + 8..at + 16] != salt {
            break;
        }
        // The frame that ends a commit tells how large the database is after it.
        if number(at + 4) != 0 {
            ends.push(at + frame);
        }
    }
    ends
}

/// What a query finds in a copy: opening the file itself would write its WAL into it.
fn found(task: &Task, sql: &str) -> i64 {
    let copy = tempfile::tempdir().unwrap();
    for name in ["rowmill.db", "rowmill.db-wal"] {
        std::fs::copy(task.dir.join(name), copy.path().join(name)).unwrap();
    }
    let db = rusqlite::Connection::open(copy.path().join("rowmill.db")).unwrap();
    db.query_row(sql, [], |r| r.get(0)).unwrap()
}

/// Takes the last commit back; a torn piece of it stays.
fn lose_the_last_commit(dir: &Path) {
    let path = dir.join("rowmill.db-wal");
    let mut wal = std::fs::read(&path).unwrap();
    let ends = commits(&wal);
    let [.., keep, last] = ends.as_slice() else {
        panic!("{} commits", ends.len())
    };
    wal.truncate(keep + (last - keep) / 2);
    std::fs::write(&path, wal).unwrap();
}

/// Kills a child at a point, takes its last commit back, which `sql` sees, and lets another go on.
async fn goes_on_after_power_fails_at(
    mut task: Task,
    point: &str,
    sql: &str,
    (with, without): (i64, i64),
) {
    assert!(!task.start(&format!("{point}=kill")).wait());
    assert_eq!(found(&task, sql), with, "before the power failed");
    lose_the_last_commit(&task.dir);
    assert_eq!(found(&task, sql), without, "after");
    task.ahead = 120;
    assert!(task.start("").wait());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_power_failure_takes_back_is_held_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let task = Task::new(dir.path(), 1000);
    let running = "select count(*) from queue where state = 2";
    goes_on_after_power_fails_at(task.clone(), "claimed", running, (1, 0)).await;
    assert!(task.starts().values().all(|n| *n == 1), "it ran once");
    assert_whole(&task, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_whose_beginning_a_power_failure_takes_back_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = Task::new(dir.path(), 6000);
    task.padding = 1500;
    let loads = "select count(*) from batches";
    goes_on_after_power_fails_at(task.clone(), "load_begun", loads, (1, 0)).await;
    assert_whole(&task, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_telling_a_power_failure_takes_back_is_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let task = Task::new(dir.path(), 1000);
    let telling = "select count(*) from notices where worker is not null";
    goes_on_after_power_fails_at(task.clone(), "told", telling, (1, 0)).await;
    assert_eq!(task.told().len(), 2);
    assert_whole(&task, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_of_a_purge_that_a_power_failure_takes_back_is_removed_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = Task::new(dir.path(), 2000);
    task.block_rows = 20;
    task.purge = true;
    // 100 blocks, and a record of the outcomes of each.
    let records = "select (select count(*) from blocks) + (select count(*) from attempts)";
    goes_on_after_power_fails_at(task.clone(), "purge_piece", records, (136, 200)).await;
    let db = rusqlite::Connection::open(task.database()).unwrap();
    let left: i64 = db.query_row(records, [], |r| r.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn money_of_a_suspect_row_goes_with_its_outcome_and_is_moved_once_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let task = Task {
        transactional: true,
        fails: 1_000_000,
        ..Task::new(dir.path(), 1000)
    };
    assert!(!task.start("claimed=kill").wait());
    // One row of the suspect block: its effect and its outcome.
    let both = "select (select count(*) from moves) + 10 * (select count(*) from attempts where body <> '')";
    goes_on_after_power_fails_at(task.clone(), "piece_committed", both, (11, 0)).await;
    assert_moved(&task);
}
