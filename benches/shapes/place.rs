//! Where it is measured: a server with a database for each run, or a folder with a file for each.

use std::path::Path;
use std::str::FromStr;

use rowmill::postgres::tokio_postgres::{self, Client as Server, NoTls};
use rowmill::{ObjectStore, Store};
use tempfile::TempDir;

use crate::figures::Failed;
use crate::servers::{Database, Options, Postgres};

#[derive(Clone, Copy, PartialEq)]
pub enum On {
    Postgres,
    Sqlite,
}

impl On {
    /// What is one thing on a server and another in a file.
    pub fn pick<T>(self, postgres: T, sqlite: T) -> T {
        match self {
            Self::Postgres => postgres,
            Self::Sqlite => sqlite,
        }
    }
}

impl FromStr for On {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "postgres" => Ok(Self::Postgres),
            "sqlite" => Ok(Self::Sqlite),
            other => Err(format!("no database is called {other}")),
        }
    }
}

impl std::fmt::Display for On {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        })
    }
}

pub struct Place {
    pub on: On,
    server: Option<Postgres>,
}

impl Place {
    pub fn new(on: On) -> Self {
        let settings = [
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("shared_buffers", "1GB"),
            ("max_wal_size", "8GB"),
        ];
        let server = (on == On::Postgres).then(|| {
            Postgres::start(&Options {
                settings: &settings,
                ..Options::default()
            })
        });
        Self { on, server }
    }

    /// An empty database and an empty folder.
    pub fn fresh(&self) -> Result<Fresh, Failed> {
        // The disk that is measured is that of the folder where it is started.
        let dir = tempfile::tempdir_in(".")?;
        Ok(Fresh {
            database: self.server.as_ref().map(Database::on),
            dir,
        })
    }
}

pub struct Fresh {
    database: Option<Database>,
    dir: TempDir,
}

impl Fresh {
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The server's URL, or the file's path.
    pub fn at(&self) -> String {
        match &self.database {
            Some(database) => database.url().to_owned(),
            None => self.dir.path().join("rowmill.db").display().to_string(),
        }
    }

    pub async fn store(&self) -> Result<Store, Failed> {
        store(&self.at()).await
    }

    /// A connection to the server.
    pub async fn server(&self) -> Result<Server, Failed> {
        let (client, connection) = tokio_postgres::connect(&self.at(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Settings of whoever connects to this database from now on.
    pub async fn set(&self, settings: &[&str]) -> Result<(), Failed> {
        let database = self.database.as_ref().ok_or("a file has no settings")?;
        let server = self.server().await?;
        for setting in settings {
            let sql = format!("alter database {} set {setting}", database.name());
            server.batch_execute(&sql).await?;
        }
        Ok(())
    }

    pub fn objects(&self) -> ObjectStore {
        objects(self.folder())
    }
}

pub async fn store(at: &str) -> Result<Store, Failed> {
    Ok(if at.starts_with("postgres") {
        Store::postgres_url(at).await?
    } else {
        Store::sqlite(at).await?
    })
}

pub fn objects(folder: &Path) -> ObjectStore {
    ObjectStore::folder(folder.join("files"))
}
