//! `retry`: runs the failed rows of an ended batch again, as a batch of their own.

use clap::Args;

use super::args::Named;
use super::exit::{self, About, Failure};
use super::named;
use super::output::{self, Much};
use super::session::Session;

/// Rows that an earlier retry has in hand, or brought to success or failure, are not taken again.
#[derive(Args)]
#[command(after_help = "\
The rows keep their lines and their idempotency keys. Where nothing is left to be retried,
the latest retry is printed; exit code 3 where there never was a row to retry, or the batch
has not ended.

Example:
  rowmill retry 0198c0de-1c4f-7000-8000-000000000000")]
pub(super) struct Retry {
    #[command(flatten)]
    named: Named,
}

pub(super) async fn run(session: &Session, args: &Retry) -> Result<(), Failure> {
    let (client, id) = named::find(session, &args.named).await?;
    let retried = client.retry(id).await.about(id)?;
    if retried.repeated && !session.json {
        exit::say("nothing is left to be retried; this is the latest retry\n");
    }
    output::batch(session, &client, &retried.batch, Much::Short)
}
