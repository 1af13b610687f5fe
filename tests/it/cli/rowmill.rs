//! Drives `rowmill` in a folder of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// Answers `{"n": …}`: `bad` fails, `file` writes to output files, `wait` waits for a line at the
/// gate where there is one, anything else succeeds.
const HANDLER: &str = r#"
import json, os, sys
for line in sys.stdin:
    row = json.loads(line)
    n = row["input"]["n"]
    out = {"line": row["line"], "status": "success", "result": {"n": n}}
    if n == "bad":
        out = {"line": row["line"], "status": "failed",
               "messages": [{"msgid": 100, "errcode": "is_bad", "field": "n", "text": "it is bad"}]}
    elif n == "file":
        out["files"] = {"out.txt": "row %d" % row["line"], "other.txt": "é"}
    elif n == "wait" and os.path.exists("gate"):
        print("waiting at %d" % row["line"], file=sys.stderr, flush=True)
        open("gate").readline()
    print(json.dumps(out), flush=True)
"#;

const CONFIG: &str = r#"
[ops."test/rows"]
handler = { command = ["python3", "handler.py"], window = 1 }
"#;

/// A folder with a configuration file and a handler.
pub(super) struct Rowmill {
    dir: tempfile::TempDir,
}

impl Rowmill {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rowmill = Self { dir };
        rowmill.write("rowmill.toml", CONFIG);
        rowmill.write("handler.py", HANDLER);
        rowmill
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    pub(super) fn write_bytes(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The command with these arguments, which are split at spaces.
    pub(super) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowmill"));
        command.current_dir(self.dir.path());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("ROWMILL_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.args(args.split_whitespace());
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(super) fn run(&self, args: &str) -> Done {
        Done::of(args, self.command(args).output().unwrap())
    }

    pub(super) fn run_fed(&self, args: &str, stdin: &str) -> Done {
        self.run_fed_bytes(args, stdin.as_bytes())
    }

    pub(super) fn run_fed_bytes(&self, args: &str, stdin: &[u8]) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(stdin).unwrap();
        drop(pipe);
        Done::of(args, child.wait_with_output().unwrap())
    }

    /// Makes the gate at which rows wait; each line that is written to it lets one pass.
    pub(super) fn gate(&self) -> std::fs::File {
        use std::os::unix::ffi::OsStrExt as _;
        let path = self.path("gate");
        let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name is a string that ends in NUL and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        // Opened for both, so that nobody waits for the other end.
        let mut options = std::fs::File::options();
        options.read(true).write(true).open(path).unwrap()
    }

    /// Starts it, all its streams in pipes.
    pub(super) fn start(&self, args: &str) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Submits rows `n` of these values, held, and returns the batch's id.
    pub(super) fn submit(&self, values: &str, flags: &str) -> String {
        self.write("in.csv", &csv(values));
        let done = self.run(&format!(
            "submit in.csv --app test --op rows --json {flags}"
        ));
        done.code(0).id()
    }
}

/// A CSV of one column `n`.
pub(super) fn csv(values: &str) -> String {
    let rows: String = values.split(' ').map(|v| format!("{v}\n")).collect();
    format!("n\n{rows}")
}

/// A command that has ended.
pub(super) struct Done {
    what: String,
    code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Done {
    pub(super) fn of(what: &str, output: Output) -> Self {
        Self {
            what: what.to_owned(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(super) fn code(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "rowmill {}\nstdout: {}\nstderr: {}",
            self.what, self.stdout, self.stderr
        );
        self
    }

    /// Stdout as its one JSON document.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// The id of the batch on stdout.
    #[track_caller]
    pub(super) fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }

    /// The one problem+json line on stderr; nothing is on stdout.
    #[track_caller]
    pub(super) fn problem(&self) -> Value {
        assert_eq!(self.stdout, "");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        let problem: Value = serde_json::from_str(&self.stderr).unwrap();
        let keys: Vec<&str> = problem
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        for key in ["type", "title", "status", "detail", "id", "instance"] {
            assert!(keys.contains(&key), "{key} is not in {keys:?}");
        }
        assert_eq!(keys.len(), 6);
        problem
    }
}
