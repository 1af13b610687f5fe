//! What goes to a child and what comes back.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::model::Delivery;

const ECHO: &str = "for row in rows(): answer(row, result=row['input'])";

/// Answers the oldest row whenever as many wait as may, with the most that have ever waited.
const COUNT: &str = r#"
window, left, most = int(sys.argv[1]), int(sys.argv[2]), 0
while left:
    while len(waiting) < min(window, left):
        pull(True)
    pull(False)
    most = max(most, len(waiting))
    answer(waiting.pop(0), result=most)
    left -= 1
"#;

fn count(window: usize, waits_for: usize, rows: u32) -> Bench {
    let script = format!("{PRELUDE}{COUNT}");
    let (waits_for, rows) = (waits_for.to_string(), rows.to_string());
    Bench::new(&["python3", "-c", &script, &waits_for, &rows], window, 1)
}

#[tokio::test]
async fn a_row_is_one_line_as_the_contract_says() {
    let mut bench = Bench::python(
        "while line := sys.stdin.readline(): answer(json.loads(line), result=line)",
        32,
    );
    bench.context = "{\"year\":\n 1.10}".to_owned();
    let outcomes = bench.run(&["{\"a\": 1e200000}", "\"\\u0000\""]).await;
    let line = outcomes.result(1);
    let line = line.as_str().unwrap();
    let batch = &line[10..46];
    assert!(batch.parse::<BatchId>().is_ok(), "{line}");
    assert_eq!(
        line,
        format!(
            "{{\"batch\":\"{batch}\",\"line\":1,\"attempt\":3,\"key\":\"{batch}/1\",\"app\":\"bank\",\
             \"op\":\"post\",\"context\":{{\"year\":  1.10}},\"input\":{{\"a\": 1e200000}}}}\n"
        )
    );
    let line = outcomes.result(2);
    assert!(
        line.as_str()
            .unwrap()
            .ends_with(",\"input\":\"\\u0000\"}\n")
    );
}

#[tokio::test]
async fn answers_come_in_any_order() {
    let bench = Bench::python(
        "for _ in range(5):\n while len(waiting) < 8: pull(True)\n \
         for row in reversed(waiting): answer(row, result=row['input'])\n waiting.clear()",
        8,
    );
    let outcomes = bench.run(&numbers(40)).await;
    for line in 1..=40 {
        assert_eq!(outcomes.result(line), json!(line));
    }
}

#[tokio::test]
async fn a_child_has_at_most_as_many_rows_as_the_window() {
    let outcomes = count(5, 5, 40).run(&numbers(40)).await;
    assert_eq!(outcomes.result(40), json!(5));
}

#[tokio::test]
async fn a_suspect_task_goes_a_row_at_a_time() {
    let mut bench = count(32, 1, 10);
    bench.suspect = true;
    let outcomes = bench.run(&numbers(10)).await;
    assert_eq!(outcomes.result(10), json!(1));
}

#[tokio::test]
async fn at_most_once_goes_a_row_at_a_time() {
    let mut bench = count(32, 1, 10);
    bench.settings.delivery = Delivery::AtMostOnce;
    let outcomes = bench.run(&numbers(10)).await;
    assert_eq!(outcomes.result(10), json!(1));
}

#[tokio::test]
async fn a_result_is_kept_as_it_was_written() {
    let bench = Bench::python(
        "for row in rows(): say('{\"line\":%d,\"status\":\"success\",\"result\":%s}' % (row['line'], row['input']))",
        32,
    );
    let texts = [
        "1.10",
        "1e200000",
        "\"\\u0000\"",
        "{\"b\": [1, {\"a\":-0.0}]}",
        "\"\\ud800\"",
    ];
    let inputs: Vec<_> = texts
        .iter()
        .map(|text| serde_json::to_string(text).unwrap())
        .collect();
    let outcomes = bench.run(&inputs).await;
    for (line, text) in (1..).zip(texts) {
        assert_eq!(outcomes.0[&line], format!("{{\"result\":{text}}}"));
    }
}

#[tokio::test]
async fn every_word_is_an_outcome() {
    let mut bench = Bench::python(
        "for row in rows(): say('{\"line\":%d,%s}' % (row['line'], row['input']))",
        32,
    );
    bench.settings.max_attempts = 5;
    let inputs = [
        r#""status":"success","result":null,"new":{"key":[1]},"delay_ms":5"#,
        r#""status":"failed""#,
        r#""status":"failed","result":7,"messages":[{"msgid":101,"errcode":"no_account","field":"to","vals":["A"],"text":"t"}]"#,
        r#""status":"retry""#,
        r#""status":"retry","delay_ms":1500.0,"messages":[{"msgid":5,"errcode":"busy"}]"#,
        r#""status":"later""#,
        r#""status":"later","delay_ms":0,"key":null,"messages":null,"files":null"#,
        r#""status":"later","delay_ms":1e300"#,
    ];
    let inputs: Vec<_> = inputs
        .iter()
        .map(|text| serde_json::to_string(text).unwrap())
        .collect();
    let outcomes = bench.run(&inputs).await;
    let own = r#"[{"msgid":10,"errcode":"processing_error","text":"could not be processed"}]"#;
    let stored = [
        "{}".to_owned(),
        format!(r#"{{"status":"failed","messages":{own}}}"#),
        r#"{"status":"failed","result":7,"messages":[{"msgid":101,"errcode":"no_account","field":"to","vals":["A"],"text":"t"}]}"#.to_owned(),
        format!(r#"{{"status":"retry","messages":{own}}}"#),
        r#"{"status":"retry","delay_ms":1500,"messages":[{"msgid":5,"errcode":"busy"}]}"#.to_owned(),
        r#"{"status":"later","delay_ms":1000}"#.to_owned(),
        r#"{"status":"later","delay_ms":0}"#.to_owned(),
        r#"{"status":"later","delay_ms":3153600000000}"#.to_owned(),
    ];
    for (line, stored) in (1..).zip(stored) {
        assert_eq!(outcomes.0[&line], stored);
    }
}

#[tokio::test]
async fn text_for_output_files_becomes_whole_lines() {
    let bench = Bench::python("for row in rows(): answer(row, files=row['input'])", 32);
    let inputs = [
        r#"{"b.csv":"1,2","a.csv":"x\ny\n","none.csv":""}"#,
        r#"{"../up":"x"}"#,
        r#"{"../up":""}"#,
    ];
    let outcomes = bench.run(&inputs).await;
    let files = &outcomes.value(1)["files"];
    assert_eq!(files, &json!({"a.csv": "x\ny\n", "b.csv": "1,2\n"}));
    assert_eq!(outcomes.word(2), "failed bad_file_name");
    assert_eq!(outcomes.word(3), "success");
}

#[tokio::test]
async fn large_rows_and_results_do_not_wait_for_each_other() {
    // It writes 1 MiB before it reads each row of 1 MiB, of which many wait.
    let bench = Bench::python(
        "n = 0\nwhile True:\n n += 1\n sys.stderr.write('e' * (1 << 20))\n sys.stdout.write(' ' * (1 << 20))\n \
         sys.stdout.flush()\n line = sys.stdin.readline()\n if not line: break\n \
         answer(json.loads(line), result=line)",
        8,
    );
    let inputs: Vec<_> = (0..12)
        .map(|_| format!("\"{}\"", "x".repeat(1 << 20)))
        .collect();
    bench.run(&inputs).await.all_succeed(12);
}

#[tokio::test]
async fn lines_on_stderr_never_hold_a_child_up() {
    let bench = Bench::python(
        "for row in rows():\n sys.stderr.write('no end of line ' * 200000)\n \
         sys.stderr.write('\\n' * 50000)\n answer(row)",
        4,
    );
    bench.run(&numbers(5)).await.all_succeed(5);
}

#[tokio::test]
async fn a_child_that_never_reads_is_ended_at_the_time_limit() {
    let mut bench = Bench::sh("exec sleep 1000");
    bench.settings.timeout = Some(Duration::from_millis(100));
    bench.settings.max_attempts = 2;
    let row = format!("\"{}\"", "x".repeat(1 << 20));
    let outcomes = bench.run(&[&row, &row, &row]).await;
    for line in 1..=3 {
        assert_eq!(outcomes.word(line), "retry timed_out");
        assert!(outcomes.text(line).contains("may be buffered"));
    }
}

#[tokio::test]
async fn a_row_that_takes_too_long_costs_itself_and_its_child() {
    let mut bench = Bench::python(
        "for row in rows():\n if row['input'] == 5: signal.pause()\n answer(row, result=os.getpid())",
        4,
    );
    bench.settings.timeout = Some(Duration::from_secs(4));
    let outcomes = bench.run(&numbers(10)).await;
    assert_eq!(outcomes.word(5), "failed timed_out");
    assert_eq!(outcomes.text(5), "took too long; may still take effect");
    let pids: Vec<_> = (1..=10)
        .filter(|&n| n != 5)
        .map(|n| outcomes.result(n))
        .collect();
    assert!(pids[..4].iter().all(|pid| *pid == pids[0]));
    assert!(
        pids[4..]
            .iter()
            .all(|pid| *pid == pids[4] && *pid != pids[0])
    );
}

#[tokio::test]
async fn a_rows_time_begins_when_it_is_the_oldest() {
    let mut bench = Bench::python(
        "import time\nfor row in rows():\n time.sleep(0.5)\n answer(row)",
        32,
    );
    bench.settings.timeout = Some(Duration::from_secs(3));
    bench.run(&numbers(8)).await.all_succeed(8);
}

#[tokio::test]
async fn a_task_without_rows_starts_no_child() {
    let bench = Bench::sh("echo started > started");
    assert!(bench.run(&[""; 0]).await.0.is_empty());
    assert!(!bench.path("started").exists());
}

#[tokio::test]
async fn many_rows_go_through_one_child() {
    let outcomes = Bench::python(ECHO, 32).run(&numbers(5000)).await;
    for line in 1..=5000 {
        assert_eq!(
            outcomes.0[&line],
            format!("{{\"result\": {line}}}").replace(": ", ":")
        );
    }
}
