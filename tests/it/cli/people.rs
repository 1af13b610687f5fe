//! What people read: nothing in it steers their terminal, it fits 80 columns, and secrets stay
//! secrets. Where flags may stand, and what stands for them in the environment.

use std::io::Read as _;
use std::os::fd::{FromRawFd as _, OwnedFd};

use super::rowmill::{Done, Rowmill};

/// Text that would clear the screen, ring, write over the line, turn the direction of reading.
const STEERS: &str = "\u{1b}[2J\u{9b}31m\u{7}\u{8}\u{7f}\u{202e}";

/// Whether anything in a text steers a terminal.
fn steers(text: &str) -> bool {
    text.chars()
        .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}')
}

/// Fails every row with its input as the text, and says it on stderr and in its result too.
const ECHO: &str = r#"
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    text = row["input"]["n"]
    print(text, file=sys.stderr, flush=True)
    print(json.dumps({"line": row["line"], "status": "failed", "result": text,
                      "messages": [{"msgid": 1, "errcode": "told", "field": text, "vals": [text], "text": text}]},
                     ensure_ascii=False), flush=True)
"#;

#[test]
fn nothing_that_others_wrote_steers_the_terminal() {
    let rowmill = Rowmill::new();
    rowmill.write("handler.py", ECHO);
    let row = serde_json::json!({"n": format!("a{STEERS}b")}).to_string();
    rowmill.write("in.jsonl", &format!("{row}\n"));
    // A name that the user was given by somebody else.
    let name = format!("x{STEERS}");
    let mut run = rowmill.command("run in.jsonl --app test --op rows -v --external-id");
    run.arg(&name).env("USER", format!("u{STEERS}"));
    let ran = Done::of("run", run.output().unwrap()).code(1);
    let mut find = rowmill.command("status --app test");
    find.arg(format!("ext:{name}"));
    let found = Done::of("status", find.output().unwrap()).code(0);
    let id = ran.stdout.split_whitespace().nth(1).unwrap().to_owned();
    let rows = rowmill.run(&format!("rows {id}")).code(0);
    assert!(rows.stdout.contains("told (a"), "{}", rows.stdout);

    rowmill.write("head.csv", &format!("n{STEERS},m\n1\n"));
    let dry = rowmill
        .run("submit head.csv --app test --op rows --dry-run")
        .code(0);
    let mut missing = rowmill.command("submit --app test --op rows");
    missing.arg(format!("no{STEERS}.csv"));
    let missing = Done::of("submit", missing.output().unwrap()).code(2);
    for text in [
        &ran.stdout,
        &found.stdout,
        &rows.stdout,
        &dry.stdout,
        &missing.stderr,
    ] {
        assert!(!steers(text), "{text:?}");
    }
    // The log escapes what it cannot show, and keeps the rest for whoever searches it.
    assert!(
        ran.stderr.contains("rowmill::handler: a\\x1b[2J"),
        "{}",
        ran.stderr
    );
    assert!(
        !ran.stderr.chars().any(|c| c.is_control() && c != '\n'),
        "{:?}",
        ran.stderr
    );
    // Data keeps every byte, in a file or a pipe.
    let csv = rowmill
        .run(&format!("rows {id} --format csv"))
        .code(0)
        .stdout;
    assert!(csv.contains(STEERS), "{csv:?}");
}

/// A terminal: the end that a program gets, and the end at which it is read.
fn terminal() -> (std::fs::File, OwnedFd) {
    let (mut here, mut there) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: both descriptors have room, and the names and settings that are not given may be null.
    let made = unsafe { libc::openpty(&mut here, &mut there, null, null.cast(), null.cast()) };
    assert_eq!(made, 0);
    // SAFETY: openpty gave both, and nobody else has them.
    unsafe {
        (
            std::fs::File::from_raw_fd(here),
            OwnedFd::from_raw_fd(there),
        )
    }
}

/// All that was written to a terminal.
fn shown(mut terminal: std::fs::File) -> String {
    let mut bytes = Vec::new();
    // Its end is an error where all writers have gone.
    drop(terminal.read_to_end(&mut bytes));
    String::from_utf8(bytes).unwrap()
}

#[test]
fn data_on_a_terminal_steers_it_neither() {
    let rowmill = Rowmill::new();
    let row = serde_json::json!({"n": format!("a{STEERS}b")}).to_string();
    rowmill.write("in.jsonl", &format!("{row}\n"));
    let context = serde_json::json!(format!("a{STEERS}b")).to_string();
    let submit = "submit in.jsonl --app test --op rows --json --context";
    let mut command = rowmill.command(submit);
    let submitted = command.arg(context).output().unwrap();
    let id = Done::of(submit, submitted).code(0).id();
    rowmill.write(
        "handler.py",
        r#"
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    message = {"msgid": 100, "errcode": row["input"]["n"]}
    print(json.dumps({"line": row["line"], "status": "failed", "messages": [message]}), flush=True)
"#,
    );
    rowmill.run("work --once").code(0);
    for args in [
        format!("rows {id} --format csv"),
        format!("rows {id} --format jsonl"),
        format!("rows {id} --format table"),
        format!("status {id} --json"),
        format!("history {id} --json"),
        "list --json".to_owned(),
    ] {
        let (here, there) = terminal();
        let mut command = rowmill.command(&args);
        command.stdout(there);
        let mut child = command.spawn().unwrap();
        drop(command);
        let text = shown(here).replace("\r\n", "\n");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(text.contains("31m"), "{args}: {text:?}");
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n'),
            "{args}: {text:?}"
        );
    }
}

#[test]
fn progress_is_drawn_on_a_terminal_and_nowhere_else() {
    let rowmill = Rowmill::new();
    rowmill.write("in.csv", "n\n1\n2\n");
    let run = "run in.csv --app test --op rows";
    let (here, there) = terminal();
    let mut command = rowmill.command(run);
    command.stderr(there).stdout(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    let drawn = shown(here);
    let done = Done::of(run, child.wait_with_output().unwrap()).code(0);
    assert!(drawn.contains("rows"), "{drawn:?}");
    assert!(!steers(&done.stdout), "{:?}", done.stdout);
    assert_eq!(rowmill.run(run).code(0).stderr, "");
}

#[test]
fn tables_fit_80_columns_whatever_is_in_them() {
    let rowmill = Rowmill::new();
    let wide = "漢字🦀e\u{301}".repeat(40);
    let config = rowmill.read("rowmill.toml");
    let op = "o".repeat(200);
    rowmill.write(
        "rowmill.toml",
        &config.replace("test/rows", &format!("test/{op}")),
    );
    rowmill.write(
        "handler.py",
        r#"
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    n = row["input"]["n"]
    failed = row["line"] == 2
    print(json.dumps({"line": row["line"], "status": "failed" if failed else "success", "result": n,
                      "messages": [{"msgid": 1, "errcode": "e" * 90, "text": n}] if failed else None,
                      "files": {"f" * 200: n, "g.txt": n}}), flush=True)
"#,
    );
    rowmill.write("in.csv", &format!("n\n{wide}\n{wide}\n"));
    let name = &wide[..wide.floor_char_boundary(480)];
    let mut run = rowmill.command(&format!(
        "run in.csv --app test --op {op} --json --external-id"
    ));
    run.arg(name).env_remove("COLUMNS").env("USER", &wide);
    let id = Done::of("run", run.output().unwrap()).code(1).id();
    let width = |line: &str| unicode_width::UnicodeWidthStr::width(line);
    for args in ["rows", "rows --status failed", "status", "files"] {
        let text = rowmill.run(&format!("{args} {id}")).code(0).stdout;
        assert!(text.lines().count() >= 2, "{args}: {text}");
        for line in text.lines() {
            // Places and commands are copied, and so are whole.
            let whole = line.starts_with("  in ") || line.starts_with("the failed rows: ");
            assert!(whole || width(line) <= 80, "{args}: {line}");
        }
    }
}

#[test]
fn a_global_flag_stands_before_or_after_the_command() {
    let rowmill = Rowmill::new();
    let id = rowmill.submit("1", "");
    std::fs::rename(rowmill.path("rowmill.toml"), rowmill.path("other.toml")).unwrap();
    for flag in [
        "--config other.toml",
        "--database sqlite:rowmill.db",
        "--objects file:out",
        "--log json",
        "--verbose",
        "-vv",
    ] {
        for args in [
            format!("{flag} --json status {id}"),
            format!("status {id} --json {flag}"),
        ] {
            assert_eq!(rowmill.run(&args).code(0).id(), id, "{args}");
        }
    }
}

#[test]
fn a_variable_stands_for_each_global_flag_and_a_flag_wins() {
    let rowmill = Rowmill::new();
    rowmill.write("other.toml", "database = \"sqlite:other.db\"\n");
    let with = |args: &str, name: &str, value: &str| {
        let output = rowmill.command(args).env(name, value).output().unwrap();
        Done::of(args, output)
    };
    for (name, value, line) in [
        (
            "ROWMILL_CONFIG",
            "other.toml",
            "database = sqlite:other.db  (other.toml:1)",
        ),
        (
            "ROWMILL_DATABASE",
            "sqlite:env.db",
            "database = sqlite:env.db  (ROWMILL_DATABASE)",
        ),
        (
            "ROWMILL_OBJECTS",
            "file:env",
            "objects = file:env  (ROWMILL_OBJECTS)",
        ),
    ] {
        let text = with("config check", name, value).code(0).stdout;
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        let flag = name.trim_start_matches("ROWMILL_").to_lowercase();
        let flag = format!("config check --{flag} {}", value.replace("env", "flag"));
        let text = with(&flag, name, "sqlite:never").code(0).stdout;
        assert!(!text.contains("never"), "{text}");
    }
    assert_eq!(
        with("config check", "ROWMILL_JSON", "1").code(0).json()["ok"],
        true
    );
    let text = with("work --once", "ROWMILL_LOG", "json").code(0).stderr;
    assert!(text.starts_with('{'), "{text}");
    rowmill.write("in.csv", "n\n1\n");
    let text = with("run in.csv --app test --op rows", "ROWMILL_VERBOSE", "1");
    assert!(text.code(0).stderr.contains("worker started"));
    for (name, value) in [
        ("ROWMILL_REDIS", "mysql://:secret@h"),
        ("ROWMILL_SERVER", "http://u:secret@h"),
        ("ROWMILL_TOKEN", "secret"),
        ("ROWMILL_LOG", "secret"),
        ("ROWMILL_VERBOSE", "secret"),
    ] {
        let told = with("config check", name, value).code(2).stderr;
        assert!(told.contains(name), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}

#[test]
fn config_check_masks_secrets() {
    let rowmill = Rowmill::new();
    rowmill.write(
        "rowmill.toml",
        "objects = \"env:PLACE\"\n[ops.\"a/b\"]\nhandler = { command = [\"python3\", \"env:KEY\", \"https://u:hunter2@h/x?token=hunter2\"] }\n",
    );
    for args in ["config check", "config check --json", "config check -vv"] {
        let mut command = rowmill.command(args);
        command.env("PLACE", "file:hunter2").env("KEY", "hunter2");
        let done = Done::of(args, command.output().unwrap()).code(0);
        assert!(!done.stdout.contains("hunter2"), "{}", done.stdout);
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
        assert!(done.stdout.contains("***"), "{}", done.stdout);
    }
}
