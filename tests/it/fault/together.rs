//! Queries that were submitted together on PostgreSQL, and workers that are killed while they have many of them.

use super::worker::Crew;
use crate::support::servers::{Database, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_of_one_call_end_once_however_often_their_workers_are_killed() {
    const QUERIES: u32 = 2_000;
    let dir = tempfile::tempdir().expect("a folder");
    let database = tokio::task::spawn_blocking(Database::fresh);
    let database = database.await.expect("a database");
    let crew = Crew::new(dir.path(), database.url());
    crew.submit_queries(QUERIES / 2).await;
    crew.submit_queries(QUERIES / 2).await;
    let together = crew.number("select count(*) from queue where what = 2");
    assert_eq!(together, i64::from(QUERIES / 100), "they stand together");
    let mut kills = 0;
    let has_some = "select 1 from queue q join workers w on w.no = q.worker where w.ended_at is null and q.what = 2 and q.state = 2 and q.success > 0";
    while kills < 3 {
        let worker = crew.start(&format!("killed-{kills}"), None);
        // It has recorded some of what stands together, and not all.
        let mut ended = false;
        until("a worker that has many", || {
            ended = crew.rows("select 1 from queue limit 1").is_empty();
            (ended || !crew.rows(has_some).is_empty()).then_some(())
        });
        if ended {
            break;
        }
        worker.kill();
        kills += 1;
    }
    assert!(kills > 1, "all had ended after {kills} kills");
    let last = crew.start("last", None);
    let all = i64::from(QUERIES);
    until("the end of all", || {
        let ended = crew.number("select count(*) from batches where state = 4");
        (ended == all).then_some(())
    });
    last.stop();
    assert_eq!(
        crew.number("select count(*) from attempts where ended_as = 1"),
        all
    );
    let twice = "select batch from attempts where ended_as = 1 group by batch having count(*) > 1";
    assert!(crew.rows(twice).is_empty());
    let lost = crew.number("select count(*) from attempts where ended_as = 3");
    assert!(lost > 0, "each kill costs the attempts that were under way");
    assert!(crew.rows("select 1 from queue").is_empty());
}
