//! A child's input and output, both read and written without waiting for the other.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsFd;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};

/// A child that writes so many bytes without an end of line floods.
pub(super) const MAX_LINE: usize = 64 << 20;
/// While so many bytes wait to be written, no further row is taken.
const FULL: usize = 64 << 10;
const READ: usize = 64 << 10;
/// More than a pipe ever holds.
const PIPE: usize = 4 << 20;

/// What is to be written to a child.
pub(super) struct Feed {
    pipe: Option<ChildStdin>,
    text: Vec<u8>,
    /// Bytes of `text` that are written.
    from: usize,
    /// Bytes written in the child's life.
    written: u64,
}

impl Feed {
    pub(super) fn new(pipe: std::process::ChildStdin) -> io::Result<Self> {
        Ok(Self {
            pipe: Some(ChildStdin::from_std(pipe)?),
            text: Vec::new(),
            from: 0,
            written: 0,
        })
    }

    /// Adds a line, and returns the bytes of the child's whole input that it takes.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<u64> {
        let start = self.written + self.unwritten() as u64;
        write(&mut self.text);
        start..self.written + self.unwritten() as u64
    }

    fn unwritten(&self) -> usize {
        self.text.len() - self.from
    }

    pub(super) fn is_full(&self) -> bool {
        self.unwritten() >= FULL
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.pipe.is_some() && self.unwritten() > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unwritten() == 0
    }

    /// Whether the child still takes rows.
    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn close(&mut self) {
        self.pipe = None;
    }

    /// Writes once what the pipe takes; closes it if the child has closed its end.
    /// **Cancellation:** safe.
    pub(super) async fn write(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(self.text.get(self.from..).unwrap_or(&[])).await {
            Ok(0) | Err(_) => self.pipe = None,
            Ok(bytes) => {
                self.from += bytes;
                self.written += bytes as u64;
                if self.from == self.text.len() {
                    self.from = 0;
                    self.text.clear();
                    self.text.shrink_to(2 * FULL);
                }
            }
        }
    }
}

/// What a child has written.
pub(super) struct Output {
    pipe: ChildStdout,
    /// The same pipe, to read what is there now: tokio asks the system only after an event.
    now: File,
    text: Vec<u8>,
    /// Where the next line starts.
    from: usize,
    /// No end of line before it, from `from` on.
    seen: usize,
    spoke: bool,
}

impl Output {
    pub(super) fn new(pipe: std::process::ChildStdout) -> io::Result<Self> {
        // Makes the pipe non-blocking, for both descriptors.
        let pipe = ChildStdout::from_std(pipe)?;
        let now = File::from(pipe.as_fd().try_clone_to_owned()?);
        Ok(Self {
            pipe,
            now,
            text: Vec::new(),
            from: 0,
            seen: 0,
            spoke: false,
        })
    }

    /// Whether the child has ever written anything.
    pub(super) fn spoke(&self) -> bool {
        self.spoke
    }

    /// Whether every byte that was read is part of a line that was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.text.len() == self.from
    }

    /// Reads more; 0 at the end. **Cancellation:** safe.
    pub(super) async fn read(&mut self) -> io::Result<usize> {
        self.text.reserve(READ);
        let bytes = self.pipe.read_buf(&mut self.text).await?;
        self.spoke |= bytes > 0;
        Ok(bytes)
    }

    /// Reads what is there now; false at the end.
    pub(super) fn read_now(&mut self) -> bool {
        let limit = self.text.len() + PIPE;
        let mut buffer = vec![0; READ];
        while self.text.len() < limit {
            match self.now.read(&mut buffer) {
                Ok(0) => return false,
                Ok(bytes) => {
                    self.spoke = true;
                    self.text.extend(buffer.iter().take(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// The next whole line, without its end; its range is good until the next call.
    pub(super) fn line(&mut self) -> Option<Range<usize>> {
        let fresh = self.text.get(self.seen..).unwrap_or(&[]);
        if let Some(length) = memchr::memchr(b'\n', fresh) {
            let end = self.seen + length;
            let line = self.from..end;
            self.from = end + 1;
            self.seen = self.from;
            return Some(line);
        }
        self.text.drain(..self.from);
        self.from = 0;
        self.seen = self.text.len();
        if self.text.is_empty() {
            self.text.shrink_to(2 * READ);
        }
        None
    }

    /// What stands behind the last end of line, as a line, if anything does.
    pub(super) fn rest(&mut self) -> Option<Range<usize>> {
        let line = self.from..self.text.len();
        self.from = self.text.len();
        self.seen = self.from;
        (!line.is_empty()).then_some(line)
    }

    pub(super) fn get(&self, line: Range<usize>) -> &[u8] {
        self.text.get(line).unwrap_or(&[])
    }

    /// Whether the line that has begun is longer than any may be; asked when `line` has none.
    pub(super) fn floods(&self) -> bool {
        self.text.len() - self.from > MAX_LINE
    }

    /// The beginning of what was not taken as a line.
    pub(super) fn begun(&self) -> &[u8] {
        self.text.get(self.from..).unwrap_or(&[])
    }
}
