//! PgBouncer in front of a server.

use std::path::PathBuf;
use std::process::Command;

use super::postgres::{Postgres, ask};
use super::process::{self, Process};
use super::{block_on, folder, programs, until};

/// A pooler that gives a server's session to one transaction at a time; dropping it ends it.
pub struct PgBouncer {
    process: Option<Process>,
    folder: PathBuf,
    url: String,
}

impl PgBouncer {
    /// In front of this database.
    pub fn start(server: &Postgres, database: &str) -> Self {
        let mut pooler = Self {
            process: None,
            folder: folder::folder("pgbouncer"),
            url: String::new(),
        };
        // Between the look and the start another process may take the port.
        let started = (0..5).any(|_| pooler.launch(server, database));
        assert!(started, "PgBouncer: {}", process::log(&pooler.folder));
        pooler
    }

    fn launch(&mut self, server: &Postgres, database: &str) -> bool {
        let port = folder::free_port();
        let (host, behind) = ("127.0.0.1", server.port());
        let settings = format!(
            "[databases]
             {database} = host={host} port={behind} dbname={database} user=postgres
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
        self.url = format!("postgres://postgres@{host}:{port}/{database}");
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
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
