//! `ops pause`, `ops resume`, `ops set`: each prints the op as it is after it.

use super::{Named, base, find, show};
use crate::cli::exit::Failure;
use crate::cli::session::Session;

pub(super) async fn pause(session: &Session, named: &Named) -> Result<(), Failure> {
    let (client, op) = find(session, named, true).await?;
    client.pause(&op.key).await?;
    show::print(session, &client.op(&op.key).await?)
}

pub(super) async fn resume(session: &Session, named: &Named) -> Result<(), Failure> {
    let (client, op) = find(session, named, true).await?;
    client.resume(&op.key).await?;
    show::print(session, &client.op(&op.key).await?)
}

pub(super) async fn set(
    session: &Session,
    named: &Named,
    changes: &[(String, String)],
) -> Result<(), Failure> {
    let (client, op) = find(session, named, true).await?;
    client
        .set(&op.key, &base(session, &op.key)?, changes)
        .await?;
    show::print(session, &client.op(&op.key).await?)
}
