//! A PostgreSQL server.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::process::{self, Process};
use super::{block_on, folder, programs, until};

/// What a server of a test's own has that the shared one has not.
#[derive(Default)]
pub struct Options<'a> {
    /// Settings in the words of `postgresql.conf`; they win: `("fsync", "on")`.
    pub settings: &'a [(&'a str, &'a str)],
    /// Files in the data folder by their names: `server.key`, `pg_hba.conf`.
    pub files: &'a [(&'a str, &'a str)],
    /// It is a standby of this server, and follows it.
    pub standby_of: Option<&'a Postgres>,
}

/// A server; dropping it ends it and removes what it had.
pub struct Postgres {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
}

impl Postgres {
    /// The one of the whole process. It asks the disk for nothing, and nobody may stop it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&Options::default()))
    }

    /// One of a test's own.
    pub fn start(options: &Options<'_>) -> Self {
        let folder = folder::folder("postgres");
        let data = folder.join("data");
        match options.standby_of {
            None => {
                let mut copy = Command::new("cp");
                process::run(copy.arg("-R").args([initialised(), &data]), &folder);
            }
            Some(primary) => {
                let mut backup = program("pg_basebackup");
                backup.args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"]);
                backup.arg(&data).args(["-d", &primary.url("postgres")]);
                process::run(&mut backup, &folder);
            }
        }
        for (name, text) in options.files {
            let file = data.join(name);
            std::fs::write(&file, text).expect("a file");
            // A key that others may read is refused.
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("permissions");
            folder::hand_over(&file);
        }
        let settings = options.settings.iter();
        let mut server = Self {
            process: None,
            folder,
            port: 0,
            settings: settings
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        };
        // Between the look and the start another process may take the port.
        let started = (0..5).any(|_| {
            server.port = folder::free_port();
            server.launch()
        });
        assert!(started, "PostgreSQL: {}", process::log(&server.folder));
        server
    }

    /// Starts what is there; whether it answers.
    fn launch(&mut self) -> bool {
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(self.folder.join("data"));
        let own = [
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.folder.display()),
        ];
        let all = [
            "listen_addresses=127.0.0.1",
            "max_connections=200",
            "fsync=off",
            "full_page_writes=off",
            "log_line_prefix=%m [%p] %d ",
            "log_lock_waits=on",
        ];
        let settings = own.iter().map(String::as_str).chain(all);
        for setting in settings.chain(self.settings.iter().map(String::as_str)) {
            postgres.args(["-c", setting]);
        }
        // SIGQUIT leaves no shared memory behind, as SIGKILL would.
        let mut process = Process::start(&mut postgres, &self.folder, libc::SIGQUIT);
        let url = self.url("postgres");
        let answers = until("PostgreSQL's first answer", || {
            if process.has_ended() {
                return Some(false);
            }
            block_on(ask(url.clone(), "select 1")).ok().map(|()| true)
        });
        self.process = answers.then_some(process);
        answers
    }

    /// Stops it in order: running transactions are rolled back, and what was committed is on the disk.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end(libc::SIGINT);
        }
    }

    /// Kills it with all its sessions, in the middle of whatever they do.
    pub fn kill(&mut self) {
        let Some(process) = self.process.take() else {
            return;
        };
        // Stopped, it begins no session that would be overlooked.
        process.signal(libc::SIGSTOP);
        let sessions = process::children(process.pid());
        process.end(libc::SIGKILL);
        for &pid in &sessions {
            process::send(pid, libc::SIGKILL);
        }
        let segment = segment(&self.folder).expect("a server that ran");
        until("the end of the sessions", || {
            attached(segment).is_none_or(|n| n == 0).then_some(())
        });
    }

    /// Starts it again at the same address, stopped before if it runs.
    pub fn restart(&mut self) {
        self.stop();
        assert!(self.launch(), "PostgreSQL: {}", process::log(&self.folder));
    }

    /// Makes a standby the server that is written to.
    pub fn promote(&self) {
        self.run("postgres", "select pg_promote()");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Over the unix socket in its folder.
    pub fn socket_url(&self, database: &str) -> String {
        let (folder, port) = (self.folder.display(), self.port);
        format!("postgres://postgres@/{database}?host={folder}&port={port}")
    }

    /// Its version: 15.
    pub fn major(&self) -> u32 {
        let noted = std::fs::read_to_string(self.folder.join("data/PG_VERSION"));
        let major = noted.expect("a version");
        major.trim().parse().expect("a number")
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        process::log(&self.folder)
    }

    /// Runs statements in a database, on a connection of their own.
    pub fn run(&self, database: &str, sql: &str) {
        let done = block_on(ask(self.url(database), sql));
        done.unwrap_or_else(|e| panic!("{sql}: {e:?}\n{}", self.log()));
    }

    pub(super) fn administer(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        block_on(ask(self.url("postgres"), sql))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.process.take());
        // A server that was killed and not started again has left its segment.
        if let Some(segment) = segment(&self.folder)
            && attached(segment) == Some(0)
        {
            // SAFETY: to remove a segment no memory is passed.
            unsafe { libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut()) };
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn program(name: &str) -> Command {
    Command::new(programs::postgres_bin().join(name))
}

/// A data folder that nobody serves: a server starts from a copy of it, which takes a tenth of the time.
fn initialised() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| {
        let folder = folder::folder("initdb");
        let data = folder.join("data");
        let mut initdb = program("initdb");
        initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8"]);
        initdb.args(["--locale=C", "--no-sync", "--no-instructions", "-D"]);
        process::run(initdb.arg(&data), &folder);
        data
    })
}

/// Runs statements, and takes no answer but that they were done.
pub(super) fn ask(
    url: String,
    sql: &str,
) -> impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static {
    let sql = sql.to_owned();
    async move {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        let asked = async move { client.batch_execute(&sql).await };
        // The client goes with its answer, and then the connection ends: nothing is left at the server.
        let (asked, connected) = tokio::join!(asked, connection);
        asked.and(connected)
    }
}

/// The shared memory segment of whom served a folder last, as `postmaster.pid` names it.
fn segment(folder: &Path) -> Option<i32> {
    let noted = std::fs::read_to_string(folder.join("data/postmaster.pid")).ok()?;
    noted
        .lines()
        .nth(6)?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// How many processes have it.
fn attached(segment: i32) -> Option<u64> {
    // SAFETY: the struct is plain numbers, and shmctl fills it in or answers an error.
    unsafe {
        let mut found: libc::shmid_ds = std::mem::zeroed();
        let told = libc::shmctl(segment, libc::IPC_STAT, &mut found);
        (told == 0).then_some(found.shm_nattch)
    }
}
