//! The worker processes: started, killed, frozen, asked to stop.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Failed;
use super::work::HEARS;

pub(crate) struct Workers {
    folder: PathBuf,
    children: Vec<Child>,
    pub(crate) kills: u32,
    /// The most memory that any of them ever had.
    pub(crate) peak_mb: u64,
}

impl Workers {
    pub(crate) fn start(folder: &Path) -> Result<Self, Failed> {
        let mut workers = Self {
            folder: folder.to_owned(),
            children: Vec::new(),
            kills: 0,
            peak_mb: 0,
        };
        for _ in 0..2 {
            workers.children.push(workers.one()?);
        }
        Ok(workers)
    }

    fn one(&self) -> Result<Child, Failed> {
        let program = std::env::current_exe()?;
        Ok(Command::new(program)
            .arg("work")
            .arg(&self.folder)
            .stdout(Stdio::piped())
            .spawn()?)
    }

    fn signal(&self, at: usize, signal: i32) -> Result<(), Failed> {
        let child = self.children.get(at).ok_or("no such worker")?;
        let pid = i32::try_from(child.id())?;
        // SAFETY: kill touches no memory of ours; the child was not waited for, so the pid is its.
        match unsafe { libc::kill(pid, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().into()),
        }
    }

    /// Notes how much memory a worker has had.
    fn weigh(&mut self, at: usize) {
        let Some(child) = self.children.get(at) else {
            return;
        };
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|p| p.trim().trim_end_matches(" kB").parse::<u64>().ok());
        self.peak_mb = self.peak_mb.max(kib.unwrap_or(0) / 1024);
    }

    /// Waits until a worker's process hears what it is asked: before, SIGTERM ends any process.
    fn hears(&mut self, at: usize) -> Result<(), Failed> {
        let child = self.children.get_mut(at).ok_or("no such worker")?;
        if let Some(mut said) = child.stdout.take() {
            said.read_exact(&mut [0; HEARS.len()])?;
        }
        Ok(())
    }

    /// Kills a worker without notice, or asks it to stop; another takes its place.
    pub(crate) fn replace(&mut self, at: usize, kill: bool) -> Result<(), Failed> {
        self.weigh(at);
        let signal = if kill {
            libc::SIGKILL
        } else {
            self.hears(at)?;
            libc::SIGTERM
        };
        self.signal(at, signal)?;
        let next = self.one()?;
        let child = self.children.get_mut(at).ok_or("no such worker")?;
        let mut last = std::mem::replace(child, next);
        let ended = last.wait()?;
        if kill {
            self.kills += 1;
        } else if !ended.success() {
            return Err(format!("a worker that was asked to stop ended with {ended}").into());
        }
        Ok(())
    }

    /// Stops a worker's process for a moment.
    pub(crate) async fn freeze(&self, at: usize) -> Result<(), Failed> {
        self.signal(at, libc::SIGSTOP)?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.signal(at, libc::SIGCONT)
    }

    /// None of them may have ended by itself.
    pub(crate) fn alive(&mut self) -> Result<(), Failed> {
        for child in &mut self.children {
            if let Some(ended) = child.try_wait()? {
                return Err(format!("a worker ended by itself with {ended}").into());
            }
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
