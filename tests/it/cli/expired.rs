//! `--expires-at`: what is said when it is given, and of rows that it ended.

use super::rowmill::Rowmill;

const PAST: &str = "2001-01-01T00:00:00Z";
const WHY: &str = "the batch expired before the row could end";

#[test]
fn rows_of_an_expired_batch_say_why_in_every_form() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1 2", &format!("--expires-at {PAST}"));
    rowmill.run("work --once").code(0);

    let json = rowmill.run(&format!("rows {id} --json")).code(0).stdout;
    assert_eq!(json.lines().count(), 2, "{json}");
    for line in json.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["status"], "expired");
        assert_eq!(row["messages"][0]["errcode"], "expired");
        assert_eq!(row["messages"][0]["text"], WHY);
    }
    let table = rowmill.run(&format!("rows {id}")).code(0).stdout;
    assert_eq!(table.matches("→ expired (").count(), 2, "{table}");
    let csv = rowmill.run(&format!("rows {id} --format csv")).code(0);
    assert_eq!(
        csv.stdout,
        format!(
            "n,_line,_status,_errcode,_message\n1,2,expired,expired,{WHY}\n2,3,expired,expired,{WHY}\n"
        )
    );

    let block = rowmill.run(&format!("history {id} --json")).code(0).json();
    assert_eq!(
        (&block["after"], &block["rows"]),
        (&"expired".into(), &2.into())
    );
    assert_eq!(block["errcode"], "expired");
    let line = rowmill.run(&format!("history {id} --line 3 --json"));
    let line = line.code(0).json();
    assert_eq!(
        (&line["after"], &line["line"]),
        (&"expired".into(), &3.into())
    );
    assert_eq!(line["errcode"], "expired");
    let table = rowmill.run(&format!("history {id}")).code(0).stdout;
    assert!(table.contains("queued→expired  expired\n"), "{table}");
}

#[test]
fn a_time_that_is_over_is_taken_with_a_warning() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n\n1\n");
    let submit = "submit in.csv --app test --op rows --external-id x";
    let told = "it expires at 2001-01-01 00:00:00 UTC, which is over: nothing of it runs";
    let dry = rowmill.run(&format!("{submit} --expires-at {PAST} --dry-run"));
    assert_eq!(dry.code(0).stderr, format!("{told}\n"));
    let done = rowmill.run(&format!("{submit} --expires-at {PAST} --json"));
    let done = done.code(0);
    assert!(done.stderr.contains(told), "{}", done.stderr);
    let id = done.id();
    // The same once more is the same batch, and the warning stands as long as it has not ended.
    let again = rowmill
        .run(&format!("{submit} --expires-at {PAST}"))
        .code(0);
    assert!(again.stdout.contains(&id), "{}", again.stdout);
    assert_eq!(again.stderr, format!("{told}\n"));
    rowmill.run("work --once").code(0);
    let again = rowmill
        .run(&format!("{submit} --expires-at {PAST}"))
        .code(0);
    assert!(again.stdout.contains(&id), "{}", again.stdout);
    assert_eq!(again.stderr, "");
    let future =
        rowmill.run("submit in.csv --app test --op rows --expires-at 2999-01-01T00:00:00Z");
    assert_eq!(future.code(0).stderr, "");
}

#[test]
fn a_batch_that_expires_before_it_may_run_is_refused() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n\n1\n");
    let times = "--run-at 2999-01-01T00:00:00Z --expires-at 2998-01-01T00:00:00Z --json";
    for command in [
        "submit in.csv --app test --op rows",
        "submit in.csv --app test --op rows --dry-run",
        "query submit --app test --op ask --input 1",
    ] {
        let problem = rowmill.run(&format!("{command} {times}")).code(2).problem();
        assert_eq!(problem["id"], "bad_expires_at", "{command}");
        let help = command.split(" in.csv").next().unwrap();
        let help = help.split(" --").next().unwrap();
        let help = rowmill.run(&format!("{help} --help")).code(0).stdout;
        assert!(help.contains("which is after --run-at"), "{help}");
    }
}
