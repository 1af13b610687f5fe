//! Real children, driven through the desk as the engine does it.

mod deaths;
mod lives;
mod rows;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use super::{CommandProcessor, CommandSpec};
use crate::files::ObjectStore;
use crate::model::{BatchId, JobKey, Kind, OpSettings, TaskId, Token};
use crate::processor::desk::{Desk, Work};
use crate::processor::{CancelHandle, ErasedProcessor, Pulse, Request};
use crate::store::{BatchHead, ClaimRef, ClaimedTask};

/// Longer than anything takes; a test that hangs fails.
const LIMIT: Duration = Duration::from_secs(60);

/// What every handler in Python begins with.
const PRELUDE: &str = r#"
import json, os, select, signal, sys

def rows():
    while line := sys.stdin.readline():
        yield json.loads(line)

def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

def answer(row, **more):
    say(json.dumps({"line": row["line"], "key": row["key"], "status": "success", **more}))

# True in the first child of a test, and in no other.
def first(name="first"):
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False

# For handlers that look at what waits in the pipe.
waiting, begun = [], b""
def pull(block):
    global begun
    while block or select.select([0], [], [], 0)[0]:
        block = False
        read = os.read(0, 1 << 16)
        if not read:
            return
        *lines, begun = (begun + read).split(b"\n")
        waiting.extend(json.loads(line) for line in lines)
"#;

/// An op with its handler, in a folder of its own.
struct Bench {
    processor: Arc<CommandProcessor>,
    settings: OpSettings,
    suspect: bool,
    context: String,
    dir: tempfile::TempDir,
}

/// A task that is being run.
struct Running {
    run: JoinHandle<()>,
    desk: Arc<Desk>,
    cancel: CancelHandle,
}

/// Outcomes as they are stored, by line.
struct Outcomes(BTreeMap<u32, String>);

impl Bench {
    fn new(command: &[&str], window: usize, children: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spec = CommandSpec {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            dir: dir.path().to_owned(),
            window,
            children,
        };
        Self {
            processor: Arc::new(CommandProcessor::new(spec)),
            settings: OpSettings::default(),
            suspect: false,
            context: "null".to_owned(),
            dir,
        }
    }

    fn python(script: &str, window: usize) -> Self {
        Self::new(&["python3", "-c", &format!("{PRELUDE}{script}")], window, 1)
    }

    fn sh(script: &str) -> Self {
        Self::new(&["sh", "-c", script], 8, 1)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, inputs: &[impl AsRef<str>]) -> Running {
        let mut body = String::new();
        for input in inputs {
            body.push_str(input.as_ref());
            body.push('\n');
        }
        let id = BatchId::new();
        let task = Arc::new(ClaimedTask {
            batch: Arc::new(BatchHead {
                id,
                key: JobKey::new("bank", "Post", Kind::Batch).unwrap(),
                context: RawValue::from_string(self.context.clone()).unwrap(),
                root: id,
                generation: 0,
                expires_at: None,
            }),
            claim: ClaimRef {
                batch: id,
                task: TaskId(0),
                no: 0,
                attempt: 3,
                token: Token(1),
            },
            failures: 0,
            laters: 0,
            suspect: self.suspect,
            accused: false,
            believed: false,
            first_line: 1,
            lines: None,
            body,
            pick: None,
            rows: u32::try_from(inputs.len()).unwrap(),
        });
        let settings = Arc::new(self.settings.clone());
        let desk = Desk::new(&task, Arc::clone(&settings));
        let cancel = CancelHandle::new();
        let (work, mut requests) = Work::new(
            task,
            Arc::new(()),
            settings,
            cancel.signal(),
            ObjectStore::folder(self.path("objects")),
            Arc::clone(&desk),
            Arc::new(Pulse::new(None)),
        );
        let processor = Arc::clone(&self.processor);
        let run = tokio::spawn(async move {
            let engine = async {
                while let Some(request) = requests.recv().await {
                    if let Request::Empty { reply, .. } = request {
                        let _ = reply.send(true);
                    }
                }
            };
            tokio::join!(processor.run(work), engine);
        });
        Running { run, desk, cancel }
    }

    async fn run(&self, inputs: &[impl AsRef<str>]) -> Outcomes {
        self.start(inputs).outcomes().await
    }
}

impl Running {
    async fn outcomes(self) -> Outcomes {
        let ended = tokio::time::timeout(LIMIT, self.run).await;
        ended.expect("the run ends in time").unwrap();
        let (mut outcomes, mut rows) = (BTreeMap::new(), 0);
        while !self.desk.is_empty() {
            let draft = self.desk.take();
            let lines = draft.ordinals.iter().map(|ordinal| ordinal + 1);
            outcomes.extend(lines.zip(draft.body.lines().map(str::to_owned)));
            rows += draft.ordinals.len();
        }
        assert_eq!(outcomes.len(), rows, "each row once");
        Outcomes(outcomes)
    }
}

impl Outcomes {
    fn value(&self, line: u32) -> Value {
        serde_json::from_str(&self.0[&line]).unwrap()
    }

    /// `success`, the status where it is another, and the errcode where there is one.
    fn word(&self, line: u32) -> String {
        let value = self.value(line);
        let status = value["status"].as_str().unwrap_or("success");
        match value["messages"][0]["errcode"].as_str() {
            Some(code) => format!("{status} {code}"),
            None => status.to_owned(),
        }
    }

    fn result(&self, line: u32) -> Value {
        self.value(line)["result"].clone()
    }

    fn text(&self, line: u32) -> String {
        let value = self.value(line);
        value["messages"][0]["text"].as_str().unwrap().to_owned()
    }

    fn all_succeed(&self, rows: u32) {
        for line in 1..=rows {
            assert_eq!(self.word(line), "success", "line {line}");
        }
    }
}

fn numbers(rows: u32) -> Vec<String> {
    (1..=rows).map(|n| n.to_string()).collect()
}

/// A pipe with a name, through which a child and its test tell each other where they are.
fn fifo(path: &Path) {
    let path = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the path is a string that ends in NUL and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

/// Runs what blocks. It has a thread of its own, which a test that fails need not wait for.
async fn aside<T: Send + 'static>(blocks: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || drop(tell.send(blocks())));
    let told = tokio::time::timeout(LIMIT, told).await;
    told.expect("it happens in time").unwrap()
}

/// Opens a named pipe once its other end is opened.
async fn open(path: PathBuf) -> File {
    aside(move || File::open(path).unwrap()).await
}

/// Lets a child that reads a named pipe go on.
async fn release(path: PathBuf) {
    aside(move || std::fs::write(path, "x").unwrap()).await;
}

/// Waits until nobody holds the other end any more.
async fn until_nobody_holds(mut pipe: File) {
    aside(move || std::io::copy(&mut pipe, &mut std::io::sink()).unwrap()).await;
}
