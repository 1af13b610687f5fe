//! Kills at random moments, and rows that kill.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use rowmill::{Client, Status, Store};

use super::child::Task;

/// In the database itself, no ordinal of a block has two final outcomes and none is missing.
pub(super) fn assert_one_outcome_each(task: &Task) {
    let db = rusqlite::Connection::open(task.database()).unwrap();
    let mut statement = db
        .prepare("select no, ordinals, body from attempts where body <> '' order by no")
        .unwrap();
    let mut seen: BTreeSet<(i64, u32)> = BTreeSet::new();
    let parts = statement
        .query_map([], |r| {
            Ok((
                r.get::<_, i64>(0)?,
                r.get::<_, Option<String>>(1)?,
                r.get::<_, String>(2)?,
            ))
        })
        .unwrap();
    for part in parts {
        let (no, ordinals, body) = part.unwrap();
        let ordinals: Option<Vec<u32>> = ordinals.map(|o| serde_json::from_str(&o).unwrap());
        for (i, line) in body.lines().enumerate() {
            if line.contains("\"status\":\"retry\"") || line.contains("\"status\":\"later\"") {
                continue;
            }
            let ordinal = ordinals
                .as_ref()
                .map_or(u32::try_from(i).unwrap(), |o| o[i]);
            assert!(
                seen.insert((no, ordinal)),
                "row {ordinal} of block {no} has two outcomes"
            );
        }
    }
    assert_eq!(seen.len(), usize::try_from(task.rows).unwrap());
    let open: i64 = db
        .query_row("select count(*) from queue", [], |r| r.get(0))
        .unwrap();
    assert_eq!(open, 0, "tasks of an ended batch");
    assert_eq!(
        locks(task),
        Vec::<String>::new(),
        "of workers that are gone"
    );
}

/// The files of workers' locks.
fn locks(task: &Task) -> Vec<String> {
    let mut dir = task.database().into_os_string();
    dir.push("-workers");
    let names = std::fs::read_dir(dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".lock")).collect()
}

pub(super) async fn lines_of(task: &Task, status: Status) -> Vec<(u32, String)> {
    let client = Client::new(Store::sqlite(task.database()).await.unwrap());
    let rows: Vec<_> = client
        .rows(task.id, Some(status))
        .try_collect()
        .await
        .unwrap();
    let text =
        |m: Option<Box<rowmill::RawJson>>| m.map_or_else(String::new, |m| m.get().to_owned());
    rows.into_iter()
        .map(|r| (r.line.0, text(r.messages)))
        .collect()
}

/// Kills `kills` children, each after a number of rows that varies, then lets one end.
pub(super) fn kill_again_and_again(task: &Task, kills: u32, step: u32) {
    // A fixed series, so that a failure can be seen again; its moments are as good as any.
    let mut dice = 0x2545_F491_u32;
    for _ in 0..kills {
        dice ^= dice << 13;
        dice ^= dice >> 17;
        dice ^= dice << 5;
        let mut child = task.start("");
        child.wait_rows(dice % step + 1);
        child.kill();
    }
    assert!(task.start("").wait());
}

pub(super) async fn survives_kills(mut task: Task, kills: u32, step: u32) {
    task.fails = 1_000_000;
    kill_again_and_again(&task, kills, step);
    assert_eq!(lines_of(&task, Status::Failed).await, []);
    let success = lines_of(&task, Status::Success).await;
    assert_eq!(success.len(), usize::try_from(task.rows).unwrap());
    assert_one_outcome_each(&task);
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_kills_over_one_batch_lose_nothing_and_fail_nothing() {
    let dir = tempfile::tempdir().unwrap();
    survives_kills(Task::new(dir.path(), 20_000), 12, 3000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_of_a_worker_on_one_block_fail_no_row() {
    let dir = tempfile::tempdir().unwrap();
    survives_kills(Task::new(dir.path(), 1000), 50, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_kills_its_worker_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = Task::new(dir.path(), 1000);
    task.poison = Some(500);
    task.fails = 1_000_000;
    let mut deaths = 0;
    while !task.start("").wait() {
        deaths += 1;
        assert!(deaths <= 10, "the poison row is never given up");
    }
    // Once with its block, then max_lost times when it was known to be running.
    assert_eq!(deaths, 4);
    let failed = lines_of(&task, Status::Failed).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].0, 500);
    assert!(failed[0].1.contains("worker_lost"));
    assert_one_outcome_each(&task);
}
