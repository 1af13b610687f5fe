//! What goes to stdout: a batch for people, or one JSON document.

use std::fmt::Write as _;
use std::io::Write as _;

use indicatif::DecimalBytes;
use serde::Serialize;

use super::exit::Failure;
use super::progress::seconds;
use super::session::Session;
use crate::client::Client;
use crate::model::{Batch, Counts, Status, Timestamp};

/// Maps an error of stdout: a reader that has gone is no failure.
pub(super) fn ended(written: std::io::Result<()>) -> Result<(), Failure> {
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::io("writing to stdout", error),
    })
}

/// Writes text to stdout, whole.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    ended(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Writes one JSON document, in one line.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text =
        serde_json::to_string(value).map_err(|e| Failure::io("writing JSON", e.into()))?;
    text.push('\n');
    print(&text)
}

/// How much is said of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Much {
    /// What became of it.
    Short,
    /// All that people ask for.
    Full,
}

/// Prints a batch in the form that was asked for.
pub(super) fn batch(
    session: &Session,
    client: &Client,
    batch: &Batch,
    much: Much,
) -> Result<(), Failure> {
    if session.json {
        return print_json(batch);
    }
    let mut text = head(batch);
    if much == Much::Full {
        text.push_str(&about(batch));
    }
    let _ = writeln!(text, "  {}", counts(&batch.counts));
    if let Some(progress) = &batch.progress {
        let _ = write!(text, "  {:.0} rows/s", progress.rows_per_second);
        if let Some(left) = progress.eta_seconds {
            let _ = write!(text, ", {} left", seconds(left));
        }
        text.push('\n');
    }
    text.push_str(&files(client, batch));
    if let Some(Some(result)) = &batch.result {
        let _ = writeln!(text, "  result: {result}");
    }
    if batch.done && batch.counts.failed > 0 && batch.purged_at.is_none() {
        let command = session.command(format_args!("rows {} --status failed", batch.id));
        let _ = writeln!(text, "the failed rows: {command}");
    }
    print(&text)
}

/// The batch and where it stands.
fn head(batch: &Batch) -> String {
    let status = match batch.status {
        _ if batch.aborting => "aborting",
        status => status.as_str(),
    };
    format!("{} {}  {status}\n", batch.kind.as_str(), batch.id)
}

fn about(batch: &Batch) -> String {
    let mut text = format!("  {}/{}", batch.app, batch.op);
    if let Some(external) = &batch.external_id {
        let _ = write!(text, "  external id {external}");
    }
    if batch.priority != 0 {
        let _ = write!(text, "  priority {}", batch.priority);
    }
    text.push('\n');
    let _ = write!(text, "  created {}", time(batch.created_at));
    if !batch.created_by.is_empty() {
        let _ = write!(text, " by {}", batch.created_by);
    }
    text.push('\n');
    for (word, at) in [
        (
            "not before",
            batch.run_at.filter(|_| batch.started_at.is_none()),
        ),
        ("expires", batch.expires_at.filter(|_| !batch.done)),
        ("started", batch.started_at),
        ("ended", batch.done_at),
        ("its rows and files were purged", batch.purged_at),
    ] {
        if let Some(at) = at {
            let _ = writeln!(text, "  {word} {}", time(at));
        }
    }
    text
}

/// `10 rows: 9 success, 1 failed`
fn counts(counts: &Counts) -> String {
    let Counts {
        rows,
        success,
        failed,
        aborted,
        expired,
        pending,
    } = *counts;
    let parts: Vec<String> = [
        (success, Status::Success.as_str()),
        (failed, Status::Failed.as_str()),
        (aborted, Status::Aborted.as_str()),
        (expired, Status::Expired.as_str()),
        (pending, "pending"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    let word = if rows == 1 { "row" } else { "rows" };
    format!("{rows} {word}: {}", parts.join(", "))
}

/// A line for each output file: name, size, place.
pub(super) fn files(client: &Client, batch: &Batch) -> String {
    let width = batch.files.iter().map(|f| f.name.len()).max().unwrap_or(0);
    batch.files.iter().fold(String::new(), |mut text, file| {
        let size = DecimalBytes(file.size).to_string();
        let place = client.file_place(file);
        let _ = writeln!(text, "  {:width$}  {size:>9}  {place}", file.name);
        text
    })
}

/// A time as people read it: to the second, in UTC.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
