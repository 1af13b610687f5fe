//! A Redis server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue};

use super::process::{self, Process};
use super::{folder, programs, until};

/// A server that keeps everything in memory; dropping it ends it.
pub struct Redis {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    arguments: Vec<String>,
}

impl Redis {
    /// The one of the whole process: each test puts a prefix of its own before its keys.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of a test's own.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// One of a test's own, with more arguments: `--requirepass`, `secret`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut server = Self {
            process: None,
            folder: folder::folder("redis"),
            port: 0,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
        };
        // Between the look and the start another process may take the port.
        let started = (0..5).any(|_| {
            server.port = folder::free_port();
            server.launch()
        });
        assert!(started, "Redis: {}", process::log(&server.folder));
        server
    }

    /// One of a test's own that also speaks TLS, at the port that is returned, by this certificate and its key.
    pub fn start_tls(certificate: &str, key: &str) -> (Self, u16) {
        let folder = folder::folder("redis-tls");
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("a file");
            folder::hand_over(&path);
            path.to_str().expect("UTF-8").to_owned()
        };
        let (certificate, key) = (file("server.crt", certificate), file("server.key", key));
        let port = folder::free_port();
        let server = Self::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-auth-clients",
            "no",
        ]);
        (server, port)
    }

    fn launch(&mut self) -> bool {
        let mut redis = Command::new(programs::program("redis-server"));
        redis.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        redis.args(["--port", &self.port.to_string()]);
        redis.arg("--dir").arg(&self.folder).args(&self.arguments);
        let mut process = Process::start(&mut redis, &self.folder, libc::SIGKILL);
        let answers = until("Redis's first answer", || {
            if process.has_ended() {
                return Some(false);
            }
            ping(self.port).map(|()| true)
        });
        self.process = answers.then_some(process);
        answers
    }

    /// Kills it, with all that it knew.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.end(libc::SIGKILL);
        }
    }

    /// Starts it again at the same address, empty.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "Redis: {}", process::log(&self.folder));
    }

    /// Stops it where it stands (SIGSTOP): connections are taken, and nothing is answered.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on.
    pub fn cont(&self) {
        self.signal(libc::SIGCONT);
    }

    /// A connection of the test's own.
    pub fn connection(&self) -> Connection {
        let client = Client::open(self.url()).expect("a URL");
        client.get_connection().expect("a connection")
    }

    /// The answer to one command.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let (command, arguments) = words.split_first().expect("a command");
        let mut command = redis::cmd(command);
        command.arg(arguments);
        command.query(&mut self.connection()).expect("an answer")
    }

    fn signal(&self, signal: i32) {
        let running = self.process.as_ref().expect("a server that runs");
        running.signal(signal);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Any answer is one: a server with a password says so.
fn ping(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"PING\r\n").ok()?;
    stream.read_exact(&mut [0]).ok()
}
