//! `run`, `work --once` and what they leave: counts, files, rows that go back.

use serde_json::json;

use super::rowmill::{Rowmill, csv};

const RUN: &str = "run in.csv --app test --op rows";

#[test]
fn a_batch_is_worked_off_and_shown() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("1 file bad 4 file"));
    let done = rowmill.run(RUN).code(1);
    assert_eq!(done.stderr, "");
    let mut lines = done.stdout.lines();
    assert!(lines.next().unwrap().starts_with("batch "));
    assert_eq!(lines.next().unwrap(), "  5 rows: 4 success, 1 failed");
    assert!(lines.next().unwrap().starts_with("  other.txt"));
    assert!(lines.next().unwrap().starts_with("  out.txt"));
    let place = lines.next().unwrap();
    assert!(place.starts_with("  in "), "{place}");
    assert!(place.contains("rowmill-files/test/rows/"), "{place}");
    assert!(lines.next().unwrap().ends_with(" --status failed"));
    assert_eq!(lines.next(), None);

    rowmill.write("in.csv", &csv("1 2"));
    let done = rowmill.run(&format!("{RUN} --json")).code(0);
    assert_eq!(done.stderr, "");
    let batch = done.json();
    assert_eq!(batch["status"], "success");
    assert_eq!(batch["counts"]["success"], 2);
    assert_eq!(batch["progress"], json!(null));
}

#[test]
fn rows_and_files_of_a_batch_that_has_ended() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("1 file bad file"));
    let batch = rowmill.run(&format!("{RUN} --json")).code(1).json();
    let id = batch["id"].as_str().unwrap();
    let failed = rowmill
        .run(&format!("rows {id} --status failed --json"))
        .code(0)
        .json();
    assert_eq!(failed["line"], 4);
    assert_eq!(failed["messages"][0]["errcode"], "is_bad");
    let table = rowmill
        .run(&format!("rows {id} --status failed"))
        .code(0)
        .stdout;
    assert!(table.contains("is_bad"), "{table}");

    let files = &rowmill.run(&format!("files {id} --json")).code(0).json()["files"];
    assert_eq!(files, &batch["files"]);
    assert_eq!(files[1]["name"], "out.txt", "{files}");
    assert_eq!(files[1]["size"], 12);
    rowmill.write("there", "");
    rowmill.run(&format!("files {id} --download there")).code(4);
    for _ in 0..2 {
        let done = rowmill.run(&format!("files {id} --download a/b")).code(0);
        assert_eq!(done.stdout, "a/b/other.txt\na/b/out.txt\n");
        assert_eq!(rowmill.read("a/b/out.txt"), "row 3\nrow 5\n");
        assert_eq!(rowmill.read("a/b/other.txt"), "é\né\n");
        assert_eq!(std::fs::read_dir(rowmill.path("a/b")).unwrap().count(), 2);
    }
}

#[test]
fn rows_as_csv_go_straight_back() {
    let rowmill = Rowmill::new();
    let input = "n,text\nbad,\"a, \"\"b\"\"\nc\"\n\nbad, é \n1,\n";
    rowmill.write("in.csv", input);
    let id = rowmill.run(&format!("{RUN} --json")).code(1).id();
    let report = rowmill
        .run(&format!("rows {id} --format csv"))
        .code(0)
        .stdout;
    assert_eq!(
        report,
        "n,text,_line,_status,_errcode,_message\n\
         bad,\"a, \"\"b\"\"\nc\",2,failed,is_bad,n: it is bad\n\
         bad, é ,5,failed,is_bad,n: it is bad\n\
         1,,6,success,,\n"
    );
    rowmill.write("in.csv", &report.replace("bad,", "2,"));
    let again = rowmill.run(&format!("{RUN} --json")).code(0).id();
    let rows = rowmill.run(&format!("rows {again} --json")).code(0).stdout;
    assert!(
        rows.contains(r#""input":{"n":"2","text":"a, \"b\"\nc"}"#),
        "{rows}"
    );
    assert!(rows.contains(r#""input":{"n":"2","text":" é "}"#), "{rows}");
}

#[test]
fn an_external_id_that_has_run_is_not_run_again() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("1 bad"));
    let run = format!("{RUN} --external-id x --json");
    let first = rowmill.run(&run).code(1).json();
    assert_eq!(rowmill.run(&run).code(1).json(), first);
}

#[test]
fn stdin_is_run() {
    let rowmill = Rowmill::new();
    let done = rowmill.run_fed(
        "run - --format jsonl --app test --op ROWS --json",
        "{\"n\":1}\n",
    );
    assert_eq!(done.code(0).json()["counts"]["success"], 1);
}

#[test]
fn work_once_works_off_what_is_queued_and_says_nothing() {
    let rowmill = Rowmill::new();
    let ids = [rowmill.submit("1 2", ""), rowmill.submit("bad", "")];
    let held = rowmill.submit("3", "--hold");
    let done = rowmill.run("work --once").code(0);
    assert_eq!(done.stdout, "");
    assert!(done.stderr.contains("worker started"), "{}", done.stderr);
    for (id, status, code) in [(&ids[0], "success", 0), (&ids[1], "failed", 1)] {
        let batch = rowmill
            .run(&format!("status {id} --watch --json"))
            .code(code)
            .json();
        assert_eq!(batch["status"], status);
    }
    let batch = rowmill.run(&format!("status {held} --json")).code(0).json();
    assert_eq!(batch["status"], "wait");
}

#[test]
fn follow_waits_for_a_worker_of_another_process() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", &csv("1 2 3"));
    let following = rowmill.start("submit in.csv --app test --op rows --follow --json");
    let mut worker = rowmill.start("work");
    let followed = following.wait_with_output().unwrap();
    signal(&worker, libc::SIGTERM);
    let worked = worker.wait().unwrap();
    assert_eq!(followed.status.code(), Some(0));
    assert_eq!(worked.code(), Some(143));
}

#[test]
fn the_log_is_json_lines_where_it_is_asked_for() {
    let rowmill = Rowmill::new();
    let done = rowmill.run("work --once --log json").code(0);
    assert!(!done.stderr.is_empty());
    for line in done.stderr.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
}

#[test]
fn the_benchmark_reports_and_leaves_nothing() {
    let rowmill = Rowmill::new();
    let report = rowmill.run("bench --rows 200 --json").code(0).json();
    for key in [
        "shape",
        "rows",
        "submit_rows_per_s",
        "process_rows_per_s",
        "end_to_end_rows_per_s",
        "latency_p50_ms",
        "latency_p99_ms",
        "peak_mb",
        "reference",
        "ratio",
    ] {
        assert!(!report[key].is_null(), "{key}: {report}");
    }
    assert_eq!(std::fs::read_dir(rowmill.path(".")).unwrap().count(), 2);
    rowmill.run("bench --shape circles").code(2);
    rowmill.run("bench --rows 0").code(2);
}

/// Sends a signal to a process that was started here.
pub(super) fn signal(child: &std::process::Child, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: kill touches no memory of ours; the child has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
