//! `workers`: who works, on what, and whether it lives.

use std::fmt::Write as _;

use clap::Args;

use super::exit::Failure;
use super::output;
use super::session::Session;
use super::shown::{columns, cut};
use crate::model::{JobKey, WorkerEntry};

/// Show the workers
#[derive(Args)]
#[command(after_help = "Example:\n  rowmill workers --json")]
pub(super) struct Workers {}

pub(super) async fn run(session: &Session, _: &Workers) -> Result<(), Failure> {
    let client = session.reader().await?;
    let workers = client.workers().await?;
    if session.json {
        return output::print_json(&workers);
    }
    if workers.is_empty() {
        return output::print("no workers\n");
    }
    output::print(&table(&workers))
}

fn table(workers: &[WorkerEntry]) -> String {
    let mut text = format!(
        "{:>4}  {:10}  {:>7}  {:16}  {:>7}  ops\n",
        "no", "host", "pid", "started", "running"
    );
    for worker in workers {
        let WorkerEntry {
            no,
            host,
            pid,
            version: _,
            started_at,
            ops,
            only,
            running,
            alive,
        } = worker;
        let mut line = String::new();
        let _ = write!(
            line,
            "{no:>4}  {:10}  {pid:>7}  {:16}  {running:>7}  ",
            cut(host, 10),
            started_at.strftime("%Y-%m-%d %H:%M")
        );
        if !alive {
            line.push_str("dead: ");
        }
        if only.is_some() {
            line.push_str("one batch: ");
        }
        let names: Vec<String> = ops.iter().map(JobKey::to_string).collect();
        line.push_str(&names.join(" "));
        let _ = writeln!(text, "{}", cut(&line, columns()));
    }
    text
}
