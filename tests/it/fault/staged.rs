//! kill -9 of a worker whose query had streamed files: they go when the query has ended.

use rowmill::{Client, Status, Store};

use super::child::{Ends, Task};

/// What is staged for the query, and for whatever else.
fn staged(task: &Task) -> (usize, usize) {
    let count = |dir| std::fs::read_dir(dir).map_or(0, Iterator::count);
    let all = task.dir.join("files/.staging");
    (count(all.join(task.id.to_string())), count(all))
}

/// The query's end, and that a worker which starts later removes what is staged.
async fn assert_swept(mut task: Task, message: &str) {
    let client = Client::new(Store::sqlite(task.database()).await.unwrap());
    let query = client.slow_query_done(task.id).await.unwrap();
    assert_eq!((query.status, query.done), (Status::Failed, true));
    let messages = query.messages.flatten().unwrap();
    assert!(messages.get().contains(message), "{messages}");
    task.query = Some(Ends::Failed);
    assert!(task.start("").wait());
    assert_eq!(staged(&task), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_killed_query_go_when_it_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = Task::new(dir.path(), 1);
    task.query = Some(Ends::Killed);
    assert!(!task.start("").wait());
    assert_eq!(staged(&task).0, 2, "one that is whole, one that is not");
    task.query = Some(Ends::Failed);
    assert!(task.start("").wait());
    // Those of the one that was killed may be gone already.
    assert!([0, 2].contains(&staged(&task).0), "its own are gone");
    assert_swept(task, "failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_query_that_was_killed_each_time_go_when_it_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = Task::new(dir.path(), 1);
    task.query = Some(Ends::Killed);
    let mut kills = 0;
    while !task.start("").wait() {
        kills += 1;
        assert!(kills < 10, "it ends as lost");
    }
    assert!(kills > 1);
    assert_swept(task, "worker_lost").await;
}
