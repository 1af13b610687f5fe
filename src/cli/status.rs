//! `status`: a batch as it is, or as it ends.

use super::args::StatusOf;
use super::exit::{About, Ending, Failure};
use super::output::{self, Much};
use super::session::Session;
use super::signals::Stop;
use super::waits::{self, Who};
use super::{named, submit};

pub(super) async fn run(
    session: &Session,
    args: &StatusOf,
    stop: &Stop,
) -> Result<Ending, Failure> {
    let (client, id) = named::find(session, &args.named).await?;
    if args.watch {
        return submit::follow(session, &client, id, stop).await;
    }
    let batch = client.batch_status(id).await.about(id)?;
    output::batch(session, &client, &batch, Much::Full)?;
    waits::tell(session, &client, &batch, Who::Others).await?;
    Ok(Ending::Answered)
}
