//! `purge`: asks before anything goes, and says what went.

use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::process::Stdio;

use super::interrupted::until;
use super::rowmill::{Done, Rowmill};
use super::run::signal;

/// A batch with an output file that has ended.
fn ended(rowmill: &Rowmill) -> String {
    let id = rowmill.submit("1 file bad", "");
    rowmill.run("work --once").code(0);
    id
}

fn rows(rowmill: &Rowmill, id: &str) -> usize {
    let rows = rowmill.run(&format!("rows {id} --json")).code(0).stdout;
    rows.lines().count()
}

/// A terminal: the end that the user has, and the end that the program has.
fn terminal() -> (File, File) {
    let (mut user, mut program) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: both numbers outlive the call, and nothing else is asked for.
    let made = unsafe {
        libc::openpty(
            &raw mut user,
            &raw mut program,
            none,
            none.cast(),
            none.cast(),
        )
    };
    assert_eq!(made, 0);
    // SAFETY: openpty has just made them, and nobody else has them.
    unsafe { (File::from_raw_fd(user), File::from_raw_fd(program)) }
}

fn answered(rowmill: &Rowmill, args: &str, answer: &str) -> Done {
    let (mut user, program) = terminal();
    let mut command = rowmill.command(args);
    command.stdin(program);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    user.write_all(answer.as_bytes()).unwrap();
    Done::of(args, child.wait_with_output().unwrap())
}

#[test]
fn purge_without_a_terminal_and_without_yes_removes_nothing() {
    let rowmill = Rowmill::new();
    let id = ended(&rowmill);
    let problem = rowmill
        .run("purge --older-than 0s --json")
        .code(2)
        .problem();
    assert_eq!(problem["id"], "not_confirmed");
    let told = rowmill.run("purge --older-than 0s").code(2).stderr;
    assert!(
        told.contains("--yes") && told.contains("--dry-run"),
        "{told}"
    );
    assert_eq!(rows(&rowmill, &id), 3);
}

#[test]
fn purge_dry_run_counts_and_removes_nothing() {
    let rowmill = Rowmill::new();
    let id = ended(&rowmill);
    let counted = rowmill.run("purge --older-than 0s --dry-run --json");
    let counted = counted.code(0).json();
    for (key, expected) in [("batches", 1), ("rows", 3), ("files", 2), ("waiting", 0)] {
        assert_eq!(counted[key], expected, "{counted}");
    }
    assert!(counted["bytes"].as_u64().unwrap() > 0);
    assert_eq!(
        (&counted["dry_run"], &counted["older_than"]),
        (&true.into(), &"0s".into())
    );
    let text = rowmill
        .run("purge --older-than 0s --dry-run")
        .code(0)
        .stdout;
    assert!(
        text.starts_with("would remove 1 batch with 3 rows, 2 output files and "),
        "{text}"
    );
    assert_eq!(rows(&rowmill, &id), 3);
}

#[test]
fn purge_yes_removes_rows_and_files_and_leaves_a_status() {
    let rowmill = Rowmill::new();
    let id = ended(&rowmill);
    let held = rowmill.submit("1 2", "--hold");
    let before = rowmill.run(&format!("status {id} --json")).code(0).json();
    let nothing = rowmill.run("purge --older-than 1d --yes").code(0).stdout;
    assert!(nothing.starts_with("removed 0 batches"), "{nothing}");
    let purged = rowmill
        .run("purge --older-than 0s --yes --json")
        .code(0)
        .json();
    assert_eq!(
        (&purged["batches"], &purged["rows"]),
        (&1.into(), &3.into())
    );
    assert!(!rowmill.path("rowmill-files/test/rows").join(&id).exists());

    let after = rowmill.run(&format!("status {id} --json")).code(0).json();
    assert_eq!(
        (&after["counts"], &after["done"]),
        (&before["counts"], &true.into())
    );
    assert_eq!(after["files"], serde_json::json!([]));
    let text = rowmill.run(&format!("status {id}")).code(0).stdout;
    assert!(text.contains("its rows and files were purged 20"), "{text}");
    assert!(!text.contains("the failed rows:"), "they are gone: {text}");
    for args in ["rows", "files"] {
        let problem = rowmill
            .run(&format!("{args} {id} --json"))
            .code(3)
            .problem();
        assert_eq!(problem["id"], "purged", "{args}");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("its counts are left")
        );
    }
    for args in [
        "rows",
        "rows --format csv",
        "rows --status failed",
        "history",
    ] {
        let done = rowmill.run(&format!("{args} {id}")).code(3);
        assert_eq!(done.stdout, "", "no head stands before an error: {args}");
    }
    assert_eq!(rows(&rowmill, &held), 2);
    let again = rowmill.run("purge --older-than 0s --yes").code(0).stdout;
    assert!(again.starts_with("removed 0 batches"), "{again}");
}

#[test]
fn a_file_submitted_again_after_its_purge_is_known() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1 2", "--external-id march");
    rowmill.run("work --once").code(0);
    rowmill.run("purge --older-than 0s --yes").code(0);
    assert_eq!(rowmill.submit("1 2", "--external-id march"), id);
    rowmill.write("in.csv", "n\n3\n");
    let other = "submit in.csv --app test --op rows --external-id march --json";
    assert_eq!(rowmill.run(other).code(3).problem()["id"], "duplicate");
}

#[test]
fn purge_asks_on_a_terminal() {
    let rowmill = Rowmill::new();
    let id = ended(&rowmill);
    for no in ["n\n", "\n", "yesterday\n"] {
        let done = answered(&rowmill, "purge --older-than 0s", no).code(0);
        assert!(
            done.stderr.contains("this removes 1 batch with 3 rows"),
            "{}",
            done.stderr
        );
        assert!(
            done.stderr.contains("nothing was removed"),
            "{}",
            done.stderr
        );
        assert_eq!(done.stdout, "");
    }
    assert_eq!(rows(&rowmill, &id), 3);
    let done = answered(&rowmill, "purge --older-than 0s --json", "y\n").code(0);
    assert_eq!(done.json()["batches"], 1);
    rowmill.run(&format!("rows {id}")).code(3);
    // With nothing to remove there is nothing to ask.
    let done = answered(&rowmill, "purge --older-than 0s", "").code(0);
    assert!(!done.stderr.contains("Go on?"), "{}", done.stderr);
}

#[test]
fn purge_takes_an_app_and_an_op() {
    let rowmill = Rowmill::new();
    ended(&rowmill);
    let count = |flags: &str| {
        let args = format!("purge --older-than 0s --dry-run --json {flags}");
        rowmill.run(&args).code(0).json()["batches"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(count("--app other"), 0);
    assert_eq!(count("--app test --op other"), 0);
    assert_eq!(count("--op ROWS"), 1);
    assert_eq!(count("--app test"), 1);
    let bad = "purge --older-than 0s --dry-run --app a/b --json";
    assert_eq!(rowmill.run(bad).code(2).problem()["id"], "bad_name");
}

#[test]
fn purge_wants_to_know_how_old() {
    let rowmill = Rowmill::new();
    rowmill.run("purge --yes").code(2);
    rowmill.run("purge --older-than soon --yes").code(2);
    // A question makes no database.
    rowmill.run("purge --older-than 1d --yes").code(3);
    assert!(!rowmill.path("rowmill.db").exists());
    let help = rowmill.run("purge --help").code(0).stdout;
    assert!(help.contains("Example:\n  rowmill purge"), "{help}");
}

#[test]
fn a_worker_purges_by_the_configuration() {
    let rowmill = Rowmill::new();
    let id = ended(&rowmill);
    let config = rowmill.read("rowmill.toml");
    rowmill.write("rowmill.toml", &format!("{config}keep = \"0s\"\n"));
    rowmill.run("work --once").code(0);
    let problem = rowmill.run(&format!("rows {id} --json")).code(3).problem();
    assert_eq!(problem["id"], "purged");
    let text = rowmill.run("config check").code(0).stdout;
    assert!(text.contains(".keep = 0s  (rowmill.toml:"), "{text}");
}

#[test]
fn a_purge_that_is_interrupted_says_how_to_go_on() {
    let rowmill = Rowmill::new();
    let id = ended(&rowmill);
    // While somebody else writes, the purge waits.
    let other = rusqlite::Connection::open(rowmill.path("rowmill.db")).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let mut child = rowmill.start("purge --older-than 0s --app test --yes -v");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until(&mut stderr, "purging");
    signal(&child, libc::SIGINT);
    let mut told = String::new();
    stderr.read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{told}");
    assert!(told.contains("stopped: 0 batches"), "{told}");
    assert!(
        told.contains("rowmill purge --older-than 0s --app test\n"),
        "{told}"
    );
    other.execute_batch("rollback").unwrap();
    assert_eq!(rows(&rowmill, &id), 3);
    rowmill
        .run("purge --older-than 0s --app test --yes")
        .code(0);
    rowmill.run(&format!("rows {id}")).code(3);
}
