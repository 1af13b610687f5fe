//! A database of a test's own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::postgres::{Postgres, ask};
use super::{PATIENCE, block_on, runtime};

/// What databases are copied from: made once in a process, on the shared server, by a function that is given its URL.
pub struct Template {
    make: fn(&str),
    made: OnceLock<String>,
}

impl Template {
    pub const fn new(make: fn(&str)) -> Self {
        let made = OnceLock::new();
        Self { make, made }
    }

    fn name(&self) -> &str {
        self.made.get_or_init(|| {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("rm_made_{}", NEXT.fetch_add(1, Ordering::Relaxed));
            let server = Postgres::shared();
            let administer = |sql: String| server.administer(&sql).expect("a template");
            administer(format!("create database {name}"));
            (self.make)(&server.url(&name));
            // A database with a session in it cannot be copied.
            administer(format!(
                "alter database {name} allow_connections false;
                 select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{name}'"
            ));
            name
        })
    }
}

/// A database; dropping it removes it, whoever is still connected.
pub struct Database {
    name: String,
    server: String,
    url: String,
}

impl Database {
    /// An empty one, on the shared server.
    pub fn fresh() -> Self {
        Self::on(Postgres::shared())
    }

    /// An empty one, on a server of the test's own.
    pub fn on(server: &Postgres) -> Self {
        Self::copied(server, "template1")
    }

    /// A copy of what the template's function has made.
    pub fn of(template: &Template) -> Self {
        Self::copied(Postgres::shared(), template.name())
    }

    fn copied(server: &Postgres, template: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("rm_test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // Without a disk to wait for, files are copied up to four times as fast as their pages go through the log.
        let how = if server.major() >= 15 {
            "strategy file_copy"
        } else {
            ""
        };
        let made = server.administer(&format!("create database {name} template {template} {how}"));
        made.unwrap_or_else(|e| panic!("{name}: {e:?}\n{}", server.log()));
        Self {
            url: server.url(&name),
            server: server.url("postgres"),
            name,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// `postgres://postgres@127.0.0.1:PORT/NAME`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What one statement finds, on a connection of its own; `$1` is the batch, if there is one.
    pub fn rows(&self, sql: &str, batch: Option<uuid::Uuid>) -> Vec<tokio_postgres::Row> {
        rows(self.url.clone(), sql.to_owned(), batch)
    }

    /// As [`Database::rows`], in the database of this URL.
    pub fn rows_at(url: &str, sql: &str) -> Vec<tokio_postgres::Row> {
        rows(url.to_owned(), sql.to_owned(), None)
    }

    /// As [`Database::run`], in the database of this URL.
    pub fn run_at(url: &str, sql: &str) {
        block_on(ask(url.to_owned(), sql)).expect("statements of the test");
    }

    /// Runs statements in it, on a connection of their own.
    pub fn run(&self, sql: &str) {
        block_on(ask(self.url.clone(), sql)).expect("statements of the test");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Nobody waits for it: the next test need not, and at the end all goes with the server.
        let sql = format!("drop database if exists {} with (force)", self.name);
        let dropped = ask(self.server.clone(), &sql);
        runtime().spawn(async move { tokio::time::timeout(PATIENCE, dropped).await });
    }
}

fn rows(url: String, sql: String, batch: Option<uuid::Uuid>) -> Vec<tokio_postgres::Row> {
    let asked = sql.clone();
    let found = block_on(async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        let driver = tokio::spawn(connection);
        let place = "set search_path to rowmill; set jit to off";
        client.batch_execute(place).await?;
        let found = match &batch {
            Some(batch) => client.query(&asked, &[batch]).await,
            None => client.query(&asked, &[]).await,
        };
        drop(client);
        drop(driver.await);
        found
    });
    found.unwrap_or_else(|e| panic!("{sql}: {e:?}"))
}
