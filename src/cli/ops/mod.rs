//! `ops`: how ops stand, pause and resume, settings while workers run.

mod change;
mod list;
mod show;

use clap::{Args, Subcommand};

use super::exit::Failure;
use super::session::{Session, quoted};
use crate::client::{Client, unknown};
use crate::config::OpConfig;
use crate::model::{JobKey, Kind, OpEntry, OpSettings};

/// Look at ops and steer them
#[derive(Args)]
#[command(after_help = "Example:\n  rowmill ops list")]
pub(super) struct Ops {
    #[command(subcommand)]
    command: OpsCommand,
}

impl Ops {
    /// Whether it does more than to look.
    pub(super) fn changes(&self) -> bool {
        !matches!(self.command, OpsCommand::List | OpsCommand::Show(_))
    }
}

#[derive(Subcommand)]
enum OpsCommand {
    /// Show every op: queued and running rows, workers; ops that no worker serves are marked
    #[command(after_help = "Example:\n  rowmill ops list --json")]
    List,
    /// Show an op and its settings in force, each with where it came from
    #[command(after_help = "Example:\n  rowmill ops show banking/post")]
    Show(Named),
    /// Let nothing of an op start until it is resumed; rows that run may finish
    #[command(after_help = "Example:\n  rowmill ops pause banking/post")]
    Pause(Named),
    /// Let a paused op go on
    #[command(after_help = "Example:\n  rowmill ops resume banking/post")]
    Resume(Named),
    /// Set an op's settings over those of its workers, which take them up within a second
    #[command(
        after_help = "KEY= leaves a key to the workers' own settings again; KEY=none lifts a limit.\n\nExample:\n  rowmill ops set banking/post concurrency=4 backoff.base=10s timeout="
    )]
    Set(Set),
}

/// Names one op.
#[derive(Args)]
struct Named {
    /// The op, such as banking/post
    #[arg(value_name = "APP/OP")]
    op: String,
    /// batch or query, where the pair has an op of each kind
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<Kind>,
}

#[derive(Args)]
struct Set {
    #[command(flatten)]
    named: Named,
    /// Settings as in the configuration file; one in a table is backoff.base
    #[arg(value_name = "KEY=VALUE", required = true, value_parser = pair)]
    changes: Vec<(String, String)>,
}

fn kind(text: &str) -> Result<Kind, String> {
    [Kind::Batch, Kind::Query]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| "must be batch or query".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

pub(super) async fn run(session: &Session, args: Ops) -> Result<(), Failure> {
    match args.command {
        OpsCommand::List => list::run(session).await,
        OpsCommand::Show(named) => show::run(session, &named).await,
        OpsCommand::Pause(named) => change::pause(session, &named).await,
        OpsCommand::Resume(named) => change::resume(session, &named).await,
        OpsCommand::Set(args) => change::set(session, &args.named, &args.changes).await,
    }
}

/// Ops of the configuration and of this program, used or not.
fn configured(session: &Session) -> Result<Vec<JobKey>, Failure> {
    session.builder(None)?;
    let ops = session.ops().into_iter();
    ops.map(|op| Ok(JobKey::new(&op.app, &op.op, op.kind)?))
        .collect()
}

/// What the configuration or this program says of an op.
fn base(session: &Session, key: &JobKey) -> Result<OpSettings, Failure> {
    session.builder(None)?;
    Ok(known(session, key).map_or_else(OpSettings::default, |op| op.settings))
}

fn known(session: &Session, key: &JobKey) -> Option<OpConfig> {
    let mut ops = session.ops().into_iter();
    ops.find(|op| op.is(key.app.as_str(), key.op.as_str()) && op.kind == key.kind)
}

/// Every op that the store knows or the configuration names.
async fn all(session: &Session, client: &Client) -> Result<Vec<OpEntry>, Failure> {
    let mut ops = client.ops().await?;
    for key in configured(session)? {
        if !ops.iter().any(|op| op.key == key) {
            ops.push(OpEntry::unused(key));
        }
    }
    ops.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(ops)
}

/// The op that the user names, and a client; a database is made for one that is configured alone.
async fn find(
    session: &Session,
    named: &Named,
    changes: bool,
) -> Result<(Client, OpEntry), Failure> {
    let Some((app, op)) = named.op.split_once('/') else {
        let text = format!(
            "{:?} is no op: write its app and its name with a slash between them, as banking/post",
            named.op
        );
        return Err(Failure::invalid("bad_name", text));
    };
    let wanted = JobKey::new(app, op, named.kind.unwrap_or(Kind::Batch))?;
    let is_wanted = |key: &JobKey| {
        key.app == wanted.app && key.op == wanted.op && named.kind.is_none_or(|k| k == key.kind)
    };
    let client = if changes && configured(session)?.iter().any(is_wanted) {
        session.client().await?
    } else {
        session.reader().await?
    };
    let found = all(session, &client).await?;
    let mut found = found.into_iter().filter(|op| is_wanted(&op.key));
    match (found.next(), found.next()) {
        (Some(op), None) => Ok((client, op)),
        (None, _) => Err(unknown(&wanted).into()),
        (Some(_), Some(_)) => {
            let text = format!(
                "{wanted} is an op of batches and one of queries; add --kind batch or --kind query"
            );
            Err(Failure::invalid("ambiguous_op", text))
        }
    }
}

/// An op as a command of this program names it.
pub(super) fn typed(key: &JobKey) -> String {
    let name = quoted(&key.to_string());
    match key.kind {
        Kind::Batch => name,
        Kind::Query => format!("{name} --kind query"),
    }
}
