//! `config check`: what is in force and where it came from.

use serde::Serialize;

use super::exit::Failure;
use super::output;
use super::session::Session;
use crate::config::Config;

/// What `config check --json` prints.
#[derive(Serialize)]
struct Answer {
    ok: bool,
    settings: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    key: String,
    value: String,
    origin: String,
}

/// The file itself was checked when it was read; what is left are processors and commands.
pub(super) fn check(session: &Session) -> Result<(), Failure> {
    session.builder(None)?;
    session.check_commands(None)?;
    let config = Config {
        ops: session.ops(),
        ..session.config.clone()
    };
    let report = config.report();
    if session.json {
        let settings = report
            .into_iter()
            .map(|line| Line {
                origin: line.origin.to_string(),
                key: line.key,
                value: line.value,
            })
            .collect();
        return output::print_json(&Answer { ok: true, settings });
    }
    let lines: String = report.iter().map(|line| format!("{line}\n")).collect();
    output::print(&lines)
}
