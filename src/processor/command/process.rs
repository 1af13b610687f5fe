//! One process: started, watched and ended.
//!
//! Each child has a thread of its own that starts it, waits for it and ends with it. On Linux a
//! child asks to be killed when the *thread* that started it ends, so that thread must live as long
//! as the child and no longer than the process; the runtime's threads come and go.

use std::io;
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::spec::CommandSpec;
use super::stderr::{About, log_lines};

/// A child process and whatever it has started in its process group.
pub(super) struct Process {
    pid: libc::pid_t,
    /// How it ended.
    how: Mutex<Option<String>>,
    gone: Condvar,
    ended: CancellationToken,
}

/// A process that is killed when this is dropped, unless it has ended.
pub(super) struct Leash(Arc<Process>);

impl Deref for Leash {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// A process with its pipes.
pub(super) struct Started {
    pub(super) process: Leash,
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
}

/// Starts the command. **Cancellation:** the process is killed.
///
/// # Errors
/// It cannot be started.
pub(super) async fn start(spec: &Arc<CommandSpec>, about: &Arc<About>) -> io::Result<Started> {
    let (tell, told) = oneshot::channel();
    let (spec, about) = (Arc::clone(spec), Arc::clone(about));
    std::thread::Builder::new()
        .name("rowmill-child".to_owned())
        .spawn(move || attend(&spec, about, tell))?;
    told.await
        .unwrap_or_else(|_| Err(io::Error::other("its thread has ended")))
}

/// A child's life, on a thread of its own.
fn attend(spec: &CommandSpec, about: Arc<About>, tell: oneshot::Sender<io::Result<Started>>) {
    let mut child = match spawn(spec) {
        Ok(child) => child,
        Err(error) => {
            let _ = tell.send(Err(error));
            return;
        }
    };
    let process = Arc::new(Process {
        pid: libc::pid_t::try_from(child.id()).unwrap_or(libc::pid_t::MAX),
        how: Mutex::new(None),
        gone: Condvar::new(),
        ended: CancellationToken::new(),
    });
    let leash = Leash(Arc::clone(&process));
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let started = match pipes {
        (Some(stdin), Some(stdout), Some(stderr)) => {
            let pid = process.pid;
            // Its own thread: a descendant may hold stderr open for longer than the child lives.
            std::thread::Builder::new()
                .name("rowmill-stderr".to_owned())
                .spawn(move || log_lines(stderr, &about, pid))
                .map(|_| Started {
                    process: leash,
                    stdin,
                    stdout,
                })
        }
        _ => {
            drop(leash);
            Err(io::Error::other("its pipes are missing"))
        }
    };
    // Where nobody waits any more, this drops the leash.
    drop(tell.send(started));
    process.attend(child);
}

fn spawn(spec: &CommandSpec) -> io::Result<std::process::Child> {
    let mut command = Command::new(spec.program());
    command
        .args(spec.command.iter().skip(1))
        .current_dir(spec.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that an interrupt typed at the terminal is ours to handle, and
        // so that what it has started ends with it.
        .process_group(0);
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        // SAFETY: between fork and exec it only makes system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || end_with(parent));
        }
    }
    command.spawn()
}

/// Asks the system to kill this process when the thread that started it ends.
#[cfg(target_os = "linux")]
fn end_with(parent: u32) -> io::Result<()> {
    // SAFETY: both calls take plain numbers.
    let (set, now) = unsafe {
        (
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
            libc::getppid(),
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have ended before the request; nothing would tell us then.
    if u32::try_from(now) != Ok(parent) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

impl Process {
    pub(super) fn pid(&self) -> libc::pid_t {
        self.pid
    }

    fn how_locked(&self) -> MutexGuard<'_, Option<String>> {
        self.how.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, for the log; none while it lives.
    pub(super) fn how(&self) -> Option<String> {
        self.how_locked().clone()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Waits for its end. **Cancellation:** safe.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Blocks until it has ended or the time is over.
    pub(super) fn wait_until(&self, limit: Instant) {
        let mut how = self.how_locked();
        while how.is_none() {
            let left = limit.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            let woken = self.gone.wait_timeout(how, left);
            how = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Kills it with its whole group; nothing if it has ended.
    pub(super) fn kill(&self) {
        // The lock is held until it is killed: while it is not reaped, its number is nobody else's.
        let how = self.how_locked();
        if how.is_none() {
            signal(self.pid);
        }
    }

    /// Waits for its end, takes what is left of its group with it, and tells.
    fn attend(&self, mut child: std::process::Child) {
        let exited = wait_unreaped(self.pid);
        let mut how = self.how_locked();
        if exited {
            signal(self.pid);
        }
        *how = Some(match child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => format!("unknown how: {error}"),
        });
        drop(how);
        self.gone.notify_all();
        self.ended.cancel();
    }
}

/// Waits until the child has ended, and leaves it there for [`std::process::Child::wait`].
fn wait_unreaped(pid: libc::pid_t) -> bool {
    let Ok(id) = libc::id_t::try_from(pid) else {
        return false;
    };
    loop {
        // SAFETY: zeroes are a valid siginfo_t, which outlives the call.
        let done = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(
                libc::P_PID,
                id,
                &raw mut info,
                libc::WEXITED | libc::WNOWAIT,
            )
        };
        if done == 0 {
            return true;
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return false;
        }
    }
}

/// The child itself as well as its group: it may have left the group.
fn signal(pid: libc::pid_t) {
    // SAFETY: both calls take plain numbers; `pid` is a child that is not reaped.
    unsafe {
        libc::kill(-pid, libc::SIGKILL);
        libc::kill(pid, libc::SIGKILL);
    }
}
