//! PgBouncer in front of a server.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::postgres::{Postgres, ask};
use super::process::{self, Process};
use super::{block_on, folder, programs, until};

const HOST: &str = "127.0.0.1";

/// A pooler that gives a server's session to one transaction at a time; dropping it ends it.
pub struct PgBouncer {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    url: String,
}

impl PgBouncer {
    /// The one of the whole process, in front of every database of the shared server.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PgBouncer> = OnceLock::new();
        SHARED.get_or_init(|| Self::before(Postgres::shared(), "*", ""))
    }

    /// In front of this database.
    pub fn start(server: &Postgres, database: &str) -> Self {
        Self::before(server, database, &format!("dbname={database}"))
    }

    fn before(server: &Postgres, database: &str, place: &str) -> Self {
        let mut pooler = Self {
            process: None,
            folder: folder::folder("pgbouncer"),
            port: 0,
            url: String::new(),
        };
        // Between the look and the start another process may take the port.
        let started = (0..5).any(|_| {
            pooler.port = folder::free_port();
            pooler.url = pooler.url_of(&database.replace('*', "postgres"));
            pooler.launch(server, &format!("{database} = {place}"))
        });
        assert!(started, "PgBouncer: {}", process::log(&pooler.folder));
        pooler
    }

    fn launch(&mut self, server: &Postgres, database: &str) -> bool {
        let (host, port, behind) = (HOST, self.port, server.port());
        let settings = format!(
            "[databases]
             {database} host={host} port={behind} user=postgres
             [pgbouncer]
             listen_addr = {host}
             listen_port = {port}
             unix_socket_dir =
             auth_type = any
             pool_mode = transaction
             max_client_conn = 200
             default_pool_size = 10
             ignore_startup_parameters = extra_float_digits"
        );
        let settings: Vec<_> = settings.lines().map(str::trim).collect();
        let file = self.folder.join("pgbouncer.ini");
        std::fs::write(&file, settings.join("\n")).expect("settings");
        let mut pgbouncer = Command::new(programs::program("pgbouncer"));
        let mut process = Process::start(pgbouncer.arg(&file), &self.folder, libc::SIGKILL);
        let answers = until("PgBouncer's first answer", || {
            if process.has_ended() {
                return Some(false);
            }
            block_on(ask(self.url.clone(), "select 1"))
                .ok()
                .map(|()| true)
        });
        self.process = answers.then_some(process);
        answers
    }

    /// `postgres://postgres@127.0.0.1:PORT/NAME`, with its own port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same for another database, where it is in front of all.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@{HOST}:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
