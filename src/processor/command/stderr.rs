//! What a child writes to stderr goes to the log, a line at a time.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use super::TARGET;
use crate::store::BatchHead;

/// Longer lines are cut.
const MAX_LINE: usize = 8 * 1024;

/// The batch that a child works on, or worked on last.
#[derive(Default)]
pub(super) struct About(Mutex<Option<Arc<BatchHead>>>);

impl About {
    pub(super) fn set(&self, batch: &Arc<BatchHead>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(batch));
    }

    fn get(&self) -> Option<Arc<BatchHead>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Logs lines until the pipe ends.
pub(super) fn log_lines(pipe: impl Read, about: &About, pid: libc::pid_t) {
    let mut pipe = BufReader::with_capacity(MAX_LINE, pipe);
    let mut line = Vec::new();
    while let Ok(true) = read_line(&mut pipe, &mut line) {
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        if text.is_empty() {
            continue;
        }
        match about.get() {
            Some(batch) => {
                tracing::info!(target: TARGET, batch = %batch.id, op = %batch.key, pid, "{text}");
            }
            None => tracing::info!(target: TARGET, pid, "{text}"),
        }
    }
}

/// Reads a line and keeps its first bytes; false at the end.
fn read_line(pipe: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let read = match pipe.fill_buf() {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = memchr::memchr(b'\n', read);
        let part = read.get(..end.unwrap_or(read.len())).unwrap_or(read);
        let room = MAX_LINE.saturating_sub(line.len()).min(part.len());
        line.extend(part.iter().take(room));
        let used = part.len() + usize::from(end.is_some());
        pipe.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;
    use crate::model::{BatchId, JobKey, Kind};

    fn lines(text: &[u8]) -> Vec<Vec<u8>> {
        let mut pipe = BufReader::with_capacity(7, text);
        let (mut lines, mut line) = (Vec::new(), Vec::new());
        while read_line(&mut pipe, &mut line).unwrap() {
            lines.push(line.clone());
        }
        lines
    }

    /// What is logged, kept.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_logged_with_its_batch_op_and_process() {
        let id = BatchId::new();
        let about = About::default();
        about.set(&Arc::new(BatchHead {
            id,
            key: JobKey::new("bank", "post", Kind::Batch).unwrap(),
            context: RawValue::from_string("null".to_owned()).unwrap(),
            root: id,
            generation: 0,
            expires_at: None,
        }));
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(log, || {
            log_lines(&b"one\n\r\ntwo \xff\n"[..], &about, 42);
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let messages: Vec<_> = lines.iter().map(|l| &l["fields"]["message"]).collect();
        assert_eq!(messages, ["one", "two \u{fffd}"]);
        assert_eq!(lines[0]["target"], "rowmill::handler");
        assert_eq!(lines[0]["fields"]["batch"], id.to_string());
        assert_eq!(lines[0]["fields"]["op"], "bank/post");
        assert_eq!(lines[0]["fields"]["pid"], 42);
    }

    #[test]
    fn every_line_is_read_and_the_last_needs_no_end() {
        assert_eq!(
            lines(b"first line\n\nlast"),
            [&b"first line"[..], b"", b"last"]
        );
        assert_eq!(lines(b""), [b""; 0]);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_whole() {
        let mut text = vec![b'x'; MAX_LINE + 100];
        text.extend(b"\nnext\n");
        let read = lines(&text);
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].len(), MAX_LINE);
        assert_eq!(read[1], b"next");
    }
}
