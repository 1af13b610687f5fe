//! What the user typed: flags and words, before any file is read or any default applies.

use std::ffi::OsString;
use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::bench::Shape;
use crate::config::Overrides;
use crate::ingest::{Encoding, IngestError, MAX_DEPTH, is_too_deep};
use crate::model::{RawJson, Status, Timestamp, parse_duration};

const AFTER_HELP: &str = "\
Global flags go before or after the command; each is also a variable: ROWMILL_DATABASE …
More about a command, with an example: rowmill COMMAND --help

Exit codes:
  0 answered; with run, --follow and --watch: every row succeeded
  1 the batch has ended with failed, aborted or expired rows;
    doctor: something is to be repaired
  2 usage, configuration, or an input or database that cannot be used
  3 not found, or a state that forbids it
  4 a database, file or folder cannot be opened, read or written
  5 an internal error
  130, 143 interrupted: the work goes on from the database";

/// The whole command line.
#[derive(Parser)]
#[command(
    name = "rowmill",
    version,
    about = "Batch jobs: every row that was taken ends in exactly one recorded outcome",
    after_help = AFTER_HELP,
    arg_required_else_help = true,
    subcommand_required = true
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags that every command takes, before or after its name.
#[derive(Args)]
#[command(next_help_heading = "Global")]
pub(super) struct Global {
    /// The configuration file [default: rowmill.toml where it exists] [env: ROWMILL_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The database [default: sqlite:rowmill.db] [env: ROWMILL_DATABASE]
    #[arg(long, global = true, value_name = "URL")]
    pub(super) database: Option<String>,
    /// The output files' place [default: file:rowmill-files; s3://BUCKET/PREFIX] [env: ROWMILL_OBJECTS]
    #[arg(long, global = true, value_name = "URL")]
    pub(super) objects: Option<String>,
    /// The status cache [default: none, this process's memory] [env: ROWMILL_REDIS]
    #[arg(long, global = true, value_name = "URL")]
    pub(super) redis: Option<String>,
    /// Not in this version yet
    #[arg(long, global = true, value_name = "URL", hide = true)]
    pub(super) server: Option<String>,
    /// Not in this version yet
    #[arg(long, global = true, value_name = "TOKEN", hide = true)]
    pub(super) token: Option<String>,
    /// One JSON document on stdout (JSON Lines for rows, list and history) [env: ROWMILL_JSON]
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// More in the log; twice: even more [env: ROWMILL_VERBOSE]
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// The form of the log, which goes to stderr [default: text] [env: ROWMILL_LOG]
    #[arg(long, global = true, value_name = "FORM")]
    pub(super) log: Option<LogForm>,
}

impl Global {
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            database: self.database.clone(),
            objects: self.objects.clone(),
            redis: self.redis.clone(),
            server: self.server.clone(),
            token: self.token.clone(),
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum LogForm {
    Text,
    Json,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Submit FILE and work it off here, with progress; ends when every row has ended
    Run(Run),
    /// Submit FILE for workers to work off
    Submit(Submit),
    /// Add the rows of FILE to a held batch
    Append(super::append::Append),
    /// Release a held batch: workers may begin
    Release(super::release::Release),
    /// Show a batch
    Status(StatusOf),
    /// Show the rows of a batch, in line order
    Rows(Rows),
    /// Show or download the output files of a batch that has ended
    Files(Files),
    /// List batches and queries, newest first
    List(super::list::List),
    /// Show what happened to the rows of a batch, attempt by attempt
    History(super::history::History),
    /// Run the failed rows of a batch that has ended again, as a batch of their own
    Retry(super::retry::Retry),
    /// Abort a batch
    Abort(Abort),
    /// Work off whatever is queued, until a signal
    Work(Work),
    /// Look at ops, pause, resume and set them while workers run
    Ops(super::ops::Ops),
    /// Show the workers, and what each works on
    Workers(super::workers::Workers),
    /// Measure this machine beside a plain row queue; leaves nothing behind
    Bench(Bench),
    /// Bring the database's schema up to date
    Migrate(Migrate),
    /// Look for what is wrong, and say how to repair it; changes nothing
    Doctor(super::doctor::Doctor),
    /// Remove rows, history and output files of batches that ended long ago
    Purge(super::purge::Args),
    /// Submit slow queries, ask for their results, abort them
    Query(super::query::Query),
    /// Write a first configuration, input and handler that work
    Init(super::init::Init),
    /// Print what a shell needs to complete commands and flags
    Completions(super::completions::Completions),
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

impl Command {
    /// Whether it changes something in one step, which a signal may have met or not.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Release(_) | Self::Retry(_) | Self::Abort(_) | Self::Migrate(_) => true,
            Self::Ops(ops) => ops.changes(),
            Self::Query(query) => query.aborts(),
            _ => false,
        }
    }
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Check it, and show what is in force and where it came from; secrets are masked
    #[command(after_help = "Example:\n  rowmill config check --config jobs/rowmill.toml")]
    Check,
}

/// What is submitted, and to which op.
#[derive(Args)]
pub(super) struct What {
    /// The input; - is stdin
    pub(super) file: PathBuf,
    /// The application
    #[arg(long)]
    pub(super) app: String,
    /// The operation
    #[arg(long)]
    pub(super) op: String,
    /// Handed to the processor with every row
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(super) context: Option<Box<RawJson>>,
    /// Your own name for the batch, unique in its app: submitting it again is no second batch
    #[arg(long, value_name = "NAME")]
    pub(super) external_id: Option<String>,
    #[command(flatten)]
    pub(super) input: Input,
}

/// How the input is read.
#[derive(Args)]
#[command(next_help_heading = "Input")]
pub(super) struct Input {
    /// csv or jsonl [default: by the file's extension, before .gz or .zst]
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<InputFormat>,
    /// CSV: the character between fields [default: ,]
    #[arg(long, value_name = "C", value_parser = character)]
    pub(super) delimiter: Option<u8>,
    /// CSV: the character around fields [default: "]
    #[arg(long, value_name = "C", value_parser = character)]
    pub(super) quote: Option<u8>,
    /// Such as UTF-16LE or windows-1252; a byte order mark wins [default: UTF-8]
    #[arg(long, value_name = "NAME", value_parser = encoding)]
    pub(super) encoding: Option<Encoding>,
    /// CSV: the first record is a row; the columns are column_1, column_2 …
    #[arg(long)]
    pub(super) no_header: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum InputFormat {
    Csv,
    Jsonl,
}

#[derive(Args)]
#[command(after_help = "Example:\n  rowmill run transactions.csv --app bank --op post")]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) what: What,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  rowmill submit transactions.csv --app bank --op post --external-id january --follow\n  rowmill submit - --format jsonl --app bank --op post <transactions.jsonl"
)]
pub(super) struct Submit {
    /// Keep it in status wait until it is released; until then it takes appends
    #[arg(long)]
    pub(super) hold: bool,
    /// -100 to 100, higher first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = priority)]
    pub(super) priority: Option<i32>,
    /// Not before this time, such as 2026-01-31T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) run_at: Option<Timestamp>,
    /// Rows that have not begun by this time, which is after --run-at, expire; where it is over, all
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) expires_at: Option<Timestamp>,
    /// Wait until it has ended, with progress
    #[arg(long, conflicts_with_all = ["hold", "dry_run"])]
    pub(super) follow: bool,
    /// Read all of it, count, show the first bad records; store nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    // The last, because it ends with a heading of its own.
    #[command(flatten)]
    pub(super) what: What,
}

/// Names one batch.
#[derive(Args)]
pub(super) struct Named {
    /// Its UUID or ULID, or ext:NAME with --app, or ext:APP/NAME
    pub(super) batch: String,
    /// The app of ext:NAME
    #[arg(long)]
    pub(super) app: Option<String>,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  rowmill status 0198c0de-0000-7000-8000-000000000000 --watch\n  rowmill status ext:bank/january"
)]
pub(super) struct StatusOf {
    #[command(flatten)]
    pub(super) named: Named,
    /// Wait until it has ended, with progress
    #[arg(long)]
    pub(super) watch: bool,
}

#[derive(Args)]
#[command(
    after_help = "Example:\n  rowmill rows ext:bank/january --status failed --format csv >failed.csv"
)]
pub(super) struct Rows {
    #[command(flatten)]
    pub(super) named: Named,
    /// Rows of this status alone
    #[arg(long, value_name = "STATUS")]
    pub(super) status: Option<Status>,
    /// The form of the rows [default: table; jsonl with --json]
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<RowsFormat>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RowsFormat {
    /// The input's columns (_input with each row's JSON where it was JSON Lines), then
    /// _line,_status,_errcode,_message; submit takes a corrected file back
    Csv,
    /// A JSON document a row
    Jsonl,
    /// For people
    Table,
}

#[derive(Args)]
#[command(after_help = "Example:\n  rowmill files ext:bank/january --download out")]
pub(super) struct Files {
    #[command(flatten)]
    pub(super) named: Named,
    /// Write them to this folder, which is made
    #[arg(long, value_name = "DIR")]
    pub(super) download: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "Example:\n  rowmill abort ext:bank/january --for 30s")]
pub(super) struct Abort {
    #[command(flatten)]
    pub(super) named: Named,
    /// How long to wait for rows that run
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", allow_hyphen_values = true, value_parser = parse_duration)]
    pub(super) wait: Duration,
}

#[derive(Args)]
#[command(after_help = "Example:\n  rowmill work --once")]
pub(super) struct Work {
    /// End when nothing is ready or running
    #[arg(long)]
    pub(super) once: bool,
}

#[derive(Args)]
#[command(after_help = "Example:\n  rowmill bench --rows 1000000")]
pub(super) struct Bench {
    /// How many rows or queries
    #[arg(long, value_name = "N", default_value_t = 100_000, allow_negative_numbers = true, value_parser = whole::<u64>)]
    pub(super) rows: u64,
    /// rows: one batch of many; queries: many slow queries
    #[arg(long, value_name = "SHAPE", default_value_t = Shape::Rows)]
    pub(super) shape: Shape,
}

#[derive(Args)]
#[command(after_help = "\
Example:
  rowmill migrate --dry-run
  rowmill migrate --grants app | psql \"$OWNER_URL\"")]
pub(super) struct Migrate {
    /// Show what would be applied; change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print the SQL that gives a role of PostgreSQL what it needs to run rowmill, without the right to make or change a table
    #[arg(long, value_name = "ROLE", conflicts_with = "dry_run")]
    pub(super) grants: Option<String>,
}

/// Reads the arguments, the program's own name first.
pub(super) fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&super::help::command().try_get_matches_from(args)?)
}

/// One JSON value, not nested deeper than whoever reads it can follow.
pub(super) fn json(text: &str) -> Result<Box<RawJson>, String> {
    let value =
        RawJson::from_string(text.to_owned()).map_err(|e| format!("is not one JSON value: {e}"))?;
    if is_too_deep(value.get()) {
        return Err(format!("is nested more than {MAX_DEPTH} deep"));
    }
    Ok(value)
}

pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        "is no time up to 9999-12-30T22:00:00Z; write it as 2026-01-31T18:00:00Z".to_owned()
    })
}

/// A whole number, 0 or more; a word that begins with a hyphen is a bad value, and no other flag.
pub(super) fn whole<N: FromStr<Err = ParseIntError>>(text: &str) -> Result<N, String> {
    text.parse().map_err(|e: ParseIntError| match e.kind() {
        IntErrorKind::PosOverflow => "is too large".to_owned(),
        _ => "must be a whole number, 0 or more".to_owned(),
    })
}

/// A whole number; whether there is such a priority is asked where all of them are.
pub(super) fn priority(text: &str) -> Result<i32, String> {
    text.parse()
        .map_err(|_| "must be a whole number from -100 to 100".to_owned())
}

fn character(text: &str) -> Result<u8, String> {
    match text {
        "\\t" | "tab" => Ok(b'\t'),
        _ => match text.as_bytes() {
            [c] if c.is_ascii() => Ok(*c),
            _ => Err("must be one ASCII character (a tab is \\t)".to_owned()),
        },
    }
}

fn encoding(text: &str) -> Result<Encoding, String> {
    text.parse().map_err(|e: IngestError| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        super::super::help::command().debug_assert();
    }

    #[test]
    fn a_delimiter_is_one_ascii_character() {
        assert_eq!(character(";"), Ok(b';'));
        assert_eq!(character("\\t"), Ok(b'\t'));
        assert!(character("").is_err());
        assert!(character(";;").is_err());
        assert!(character("é").is_err());
    }
}
