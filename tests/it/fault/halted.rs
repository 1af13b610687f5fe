//! A process that is stopped, and one that dies while its batch is aborted.

use std::time::Duration;

use rowmill::{Client, Status, Store};

use super::child::Task;
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
