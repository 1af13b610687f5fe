//! `list`: batches and queries, newest first.

use std::io::{BufWriter, Write as _};
use std::pin::pin;

use clap::Args;
use futures_util::TryStreamExt as _;

use super::args::whole;
use super::exit::Failure;
use super::output;
use super::rows::BUFFER;
use super::session::Session;
use super::shown::{Out, columns, cut};
use crate::model::{AppName, Batch, BatchFilter, OpName, Status, Timestamp, parse_duration};

/// What stands before app and op on a line.
const BEFORE: usize = 36 + 2 + 8 + 2 + 9 + 2 + 4 + 2;

/// Which batches, and how many.
#[derive(Args)]
#[command(after_help = "\
Example:
  rowmill list --app bank --status failed --since 7d")]
pub(super) struct List {
    /// Of this application
    #[arg(long)]
    app: Option<String>,
    /// Of this operation
    #[arg(long)]
    op: Option<String>,
    /// In this status
    #[arg(long, value_name = "STATUS")]
    status: Option<Status>,
    /// Submitted since a time, such as 2026-01-31T18:00:00Z, or for so long, such as 7d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = since)]
    since: Option<Since>,
    /// At most so many; 0 is all
    #[arg(long, value_name = "N", default_value_t = 50, allow_negative_numbers = true, value_parser = whole::<u64>)]
    limit: u64,
}

/// A time, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    At(Timestamp),
    Ago(std::time::Duration),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse() {
        return Ok(Since::At(at));
    }
    parse_duration(text).map(Since::Ago).map_err(|_| {
        "is no time and no duration; write it as 2026-01-31T18:00:00Z or 7d".to_owned()
    })
}

pub(super) async fn run(session: &Session, args: List) -> Result<(), Failure> {
    let List {
        app,
        op,
        status,
        since,
        limit,
    } = args;
    let app = app.map(|name| name.parse::<AppName>()).transpose()?;
    let op = op.map(|name| name.parse::<OpName>()).transpose()?;
    let client = session.reader().await?;
    let now = client.clock.now();
    let filter = BatchFilter {
        app,
        op,
        status,
        created_after: since.map(|since| match since {
            Since::At(at) => at,
            // Before the beginning of time is all of it.
            Since::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }),
        ..BatchFilter::default()
    };
    let mut printer = Printer::begin(session, now)?;
    let mut batches = pin!(client.list(filter));
    let mut left = if limit == 0 { u64::MAX } else { limit };
    while left > 0
        && let Some(batch) = batches.try_next().await?
    {
        printer.batch(&batch)?;
        left -= 1;
    }
    output::ended(printer.out.flush())
}

struct Printer {
    out: BufWriter<Out>,
    json: bool,
    width: usize,
    now: Timestamp,
}

impl Printer {
    fn begin(session: &Session, now: Timestamp) -> Result<Self, Failure> {
        let mut printer = Self {
            out: BufWriter::with_capacity(BUFFER, Out::new()),
            json: session.json,
            width: columns().max(BEFORE + 12),
            now,
        };
        if !printer.json {
            let head = ["id", "status", "rows", "age", "app/op"].map(str::to_owned);
            printer.line(&head)?;
        }
        Ok(printer)
    }

    fn batch(&mut self, batch: &Batch) -> Result<(), Failure> {
        if self.json {
            let written = serde_json::to_writer(&mut self.out, batch).map_err(std::io::Error::from);
            return output::ended(written.and_then(|()| self.out.write_all(b"\n")));
        }
        let status = if batch.aborting {
            "aborting".to_owned()
        } else {
            batch.status.to_string()
        };
        self.line(&[
            batch.id.to_string(),
            status,
            batch.counts.rows.to_string(),
            age(batch.created_at, self.now),
            format!("{}/{}", batch.app, batch.op),
        ])
    }

    fn line(&mut self, [id, status, rows, age, name]: &[String; 5]) -> Result<(), Failure> {
        let name = cut(name, self.width - BEFORE);
        let line = format!("{id:36}  {status:8}  {rows:>9}  {age:>4}  {name}");
        output::ended(writeln!(self.out, "{line}"))
    }
}

/// How long ago, in the largest unit that fits: `59s`, `3h`, `12d`, `104w`.
fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs().max(0);
    let (count, unit) = match seconds {
        0..=119 => (seconds, 's'),
        120..=7199 => (seconds / 60, 'm'),
        7200..=172_799 => (seconds / 3600, 'h'),
        172_800..=86_399_999 => (seconds / 86_400, 'd'),
        _ => (seconds / 604_800, 'w'),
    };
    format!("{count}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_four_characters_at_most() {
        let now = Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
        for (ago, told) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7199, "119m"),
            (7200, "2h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (86_399_999, "999d"),
            (86_400_000, "142w"),
        ] {
            let at = now - std::time::Duration::from_secs(ago);
            assert_eq!(age(at, now), told);
        }
        assert_eq!(age(now + std::time::Duration::from_secs(9), now), "0s");
    }

    #[test]
    fn since_is_a_time_or_a_duration() {
        assert_eq!(
            since("1970-01-01T00:00:00Z"),
            Ok(Since::At(Timestamp::UNIX_EPOCH))
        );
        let day = std::time::Duration::from_secs(86_400);
        assert_eq!(since("7d"), Ok(Since::Ago(7 * day)));
        assert!(since("yesterday").is_err());
    }
}
