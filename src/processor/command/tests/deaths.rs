//! Children that end, and children that must be ended.

use serde_json::json;

use super::*;
use crate::model::Delivery;

#[tokio::test]
async fn a_row_that_kills_its_child_fails_alone() {
    let bench = Bench::python(
        "for row in rows():\n if row['input'] == 50:\n  open('deaths', 'a').write('x')\n  \
         os.kill(os.getpid(), signal.SIGKILL)\n answer(row)",
        32,
    );
    let outcomes = bench.run(&numbers(100)).await;
    assert_eq!(outcomes.word(50), "failed worker_lost");
    for line in (1..=100).filter(|&line| line != 50) {
        assert_eq!(outcomes.word(line), "success");
    }
    // Once with others, and then as often as it may.
    assert_eq!(
        std::fs::read_to_string(bench.path("deaths")).unwrap(),
        "xxxx"
    );
}

#[tokio::test]
async fn rows_of_a_dead_child_go_one_at_a_time_and_then_as_before() {
    let bench = Bench::python(
        r#"
if first():
    while len(waiting) < 6:
        pull(True)
    sys.exit(3)
left = 14
while left:
    while len(waiting) < (1 if left > 8 else min(6, left)):
        pull(True)
    pull(False)
    answer(waiting[0], result=len(waiting))
    waiting.pop(0)
    left -= 1
"#,
        6,
    );
    let outcomes = bench.run(&numbers(14)).await;
    for line in 1..=6 {
        assert_eq!(outcomes.result(line), json!(1), "line {line}");
    }
    assert_eq!(outcomes.result(7), json!(6));
}

#[tokio::test]
async fn at_most_once_a_row_that_had_begun_fails_and_never_begins_again() {
    let mut bench = Bench::python(
        "for row in rows():\n open('begun', 'a').write('%d ' % row['line'])\n \
         if row['input'] == 3: sys.exit(1)\n answer(row)",
        32,
    );
    bench.settings.delivery = Delivery::AtMostOnce;
    let outcomes = bench.run(&numbers(5)).await;
    assert_eq!(outcomes.word(3), "failed worker_lost");
    assert_eq!([1, 2, 4, 5].map(|line| outcomes.word(line)), ["success"; 4]);
    assert_eq!(
        std::fs::read_to_string(bench.path("begun")).unwrap(),
        "1 2 3 4 5 "
    );
}

#[tokio::test]
async fn at_most_once_a_row_that_had_begun_fails_where_no_other_child_stays() {
    let mut bench = Bench::python(
        "if not first(): sys.exit(1)\nfor row in rows():\n \
         open('begun', 'a').write('%d ' % row['line'])\n sys.exit(1)",
        32,
    );
    bench.settings.delivery = Delivery::AtMostOnce;
    let outcomes = bench.run(&numbers(3)).await;
    assert_eq!(outcomes.word(1), "failed worker_lost");
    assert_eq!([2, 3].map(|line| outcomes.word(line)), ["later"; 2]);
    assert_eq!(std::fs::read_to_string(bench.path("begun")).unwrap(), "1 ");
}

/// The first child answers two rows, does something, and is not asked again.
async fn broken_once(does: &str) {
    let script = format!(
        "import time\nonce = first()\nfor n, row in enumerate(rows()):\n if once and n == 2:\n  {does}\n  signal.pause()\n answer(row, result=row['input'])"
    );
    let bench = Bench::python(&script, 4);
    let outcomes = bench.run(&numbers(20)).await;
    for line in 1..=20 {
        assert_eq!(outcomes.result(line), json!(line), "{does}: line {line}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_ends_the_child_and_loses_nothing() {
    for does in [
        "say('Loading the model...')",
        "say('')",
        "say('{\"line\":3}')",
        "say('{\"status\":\"success\"}')",
        "say('{\"line\":3,\"status\":\"done\"}')",
        "say('{\"line\":\"3\",\"status\":\"success\"}')",
        "say('{\"line\":3,\"status\":\"success\",\"line\":3}')",
        "say('{\"line\":3,\"status\":\"failed\",\"messages\":[\"text\"]}')",
        "say('{\"line\":3,\"status\":\"failed\",\"messages\":[{\"msgid\":1}]}')",
        "say('{\"line\":3,\"status\":\"retry\",\"delay_ms\":-1}')",
        "sys.stdout.buffer.write(b'{\"line\":3,\"status\":\"success\",\"result\":\"\\xff\"}\\n'); sys.stdout.flush()",
    ] {
        broken_once(does).await;
    }
}

#[tokio::test]
async fn an_answer_to_another_row_ends_the_child_and_loses_nothing() {
    for does in [
        "say('{\"line\":1000,\"status\":\"success\"}')",
        "say('{\"line\":1,\"status\":\"success\"}')",
        "answer({**row, 'key': 'another/3'})",
    ] {
        broken_once(does).await;
    }
}

#[tokio::test]
async fn a_line_without_an_end_ends_the_child_and_loses_nothing() {
    broken_once("while True: sys.stdout.write('x' * (1 << 20))").await;
}

#[tokio::test]
async fn a_child_that_closes_its_output_is_replaced_and_nothing_is_lost() {
    broken_once("os.close(1)").await;
}

#[tokio::test]
async fn a_child_that_takes_no_more_rows_is_replaced_and_nothing_is_lost() {
    let bench = Bench::python(
        "once = first()\nfor row in rows():\n if once: os.close(0)\n answer(row)\n if once: signal.pause()",
        1,
    );
    bench.run(&numbers(3)).await.all_succeed(3);
}

#[tokio::test]
async fn a_child_that_ends_with_the_last_answer_unended_has_answered() {
    let bench = Bench::sh("read -r row; printf '{\"line\":1,\"status\":\"success\",\"result\":7}'");
    let outcomes = bench.run(&["1"]).await;
    assert_eq!(outcomes.0[&1], "{\"result\":7}");
}

#[tokio::test]
async fn a_descendant_that_holds_the_pipes_does_not_hold_the_rows() {
    let bench = Bench::sh("sleep 1000 & read -r row; exit 1");
    let outcomes = bench.run(&["1"]).await;
    assert_eq!(outcomes.word(1), "failed worker_lost");
}

#[tokio::test]
async fn a_child_that_answers_some_rows_and_ends_is_no_rows_fault() {
    // Whatever it is given beyond two rows dies with it; each child answers two.
    let bench = Bench::python(
        "for n, row in enumerate(rows()):\n answer(row)\n if n == 1: break",
        8,
    );
    bench.run(&numbers(9)).await.all_succeed(9);
}

#[tokio::test]
async fn a_command_that_closes_its_output_fails_its_rows_and_comes_to_an_end() {
    let mut bench = Bench::sh("exec 1>&-; exec sleep 1000");
    bench.settings.max_lost = 1;
    let outcomes = bench.run(&numbers(3)).await;
    for line in 1..=3 {
        assert_eq!(outcomes.word(line), "failed worker_lost");
    }
}

#[tokio::test]
async fn rows_of_a_command_that_ends_before_it_reads_one_come_later() {
    let outcomes = Bench::sh("exit 1").run(&numbers(3)).await;
    for line in 1..=3 {
        assert_eq!(
            outcomes.0[&line],
            "{\"status\":\"later\",\"delay_ms\":5000}"
        );
    }
}

#[tokio::test]
async fn rows_of_a_command_that_cannot_be_started_come_later() {
    let bench = Bench::new(&["./not-there"], 8, 1);
    let outcomes = bench.run(&numbers(3)).await;
    for line in 1..=3 {
        assert_eq!(
            outcomes.0[&line],
            "{\"status\":\"later\",\"delay_ms\":5000}"
        );
    }
}

#[test]
fn a_command_that_cannot_be_started_is_found_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("plain"), "").unwrap();
    let check = |program: &str, dir: &Path| {
        CommandSpec {
            command: vec![program.to_owned(), "argument".to_owned()],
            dir: dir.to_owned(),
            window: 1,
            children: 1,
        }
        .check()
        .err()
        .unwrap_or_default()
    };
    assert_eq!(check("sh", dir.path()), "");
    assert_eq!(check("sh", Path::new("")), "");
    assert_eq!(check("/bin/sh", dir.path()), "");
    assert!(check("no-such-program", dir.path()).contains("PATH"));
    assert!(check("./not-there", dir.path()).ends_with("not-there does not exist"));
    assert!(check("./plain", dir.path()).ends_with("plain cannot be executed"));
    assert!(check("/bin", dir.path()).ends_with("cannot be executed"));
    assert!(check("sh", &dir.path().join("gone")).ends_with("gone is not a folder"));
    assert!(check("", dir.path()).contains("empty"));
}

#[tokio::test]
async fn a_task_that_is_cancelled_starts_no_row_again() {
    let bench = Bench::python(
        "pull(True)\nopen('taken', 'w').close()\nos.read(os.open('go', os.O_RDONLY), 1)\nsys.exit(1)",
        1,
    );
    fifo(&bench.path("taken"));
    fifo(&bench.path("go"));
    let running = bench.start(&numbers(3));
    open(bench.path("taken")).await;
    running
        .cancel
        .cancel(crate::processor::CancelCause::Shutdown);
    release(bench.path("go")).await;
    let desk = Arc::clone(&running.desk);
    assert!(running.outcomes().await.0.is_empty());
    assert_eq!(
        desk.started(),
        [0],
        "it is the engine's to say what becomes of it"
    );
}
