//! `release`: lets workers begin with a held batch.

use clap::Args;

use super::args::Named;
use super::exit::{About, Failure};
use super::named;
use super::output::{self, Much};
use super::session::Session;

#[derive(Args)]
#[command(after_help = "\
Example:
  rowmill release 0198c0de-0000-7000-8000-000000000000")]
pub(super) struct Release {
    #[command(flatten)]
    named: Named,
}

pub(super) async fn run(session: &Session, args: &Release) -> Result<(), Failure> {
    let (client, id) = named::find(session, &args.named).await?;
    let batch = client.wait_off(id).await.about(id)?;
    output::batch(session, &client, &batch, Much::Short)
}
