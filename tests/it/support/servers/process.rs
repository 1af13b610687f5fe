//! A server's process: it dies with the test process, and never before.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::until;

/// Whom servers run as where the tests run as root: PostgreSQL and PgBouncer refuse root.
pub const NOBODY: u32 = 65_534;

pub fn is_root() -> bool {
    // SAFETY: geteuid touches no memory.
    unsafe { libc::geteuid() == 0 }
}

/// The servers that run, each with the signal that ends it.
static RUNNING: Mutex<BTreeMap<i32, i32>> = Mutex::new(BTreeMap::new());

/// A process; dropping it ends it.
pub struct Process {
    child: Child,
    pid: i32,
}

impl Process {
    /// Starts it in this folder, with its words in the folder's `log`; `end` is the signal that ends it at once.
    pub fn start(command: &mut Command, folder: &Path, end: i32) -> Self {
        prepare(command, folder);
        let parent = std::process::id().cast_signed();
        // SAFETY: prctl and getppid may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                #[cfg(target_os = "linux")]
                libc::prctl(libc::PR_SET_PDEATHSIG, end);
                match libc::getppid() == parent {
                    true => Ok(()),
                    false => Err(std::io::ErrorKind::Other.into()),
                }
            });
        }
        let child = spawn(std::mem::replace(command, Command::new("true")));
        let pid = child.id().cast_signed();
        RUNNING.lock().expect("unpoisoned").insert(pid, end);
        Self { child, pid }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn signal(&self, signal: i32) {
        send(self.pid, signal);
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Sends the signal and waits for the end.
    pub fn end(mut self, signal: i32) {
        self.signal(signal);
        until("the end of a server", || self.has_ended().then_some(()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let end = RUNNING.lock().expect("unpoisoned").remove(&self.pid);
        if !self.has_ended() {
            send(self.pid, end.unwrap_or(libc::SIGKILL));
            // What is stopped hears nothing else.
            send(self.pid, libc::SIGCONT);
            let _ = self.child.wait();
        }
    }
}

/// The folder, its log and the one that it belongs to, and nothing of the surroundings.
fn prepare(command: &mut Command, folder: &Path) {
    let mut log = std::fs::File::options();
    let log = log.create(true).append(true).open(folder.join("log"));
    let log = log.expect("a log");
    command.env_clear().env("TZ", "UTC").env("LC_ALL", "C");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir(folder).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a log")).stderr(log);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
}

/// Runs a program to its end, as the servers run; panics with its log where it fails.
pub fn run(command: &mut Command, folder: &Path) {
    prepare(command, folder);
    let status = command.status().expect("started");
    assert!(status.success(), "{command:?}: {status}\n{}", log(folder));
}

/// The end of a server's log.
pub fn log(folder: &Path) -> String {
    let log = std::fs::read(folder.join("log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// The death signal comes when the thread that started the child ends: this one never does.
fn spawn(command: Command) -> Child {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, ordered) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in ordered {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, answered) = channel();
    orders.send((command, answer)).expect("the thread");
    answered.recv().expect("an answer").expect("started")
}

/// The processes that this one has started and that live.
pub fn children(of: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state parent …`, and a name may have anything in it.
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        parent == Some(of.to_string().as_str())
    })
    .collect()
}

pub fn send(pid: i32, signal: i32) {
    // SAFETY: kill touches no memory of ours.
    unsafe { libc::kill(pid, signal) };
}

/// Ends all that run, when the test process does.
pub fn end_all() {
    let Ok(running) = RUNNING.lock() else { return };
    for (&pid, &end) in running.iter() {
        send(pid, end);
        send(pid, libc::SIGCONT);
    }
    let began = Instant::now();
    for &pid in running.keys() {
        // SAFETY: waitpid may be given no place for the status.
        while unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } == 0 {
            if began.elapsed() > Duration::from_secs(5) {
                send(pid, libc::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
