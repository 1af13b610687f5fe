//! `append`: adds a file's rows to a held batch.

use std::path::PathBuf;

use clap::Args;

use super::args::{Input, Named};
use super::exit::{self, About, Ending, Failure};
use super::input::{self, Opened};
use super::output::{self, Much};
use super::session::Session;
use super::signals::Stop;
use super::{named, submit};
use crate::client::{AppendOptions, Appended};
use crate::model::counted;

#[derive(Args)]
#[command(after_help = "\
All rows of FILE are added, or none. Line p of FILE becomes the batch's last line + p.
A CSV with --no-header has the batch's columns.

Example:
  rowmill append 0198c0de-0000-7000-8000-000000000000 more.csv --release")]
pub(super) struct Append {
    #[command(flatten)]
    named: Named,
    /// The input; - is stdin
    file: PathBuf,
    /// Release the batch with it: workers may begin
    #[arg(long)]
    release: bool,
    /// Your own name for these rows: the same rows under it again are not added again
    /// [default: rows that the batch's latest append had are not]
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    // The last, because it ends with a heading of its own.
    #[command(flatten)]
    input: Input,
}

pub(super) async fn run(session: &Session, args: Append, stop: &Stop) -> Result<Ending, Failure> {
    let Append {
        named,
        file,
        release,
        key,
        input,
    } = args;
    let Opened {
        reader,
        options,
        name,
    } = input::open(&file, &input, &session.config).await?;
    stop.heard();
    let (client, id) = named::find(session, &named).await?;
    let append = AppendOptions { key, release };
    let appended = client
        .batch_append_until(id, reader, options, append, stop.token())
        .await;
    let appended = match (appended, stop.signal()) {
        (Err(error), Some(signal)) if error.code() == "stopped" => {
            let text = format!(
                "interrupted while appending; all of {name} is in batch {id}, or nothing of it: append it again to be sure"
            );
            submit::say_interrupted(session, &text, Some(id));
            return Ok(Ending::Interrupted(signal));
        }
        (appended, _) => appended.map_err(|e| input::named(e, &name)).about(id)?,
    };
    if !session.json {
        exit::say(&told(&appended));
    }
    output::batch(session, &client, &appended.batch, Much::Short)?;
    Ok(Ending::Answered)
}

/// What became of the rows, for people.
fn told(appended: &Appended) -> String {
    let lines = match (appended.first_line, appended.last_line) {
        (Some(first), Some(last)) if first == last => format!("line {first}"),
        (Some(first), Some(last)) => format!("lines {first}-{last}"),
        _ => "no line".to_owned(),
    };
    if appended.repeated {
        return format!(
            "nothing was added: these rows are there as {lines}\n  to add them once more give another --key\n"
        );
    }
    let rows = counted(appended.rows, "row", "rows");
    let mut text = format!("{rows} added as {lines}\n");
    if appended.intake.rejected > 0 {
        text.push_str(&submit::rejected(&appended.intake));
    }
    text
}
