//! A process that is stopped, one that dies while its batch is aborted, and one that takes over and dies.

use std::time::Duration;

use rowmill::{Client, Status, Store};

use super::child::Task;
#[cfg(feature = "probe")]
use super::points::assert_whole;
use super::random::{assert_one_outcome_each, lines_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_keeps_its_tasks_and_goes_on_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = Task::new(dir.path(), 5000);
    task.fails = 1_000_000;
    let mut child = task.start("");
    child.wait_rows(500);
    child.signal(libc::SIGSTOP);
    // Others read, and see that it lives, whatever it was doing.
    let store = Store::sqlite(task.database()).await.unwrap();
    assert_eq!(store.dead_workers().await.unwrap(), []);
    let batch = store.batch(task.id).await.unwrap().unwrap();
    assert!(!batch.done, "{batch:?}");
    child.signal(libc::SIGCONT);
    assert!(child.wait());
    assert!(task.starts().values().all(|n| *n == 1), "no row ran twice");
    assert_eq!(lines_of(&task, Status::Success).await.len(), 5000);
    assert_one_outcome_each(&task);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_its_batch_was_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = Task::new(dir.path(), 20_000);
    task.fails = 1_000_000;
    let mut child = task.start("");
    child.wait_rows(3000);
    let client = Client::new(Store::sqlite(task.database()).await.unwrap());
    client.batch_abort(task.id, Duration::ZERO).await.unwrap();
    child.kill();
    let before = task.starts();
    assert!(task.start("").wait());
    assert_eq!(task.starts(), before, "no row began after the abort");
    let batch = client.batch_status(task.id).await.unwrap();
    assert_eq!(batch.status, Status::Aborted);
    let success = lines_of(&task, Status::Success).await;
    assert!(success.iter().all(|(line, _)| before.contains_key(line)));
    let aborted = lines_of(&task, Status::Aborted).await;
    assert_eq!(success.len() + aborted.len(), 20_000);
    for (line, messages) in aborted {
        // What may have taken effect says so.
        if before.contains_key(&line) {
            assert!(messages.contains("interrupted"), "line {line}: {messages}");
        }
    }
    assert!(!task.told().is_empty(), "the end was told to nobody");
    assert!(task.told().iter().all(|status| status == "aborted"));
}

/// The points around a take-over.
#[cfg(feature = "probe")]
pub(super) const TAKE_OVER: [&str; 2] = ["dead_found", "taken_over"];

/// A worker dies, the one that finds it dies at a point, and the third goes on with what both had.
#[cfg(feature = "probe")]
async fn the_next_goes_on_after_kill_at(point: &str) {
    let dir = tempfile::tempdir().unwrap();
    let task = Task::new(dir.path(), 2000);
    assert!(!task.start("row_done:700=kill").wait());
    assert!(!task.start(&format!("{point}=kill")).wait());
    assert!(task.start("").wait());
    assert!(
        task.starts().values().all(|n| *n <= 2),
        "one death of a row's"
    );
    assert_whole(&task, &[]).await;
}

#[cfg(feature = "probe")]
#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_dead_worker_was_taken_over() {
    the_next_goes_on_after_kill_at("dead_found").await;
}

#[cfg(feature = "probe")]
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_dead_worker_was_taken_over() {
    the_next_goes_on_after_kill_at("taken_over").await;
}
