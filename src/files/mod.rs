//! Where output files go: staged first, published under deterministic keys.
//!
//! A staged file is seen by nobody. Publishing it replaces what the key had, so that a close that
//! runs twice leaves the same bytes.

mod folder;
pub mod s3;

use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::model::{BatchId, FileName, JobKey, StagedFile};

/// The object store cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct StageError {
    /// What was being done, with its path or key.
    pub what: String,
    /// The cause, for the operator.
    #[source]
    pub source: std::io::Error,
}

/// What every operation returns.
pub type Fut<'a, T> = BoxFuture<'a, Result<T, StageError>>;

/// A file that has been staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// How the object store finds it.
    pub handle: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// A file that is being staged; dropped before its end, it is removed.
pub trait Staging: Send {
    /// Writes bytes.
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> Fut<'a, ()>;

    /// Brings it to the disk; it can then be published.
    fn finish(self: Box<Self>) -> Fut<'static, Staged>;
}

/// What an object store must be able to do.
pub trait ObjectBackend: Send + Sync + 'static {
    /// Whether files can be written; an error says why not. It leaves nothing behind.
    fn check(&self) -> Fut<'_, ()> {
        async { Ok(()) }.boxed()
    }

    /// How many files of a batch may be staged side by side, for the memory that each of them takes.
    fn files_at_once(&self) -> usize {
        usize::MAX
    }

    /// Begins a file for a batch.
    fn stage(&self, batch: BatchId) -> Fut<'_, Box<dyn Staging>>;

    /// Puts a staged file under its key, durably; again with the same file is no error.
    fn publish<'a>(&'a self, staged: &'a Staged, key: &'a str) -> Fut<'a, ()>;

    /// Removes staged files that nobody will publish, and what the batch has no more use for then;
    /// other files of it stay, and one that is not there is no error.
    fn unstage<'a>(&'a self, batch: BatchId, staged: &'a [Staged]) -> Fut<'a, ()>;

    /// The batches for which something is staged, or was and left a trace that [`clear`](Self::clear) removes.
    fn staged(&self) -> Fut<'_, Vec<BatchId>>;

    /// Removes whatever is still staged for a batch.
    fn clear(&self, batch: BatchId) -> Fut<'_, ()>;

    /// Opens a published file.
    fn open<'a>(&'a self, key: &'a str) -> Fut<'a, Box<dyn tokio::io::AsyncRead + Send + Unpin>>;

    /// Removes every file whose key begins with this folder, durably; nothing there is no error.
    ///
    /// What is empty then, and above it, may stay.
    fn remove<'a>(&'a self, folder: &'a str) -> Fut<'a, ()>;

    /// How many bytes a key's file has; `None` where there is none.
    fn size<'a>(&'a self, key: &'a str) -> Fut<'a, Option<u64>>;

    /// A link by which anybody can read a published file for a while; `None` where there are no such links.
    fn signed_url<'a>(&'a self, key: &'a str, valid_for: Duration) -> Fut<'a, Option<String>> {
        let _ = (key, valid_for);
        async { Ok(None) }.boxed()
    }

    /// Where a key is, for people.
    fn place(&self, key: &str) -> String;
}

/// A handle to an object store: cheap to clone.
#[derive(Clone)]
pub struct ObjectStore(Arc<dyn ObjectBackend>);

impl ObjectStore {
    /// Output files in a local folder, which is made when it is first written to.
    #[must_use]
    pub fn folder(path: impl AsRef<Path>) -> Self {
        Self::new(folder::Folder::new(path.as_ref().to_owned()))
    }

    /// Output files in a bucket of S3, by a client of the application's: the bucket's name, or [`s3::Options`].
    ///
    /// Nothing is asked of the store yet; [`check`](ObjectBackend::check) tells whether it can be used.
    #[must_use]
    pub fn s3(client: aws_sdk_s3::Client, options: impl Into<s3::Options>) -> Self {
        Self::new(s3::S3::with(client, options.into()))
    }

    /// Output files in a bucket of S3, by a client that is made when it is first needed, of what the environment says.
    #[must_use]
    pub fn s3_at(connection: s3::Connection, options: impl Into<s3::Options>) -> Self {
        Self::new(s3::S3::at(connection, options.into()))
    }

    /// An object store of any make.
    pub fn new(backend: impl ObjectBackend) -> Self {
        Self(Arc::new(backend))
    }
}

impl Deref for ObjectStore {
    type Target = dyn ObjectBackend;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl std::fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectStore")
    }
}

impl From<&StagedFile> for Staged {
    fn from(file: &StagedFile) -> Self {
        Self {
            handle: file.handle.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
        }
    }
}

/// Runs what asks an object store: its panic is an error as any other, and is tried again as one.
pub(crate) async fn guarded<T, E: From<StageError>>(
    run: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let ended = AssertUnwindSafe(run).catch_unwind().await;
    ended.unwrap_or_else(|_| {
        // The panic's text has gone to the log.
        let what = "asking the object store".to_owned();
        let source = std::io::Error::other("it panicked");
        Err(StageError { what, source }.into())
    })
}

/// The key of a batch's output file.
#[must_use]
pub fn object_key(job: &JobKey, batch: BatchId, name: &FileName) -> String {
    format!("{}/{name}", object_folder(job, batch))
}

/// What the keys of all output files of a batch begin with.
#[must_use]
pub fn object_folder(job: &JobKey, batch: BatchId) -> String {
    format!("{}/{}/{batch}", job.app, job.op)
}

/// The media type that a name's extension stands for.
#[must_use]
pub fn content_type(name: &FileName) -> String {
    mime_guess::from_path(name.as_str())
        .first_or_octet_stream()
        .to_string()
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
