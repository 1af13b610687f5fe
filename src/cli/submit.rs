//! `submit`: stores a file as a batch, for workers to work off.

use serde::Serialize;

use super::args::{Submit, What};
use super::exit::{self, About, Ending, Failure};
use super::input::{self, Opened};
use super::output::{self, Much};
use super::progress::{self, Waited};
use super::session::Session;
use super::signals::{Signal, Stop};
use super::waits::{self, Who};
use super::{known, shown};
use crate::client::{self, Client, Submission};
use crate::error::{Error, ErrorKind};
use crate::ingest::{Encoding, Packing};
use crate::intake::{Intake, Source};
use crate::model::{BatchId, JobKey, Kind, Message, NewBatch, RawJson, Timestamp, counted};

pub(super) async fn run(session: &Session, args: Submit, stop: &Stop) -> Result<Ending, Failure> {
    let Submit {
        what:
            What {
                file,
                app,
                op,
                context,
                external_id,
                input,
            },
        hold,
        priority,
        run_at,
        expires_at,
        follow,
        dry_run,
    } = args;
    let key = JobKey::new(&app, &op, Kind::Batch)?;
    let opened = input::open(&file, &input, &session.config).await?;
    session.refuse_other_kind(&key)?;
    let new = NewBatch {
        hold,
        priority: priority.unwrap_or(0),
        run_at,
        expires_at,
        ..new_batch(key.clone(), context, external_id)
    };
    if dry_run {
        client::check(&new, Kind::Batch)?;
        waits::tell_over(session, expires_at, Timestamp::now());
        return count(session, opened).await;
    }
    stop.heard();
    let client = session.client().await?;
    let stranger = known::stranger(session, &client, &key).await?;
    let id = new.id;
    let Opened {
        reader,
        options,
        name,
    } = opened;
    let submitting = client.batch_submit_reader(new, reader, options);
    let Submission { batch, intake } = tokio::select! {
        submitted = submitting => submitted.map_err(|e| input::named(e, &name))?,
        signal = stop.stopped() => return Ok(interrupted(session, id, signal)),
    };
    if intake.rejected > 0 && !session.json {
        exit::say(&rejected(&intake));
    }
    stranger.iter().for_each(|text| session.note(text));
    let expires_at = batch.expires_at.filter(|_| !batch.done);
    waits::tell_over(session, expires_at, client.clock.now());
    if follow {
        return self::follow(session, &client, batch.id, stop).await;
    }
    output::batch(session, &client, &batch, Much::Short)?;
    Ok(Ending::Answered)
}

/// A batch of this user's.
pub(super) fn new_batch(
    key: JobKey,
    context: Option<Box<RawJson>>,
    external_id: Option<String>,
) -> NewBatch {
    let usual = NewBatch::new(key);
    NewBatch {
        context: context.unwrap_or(usual.context),
        external_id,
        by: std::env::var("USER").unwrap_or_default(),
        ..usual
    }
}

/// Waits until others have worked the batch off, and prints it.
pub(super) async fn follow(
    session: &Session,
    client: &Client,
    id: BatchId,
    stop: &Stop,
) -> Result<Ending, Failure> {
    stop.heard();
    match progress::wait(session, client, id, Who::Others, stop).await? {
        Waited::Done(batch) => match output::batch(session, client, &batch, Much::Full) {
            Ok(()) | Err(Failure::NobodyReads) => Ok(Ending::of(&batch)),
            Err(other) => Err(other),
        },
        Waited::Stopped(signal) => {
            let (kind, command) = match client.batch_now(id).await.about(id)?.kind {
                Kind::Batch => ("batch", "status"),
                Kind::Query => ("query", "query status"),
            };
            let text = format!(
                "interrupted; {kind} {id} goes on\n  see it: {}",
                session.command(format_args!("{command} {id} --watch"))
            );
            say_interrupted(session, &text, Some(id));
            if session.json {
                output::print_json(&client.batch_now(id).await.about(id)?)?;
            }
            Ok(Ending::Interrupted(signal))
        }
    }
}

/// Says that the submit was cut off: the answer to it was not waited for.
pub(super) fn interrupted(session: &Session, id: BatchId, signal: Signal) -> Ending {
    let text = format!(
        "interrupted while submitting; all of batch {id} is stored, or nothing of it\n  see it: {}",
        session.command(format_args!("status {id}"))
    );
    say_interrupted(session, &text, Some(id));
    Ending::Interrupted(signal)
}

/// Says that a worker stops, which may take as long as its rows do.
pub(super) fn say_stopping(session: &Session) {
    if session.json {
        tracing::info!("stopping");
    } else {
        exit::say("stopping when the rows that run have ended; once more stops at once\n");
    }
}

/// Says how the work goes on after a signal.
pub(super) fn say_interrupted(session: &Session, text: &str, batch: Option<BatchId>) {
    if session.json {
        exit::tell_problem(503, "Interrupted", text, "interrupted", batch);
    } else {
        exit::say(&format!("{text}\n"));
    }
}

async fn count(session: &Session, opened: Opened) -> Result<Ending, Failure> {
    let Opened {
        reader,
        options,
        name,
    } = opened;
    let reading =
        tokio::task::spawn_blocking(move || Source::reader(reader, options).count()).await;
    let intake = reading
        .map_err(|e| Error::with(ErrorKind::Internal, "internal", e.to_string(), e))?
        .and_then(Intake::or_no_rows)
        .map_err(|e| input::named(e, &name))?;
    if session.json {
        output::print_json(&Counted::of(&intake))?;
    } else {
        let Intake { rows, blank, .. } = intake;
        let good = rows.saturating_sub(intake.rejected);
        let mut text = format!(
            "{name}: {}: {good} good, {} bad; {}; nothing was stored\n",
            counted(rows, "row", "rows"),
            intake.rejected,
            counted(blank, "blank line", "blank lines"),
        );
        if let Some(form) = form(&intake) {
            text.push_str(&format!("  form: {form}\n"));
        }
        if let Some(columns) = &intake.columns {
            let line = format!("  columns: {}", columns.join(", "));
            text.push_str(&shown::clean(&line));
            text.push('\n');
        }
        text.push_str(&first(&intake));
        output::print(&text)?;
    }
    Ok(Ending::Answered)
}

/// What `submit --dry-run --json` prints.
#[derive(Serialize)]
struct Counted<'a> {
    rows: u64,
    rejected: u64,
    blank: u64,
    columns: Option<&'a [String]>,
    encoding: Option<&'static str>,
    packing: Option<&'static str>,
    first_rejected: Vec<Rejected<'a>>,
}

#[derive(Serialize)]
struct Rejected<'a> {
    line: u32,
    message: &'a Message,
}

impl<'a> Counted<'a> {
    fn of(intake: &'a Intake) -> Self {
        Self {
            rows: intake.rows,
            rejected: intake.rejected,
            blank: intake.blank,
            columns: intake.columns.as_deref(),
            encoding: intake.encoding.map(Encoding::name),
            packing: intake.packing.map(Packing::name),
            first_rejected: intake
                .first_rejected
                .iter()
                .map(|(line, message)| Rejected {
                    line: *line,
                    message,
                })
                .collect(),
        }
    }
}

/// How the input was packed and written, where that is not as usual.
fn form(intake: &Intake) -> Option<String> {
    let packing = intake.packing.map(Packing::name);
    let encoding = intake.encoding.filter(|e| *e != Encoding::UTF_8);
    let parts = [packing, encoding.map(Encoding::name)];
    let words: Vec<_> = parts.into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(", "))
}

pub(super) fn rejected(intake: &Intake) -> String {
    let records = counted(
        intake.rejected,
        "record is no row and has failed",
        "records are no rows and have failed",
    );
    format!("{records}:\n{}", first(intake))
}

/// A line for each of the first bad records.
fn first(intake: &Intake) -> String {
    intake
        .first_rejected
        .iter()
        .map(|(line, message)| {
            let text = message.text.as_deref().unwrap_or(&message.errcode);
            format!("  line {line}: {}\n", shown::clean(text))
        })
        .collect()
}
