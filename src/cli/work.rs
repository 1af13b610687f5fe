//! `work`: a worker of every op that this process can work on.

use std::pin::pin;

use super::args::Work;
use super::exit::{Ending, Failure};
use super::session::Session;
use super::signals::Stop;
use super::{submit, waits};
use crate::error::{Error, ErrorKind};

pub(super) async fn run(session: &Session, args: &Work, stop: &Stop) -> Result<Ending, Failure> {
    stop.heard();
    if session.builder(None)?.registry_mut().is_empty() {
        let text = "there is no op to work on; add [ops.\"app/op\"] with a handler to rowmill.toml, or name the file with --config";
        return Err(Failure::invalid("no_op", text));
    }
    session.check_commands(None)?;
    session.check_objects().await?;
    let manager = session.worker(None).await?;
    if args.once {
        let worked = manager.run_until_idle(stop.token()).await;
        if stop.signal().is_some() {
            submit::say_stopping(session);
        }
        manager.stop().await?;
        worked?;
        if stop.signal().is_none() {
            waits::tell_left(session, &manager).await?;
        }
    } else {
        let mut working = pin!(manager.run(stop.token().clone()));
        let ended = tokio::select! {
            ended = &mut working => ended,
            _ = stop.stopped() => {
                submit::say_stopping(session);
                working.await
            }
        };
        match ended {
            // Told below, in this command's words.
            Err(error) if error.code() == "fenced" => {}
            ended => ended?,
        }
    }
    match stop.signal() {
        Some(signal) => {
            let text = format!(
                "stopped; what is left goes on from the database\n  go on: {}",
                session.command("work")
            );
            submit::say_interrupted(session, &text, None);
            Ok(Ending::Interrupted(signal))
        }
        None if args.once => Ok(Ending::Answered),
        None => {
            let text = "this worker was declared dead by another and has stopped; start it again";
            Err(Error::new(ErrorKind::Unavailable, "fenced", text).into())
        }
    }
}
