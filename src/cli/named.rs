//! BATCH on the command line: an id, or an external id in its app.

use super::args::Named;
use super::exit::Failure;
use super::session::Session;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::model::{AppName, BatchId};

/// The batch that the user names, and a client to ask about it.
///
/// What names nothing in any database is told before one is looked for.
pub(super) async fn find(session: &Session, named: &Named) -> Result<(Client, BatchId), Failure> {
    let Some(external) = named.batch.strip_prefix("ext:") else {
        let id: BatchId = named.batch.parse()?;
        let client = session.reader().await?;
        let id = bare(&client, named, id).await?;
        return Ok((client, id));
    };
    let (app, name) = match (&named.app, external.split_once('/')) {
        (Some(app), _) => (app.as_str(), external),
        (None, Some((app, name))) => (app, name),
        (None, None) => {
            let text = format!(
                "{:?}: an external id belongs to an app; add --app APP, or write ext:APP/{external}",
                named.batch
            );
            return Err(Failure::invalid("bad_name", text));
        }
    };
    let app: AppName = app.parse()?;
    let client = session.reader().await?;
    let found = client.find_external(app.as_str(), name).await?;
    let id = found.ok_or_else(|| {
        let text = format!("there is no batch with external id {name:?} in app {app}");
        Error::new(ErrorKind::NotFound, "not_found", text)
    })?;
    Ok((client, id))
}

/// An id, or an external id that has the form of one, in the app that was named.
async fn bare(client: &Client, named: &Named, id: BatchId) -> Result<BatchId, Failure> {
    if let Some(app) = &named.app
        && let Some(found) = client.find_external(app, &named.batch).await?
    {
        return Ok(found);
    }
    Ok(id)
}
