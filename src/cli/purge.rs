//! `purge`: removes what is left of batches that ended long ago, after a question.

use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use indicatif::DecimalBytes;
use serde::Serialize;

use super::exit::{Ending, Failure, say};
use super::output;
use super::session::Session;
use super::signals::Stop;
use super::submit;
use crate::client::{Client, Purge, Purged};
use crate::model::{AppName, OpName, counted, format_duration, parse_duration};

/// What `purge` takes.
#[derive(clap::Args)]
#[command(after_help = "\
Of each batch its counts, names and external id stay for 400 days: its status is still answered, and
the same file submitted again is still known. A batch whose end was not told yet, or of which a
retry is open, waits. Freed space in the database's file is used again; the file does not shrink.

Example:
  rowmill purge --older-than 90d --app bank --dry-run")]
pub(super) struct Args {
    /// Batches and slow queries that ended longer ago than this, such as 90d
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    older_than: Duration,
    /// Those of this application alone
    #[arg(long)]
    app: Option<String>,
    /// Those of this operation alone
    #[arg(long)]
    op: Option<String>,
    /// Count them; remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What `purge --json` prints.
#[derive(Serialize)]
struct Answer {
    older_than: String,
    dry_run: bool,
    #[serde(flatten)]
    purged: Purged,
}

pub(super) async fn run(session: &Session, args: Args, stop: &Stop) -> Result<Ending, Failure> {
    let Args {
        older_than,
        app,
        op,
        dry_run,
        yes,
    } = args;
    let what = Purge {
        older_than,
        app: app.map(|app| app.parse::<AppName>()).transpose()?,
        op: op.map(|op| op.parse::<OpName>()).transpose()?,
        dry_run,
    };
    let ask = std::io::stdin().is_terminal();
    if !(dry_run || yes || ask) {
        return Err(Failure::invalid(
            "not_confirmed",
            "purge removes rows for good: add --yes, or --dry-run to see what would go",
        ));
    }
    let client = session.reader().await?;
    if dry_run || !yes {
        let would = client
            .purge(&Purge {
                dry_run: true,
                ..what.clone()
            })
            .await?;
        if dry_run {
            return answer(session, &what, would);
        }
        if would.batches > 0 && !confirmed(&would).await? {
            say("nothing was removed\n");
            return Ok(Ending::Answered);
        }
    }
    stop.heard();
    purge(session, &client, &what, stop).await
}

async fn purge(
    session: &Session,
    client: &Client,
    what: &Purge,
    stop: &Stop,
) -> Result<Ending, Failure> {
    tracing::info!("purging");
    let mut purged = Purged::default();
    let signal = tokio::select! {
        done = client.purge_into(what, &mut purged) => {
            done?;
            None
        }
        signal = stop.stopped() => Some(signal),
    };
    let Some(signal) = signal else {
        return answer(session, what, purged);
    };
    let text = format!(
        "stopped: {} removed; what is half removed is finished by the next purge or worker\n  go on: {}",
        amount(&purged),
        session.command(again(what)),
    );
    submit::say_interrupted(session, &text, None);
    Ok(Ending::Interrupted(signal))
}

/// The command's words, for the user to type again.
fn again(what: &Purge) -> String {
    let mut words = format!("purge --older-than {}", format_duration(what.older_than));
    if let Some(app) = &what.app {
        words.push_str(&format!(" --app {}", super::session::quoted(app.as_str())));
    }
    if let Some(op) = &what.op {
        words.push_str(&format!(" --op {}", super::session::quoted(op.as_str())));
    }
    words
}

/// Asks on the terminal, beside the runtime: it waits for a person.
async fn confirmed(would: &Purged) -> Result<bool, Failure> {
    say(&format!(
        "this removes {} for good. Go on? [y/N] ",
        amount(would)
    ));
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = answer
        .await
        .unwrap_or_else(|e| Err(std::io::Error::other(e)))
        .map_err(|e| Failure::io("reading the answer", e))?;
    Ok(matches!(
        line.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

fn answer(session: &Session, what: &Purge, purged: Purged) -> Result<Ending, Failure> {
    if session.json {
        output::print_json(&Answer {
            older_than: format_duration(what.older_than),
            dry_run: what.dry_run,
            purged,
        })?;
        return Ok(Ending::Answered);
    }
    let word = if what.dry_run {
        "would remove"
    } else {
        "removed"
    };
    let mut text = format!("{word} {}\n", amount(&purged));
    if purged.waiting > 0 {
        let count = counted(purged.waiting, "batch waits", "batches wait");
        text.push_str(&format!(
            "  {count}: their end is still to be told, or a retry of them is open\n"
        ));
    }
    output::print(&text)?;
    Ok(Ending::Answered)
}

fn amount(purged: &Purged) -> String {
    let Purged {
        batches,
        rows,
        bytes,
        files,
        waiting: _,
    } = purged;
    format!(
        "{} with {}, {} and {}",
        counted(*batches, "batch", "batches"),
        counted(*rows, "row", "rows"),
        counted(*files, "output file", "output files"),
        DecimalBytes(*bytes),
    )
}
