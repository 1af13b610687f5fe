//! BATCH on the command line: an id, or an external id in its app.

use super::args::Named;
use super::exit::Failure;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::model::{AppName, BatchId};

/// The batch that the user names.
pub(super) async fn find(client: &Client, named: &Named) -> Result<BatchId, Failure> {
    let Some(external) = named.batch.strip_prefix("ext:") else {
        return bare(client, named).await;
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
    let found = client.find_external(app.as_str(), name).await?;
    found.ok_or_else(|| {
        let text = format!("there is no batch with external id {name:?} in app {app}");
        Error::new(ErrorKind::NotFound, "not_found", text).into()
    })
}

/// An id, or an external id that has the form of one, in the app that was named.
async fn bare(client: &Client, named: &Named) -> Result<BatchId, Failure> {
    let id: BatchId = named.batch.parse()?;
    if let Some(app) = &named.app
        && let Some(found) = client.find_external(app, &named.batch).await?
    {
        return Ok(found);
    }
    Ok(id)
}
