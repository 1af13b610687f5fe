//! Money moved in the transaction of the rows' outcomes: kill -9 wherever it may come.

mod postgres;

use rusqlite::Connection;

use super::child::{ACCOUNTS, Task};
use super::points::goes_on_after_kill_at;
use super::random::{assert_one_outcome_each, survives_kills};

/// The points that rows pass in a transaction alone.
pub(super) const PIECES: [&str; 2] = ["piece_before_commit", "piece_committed"];

fn task(dir: &std::path::Path, rows: u32) -> Task {
    Task {
        transactional: true,
        ..Task::new(dir, rows)
    }
}

/// Every row's effect is there once if and only if its outcome is success; no money came or went.
pub(super) fn assert_moved(task: &Task) {
    let db = Connection::open(task.database()).unwrap();
    db.execute_batch(ACCOUNTS).unwrap();
    let count = |sql: &str| db.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
    let good = |line: &u32| !line.is_multiple_of(task.fails) && task.poison != Some(*line);
    let lines: Vec<u32> = (2..task.rows + 2).filter(good).collect();
    let mut moved = db.prepare("select line from moves order by line").unwrap();
    let moved = moved.query_map([], |r| r.get::<_, u32>(0)).unwrap();
    assert_eq!(moved.collect::<Result<Vec<_>, _>>().unwrap(), lines);
    let sum: i64 = lines.iter().map(|line| i64::from(*line) - 2).sum();
    assert_eq!(count("select cents from accounts where name = 'b'"), sum);
    assert_eq!(count("select sum(cents) from accounts"), 1_000_000_000);
}

async fn moves_once_after_kill_at(point: &str, nth: u32) {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path(), 6000);
    goes_on_after_kill_at(task.clone(), point, nth).await;
    assert_moved(&task);
}

macro_rules! each_point {
    ($($name:ident: $point:literal, $nth:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            moves_once_after_kill_at($point, $nth).await;
        })+
    };
}

each_point! {
    money_moves_once_when_killed_after_a_claim: "claimed", 1;
    money_moves_once_when_killed_at_the_start_of_a_row: "row_started", 1700;
    money_moves_once_when_killed_at_the_end_of_a_row: "row_done", 2300;
    money_moves_once_when_killed_before_a_commit: "piece_before_commit", 3;
    money_moves_once_when_killed_after_a_commit: "piece_committed", 3;
    money_moves_once_when_killed_after_the_end: "told", 1;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_moves_once_however_often_its_worker_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = task(dir.path(), 20_000);
    task.fails = 1_000_000;
    survives_kills(task.clone(), 12, 3000).await;
    assert_moved(&task);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_kills_its_worker_moves_no_money_and_costs_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = task(dir.path(), 1000);
    task.poison = Some(500);
    task.fails = 1_000_000;
    let mut deaths = 0;
    while !task.start("").wait() {
        deaths += 1;
        assert!(deaths <= 10, "the poison row is never given up");
    }
    assert_moved(&task);
    assert_one_outcome_each(&task);
}
