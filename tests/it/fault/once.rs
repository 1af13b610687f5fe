//! kill -9 of a worker whose rows run at most once: what has begun never begins again.

use rowmill::Status;

use super::child::Task;
use super::random::{assert_one_outcome_each, kill_again_and_again, lines_of};

fn task(dir: &std::path::Path) -> Task {
    Task {
        once: true,
        fails: 1_000_000,
        ..Task::new(dir, 300)
    }
}

/// No row began twice; those that failed were lost with a worker, and the others succeeded.
async fn lost_rows(task: &Task) -> Vec<u32> {
    let starts = task.starts();
    assert!(starts.values().all(|n| *n == 1), "a row began twice");
    let failed = lines_of(task, Status::Failed).await;
    for (line, messages) in &failed {
        assert!(messages.contains("worker_lost"), "line {line}: {messages}");
    }
    let success = lines_of(task, Status::Success).await;
    assert_eq!(success.len() + failed.len(), 300);
    assert!(success.iter().all(|(line, _)| starts.contains_key(line)));
    assert_one_outcome_each(task);
    failed.into_iter().map(|(line, _)| line).collect()
}

/// The rows that were lost, and those whose processor was called.
#[cfg(feature = "probe")]
async fn lost_when_killed_at(point: &str, nth: u32) -> (Vec<u32>, Vec<u32>) {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path());
    assert!(!task.start(&format!("{point}:{nth}=kill")).wait());
    assert!(task.start("").wait());
    (lost_rows(&task).await, task.starts().into_keys().collect())
}

#[cfg(feature = "probe")]
#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_nothing_is_lost_before_a_row_began() {
    let (lost, called) = lost_when_killed_at("claimed", 1).await;
    assert!(lost.is_empty() && called.len() == 300, "{lost:?}");
}

#[cfg(feature = "probe")]
#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_a_row_whose_start_was_committed_has_failed_without_its_effect() {
    let (lost, called) = lost_when_killed_at("row_started", 50).await;
    assert_eq!(lost, [51], "the fiftieth row");
    assert!(!called.contains(&51), "its processor was not called");
}

#[cfg(feature = "probe")]
#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_a_row_whose_outcome_was_lost_has_failed_with_its_effect() {
    let (lost, called) = lost_when_killed_at("row_done", 50).await;
    assert_eq!(lost, [51]);
    assert!(called.contains(&51), "it took effect");
}

#[cfg(feature = "probe")]
#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_a_kill_around_a_commit_costs_one_row_at_most() {
    for point in ["before_record", "recorded"] {
        let (lost, _) = lost_when_killed_at(point, 50).await;
        assert!(lost.len() <= 1, "{point}: {lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_no_row_begins_twice_however_often_its_worker_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path());
    kill_again_and_again(&task, 10, 40);
    assert!(
        lost_rows(&task).await.len() <= 10,
        "one row a death at most"
    );
}
