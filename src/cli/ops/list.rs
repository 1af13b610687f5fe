//! `ops list`: every op with its work and its workers.

use std::fmt::Write as _;

use serde::Serialize;

use super::{all, base, typed};
use crate::cli::exit::Failure;
use crate::cli::known::advice;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::shown;
use crate::client::in_force;
use crate::model::{Amount, OpEntry};

/// Columns of an op's name that fit a table of 80.
const NAME: usize = 29;

/// Whether an op goes on.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Paused,
    NoWorker,
    Ok,
}

impl State {
    pub(super) fn of(session: &Session, op: &OpEntry) -> Result<Self, Failure> {
        let settings = in_force(op.settings.as_deref(), &base(session, &op.key)?);
        Ok(if op.paused || settings.concurrency == Some(0) {
            Self::Paused
        } else if op.workers == 0 {
            Self::NoWorker
        } else {
            Self::Ok
        })
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::NoWorker => "no worker",
            Self::Ok => "ok",
        }
    }
}

/// An op as JSON has it.
#[derive(Serialize)]
pub(super) struct Line<'a, T> {
    #[serde(flatten)]
    pub(super) op: &'a OpEntry,
    pub(super) state: State,
    #[serde(flatten)]
    pub(super) more: T,
}

/// Nothing more.
#[derive(Serialize)]
pub(super) struct Nothing {}

pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let client = session.reader().await?;
    let ops = all(session, &client).await?;
    let mut lines = Vec::with_capacity(ops.len());
    for op in &ops {
        let state = State::of(session, op)?;
        lines.push(Line {
            op,
            state,
            more: Nothing {},
        });
    }
    if session.json {
        output::print_json(&lines)?;
    } else if lines.is_empty() {
        output::print("no ops\n")?;
    } else {
        output::print(&table(&lines))?;
    }
    for line in lines.iter().filter(|line| is_stuck(line)) {
        let (key, typed) = (&line.op.key, typed(&line.op.key));
        session.note(&format!(
            "work of {key} waits, and no worker serves it\n  {}\n  see more:  {}",
            advice(session, key)?,
            session.command(format_args!("ops show {typed}"))
        ));
    }
    Ok(())
}

fn is_stuck<T>(line: &Line<'_, T>) -> bool {
    line.state == State::NoWorker && line.op.is_unserved()
}

fn table(lines: &[Line<'_, Nothing>]) -> String {
    let names: Vec<String> = lines.iter().map(|l| l.op.key.to_string()).collect();
    let wide = names.iter().map(|name| shown::width(name)).max();
    let wide = wide.unwrap_or(0).clamp("app/op".len(), NAME);
    let mut text = format!(
        "{:wide$}  {:5}  {:>10}  {:>8}  {:>7}  state\n",
        "app/op", "kind", "queued", "running", "workers"
    );
    for (line, name) in lines.iter().zip(names) {
        let op = line.op;
        let mark = if is_stuck(line) { " !" } else { "" };
        let _ = writeln!(
            text,
            "{}  {:5}  {:>10}  {:>8}  {:>7}  {}{mark}",
            shown::padded(&name, wide),
            op.key.kind.as_str(),
            rows(op.queued),
            rows(op.running),
            op.workers,
            line.state.words()
        );
    }
    text
}

/// How many rows, with a plus where there are more.
pub(super) fn rows(amount: Amount) -> String {
    let more = if amount.more { "+" } else { "" };
    format!("{}{more}", amount.rows)
}
