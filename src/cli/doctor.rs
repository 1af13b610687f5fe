//! `doctor`: looks for what is wrong and says how to repair it; changes nothing.

use clap::Args;
use serde::Serialize;

use super::exit::{Ending, Failure};
use super::output;
use super::session::Session;
use crate::cache::{RedisHealth, RedisOptions};
use crate::error::Error;
use crate::files::ObjectStore;
use crate::model::{Timestamp, counted};
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Check, Diagnosis, StoreError};

/// Output files that are named of those that are wrong.
const NAMED: usize = 3;

/// What `doctor` takes.
#[derive(Args)]
#[command(after_help = "\
It reads all that is stored: on a large database, some minutes. It ends with 1 where something is to
be repaired, and changes nothing itself.

Example:
  rowmill doctor --json")]
pub(super) struct Doctor {}

/// What `doctor --json` prints.
#[derive(Serialize)]
struct Answer {
    ok: bool,
    checks: Vec<Check>,
}

pub(super) async fn run(session: &Session, args: &Doctor) -> Result<Ending, Failure> {
    let Doctor {} = args;
    let mut checks = vec![configuration(session), commands(session)];
    checks.push(objects(session).await);
    if let Some(options) = session.redis() {
        checks.push(redis(&options).await);
    }
    let Diagnosis {
        checks: found,
        files,
    } = diagnose(session).await?;
    checks.extend(found);
    checks.push(output_files(&session.object_store(), &files).await);
    let ok = checks.iter().all(|check| check.ok);
    if session.json {
        output::print_json(&Answer { ok, checks })?;
    } else {
        output::print(&checks.iter().map(line).collect::<String>())?;
    }
    Ok(if ok {
        Ending::Answered
    } else {
        Ending::ToRepair
    })
}

/// Looks beside the runtime: it reads for long.
async fn diagnose(session: &Session) -> Result<Diagnosis, Failure> {
    if let Some(options) = session.postgres()? {
        let found = PostgresStore::doctor(&options, Timestamp::now()).await;
        return Ok(found.map_err(Error::from)?);
    }
    let options = session.options();
    let looking =
        tokio::task::spawn_blocking(move || SqliteStore::doctor(&options, Timestamp::now()));
    let looked = looking
        .await
        .map_err(|e| StoreError::unavailable("looking at the database", e));
    Ok(looked.and_then(|found| found).map_err(Error::from)?)
}

/// `ok      integrity    SQLite's …`, with a line below it that says what to do.
fn line(check: &Check) -> String {
    let Check {
        name,
        ok,
        detail,
        repair,
    } = check;
    let word = if *ok { "ok" } else { "repair" };
    let mut text = format!("{word:<6}  {name:<13}  {detail}\n");
    if let Some(repair) = repair {
        text.push_str(&format!("{:6}  {:13}  -> {repair}\n", "", ""));
    }
    text
}

fn told(failure: Failure) -> String {
    match failure {
        Failure::Error(error, _) => error.to_string().replace('\n', "; "),
        Failure::Told | Failure::NobodyReads => "it cannot be used".to_owned(),
    }
}

/// A file that cannot be read at all has ended the command before: all its mistakes were told.
fn configuration(session: &Session) -> Check {
    let ops = u64::try_from(session.ops().len()).unwrap_or(u64::MAX);
    match session
        .builder(None)
        .map(|mut builder| builder.registry_mut().mistakes())
    {
        Err(failure) => Check::repair(
            "configuration",
            told(failure),
            "correct the configuration file",
        ),
        Ok(mistakes) if !mistakes.is_empty() => {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            Check::repair(
                "configuration",
                lines.join("; "),
                "correct the configuration file",
            )
        }
        Ok(_) => Check::ok(
            "configuration",
            counted(ops, "op is configured", "ops are configured"),
        ),
    }
}

fn commands(session: &Session) -> Check {
    match session.check_commands(None) {
        Ok(()) => Check::ok("handlers", "every command can be started"),
        Err(failure) => Check::repair(
            "handlers",
            told(failure),
            "install the program, or correct its name in the configuration file",
        ),
    }
}

async fn objects(session: &Session) -> Check {
    match session.check_objects().await {
        Ok(()) => Check::ok("objects", "output files can be written"),
        Err(failure) => Check::repair("objects", told(failure), session.mend_objects()),
    }
}

/// Whether statuses can be copied to Redis: without it everything works, and asks the database more.
async fn redis(options: &RedisOptions) -> Check {
    let RedisHealth { answer, when_full } = match options.look().await {
        Ok(health) => health,
        Err(why) => {
            return Check::repair(
                "redis",
                format!("no status is copied: {why}"),
                "start Redis, or correct its address in `redis`",
            );
        }
    };
    let took = format!("it answers in {} µs", answer.as_micros());
    if answer > options.most() {
        return Check::repair(
            "redis",
            format!(
                "{took}, and a call waits for it no longer than {:?}",
                options.most()
            ),
            "put Redis nearer, or raise redis_timeout",
        );
    }
    match when_full.as_deref() {
        Some(policy @ "noeviction") => Check::repair(
            "redis",
            format!(
                "{took}; its memory is limited and its maxmemory-policy is {policy}: full, it takes no status"
            ),
            "set maxmemory-policy to allkeys-lru or volatile-ttl: every key of rowmill has a time to live",
        ),
        _ => Check::ok("redis", took),
    }
}

/// Whether the newest output files are there, as long as they were.
async fn output_files(objects: &ObjectStore, files: &[(String, u64)]) -> Check {
    let mut wrong = Vec::new();
    for (key, size) in files {
        let place = objects.place(key);
        match objects.size(key).await {
            Ok(Some(found)) if found == *size => {}
            Ok(Some(found)) => {
                let found = counted(found, "byte", "bytes");
                wrong.push(format!("{place} has {found} and not {size}"));
            }
            Ok(None) => wrong.push(format!("{place} is missing")),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() {
        let detail = match files.len() {
            0 => "there is none yet".to_owned(),
            1 => "the one that there is is as it was published".to_owned(),
            many => format!("the newest {many} are as they were published"),
        };
        return Check::ok("output_files", detail);
    }
    let more = wrong.len().saturating_sub(NAMED);
    wrong.truncate(NAMED);
    let mut detail = wrong.join("; ");
    if more > 0 {
        detail.push_str(&format!("; and {more} more"));
    }
    Check::repair(
        "output_files",
        detail,
        "restore them from a copy, or name the folder that they are in with --objects",
    )
}
