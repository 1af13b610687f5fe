//! Where it is measured: files in a temporary folder, or schemas of a server.

use tempfile::TempDir;

use super::report::Rates;
use super::server::Server;
use super::{Options, failed, reference};
use crate::error::Result;
use crate::files::ObjectStore;
use crate::manager::{Builder, JobManager};
use crate::store::Store;

pub(super) struct Place {
    dir: TempDir,
    server: Option<Server>,
}

impl Place {
    pub(super) async fn new(options: &Options) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("rowmill-bench-")
            .tempdir_in(&options.dir)
            .map_err(|e| failed("making a folder", e))?;
        let server = match &options.database {
            None => None,
            Some(options) => Some(Server::open(options).await?),
        };
        Ok(Self { dir, server })
    }

    /// A manager with a database and an object folder of its own: nothing of the one before is there.
    pub(super) async fn manager(
        &self,
        name: &str,
        parts: impl FnOnce(Builder) -> Builder,
    ) -> Result<JobManager> {
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir).map_err(|e| failed("making a folder", e))?;
        let store = match &self.server {
            None => Store::sqlite(dir.join("rowmill.db")).await?,
            Some(server) => server.store().await?,
        };
        let builder = JobManager::builder(store).objects(ObjectStore::folder(dir.join("files")));
        parts(builder).build()
    }

    /// Waits until no task of that manager is left; asking for every query one by one would be what is measured.
    pub(super) async fn all_ended(&self, name: &str) -> Result<()> {
        if let Some(server) = &self.server {
            return server.all_ended().await;
        }
        let database = self.dir.path().join(name).join("rowmill.db");
        let waited = tokio::task::spawn_blocking(move || {
            let connection = rusqlite::Connection::open(database)?;
            let mut left = connection.prepare("select exists (select 1 from queue)")?;
            while left.query_row([], |r| r.get::<_, bool>(0))? {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Ok::<_, rusqlite::Error>(())
        });
        let waited = waited.await.map_err(|e| failed("waiting", e))?;
        waited.map_err(|e| failed("waiting", e))
    }

    pub(super) async fn reference(&self, rows: u64) -> Result<Rates> {
        let measured = match &self.server {
            Some(server) => server.reference(rows).await,
            None => {
                let file = self.dir.path().join("reference.db");
                let measured = tokio::task::spawn_blocking(move || reference::measure(&file, rows));
                let measured = measured.await;
                measured.map_err(|e| failed("running the reference", e))?
            }
        };
        measured.map_err(|e| failed("running the reference", e))
    }

    /// Removes all that was made.
    pub(super) async fn remove(self) -> Result<()> {
        if let Some(server) = self.server {
            server.remove().await?;
        }
        let closed = self.dir.close();
        closed.map_err(|e| failed("removing what was made", e))
    }
}
