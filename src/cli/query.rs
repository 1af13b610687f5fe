//! `query`: slow queries, which have one input and one result.

use std::fs::File;
use std::io::Read;

use clap::{Args, Subcommand};

use super::args::{self, Named};
use super::exit::{About, Ending, Failure};
use super::output::{self, Much};
use super::session::Session;
use super::signals::Stop;
use super::waits::{self, Who};
use super::{known, named, submit};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::model::{BatchId, JobKey, Kind, NewBatch, RawJson, Timestamp, parse_duration};

/// Slow queries.
#[derive(Args)]
pub(super) struct Query {
    #[command(subcommand)]
    command: QueryCommand,
}

impl Query {
    /// Whether it is an abort.
    pub(super) fn aborts(&self) -> bool {
        matches!(self.command, QueryCommand::Abort(_))
    }
}

#[derive(Subcommand)]
enum QueryCommand {
    /// Submit one slow query
    Submit(Submit),
    /// Show a slow query, and its result once it has ended
    Status(StatusOf),
    /// Abort a slow query
    Abort(Abort),
}

#[derive(Args)]
#[command(after_help = "\
Example:
  rowmill query submit --app bank --op statement --input '{\"account\": \"ACC1\"}' --follow
  rowmill query submit --app bank --op statement --input @question.json
  echo '{\"account\": \"ACC1\"}' | rowmill query submit --app bank --op statement --input -")]
struct Submit {
    /// The application
    #[arg(long)]
    app: String,
    /// The operation
    #[arg(long)]
    op: String,
    /// What is asked: JSON, @FILE that holds it, or - for stdin
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    input: String,
    /// Handed to the processor with the input
    #[arg(long, value_name = "JSON", value_parser = args::json)]
    context: Option<Box<RawJson>>,
    /// Your own name for it, unique in its app: submitting it again is no second query
    #[arg(long, value_name = "NAME")]
    external_id: Option<String>,
    /// -100 to 100, higher first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = args::priority)]
    priority: Option<i32>,
    /// Not before this time, such as 2026-01-31T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    run_at: Option<Timestamp>,
    /// It expires where it has not begun by this time, which is after --run-at
    #[arg(long, value_name = "TIME", value_parser = args::time)]
    expires_at: Option<Timestamp>,
    /// Wait until it has ended
    #[arg(long)]
    follow: bool,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  rowmill query status 0198c0de-0000-7000-8000-000000000000 --watch")]
struct StatusOf {
    #[command(flatten)]
    named: Named,
    /// Wait until it has ended
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  rowmill query abort 0198c0de-0000-7000-8000-000000000000 --for 30s")]
struct Abort {
    #[command(flatten)]
    named: Named,
    /// How long to wait for it where it runs
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", allow_hyphen_values = true, value_parser = parse_duration)]
    wait: std::time::Duration,
}

pub(super) async fn run(session: &Session, args: Query, stop: &Stop) -> Result<Ending, Failure> {
    match args.command {
        QueryCommand::Submit(args) => submit_one(session, args, stop).await,
        QueryCommand::Status(args) => status(session, &args, stop).await,
        QueryCommand::Abort(args) => abort(session, &args).await,
    }
}

async fn submit_one(session: &Session, args: Submit, stop: &Stop) -> Result<Ending, Failure> {
    let Submit {
        app,
        op,
        input,
        context,
        external_id,
        priority,
        run_at,
        expires_at,
        follow,
    } = args;
    let key = JobKey::new(&app, &op, Kind::Query)?;
    session.refuse_other_kind(&key)?;
    let most = session.config.max_row_bytes.value;
    let input = read(input, most).await?;
    stop.heard();
    let client = session.client().await?;
    let stranger = known::stranger(session, &client, &key).await?;
    let new = NewBatch {
        priority: priority.unwrap_or(0),
        run_at,
        expires_at,
        ..submit::new_batch(key, context, external_id)
    };
    let id = new.id;
    let query = tokio::select! {
        submitted = client.slow_query_submit(new, input) => submitted?,
        signal = stop.stopped() => {
            let text = format!(
                "interrupted while submitting; query {id} is stored, or not\n  see it: {}",
                session.command(format_args!("query status {id}"))
            );
            submit::say_interrupted(session, &text, Some(id));
            return Ok(Ending::Interrupted(signal));
        }
    };
    stranger.iter().for_each(|text| session.note(text));
    let expires_at = query.expires_at.filter(|_| !query.done);
    waits::tell_over(session, expires_at, client.clock.now());
    if follow {
        return submit::follow(session, &client, query.id, stop).await;
    }
    output::batch(session, &client, &query, Much::Short)?;
    Ok(Ending::Answered)
}

/// Reads what is asked, whole: a slow query has one input.
async fn read(input: String, most: u64) -> Result<Box<RawJson>, Failure> {
    // Read aside, so that a signal is heard while stdin says nothing.
    let reading = tokio::task::spawn_blocking(move || {
        if input == "-" {
            return value("stdin", std::io::stdin(), most);
        }
        match input.strip_prefix('@') {
            Some(path) => {
                let file = File::open(path).map_err(|e| unreadable(path, &e))?;
                value(path, file, most)
            }
            None => value("--input", input.as_bytes(), most),
        }
    });
    reading
        .await
        .map_err(|e| Error::with(ErrorKind::Internal, "internal", e.to_string(), e))?
}

fn value(name: &str, from: impl Read, most: u64) -> Result<Box<RawJson>, Failure> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(name, &e))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        let text = format!("{name}: larger than max_row_bytes, which is {most}");
        return Err(Failure::invalid("input_too_large", text));
    }
    let unusable = |why: &str| Failure::invalid("unusable_input", format!("{name}: {why}"));
    let text = String::from_utf8(bytes).map_err(|_| unusable("is not UTF-8"))?;
    let text = text.trim_start_matches('\u{feff}').trim_ascii();
    if text.is_empty() {
        return Err(unusable(
            "holds nothing; a slow query's input is one JSON value",
        ));
    }
    args::json(text).map_err(|why| unusable(&why))
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::invalid("unreadable_input", format!("{name}: {error}"))
}

async fn status(session: &Session, args: &StatusOf, stop: &Stop) -> Result<Ending, Failure> {
    let (client, id) = find(session, &args.named, "status").await?;
    if args.watch {
        return submit::follow(session, &client, id, stop).await;
    }
    let query = client.slow_query_done(id).await.about(id)?;
    output::batch(session, &client, &query, Much::Full)?;
    waits::tell(session, &client, &query, Who::Others).await?;
    Ok(Ending::Answered)
}

async fn abort(session: &Session, args: &Abort) -> Result<Ending, Failure> {
    let (client, id) = find(session, &args.named, "abort").await?;
    let query = client.slow_query_abort(id, args.wait).await.about(id)?;
    output::batch(session, &client, &query, Much::Short)?;
    Ok(Ending::Answered)
}

/// The slow query that the user names; a batch is none.
async fn find(
    session: &Session,
    named: &Named,
    command: &str,
) -> Result<(Client, BatchId), Failure> {
    let (client, id) = named::find(session, named).await?;
    let found = client.batch_status(id).await.about(id)?;
    if found.kind == Kind::Query {
        return Ok((client, id));
    }
    let text = format!(
        "there is no slow query {id}: that is a batch; use {}",
        session.command(format_args!("{command} {id}"))
    );
    Err(Failure::Error(
        Error::new(ErrorKind::NotFound, "not_found", text),
        Some(id),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, most: u64) -> Result<String, String> {
        match value("it", text.as_bytes(), most) {
            Ok(value) => Ok(value.get().to_owned()),
            Err(Failure::Error(error, _)) => Err(error.code().to_owned()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_input_is_one_json_value_that_keeps_its_text() {
        assert_eq!(
            read_text("\u{feff} {\"a\":1.50}\n", 99).unwrap(),
            "{\"a\":1.50}"
        );
        assert_eq!(read_text("-1", 2).unwrap(), "-1");
        for text in ["", " \n", "{", "1 2", "é"] {
            assert_eq!(read_text(text, 99).unwrap_err(), "unusable_input", "{text}");
        }
        assert_eq!(read_text("123", 2).unwrap_err(), "input_too_large");
        let deep = format!("{}{}", "[".repeat(501), "]".repeat(501));
        assert_eq!(read_text(&deep, 2000).unwrap_err(), "unusable_input");
    }
}
