//! `ops show`: an op, its work, and its settings in force with where each came from.

use std::fmt::Write as _;

use serde::Serialize;

use super::list::{Line, State, rows};
use super::{Named, base, find, known};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::shown;
use crate::config::{LiveSettings, Origin, settings_report};
use crate::model::{Amount, OpEntry};

/// A setting as it is in force.
#[derive(Serialize)]
struct InForce {
    key: &'static str,
    value: String,
    origin: String,
}

#[derive(Serialize)]
struct More {
    in_force: Vec<InForce>,
}

pub(super) async fn run(session: &Session, named: &Named) -> Result<(), Failure> {
    let (_, op) = find(session, named, false).await?;
    print(session, &op)
}

/// Prints an op in the form that was asked for.
pub(super) fn print(session: &Session, op: &OpEntry) -> Result<(), Failure> {
    let state = State::of(session, op)?;
    let in_force = settings(session, op)?;
    if session.json {
        let more = More { in_force };
        return output::print_json(&Line { op, state, more });
    }
    let kind = op.key.kind.as_str();
    let name = shown::clean(&op.key.to_string());
    let mut text = format!("{name} {kind}  {}\n", state.words());
    let _ = write!(text, "  queued {}", amount(op.queued));
    if let Some(at) = op.oldest_queued {
        let _ = write!(text, ", the oldest of {}", output::time(at));
    }
    let _ = writeln!(text, "\n  running {}", amount(op.running));
    let _ = writeln!(text, "  later {}", amount(op.later));
    let _ = writeln!(text, "  workers {}", op.workers);
    for InForce { key, value, origin } in in_force {
        let _ = writeln!(text, "  {key} = {value}  ({origin})");
    }
    output::print(&text)
}

fn amount(amount: Amount) -> String {
    let word = if amount.rows == 1 { "row" } else { "rows" };
    format!("{} {word}", rows(amount))
}

fn settings(session: &Session, op: &OpEntry) -> Result<Vec<InForce>, Failure> {
    let base = base(session, &op.key)?;
    let set = op.settings.as_deref().map(LiveSettings::parse).transpose();
    let live = match set {
        Ok(live) => live.unwrap_or_default(),
        Err(why) => {
            session.note(&format!("what is set in the database is not used: {why}"));
            LiveSettings::default()
        }
    };
    let mut settings = live.over(&base);
    let mut live: Vec<&str> = live.keys().collect();
    if let Some((key, why)) = settings.check().first() {
        session.note(&format!(
            "what is set in the database is not used with these settings: {key}: {why}"
        ));
        settings = base.clone();
        live.clear();
    }
    let said = settings_report(&settings).into_iter();
    let here = known(session, &op.key);
    Ok(said
        .map(|(key, value)| {
            let origin = if live.contains(&key) {
                "database".to_owned()
            } else {
                let set = here.as_ref().and_then(|op| op.origins.get(key));
                set.unwrap_or(&Origin::Default).to_string()
            };
            InForce { key, value, origin }
        })
        .collect())
}
