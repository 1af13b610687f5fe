//! What goes to stdout: a batch for people, or one JSON document.

use std::fmt::Write as _;
use std::io::Write as _;

use indicatif::DecimalBytes;
use serde::Serialize;

use super::exit::Failure;
use super::progress::seconds;
use super::rows::Told;
use super::session::Session;
use super::shown::{self, Out};
use crate::client::Client;
use crate::model::{Batch, Counts, Kind, Status, Timestamp, counted};

/// Columns of a file's size, such as `123.45 MB`.
const SIZE: usize = 9;

/// Maps an error of stdout: a reader that has gone is no failure.
pub(super) fn ended(written: std::io::Result<()>) -> Result<(), Failure> {
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::io("writing to stdout", error),
    })
}

/// Writes text to stdout, whole.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = Out::new();
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
    if batch.kind == Kind::Batch {
        let _ = writeln!(text, "  {}", counts(&batch.counts));
    }
    if let Some(progress) = batch
        .progress
        .as_ref()
        .filter(|_| batch.kind == Kind::Batch)
    {
        let _ = write!(text, "  {:.0} rows/s", progress.rows_per_second);
        if let Some(left) = progress.eta_seconds {
            let _ = write!(text, ", {} left", seconds(left));
        }
        text.push('\n');
    }
    text.push_str(&files(client, batch));
    text.push_str(&answer(batch));
    let has_failed = batch.done && batch.counts.failed > 0 && batch.purged_at.is_none();
    if batch.kind == Kind::Batch && has_failed {
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

/// A slow query's answer, whole: it is what was asked for.
fn answer(batch: &Batch) -> String {
    let mut text = String::new();
    if let Some(Some(messages)) = &batch.messages {
        let told = Told::of(messages).short();
        let _ = writeln!(text, "  {}", shown::clean(&told));
    }
    if let Some(Some(result)) = &batch.result {
        let _ = writeln!(text, "  result: {}", shown::clean(result.get()));
    }
    text
}

fn about(batch: &Batch) -> String {
    let mut lines = vec![format!("{}/{}", batch.app, batch.op)];
    if let Some(external) = &batch.external_id {
        lines.push(format!("external id {external}"));
    }
    if batch.priority != 0 {
        lines.push(format!("priority {}", batch.priority));
    }
    let mut created = format!("created {}", time(batch.created_at));
    if !batch.created_by.is_empty() {
        let _ = write!(created, " by {}", batch.created_by);
    }
    lines.push(created);
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
            lines.push(format!("{word} {}", time(at)));
        }
    }
    let room = shown::columns().saturating_sub(2);
    let lines = lines.iter().map(|line| shown::cut(line, room));
    lines.fold(String::new(), |text, line| text + "  " + &line + "\n")
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
    format!("{}: {}", counted(rows, "row", "rows"), parts.join(", "))
}

/// A line for each output file, and the folder in which they are: whole, for it is copied.
pub(super) fn files(client: &Client, batch: &Batch) -> String {
    // Two spaces on the left, and the size with two before it.
    let room = shown::columns().saturating_sub(2 + 2 + SIZE);
    let longest = batch.files.iter().map(|f| f.name.len()).max();
    let width = longest.unwrap_or(0).min(room);
    let mut text = String::new();
    for file in &batch.files {
        let size = DecimalBytes(file.size).to_string();
        let name = shown::cut(&file.name, width);
        let _ = writeln!(text, "  {name:width$}  {size:>SIZE$}");
    }
    if let Some(file) = batch.files.first() {
        let place = client.file_place(file);
        let folder = place.strip_suffix(&file.name).unwrap_or(&place);
        let _ = writeln!(text, "  in {}", shown::clean(folder));
    }
    text
}

/// A time as people read it: to the second, in UTC.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
