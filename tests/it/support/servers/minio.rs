//! MinIO: an S3 server that encrypts, keeps versions and lists unfinished uploads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::process::{self, Process};
use super::{folder, programs, until};

/// The key that it encrypts with, and its name.
const KMS_SECRET_KEY: &str = "rowmill-test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The server; dropping it ends it.
pub struct Minio {
    process: Option<Process>,
    folder: PathBuf,
    endpoint: String,
}

impl Minio {
    /// Starts it for a user with this key and secret.
    pub fn start(key: &str, secret: &str) -> Self {
        let mut server = Self {
            process: None,
            folder: folder::folder("minio"),
            endpoint: String::new(),
        };
        // Between the look and the start another process may take the port.
        let started = (0..5).any(|_| server.launch(key, secret));
        assert!(started, "MinIO: {}", process::log(&server.folder));
        server
    }

    fn launch(&mut self, key: &str, secret: &str) -> bool {
        let folder = &self.folder;
        let port = folder::free_port();
        let address = format!("127.0.0.1:{port}");
        // A server is started without surroundings, and MinIO takes its settings from there alone.
        let mut minio = Command::new("env");
        minio.args([
            &format!("HOME={}", folder.display()),
            &format!("MINIO_ROOT_USER={key}"),
            &format!("MINIO_ROOT_PASSWORD={secret}"),
            &format!("MINIO_KMS_SECRET_KEY={KMS_SECRET_KEY}"),
            "MINIO_BROWSER=off",
            "MINIO_UPDATE=off",
        ]);
        minio.arg(programs::minio());
        minio.args(["server", "--quiet", "--address", &address]);
        minio.arg("--certs-dir").arg(folder.join("certs"));
        minio.arg(folder.join("data"));
        let mut process = Process::start(&mut minio, folder, libc::SIGKILL);
        let answers = until("MinIO's first answer", || {
            if process.has_ended() {
                return Some(false);
            }
            ready(port).map(|()| true)
        });
        self.endpoint = format!("http://{address}");
        self.process = answers.then_some(process);
        answers
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it keeps what it has, a folder a bucket.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Whether it says that it can be used.
fn ready(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let ask = "GET /minio/health/ready HTTP/1.1\r\nhost: minio\r\nconnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}
