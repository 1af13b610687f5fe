//! Says why a batch does not go on, where ops and workers tell: once, on stderr.

use super::exit::Failure;
use super::session::Session;
use crate::client::{Client, Waits};
use crate::model::{Batch, JobKey};

/// Who is to work on the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Workers of other processes.
    Others,
    /// This process has a worker, or is about to.
    Here,
}

/// Says why nothing of the batch is claimed; false where there is nothing to say.
pub(super) async fn tell(
    session: &Session,
    client: &Client,
    batch: &Batch,
    who: Who,
) -> Result<bool, Failure> {
    let why = client.waits(batch).await?;
    let Some(why) = why.filter(|why| *why != Waits::NoWorker || who == Who::Others) else {
        return Ok(false);
    };
    let op = JobKey {
        app: batch.app.clone(),
        op: batch.op.clone(),
        kind: batch.kind,
    };
    let flag = match batch.kind {
        crate::model::Kind::Batch => "",
        crate::model::Kind::Query => " --kind query",
    };
    let text = match why {
        Waits::Paused => format!(
            "{op} is paused: the batch waits\n  go on: {}",
            session.command(format_args!("ops resume {op}{flag}"))
        ),
        Waits::NoConcurrency => format!(
            "{op} is paused by concurrency = 0: the batch waits\n  go on: {}",
            session.command(format_args!("ops set {op}{flag} concurrency=N"))
        ),
        Waits::NoWorker => format!(
            "no worker serves {op}: the batch waits\n  start one: {}",
            session.command("work")
        ),
    };
    session.note(&text);
    Ok(true)
}
