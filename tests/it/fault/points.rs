//! kill -9 at every named point: nothing is lost, nothing is recorded twice.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use rowmill::probe::POINTS;
use rowmill::{Client, RowView, Status, Store};
use sha2::Digest;

use super::child::Task;

pub(super) async fn rows(task: &Task) -> Vec<RowView> {
    let client = Client::new(Store::sqlite(task.database()).await.unwrap());
    client.rows(task.id, None).try_collect().await.unwrap()
}

/// Every row has one outcome, the right one; counts, file and notice say the same.
pub(super) async fn assert_whole(task: &Task, lost: &[u32]) {
    let client = Client::new(Store::sqlite(task.database()).await.unwrap());
    let batch = client.batch_status(task.id).await.unwrap();
    assert!(batch.done, "{batch:?}");
    let rows = rows(task).await;
    assert_eq!(rows.len(), usize::try_from(task.rows).unwrap());
    let mut failed = 0;
    for (row, line) in rows.iter().zip(2..) {
        assert_eq!(row.line.0, line);
        let fails = line % task.fails == 0 || lost.contains(&line);
        let expected = if fails {
            Status::Failed
        } else {
            Status::Success
        };
        assert_eq!(row.status, expected, "line {line}: {:?}", row.messages);
        let is_lost = row
            .messages
            .as_ref()
            .is_some_and(|m| m.get().contains("worker_lost"));
        assert_eq!(is_lost, lost.contains(&line), "line {line}");
        failed += u64::from(fails);
    }
    assert_eq!(batch.counts.failed, failed);
    assert_eq!(batch.counts.success, u64::from(task.rows) - failed);

    let expected: String = (0..task.rows)
        .filter(|n| !lost.contains(&(n + 2)))
        .map(|n| format!("{n}\n"))
        .collect();
    let [file] = batch.files.as_slice() else {
        panic!("one output file, not {:?}", batch.files)
    };
    let path = task.dir.join("files").join(&file.key);
    assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    let hash: String = sha2::Sha256::digest(&expected)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(file.sha256, hash);
    assert!(!task.told().is_empty(), "the end was told to nobody");
    assert!(task.told().iter().all(|s| *s == batch.status.as_str()));
    super::random::assert_one_outcome_each(task);
}

/// Kills a child at a point, lets another go on, and looks at everything.
async fn survives_kill_at(point: &str, nth: u32) {
    let dir = tempfile::tempdir().unwrap();
    goes_on_after_kill_at(Task::new(dir.path(), 6000), point, nth).await;
}

pub(super) async fn goes_on_after_kill_at(mut task: Task, point: &str, nth: u32) {
    // Enough for several pieces of a load.
    task.padding = 1500;
    task.held = point.starts_with("append_").then_some(1000);
    let ended_well = task.start(&format!("{point}:{nth}=kill")).wait();
    assert!(!ended_well, "the child was not killed at {point}");

    let store = Store::sqlite(task.database()).await.unwrap();
    let seen = store.batch(task.id).await.unwrap();
    let rows_seen = seen.as_ref().map_or(0, |batch| batch.counts.rows);
    let acknowledged = match point {
        "load_begun" | "load_piece" => 0,
        "append_begun" | "append_piece" => 1000,
        _ => u64::from(task.rows),
    };
    assert_eq!(
        rows_seen, acknowledged,
        "seen before it was acknowledged, or lost after"
    );
    let seen = seen.is_some();
    // What was recorded is not run again.
    let recorded: BTreeSet<u32> = if seen {
        let ended = rows(&task)
            .await
            .into_iter()
            .filter(|r| r.status.is_final());
        ended.map(|r| r.line.0).collect()
    } else {
        BTreeSet::new()
    };
    let before = task.starts();
    // A load that was cut off can be replaced when its loader has been silent for a minute.
    task.ahead = 120;
    assert!(task.start("").wait(), "the next child did not end");
    let after = task.starts();
    for line in recorded {
        assert_eq!(
            before.get(&line),
            after.get(&line),
            "line {line} was recorded and ran again"
        );
    }
    let again = after.values().filter(|n| **n > 1).count();
    match point {
        "row_done" | "before_record" => assert!(again > 0, "what was not recorded runs again"),
        "claimed" if nth == 1 => assert_eq!(again, 0, "no row had begun"),
        _ => {}
    }
    assert_whole(&task, &[]).await;
    // Whoever is killed when it has told an end, and cannot say so any more, tells it again.
    let times = if point == "told" { 2 } else { 1 };
    assert_eq!(task.told().len(), times, "how often the end was told");
}

macro_rules! each_point {
    ($($name:ident: $point:literal, $nth:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            survives_kill_at($point, $nth).await;
        })+

        #[test]
        fn every_fault_point_has_its_test() {
            let tested = [$($point),+].into_iter().chain(super::transfer::PIECES);
            let tested = tested.chain(super::halted::TAKE_OVER);
            let tested = tested.chain(super::s3::POINTS);
            let tested: BTreeSet<&str> = tested.chain(super::purge::POINTS).collect();
            let all: BTreeSet<&str> = POINTS.iter().copied().collect();
            assert_eq!(tested, all);
        }
    };
}

each_point! {
    killed_after_a_load_began: "load_begun", 1;
    killed_between_pieces_of_a_load: "load_piece", 2;
    killed_after_the_acknowledgement: "load_finished", 1;
    killed_after_an_append_began: "append_begun", 1;
    killed_between_pieces_of_an_append: "append_piece", 2;
    killed_after_the_answer_to_an_append: "append_finished", 1;
    killed_after_a_claim: "claimed", 1;
    killed_after_a_later_claim: "claimed", 2;
    killed_when_a_row_started: "row_started", 1700;
    killed_when_a_row_was_done: "row_done", 2300;
    killed_before_outcomes_were_recorded: "before_record", 2;
    killed_after_outcomes_were_recorded: "recorded", 2;
    killed_before_files_were_assembled: "close_claimed", 1;
    killed_after_files_were_assembled: "assembled", 1;
    killed_after_files_were_published: "published", 1;
    killed_after_the_batch_was_closed: "closed", 1;
    killed_before_the_end_was_told: "before_notice", 1;
    killed_after_the_end_was_told: "told", 1;
}
