//! MinIO: an S3 server that encrypts, keeps versions and lists unfinished uploads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rowmill::ObjectStore;
use rowmill::files::s3::Options;
use rowmill::files::s3::aws_sdk_s3::Client;

use super::process::{self, Process};
use super::{block_on, folder, programs, until};
use crate::support::s3::{KEY, PREFIX, SECRET, client};

/// The key that it encrypts with, and its name.
const KMS_SECRET_KEY: &str = "rowmill-test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The server; dropping it ends it.
struct Minio {
    _process: Process,
    folder: PathBuf,
    endpoint: String,
}

impl Minio {
    /// The one of the whole process.
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Minio> = OnceLock::new();
        SHARED.get_or_init(|| {
            let folder = folder::folder("minio");
            // Between the look and the start another process may take the port.
            let started = (0..5).find_map(|_| Self::launch(&folder));
            started.unwrap_or_else(|| panic!("MinIO: {}", process::log(&folder)))
        })
    }

    fn launch(folder: &Path) -> Option<Self> {
        let port = folder::free_port();
        let address = format!("127.0.0.1:{port}");
        let mut minio = Command::new(programs::minio());
        minio.args(["server", "--quiet", "--address", &address]);
        minio.arg("--certs-dir").arg(folder.join("certs"));
        minio.arg(folder.join("data"));
        // It begins with the process's own surroundings cleared.
        let mut with = Command::new("env");
        with.args([
            &format!("HOME={}", folder.display()),
            &format!("MINIO_ROOT_USER={KEY}"),
            &format!("MINIO_ROOT_PASSWORD={SECRET}"),
            &format!("MINIO_KMS_SECRET_KEY={KMS_SECRET_KEY}"),
            "MINIO_BROWSER=off",
            "MINIO_UPDATE=off",
        ]);
        with.arg(minio.get_program()).args(minio.get_args());
        let mut process = Process::start(&mut with, folder, libc::SIGKILL);
        let answers = until("MinIO's first answer", || {
            if process.has_ended() {
                return Some(false);
            }
            ready(port).map(|()| true)
        });
        answers.then(|| Self {
            _process: process,
            folder: folder.to_owned(),
            endpoint: format!("http://{address}"),
        })
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

/// A bucket of a test's own on the server of the whole process.
pub struct Bucket {
    name: String,
}

impl Bucket {
    pub fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self::named(&format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// One of a name that no other test takes.
    pub fn named(name: &str) -> Self {
        let bucket = Self {
            name: name.to_owned(),
        };
        let create = bucket.client().create_bucket().bucket(name);
        block_on(create.send()).expect("a bucket");
        bucket
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn endpoint(&self) -> &'static str {
        &Minio::shared().endpoint
    }

    pub fn client(&self) -> Client {
        client(self.endpoint(), SECRET)
    }

    /// The object store in it, below the prefix.
    pub fn objects(&self) -> ObjectStore {
        ObjectStore::s3(self.client(), self.options())
    }

    pub fn options(&self) -> Options {
        Options::new(&self.name).prefix(PREFIX)
    }

    /// The keys that there are below the prefix.
    pub fn keys(&self) -> Vec<String> {
        let list = self.client().list_objects_v2().bucket(&self.name);
        let found = block_on(list.send()).expect("a list");
        assert_ne!(found.is_truncated(), Some(true));
        let below = format!("{PREFIX}/");
        let keys = found.contents().iter().filter_map(|object| object.key());
        keys.map(|key| key.strip_prefix(&below).expect("below it").to_owned())
            .collect()
    }

    /// How many uploads have begun and not ended, under whatever key.
    pub fn uploads(&self) -> usize {
        let list = self.client().list_multipart_uploads().bucket(&self.name);
        let found = block_on(list.send()).expect("a list");
        found.uploads().len()
    }

    /// Whether these bytes are on the server's disk as they are.
    pub fn has_on_disk(&self, bytes: &[u8]) -> bool {
        let mut paths = vec![Minio::shared().folder.join("data").join(&self.name)];
        while let Some(path) = paths.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(path).expect("a folder");
                paths.extend(entries.map(|entry| entry.expect("an entry").path()));
            } else {
                let file = std::fs::read(path).expect("a file");
                if file.windows(bytes.len()).any(|there| there == bytes) {
                    return true;
                }
            }
        }
        false
    }
}
