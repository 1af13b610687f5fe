//! An application's own binary: the commands with its processors in them.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::time::Duration;

use rowmill::model::Backoff;
use rowmill::sqlite::{TransactionalProcessor, Tx};
use rowmill::{
    BatchProcessor, Builder, ChunkCx, ChunkOut, ChunkProcessor, InputRow, Kind, OpSettings,
    QueryCx, RowCx, RowFailure, SlowQueryProcessor,
};
use serde_json::Value;

use super::rowmill::{Done, Rowmill};

/// What the program is to do; a word that is typed is a line of it.
const VARIABLE: &str = "ROWMILL_TEST_OWN";

/// An error that says on stderr that somebody reads it.
#[derive(Debug)]
struct Expired;

impl std::error::Error for Expired {}

// That it is read at all is what is told.
#[allow(clippy::print_in_format_impl)]
impl std::fmt::Display for Expired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        eprintln!("{READ}");
        f.write_str("the password has expired")
    }
}

const READ: &str = "the error is read";

/// `busy` fails to be tried again, `broken` fails with a cause, `panic` panics, the others succeed.
#[derive(serde::Deserialize)]
struct Row {
    n: String,
}

impl Row {
    fn answer(&self) -> Result<u32, RowFailure> {
        match self.n.as_str() {
            "busy" => Err(RowFailure::retry(Expired)),
            "broken" => Err(Expired)?,
            "panic" => panic!("it was never meant to be"),
            _ => Ok(1),
        }
    }
}

struct Call;

impl BatchProcessor for Call {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = u32;

    async fn process(&self, _: &mut RowCx<'_, (), ()>, row: Row) -> Result<u32, RowFailure> {
        row.answer()
    }
}

struct Many;

#[derive(serde::Deserialize)]
struct Terms {
    from: usize,
}

impl ChunkProcessor for Many {
    type Block = ();
    type Context = Terms;
    type Input = Row;
    type Output = u32;

    async fn process(
        &self,
        cx: &ChunkCx<'_, (), Terms>,
        rows: Vec<InputRow<Row>>,
        out: &mut ChunkOut<u32>,
    ) -> Result<(), RowFailure> {
        for (i, row) in rows.iter().enumerate().skip(cx.context().from) {
            match row.input.answer() {
                Ok(answer) => out.success(i, &answer),
                Err(failure) => out.failure(i, failure),
            }
        }
        Ok(())
    }
}

struct Book;

impl TransactionalProcessor for Book {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = u32;

    fn process(
        &self,
        _: &mut Tx<'_>,
        _: &mut RowCx<'_, (), ()>,
        row: Row,
    ) -> Result<u32, RowFailure> {
        row.answer()
    }
}

struct Report;

impl SlowQueryProcessor for Report {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = u32;

    async fn query(&self, _: &mut QueryCx<'_, (), ()>, row: Row) -> Result<u32, RowFailure> {
        row.answer()
    }
}

fn parts() -> Builder {
    let backoff = Backoff {
        base: Duration::from_millis(10),
        ..Backoff::default()
    };
    let settings = OpSettings {
        max_attempts: 3,
        backoff,
        concurrency: Some(4),
        ..OpSettings::default()
    };
    Builder::new()
        .batch("phone", "call", Call)
        .settings("phone", "call", Kind::Batch, settings)
        .chunk("phone", "many", Many)
        .transactional("phone", "book", Book)
        .slow_query("phone", "report", Report)
}

/// The program itself; in an ordinary run of the tests it has nothing to do.
#[test]
fn run_as_own_binary() {
    let Ok(typed) = std::env::var(VARIABLE) else {
        return;
    };
    // What the harness has printed ends here.
    println!("{VARIABLE}");
    let words = ["own"].into_iter().chain(typed.lines());
    let ended = rowmill::cli::run_with(parts(), words.map(OsString::from));
    let codes = (0..=u8::MAX).find(|code| ended == std::process::ExitCode::from(*code));
    std::process::exit(codes.map_or(-1, i32::from));
}

/// Types a command of the program in the folder.
fn own(rowmill: &Rowmill, args: &str) -> Done {
    own_logging(rowmill, args, "")
}

/// The same with this `RUST_LOG`.
fn own_logging(rowmill: &Rowmill, args: &str, log: &str) -> Done {
    let typed = args.split_whitespace().collect::<Vec<_>>().join("\n");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "cli::own::run_as_own_binary", "--nocapture"])
        .env(VARIABLE, typed)
        .env("RUST_LOG", log)
        .current_dir(rowmill.path(""))
        .stdin(Stdio::null());
    let mut done = Done::of(args, command.output().unwrap());
    let (_, printed) = done.stdout.split_once(&format!("{VARIABLE}\n")).unwrap();
    done.stdout = printed.to_owned();
    done
}

fn setting(list: &Value, key: &str) -> String {
    let found = list.as_array().unwrap().iter().find(|s| s["key"] == key);
    let found = found.unwrap_or_else(|| panic!("{key} in {list}"));
    let text = |name: &str| found[name].as_str().unwrap();
    format!("{} ({})", text("value"), text("origin"))
}

#[test]
fn a_key_of_the_file_wins_over_the_programs_and_the_others_stay() {
    let rowmill = Rowmill::new();
    rowmill.write(
        "rowmill.toml",
        "[ops.\"phone/call\"]\ntimeout = \"5m\"\nbackoff = { cap = \"2h\" }\n\
         [ops.\"phone/report\"]\nmax_attempts = 2\n",
    );
    let checked = own(&rowmill, "config check --json").code(0).json();
    for (key, told) in [
        ("kind", "batch (code)"),
        ("handler", "processor (code)"),
        ("max_attempts", "3 (code)"),
        ("timeout", "5m (rowmill.toml:2)"),
        ("backoff.base", "10ms (code)"),
        ("backoff.cap", "2h (rowmill.toml:3)"),
        ("backoff.factor", "2 (default)"),
        ("concurrency", "4 (code)"),
        ("max_lost", "3 (default)"),
    ] {
        let key = format!("ops.\"phone/call\".{key}");
        assert_eq!(setting(&checked["settings"], &key), told, "{key}");
    }
    // A section that names no kind is of the one that the program has.
    for (key, told) in [
        ("kind", "query (code)"),
        ("max_attempts", "2 (rowmill.toml:5)"),
    ] {
        let key = format!("ops.\"phone/report\".{key}");
        assert_eq!(setting(&checked["settings"], &key), told, "{key}");
    }

    rowmill.write("in.csv", "n\nbusy\nfine\n");
    let run = own(&rowmill, "run in.csv --app phone --op call --json").code(1);
    let rows = own(&rowmill, &format!("rows {} --json", run.id()))
        .code(0)
        .stdout;
    let rows: Vec<Value> = rows
        .lines()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    assert_eq!(rows[0]["attempt"], 3, "as the program says: {rows:?}");

    // What is set in the database wins over both.
    own(&rowmill, "ops set phone/call timeout=1m max_attempts=2").code(0);
    let shown = own(&rowmill, "ops show phone/call --json").code(0).json();
    for (key, told) in [
        ("timeout", "1m (database)"),
        ("max_attempts", "2 (database)"),
        ("backoff.base", "10ms (code)"),
        ("backoff.cap", "2h (rowmill.toml:3)"),
        ("keep", "none (default)"),
    ] {
        assert_eq!(setting(&shown["in_force"], key), told, "{key}");
    }
}

#[test]
fn an_op_that_the_program_alone_has_is_checked_too() {
    let rowmill = Rowmill::new();
    let checked = own(&rowmill, "config check").code(0);
    let line = "ops.\"phone/call\".max_attempts = 3  (code)\n";
    assert!(checked.stdout.contains(line), "{}", checked.stdout);
}

#[test]
fn a_key_that_does_not_fit_what_the_program_set_is_refused_with_its_line() {
    let rowmill = Rowmill::new();
    rowmill.write("rowmill.toml", "\n[ops.\"phone/call\"]\nparallel = 8\n");
    let done = own(&rowmill, "config check").code(2);
    let told = "rowmill.toml:2: ops.\"phone/call\".parallel: is 8 rows of one task at once, but concurrency allows 4";
    assert!(done.stderr.contains(told), "{}", done.stderr);
}

/// Whether a line of the log holds all of these words.
fn logged(log: &str, words: &[&str]) -> bool {
    let mut lines = log.lines();
    lines.any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn the_log_names_the_row_whose_processing_failed() {
    let rowmill = Rowmill::new();
    rowmill.write("rowmill.toml", "");
    rowmill.write("in.csv", "n\npanic\nbroken\nbusy\nfine\n");
    let place = |id: &str, op: &str, line: u32, attempt: u32| {
        format!(" batch={id} op=phone/{op} line={line} attempt={attempt} ")
    };
    for (op, context, last) in [
        ("call", "", 3),
        ("many", "--context {\"from\":0}", 1),
        ("book", "", 1),
    ] {
        let run = format!("run in.csv --app phone --op {op} --json {context}");
        let run = own(&rowmill, &run).code(1);
        let (id, log) = (run.id(), &run.stderr);
        for attempt in [1, last] {
            for (line, told, cause) in [
                (2, "ERROR", "a processor panicked"),
                (2, "ERROR", "panic=\"it was never meant to be\""),
                (3, "WARN", "a row's processing failed"),
                (3, "WARN", "error=the password has expired"),
                (4, "WARN", "a row is to be tried again"),
            ] {
                let words = [told, cause, &place(&id, op, line, attempt)];
                assert!(logged(log, &words), "{words:?} in {log}");
            }
        }
        assert!(!log.contains("line=5"), "it succeeded: {log}");
    }
    let query = "query submit --app phone --op report --input {\"n\":\"broken\"} --json";
    let id = own(&rowmill, query).code(0).id();
    let log = own(&rowmill, "work --once").code(0).stderr;
    let words = [
        "error=the password has expired",
        &place(&id, "report", 1, 1),
    ];
    assert!(logged(&log, &words), "{words:?} in {log}");
}

#[test]
fn an_error_is_not_read_where_nothing_is_logged() {
    let rowmill = Rowmill::new();
    rowmill.write("rowmill.toml", "");
    rowmill.write("in.csv", "n\nbroken\nbusy\n");
    let run = "run in.csv --app phone --op call";
    let read = |log| {
        own_logging(&rowmill, run, log)
            .code(1)
            .stderr
            .contains(READ)
    };
    assert!(read("warn"));
    assert!(!read("error"));
    assert!(!read("off"));
}

#[test]
fn a_row_says_that_its_batch_has_no_context() {
    let rowmill = Rowmill::new();
    rowmill.write("rowmill.toml", "");
    rowmill.write("in.csv", "n\nfine\n");
    let run = own(&rowmill, "run in.csv --app phone --op many --json").code(1);
    let rows = own(&rowmill, &format!("rows {} --json", run.id())).code(0);
    let text = "the batch's context, null where none is given, does not fit: invalid type: null, expected struct Terms";
    assert!(rows.stdout.contains(text), "{}", rows.stdout);
    assert!(rows.stdout.contains("\"bad_input\""), "{}", rows.stdout);
}

#[test]
fn a_mistyped_op_is_told_with_the_one_that_was_meant() {
    let rowmill = Rowmill::new();
    rowmill.write("rowmill.toml", "");
    rowmill.write("in.csv", "n\nfine\n");
    let refused = own(&rowmill, "run in.csv --app phone --op cal --json").code(2);
    let problem = refused.problem();
    let told = "no op phone/cal is configured; is it phone/call? Else add [ops.\"phone/cal\"] with a handler to rowmill.toml";
    assert_eq!(
        (&problem["id"], &problem["detail"]),
        (&"unknown_op".into(), &told.into())
    );
    let refused = own(&rowmill, "run in.csv --app other --op thing").code(2);
    let told = "no op other/thing is configured; add";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
}

#[test]
fn a_submit_for_an_op_that_nobody_knows_is_taken_and_says_so() {
    let rowmill = Rowmill::new();
    rowmill.write("rowmill.toml", "[ops.\"phone/later\"]\n");
    rowmill.write("in.csv", "n\nfine\n");
    let submit = |op: &str| own(&rowmill, &format!("submit in.csv --app phone --op {op}")).code(0);
    for known in ["call", "CALL", "later"] {
        assert_eq!(submit(known).stderr, "", "{known}");
    }
    let told = submit("cal");
    assert!(told.stdout.contains("queued"), "{}", told.stdout);
    let text = "no batch op phone/cal is known to this program, its configuration or the database; is it phone/call?\n  it waits until a worker serves it\n";
    assert_eq!(told.stderr, text);
    // From then on the database knows it, and an op of it alone may be the one that was meant.
    assert_eq!(submit("cal").stderr, "");
    let told = submit("cale-2").stderr;
    assert!(told.contains("is it phone/cal"), "{told}");
    let query = "query submit --app phone --op repot --input 1 --json";
    let told = own(&rowmill, query).code(0).stderr;
    assert!(told.contains("no query op phone/repot is known"), "{told}");
    assert!(told.contains("is it phone/report?"), "{told}");
}

#[test]
fn who_cannot_work_on_an_op_is_not_told_to_start() {
    let rowmill = Rowmill::new();
    rowmill.write("rowmill.toml", "");
    rowmill.write("in.csv", "n\nfine\nfine\n");
    own(&rowmill, "submit in.csv --app phone --op cal").code(0);
    let advice = "\n  this program and its configuration have no handler or processor for it; is it phone/call?\n";
    let id = own(&rowmill, "submit in.csv --app phone --op cal --json")
        .code(0)
        .id();
    for (command, told) in [
        ("work --once", "no worker serves phone/cal: 4 rows wait"),
        (
            "ops list",
            "work of phone/cal waits, and no worker serves it",
        ),
        (
            &*format!("status {id}"),
            "no worker serves phone/cal: the batch waits",
        ),
    ] {
        let done = own(&rowmill, command).code(0);
        let text = format!("{told}{advice}");
        assert!(done.stderr.contains(&text), "{command}: {}", done.stderr);
        assert!(
            !done.stderr.contains("start one"),
            "{command}: {}",
            done.stderr
        );
    }
    own(&rowmill, "submit in.csv --app phone --op call").code(0);
    let told = own(&rowmill, "ops list").code(0).stderr;
    let text = "work of phone/call waits, and no worker serves it\n  start one: own work\n";
    assert!(told.contains(text), "{told}");
}
