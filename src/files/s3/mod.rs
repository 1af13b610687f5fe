//! Output files in a bucket of S3, or of a store that speaks its protocol.
//!
//! S3 has no rename: a file is staged as an object of its own, and published by a copy within the
//! store (docs/adr/0012-published-on-s3-by-a-copy.md).

mod connect;
mod errors;
mod note;
mod publish;
mod read;
mod stage;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aws_sdk_s3::Client;
use futures_util::FutureExt;
use tokio::io::AsyncRead;
use tokio::sync::{OnceCell, Semaphore};

use super::{Fut, ObjectBackend, StageError, Staged, Staging};
use crate::model::BatchId;

pub use aws_sdk_s3;
pub use connect::Connection;

/// What the keys of staged files begin with, after the prefix.
const STAGING: &str = ".staging/";
/// Bytes of the first 1,000 parts of an upload, unless set; a smaller file is one request.
const PART: u64 = 8 << 20;
/// The smallest part that S3 takes, and the largest.
const LEAST_PART: u64 = 5 << 20;
const MOST_PART: u64 = 5 << 30;
/// The largest file that is published by one request, unless set: a larger one is copied in parts.
const COPY: u64 = 1 << 30;
/// Parts in flight over all files of a store.
const IN_FLIGHT: usize = 8;
/// Files that are assembled at once: each has a part in memory.
const OPEN: usize = 32;

/// Which bucket, and how objects are written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    encryption: Option<Encryption>,
    part: u64,
    copy: u64,
}

/// How the store encrypts what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of the store's own: `AES256`.
    Aes256,
    /// With a key of KMS, `aws:kms`: the one of that id, else the bucket's.
    Kms(Option<String>),
}

impl Options {
    /// A bucket, which must be there.
    #[must_use]
    pub fn new(bucket: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            prefix: String::new(),
            encryption: None,
            part: PART,
            copy: COPY,
        }
    }

    /// What every key begins with, such as `rowmill`; a slash is put after it.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        self.prefix = match prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        self
    }

    /// Asks the store to encrypt every object; without it the bucket's own rule holds.
    #[must_use]
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = Some(encryption);
        self
    }

    /// Bytes of an upload's first 1,000 parts [8 MiB], 5 MiB to 5 GiB; the next 1,000 have twice as many, and so on.
    #[must_use]
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part = bytes.clamp(LEAST_PART, MOST_PART);
        self
    }

    /// The largest file that is published by one copy [1 GiB], 5 MiB to 5 GiB; a larger one is copied in parts of so many bytes.
    #[must_use]
    pub fn copy_bytes(mut self, bytes: u64) -> Self {
        self.copy = bytes.clamp(LEAST_PART, MOST_PART);
        self
    }
}

impl From<&str> for Options {
    fn from(bucket: &str) -> Self {
        Self::new(bucket)
    }
}

/// A bucket, whose client is made when it is first needed.
pub(super) struct S3 {
    connection: Connection,
    options: Options,
    bucket: OnceCell<Arc<Bucket>>,
}

/// A bucket with its client.
struct Bucket {
    client: Client,
    options: Options,
    in_flight: Arc<Semaphore>,
    /// That uploads cannot be listed has been said.
    said: AtomicBool,
}

impl S3 {
    pub(super) fn with(client: Client, options: Options) -> Self {
        let bucket = Arc::new(Bucket::new(client, options.clone()));
        Self {
            connection: Connection::default(),
            options,
            bucket: OnceCell::new_with(Some(bucket)),
        }
    }

    pub(super) fn at(connection: Connection, options: Options) -> Self {
        Self {
            connection,
            options,
            bucket: OnceCell::new(),
        }
    }

    async fn bucket(&self) -> Result<&Arc<Bucket>, StageError> {
        let made = self.bucket.get_or_try_init(async || {
            let client = self.connection.client().await?;
            Ok(Arc::new(Bucket::new(client, self.options.clone())))
        });
        made.await.map_err(|source| StageError {
            what: format!("opening {}", self.place("")),
            source,
        })
    }
}

impl Bucket {
    fn new(client: Client, options: Options) -> Self {
        Self {
            client,
            options,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            said: AtomicBool::new(false),
        }
    }

    fn name(&self) -> &str {
        &self.options.bucket
    }

    /// A key as the bucket has it.
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.options.prefix)
    }

    /// What the keys of a batch's staged files begin with.
    fn staging(&self, batch: BatchId) -> String {
        self.key(&format!("{STAGING}{batch}/"))
    }
}

impl ObjectBackend for S3 {
    fn check(&self) -> Fut<'_, ()> {
        async move { sweep::check(self.bucket().await?).await }.boxed()
    }

    fn files_at_once(&self) -> usize {
        OPEN
    }

    fn stage(&self, batch: BatchId) -> Fut<'_, Box<dyn Staging>> {
        async move {
            let staging = stage::S3Staging::new(Arc::clone(self.bucket().await?), batch);
            Ok(Box::new(staging) as Box<dyn Staging>)
        }
        .boxed()
    }

    fn publish<'a>(&'a self, staged: &'a Staged, key: &'a str) -> Fut<'a, ()> {
        async move { publish::publish(self.bucket().await?, staged, key).await }.boxed()
    }

    fn unstage<'a>(&'a self, _: BatchId, staged: &'a [Staged]) -> Fut<'a, ()> {
        async move {
            let keys = staged.iter().map(|file| file.handle.clone()).collect();
            sweep::delete(self.bucket().await?, keys).await
        }
        .boxed()
    }

    fn staged(&self) -> Fut<'_, Vec<BatchId>> {
        async move { sweep::staged(self.bucket().await?).await }.boxed()
    }

    fn clear(&self, batch: BatchId) -> Fut<'_, ()> {
        async move { sweep::clear(self.bucket().await?, batch).await }.boxed()
    }

    fn open<'a>(&'a self, key: &'a str) -> Fut<'a, Box<dyn AsyncRead + Send + Unpin>> {
        async move { read::open(self.bucket().await?, key).await }.boxed()
    }

    fn remove<'a>(&'a self, folder: &'a str) -> Fut<'a, ()> {
        async move { sweep::remove(self.bucket().await?, folder).await }.boxed()
    }

    fn size<'a>(&'a self, key: &'a str) -> Fut<'a, Option<u64>> {
        async move { read::size(self.bucket().await?, key).await }.boxed()
    }

    fn signed_url<'a>(&'a self, key: &'a str, valid_for: Duration) -> Fut<'a, Option<String>> {
        async move {
            let url = read::signed_url(self.bucket().await?, key, valid_for).await?;
            Ok(Some(url))
        }
        .boxed()
    }

    fn place(&self, key: &str) -> String {
        let Options { bucket, prefix, .. } = &self.options;
        format!("s3://{bucket}/{prefix}{key}")
    }
}
