//! `run`: submits a file, works it off in this process, prints what became of it.

use super::args::{Run, What};
use super::exit::{About, Ending, Failure};
use super::input::{self, Opened};
use super::output::{self, Much};
use super::progress::{self, Waited};
use super::session::Session;
use super::signals::{Signal, Stop};
use super::submit;
use super::waits::Who;
use crate::error::{Error, ErrorKind};
use crate::manager::JobManager;
use crate::model::{BatchId, JobKey, Kind, Status};
use tokio_util::sync::CancellationToken;

pub(super) async fn run(session: &Session, args: Run, stop: &Stop) -> Result<Ending, Failure> {
    let What {
        file,
        app,
        op,
        context,
        external_id,
        input,
    } = args.what;
    let key = JobKey::new(&app, &op, Kind::Batch)?;
    let opened = input::open(&file, &input, &session.config).await?;
    stop.heard();
    session.refuse_other_kind(&key)?;
    session.builder(Some(&key))?;
    session.check_commands(Some(&key))?;
    session.check_objects().await?;
    let manager = session.worker(Some(&key)).await?;
    let new = submit::new_batch(key, context, external_id);
    let id = new.id;
    let Opened {
        reader,
        options,
        name,
    } = opened;
    let submitting = manager.batch_submit_reader(new, reader, options);
    let submission = tokio::select! {
        submitted = submitting => submitted.map_err(|e| input::named(e, &name))?,
        signal = stop.stopped() => return Ok(submit::interrupted(session, id, signal)),
    };
    let batch = submission.batch;
    if batch.status == Status::Wait {
        let text = format!(
            "batch {} is there already, and is held; release it: {}",
            batch.id,
            session.command(format_args!("release {}", batch.id))
        );
        let error = Error::new(ErrorKind::Conflict, "wrong_state", text);
        return Err(Failure::Error(error, Some(batch.id)));
    }
    match work_off(session, &manager, batch.id, stop).await? {
        Waited::Done(batch) => {
            let printed = output::batch(session, &manager, &batch, Much::Short);
            match printed {
                // What became of the rows is the answer, whoever has read it.
                Ok(()) | Err(Failure::NobodyReads) => Ok(Ending::of(&batch)),
                Err(other) => Err(other),
            }
        }
        Waited::Stopped(signal) => stopped(session, &manager, batch.id, signal).await,
    }
}

/// Works until the batch is done or a signal comes, then stops gracefully.
async fn work_off(
    session: &Session,
    manager: &JobManager,
    id: BatchId,
    stop: &Stop,
) -> Result<Waited, Failure> {
    let enough = CancellationToken::new();
    let mut working = tokio::spawn({
        let (manager, enough) = (manager.clone(), enough.clone());
        async move { manager.run_batch(id, enough).await }
    });
    let mut ended = None;
    let waited = tokio::select! {
        waited = progress::wait(session, manager, id, Who::Here, stop) => waited,
        early = &mut working => {
            ended = Some(early);
            Err(worker_gone(id))
        }
    };
    enough.cancel();
    if let Ok(Waited::Stopped(_)) = &waited {
        submit::say_stopping(session);
    }
    let ended = match ended {
        Some(ended) => ended,
        None => working.await,
    };
    match (waited, ended) {
        // Told already, in this command's words.
        (waited, Ok(Err(error))) if error.code() == "fenced" => waited,
        // Why the worker ended says more than that it did.
        (_, Ok(Err(error))) => Err(Failure::Error(error, Some(id))),
        (_, Err(panic)) => {
            let text = format!("the worker failed: {panic}");
            let error = Error::with(ErrorKind::Internal, "internal", text, panic);
            Err(Failure::Error(error, Some(id)))
        }
        (waited, Ok(Ok(()))) => waited,
    }
}

fn worker_gone(id: BatchId) -> Failure {
    let text = format!(
        "this worker was declared dead by another and has stopped; batch {id} goes on from the database"
    );
    let error = Error::new(ErrorKind::Unavailable, "fenced", text);
    Failure::Error(error, Some(id))
}

async fn stopped(
    session: &Session,
    manager: &JobManager,
    id: BatchId,
    signal: Signal,
) -> Result<Ending, Failure> {
    let text = format!(
        "interrupted; batch {id} goes on from the database\n  go on:  {}\n  see it: {}",
        session.command("work --once"),
        session.command(format_args!("status {id}")),
    );
    submit::say_interrupted(session, &text, Some(id));
    if session.json {
        let batch = manager.batch_now(id).await.about(id)?;
        output::print_json(&batch)?;
    }
    Ok(Ending::Interrupted(signal))
}
