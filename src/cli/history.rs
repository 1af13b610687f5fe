//! `history`: what happened to rows, attempt by attempt.

use std::io::{BufWriter, Write as _};
use std::pin::pin;

use clap::Args;
use futures_util::TryStreamExt as _;

use super::args::{Named, whole};
use super::exit::{About, Failure};
use super::rows::BUFFER;
use super::session::Session;
use super::shown::{Out, columns, cut};
use super::{named, output};
use crate::model::{HistoryEntry, HistoryOf, Status, Timestamp};

/// Whose history.
#[derive(Args)]
#[command(after_help = "\
Without --line: a line for each block of rows, attempt and worker. What became of the block is
then the worst of its rows: inprog, aborted, expired, failed, queued (to go again), success.
Attempt 0 is of rows that no worker began: refused when they were read, aborted or expired.

Example:
  rowmill history 0198c0de-1c4f-7000-8000-000000000000 --line 7")]
pub(super) struct History {
    #[command(flatten)]
    named: Named,
    /// The row of this line alone
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u32>)]
    line: Option<u32>,
}

pub(super) async fn run(session: &Session, args: &History) -> Result<(), Failure> {
    let (client, id) = named::find(session, &args.named).await?;
    let mut entries = pin!(client.history(id, args.line));
    let mut printer = Printer::new(session);
    // Its head goes out with the first line: an error is told alone.
    let mut first = true;
    while let Some(entry) = entries.try_next().await.about(id)? {
        if std::mem::take(&mut first) {
            printer.head()?;
        }
        printer.entry(&entry)?;
    }
    if first {
        printer.head()?;
    }
    output::ended(printer.out.flush())
}

/// Columns that the table needs.
const NARROWEST: usize = 80;

struct Printer {
    out: BufWriter<Out>,
    json: bool,
    width: usize,
}

impl Printer {
    fn new(session: &Session) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER, Out::new()),
            json: session.json,
            width: columns().max(NARROWEST),
        }
    }

    fn head(&mut self) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let head = [
            "line", "rows", "try", "worker", "started", "took", "status", "errcode",
        ];
        self.line(&head.map(str::to_owned))
    }

    fn entry(&mut self, entry: &HistoryEntry) -> Result<(), Failure> {
        if self.json {
            let written = serde_json::to_writer(&mut self.out, entry).map_err(std::io::Error::from);
            return output::ended(written.and_then(|()| self.out.write_all(b"\n")));
        }
        let HistoryEntry {
            of,
            attempt,
            worker,
            started_at,
            ended_at,
            before,
            after,
            errcode,
        } = entry;
        let (line, rows) = match of {
            HistoryOf::Line { line } => (line, 1),
            HistoryOf::Block { first_line, rows } => (first_line, *rows),
        };
        let before = before.map_or("-", Status::as_str);
        self.line(&[
            line.to_string(),
            rows.to_string(),
            attempt.to_string(),
            worker.map_or("-".to_owned(), |w| w.to_string()),
            started_at.or(*ended_at).map_or(String::new(), time),
            took(*started_at, *ended_at),
            format!("{before}→{after}"),
            errcode.clone().unwrap_or_default(),
        ])
    }

    fn line(&mut self, cells: &[String; 8]) -> Result<(), Failure> {
        let [line, rows, attempt, worker, started, took, status, errcode] = cells;
        let text = format!(
            "{line:>8} {rows:>6} {attempt:>3} {worker:>6}  {started:14} {took:>7}  {status:14}  {errcode}"
        );
        let text = cut(text.trim_end(), self.width);
        output::ended(writeln!(self.out, "{text}"))
    }
}

/// A time of this year's order, in UTC.
fn time(at: Timestamp) -> String {
    at.strftime("%m-%d %H:%M:%S").to_string()
}

/// How long an attempt took, in two digits and more.
fn took(started: Option<Timestamp>, ended: Option<Timestamp>) -> String {
    let (Some(started), Some(ended)) = (started, ended) else {
        return "-".to_owned();
    };
    let took = ended.duration_since(started);
    let ms = u64::try_from(took.as_millis()).unwrap_or(0);
    let seconds = ms / 1000;
    match seconds {
        0..=9 => format!("{ms}ms"),
        10..=599 => format!("{seconds}s"),
        600..=35_999 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_is_told_in_larger_units() {
        let start = Timestamp::UNIX_EPOCH;
        let after = |ms| Some(start + std::time::Duration::from_millis(ms));
        for (ms, told) in [
            (0, "0ms"),
            (9_999, "9999ms"),
            (10_000, "10s"),
            (600_000, "10m"),
            (36_000_000, "10h"),
        ] {
            assert_eq!(took(Some(start), after(ms)), told);
        }
        assert_eq!(took(None, after(1)), "-");
        assert_eq!(took(after(1), Some(start)), "0ms");
    }
}
