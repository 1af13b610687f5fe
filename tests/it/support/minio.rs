//! Buckets on a MinIO server, one for the whole process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rowmill::ObjectStore;
use rowmill::files::s3::Options;
use rowmill::files::s3::aws_sdk_s3::Client;

use super::s3::{KEY, PREFIX, SECRET, client};
use super::servers::{Minio, block_on};

fn shared() -> &'static Minio {
    static SHARED: OnceLock<Minio> = OnceLock::new();
    SHARED.get_or_init(|| Minio::start(KEY, SECRET))
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
        shared().endpoint()
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
        let mut paths = vec![shared().data().join(&self.name)];
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
