//! Says why a batch does not go on, where ops and workers tell: once, on stderr.

use super::exit::Failure;
use super::output::time;
use super::session::Session;
use super::{known, ops};
use crate::client::{Client, Waits};
use crate::model::{Batch, JobKey, Kind, Timestamp, counted};

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
    let words = match batch.kind {
        Kind::Batch => "the batch waits",
        Kind::Query => "the query waits",
    };
    session.note(&text(session, &batch.key(), why, words)?);
    Ok(true)
}

/// Says of each op whose queued rows are left why this process has left them: it is paused, or has no handler
/// or processor here and no worker elsewhere.
pub(super) async fn tell_left(session: &Session, client: &Client) -> Result<(), Failure> {
    let strange = client.strange_work().await?.into_iter();
    let strange = strange.map(|op| (op, Waits::NoWorker));
    for (op, why) in client.paused_work().await?.into_iter().chain(strange) {
        let words = match (op.queued.rows, op.queued.more) {
            (rows, true) => format!("{rows}+ rows wait"),
            (rows, false) => counted(rows, "row waits", "rows wait"),
        };
        session.note(&text(session, &op.key, why, &words)?);
    }
    Ok(())
}

/// Says that rows expire instead of running, where that is certain from the beginning.
///
/// No error: the same submission once more, after its time, still answers with the batch that is there.
pub(super) fn tell_over(session: &Session, expires_at: Option<Timestamp>, now: Timestamp) {
    if let Some(at) = expires_at.filter(|at| *at <= now) {
        session.note(&format!(
            "it expires at {}, which is over: nothing of it runs",
            time(at)
        ));
    }
}

fn text(session: &Session, op: &JobKey, why: Waits, what: &str) -> Result<String, Failure> {
    let typed = ops::typed(op);
    Ok(match why {
        Waits::Paused => format!(
            "{op} is paused: {what}\n  go on: {}",
            session.command(format_args!("ops resume {typed}"))
        ),
        Waits::NoConcurrency => format!(
            "{op} is paused by concurrency = 0: {what}\n  go on: {}",
            session.command(format_args!("ops set {typed} concurrency=N"))
        ),
        Waits::NoWorker => format!(
            "no worker serves {op}: {what}\n  {}",
            known::advice(session, op)?
        ),
    })
}
