//! The command line: what the user typed becomes calls of the library, and their ends exit codes.
//!
//! Two stages: `args` is what was typed, `session` is what it means together with the environment
//! and the configuration file. Each command has a file of its own; `exit` is the one place that
//! knows exit codes.

mod abort;
mod append;
mod args;
mod bench;
mod completions;
mod config;
mod doctor;
mod exit;
mod files;
mod help;
mod history;
mod init;
mod input;
mod known;
mod list;
mod logs;
mod migrate;
mod named;
mod objects;
mod ops;
mod output;
mod progress;
mod purge;
mod query;
mod release;
mod retry;
mod rows;
mod rows_csv;
mod run;
mod session;
mod shown;
mod signals;
mod status;
mod submit;
mod switches;
mod waits;
mod work;
mod workers;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::manager::Builder;
use args::{Cli, Command, ConfigCommand};
use exit::{Ending, Failure};
use session::Session;
use signals::Stop;

/// Reading of stdin that nobody waits for any more may be left behind after this.
const LEFT_BEHIND: Duration = Duration::from_millis(100);

/// Runs the command line of this process with an application's processors in it.
///
/// Store and object store come from the command line, the environment and the configuration
/// file; whatever the builder has of them is replaced. It makes its own runtime: call it from a
/// plain `main`.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     rowmill::cli::run(rowmill::Builder::new())
/// }
/// ```
#[must_use]
pub fn run(builder: Builder) -> ExitCode {
    run_with(builder, std::env::args_os())
}

/// As [`run()`], with other arguments; the first is the program's name.
#[must_use]
pub fn run_with(builder: Builder, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = args.first().map_or_else(
        || "rowmill".to_owned(),
        |a| a.to_string_lossy().into_owned(),
    );
    // Known before the arguments are: a mistake in them is told in the form that they ask for.
    let mut json = args.iter().any(|a| a == "--json") || switches::json_by_environment();
    let ended = match args::parse(args) {
        Ok(cli) => {
            json |= cli.global.json;
            switches::switches(&cli.global).and_then(|switches| {
                json = switches.json;
                let base = u8::from(matches!(cli.command, Command::Work(_)));
                logs::start(switches.log, base, switches.verbose);
                enter(cli, builder, program, json)
            })
        }
        Err(error) => typed_wrong(&error, json),
    };
    if let Err(failure) = &ended {
        exit::tell(failure, json);
    }
    exit::code(&ended)
}

/// Help and version are answers; anything else is a mistake of the user's.
fn typed_wrong(error: &clap::Error, json: bool) -> Result<Ending, Failure> {
    use clap::error::ErrorKind as Kind;
    match error.kind() {
        Kind::DisplayHelp | Kind::DisplayVersion => {
            output::ended(error.print())?;
            return Ok(Ending::Answered);
        }
        _ => {}
    }
    let text = error.render().to_string();
    if json {
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let lines = text.lines().map(str::trim);
        let told: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
        return Err(Failure::invalid("usage", told.join(" ")));
    }
    // It says "error: …" itself, with the usage below.
    drop(error.print());
    Err(Failure::Told)
}

fn enter(cli: Cli, builder: Builder, program: String, json: bool) -> Result<Ending, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::io("starting threads", e))?;
    let dispatched = AssertUnwindSafe(|| runtime.block_on(dispatch(cli, builder, program, json)));
    let ended = std::panic::catch_unwind(dispatched);
    runtime.shutdown_timeout(LEFT_BEHIND);
    // Handlers have until here to end by themselves: none outlives the process.
    crate::processor::command::settle();
    ended.unwrap_or_else(|_| {
        let text = "an internal error; what was acknowledged is safe in the database";
        Err(Error::new(ErrorKind::Internal, "internal", text).into())
    })
}

async fn dispatch(
    cli: Cli,
    builder: Builder,
    program: String,
    json: bool,
) -> Result<Ending, Failure> {
    let stop = Stop::listen()?;
    let Cli { global, command } = cli;
    // These need no configuration, and must work where there is a broken one.
    match &command {
        Command::Init(args) => {
            init::run(args, &program, json)?;
            return Ok(Ending::Answered);
        }
        Command::Completions(args) => {
            completions::run(args, &program)?;
            return Ok(Ending::Answered);
        }
        _ => {}
    }
    let session = Session::load(&global, builder, program, json)?;
    if let Command::Rows(_) | Command::List(_) | Command::History(_) = &command {
        stop.answers();
    }
    let changes = command.changes();
    let command = async {
        match command {
            Command::Run(args) => return run::run(&session, args, &stop).await,
            Command::Work(args) => return work::run(&session, &args, &stop).await,
            Command::Purge(args) => return purge::run(&session, args, &stop).await,
            Command::Doctor(args) => return doctor::run(&session, &args).await,
            Command::Submit(args) => return submit::run(&session, args, &stop).await,
            Command::Append(args) => return append::run(&session, args, &stop).await,
            Command::Release(args) => release::run(&session, &args).await?,
            Command::Status(args) => return status::run(&session, &args, &stop).await,
            Command::Rows(args) => rows::run(&session, &args).await?,
            Command::Files(args) => files::run(&session, &args).await?,
            Command::List(args) => list::run(&session, args).await?,
            Command::History(args) => history::run(&session, &args).await?,
            Command::Retry(args) => retry::run(&session, &args).await?,
            Command::Abort(args) => abort::run(&session, &args).await?,
            Command::Ops(args) => ops::run(&session, args).await?,
            Command::Workers(args) => workers::run(&session, &args).await?,
            Command::Bench(args) => bench::run(&session, &args).await?,
            Command::Migrate(args) => migrate::run(&session, &args).await?,
            Command::Config {
                command: ConfigCommand::Check,
            } => config::check(&session)?,
            Command::Query(args) => return query::run(&session, args, &stop).await,
            Command::Init(_) | Command::Completions(_) => {}
        }
        Ok(Ending::Answered)
    };
    // A command that does more at a stop than go away listens for itself, and is asked first.
    tokio::select! {
        biased;
        ended = command => ended,
        signal = stop.stopped_unheard() => {
            if changes {
                let text = "interrupted before the answer: it is done, or nothing of it; the same once more is no harm";
                submit::say_interrupted(&session, text, None);
            }
            Ok(Ending::Interrupted(signal))
        }
    }
}
