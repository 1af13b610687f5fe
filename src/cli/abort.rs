//! `abort`: asks for an abort and waits a while for rows that run.

use super::args::Abort;
use super::exit::{About, Failure};
use super::named;
use super::output::{self, Much};
use super::session::Session;

pub(super) async fn run(session: &Session, args: &Abort) -> Result<(), Failure> {
    let (client, id) = named::find(session, &args.named).await?;
    let batch = client.batch_abort(id, args.wait).await.about(id)?;
    output::batch(session, &client, &batch, Much::Short)
}
