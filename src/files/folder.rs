//! Output files in a local folder.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use tempfile::{NamedTempFile, TempPath};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

use super::{Fut, ObjectBackend, StageError, Staged, Staging, hex};
use crate::model::BatchId;

const TO_DISK: &str = "bringing to the disk";
/// Where staged files lie, within the folder, so that publishing is a rename.
const STAGING: &str = ".staging";
/// Bytes that are collected before they are written and hashed.
const BUFFER: usize = 1 << 20;
/// Bytes that are written before they begin to be brought to the disk, beside what is written next: the end has not all of a large file to wait for.
/// One file at a time is.
const AHEAD: u64 = 64 << 20;

pub(super) struct Folder {
    root: PathBuf,
    /// Whose turn it is to be brought to the disk before its end.
    ahead: Arc<Semaphore>,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        let ahead = Arc::new(Semaphore::new(1));
        Self { root, ahead }
    }

    fn staging(&self, batch: BatchId) -> PathBuf {
        self.root.join(STAGING).join(batch.to_string())
    }
}

fn failed(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> StageError {
    let what = format!("{what} {}", path.display());
    move |source| StageError { what, source }
}

async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, StageError> + Send + 'static,
) -> Result<T, StageError> {
    joined(tokio::task::spawn_blocking(run).await)
}

fn joined<T>(ended: Result<Result<T, StageError>, JoinError>) -> Result<T, StageError> {
    ended.unwrap_or_else(|e| {
        Err(StageError {
            what: "writing an output file".to_owned(),
            source: std::io::Error::other(e),
        })
    })
}

/// Makes a folder's entries durable.
fn sync_dir(dir: &Path) -> Result<(), StageError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(failed(TO_DISK, dir))
}

/// Makes a file in a batch's folder, which whoever unstages its last one removes.
fn temporary(dir: &Path) -> Result<NamedTempFile, StageError> {
    let mut tries = 0;
    loop {
        std::fs::create_dir_all(dir).map_err(failed("making", dir))?;
        match NamedTempFile::new_in(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && tries < 3 => tries += 1,
            made => return made.map_err(failed("making a file in", dir)),
        }
    }
}

struct Open {
    file: Arc<File>,
    path: TempPath,
    hash: Sha256,
    size: u64,
    buffer: Vec<u8>,
    turns: Arc<Semaphore>,
    /// What is being brought to the disk, and how much had been written when that began.
    ahead: Option<JoinHandle<Result<(), StageError>>>,
    begun: u64,
}

impl Open {
    fn new(file: NamedTempFile, turns: Arc<Semaphore>) -> Self {
        let (file, path) = file.into_parts();
        Self {
            file: Arc::new(file),
            path,
            hash: Sha256::new(),
            size: 0,
            buffer: Vec::with_capacity(BUFFER),
            turns,
            ahead: None,
            begun: 0,
        }
    }

    /// Begins to bring to the disk what has been written, if no other file is being brought there.
    async fn sync_ahead(&mut self) -> Result<(), StageError> {
        if self.size - self.begun < AHEAD {
            return Ok(());
        }
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
            return Ok(());
        };
        self.synced().await?;
        let (file, path) = (Arc::clone(&self.file), self.path.to_owned());
        self.begun = self.size;
        self.ahead = Some(tokio::task::spawn_blocking(move || {
            let _turn = turn;
            file.sync_data().map_err(failed(TO_DISK, &path))
        }));
        Ok(())
    }

    /// Waits for what was begun: the system tells its error to nobody else.
    async fn synced(&mut self) -> Result<(), StageError> {
        match self.ahead.take() {
            Some(ahead) => joined(ahead.await),
            None => Ok(()),
        }
    }

    fn write_out(&mut self) -> Result<(), StageError> {
        self.hash.update(&self.buffer);
        self.size += u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        let written = (&*self.file).write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(failed("writing", &self.path))
    }
}

struct FolderStaging(Option<Open>);

impl Staging for FolderStaging {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> Fut<'a, ()> {
        async move {
            let Some(open) = &mut self.0 else {
                return Err(gone());
            };
            open.buffer.extend_from_slice(bytes);
            if open.buffer.len() < BUFFER {
                return Ok(());
            }
            let Some(mut open) = self.0.take() else {
                return Err(gone());
            };
            let mut written = blocking(move || open.write_out().map(|()| open)).await?;
            written.sync_ahead().await?;
            self.0 = Some(written);
            Ok(())
        }
        .boxed()
    }

    fn finish(self: Box<Self>) -> Fut<'static, Staged> {
        async move {
            let Some(mut open) = self.0 else {
                return Err(gone());
            };
            open.synced().await?;
            blocking(move || {
                open.write_out()?;
                let path = open.path.to_owned();
                open.file.sync_all().map_err(failed(TO_DISK, &path))?;
                let handle = path.to_string_lossy().into_owned();
                let kept = open.path.keep();
                kept.map_err(|e| failed("keeping", &path)(e.error))?;
                Ok(Staged {
                    handle,
                    size: open.size,
                    sha256: hex(&open.hash.finalize()),
                })
            })
            .await
        }
        .boxed()
    }
}

fn gone() -> StageError {
    StageError {
        what: "writing an output file".to_owned(),
        source: std::io::Error::other("an earlier write failed"),
    }
}

impl ObjectBackend for Folder {
    fn check(&self) -> Fut<'_, ()> {
        let root = self.root.clone();
        blocking(move || {
            // The folder is made when the first file is; until then it is the one above that counts.
            let there = root
                .ancestors()
                .find(|dir| !dir.as_os_str().is_empty() && !matches!(dir.try_exists(), Ok(false)));
            tempfile::tempfile_in(there.unwrap_or(Path::new(".")))
                .map(drop)
                .map_err(failed("writing to", &root))
        })
        .boxed()
    }

    fn stage(&self, batch: BatchId) -> Fut<'_, Box<dyn Staging>> {
        let (dir, turns) = (self.staging(batch), Arc::clone(&self.ahead));
        blocking(move || {
            let open = Open::new(temporary(&dir)?, turns);
            Ok(Box::new(FolderStaging(Some(open))) as Box<dyn Staging>)
        })
        .boxed()
    }

    fn publish<'a>(&'a self, staged: &'a Staged, key: &'a str) -> Fut<'a, ()> {
        let to = self.root.join(key);
        let from = PathBuf::from(&staged.handle);
        let size = staged.size;
        blocking(move || {
            let dir = to.parent().unwrap_or(&to).to_owned();
            std::fs::create_dir_all(&dir).map_err(failed("making", &dir))?;
            match std::fs::rename(&from, &to) {
                Ok(()) => {}
                // An earlier try published it and was cut off before it could say so.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    let there = std::fs::metadata(&to).map_err(failed("publishing", &to))?;
                    if there.len() != size {
                        return Err(failed("publishing", &to)(e));
                    }
                }
                Err(e) => return Err(failed("publishing", &to)(e)),
            }
            // The folder and those that were made for it.
            dir.ancestors().take(4).try_for_each(sync_dir)
        })
        .boxed()
    }

    fn unstage<'a>(&'a self, batch: BatchId, staged: &'a [Staged]) -> Fut<'a, ()> {
        let dir = self.staging(batch);
        let paths: Vec<PathBuf> = staged.iter().map(|s| PathBuf::from(&s.handle)).collect();
        blocking(move || {
            for path in &paths {
                match std::fs::remove_file(path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(failed("removing", path)(e));
                    }
                    _ => {}
                }
            }
            match std::fs::remove_dir(&dir) {
                Err(e)
                    if !matches!(
                        e.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    Err(failed("removing", &dir)(e))
                }
                _ => Ok(()),
            }
        })
        .boxed()
    }

    fn staged(&self) -> Fut<'_, Vec<BatchId>> {
        let dir = self.root.join(STAGING);
        blocking(move || {
            let entries = match std::fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(failed("reading", &dir)(e)),
            };
            let mut batches = Vec::new();
            for entry in entries {
                let name = entry.map_err(failed("reading", &dir))?.file_name();
                // What has another name was put there by others.
                batches.extend(name.to_str().and_then(|name| name.parse::<BatchId>().ok()));
            }
            Ok(batches)
        })
        .boxed()
    }

    fn clear(&self, batch: BatchId) -> Fut<'_, ()> {
        let dir = self.staging(batch);
        blocking(move || match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("clearing", &dir)(e)),
            _ => Ok(()),
        })
        .boxed()
    }

    fn open<'a>(&'a self, key: &'a str) -> Fut<'a, Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
        let path = self.root.join(key);
        async move {
            let file = tokio::fs::File::open(&path)
                .await
                .map_err(failed("opening", &path))?;
            Ok(Box::new(file) as Box<dyn tokio::io::AsyncRead + Send + Unpin>)
        }
        .boxed()
    }

    fn remove<'a>(&'a self, folder: &'a str) -> Fut<'a, ()> {
        let dir = self.root.join(folder);
        blocking(move || match std::fs::remove_dir_all(&dir) {
            // A crash after it must not bring files back of which nobody would know.
            Ok(()) => dir.parent().map_or(Ok(()), sync_dir),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed("removing", &dir)(e)),
        })
        .boxed()
    }

    fn size<'a>(&'a self, key: &'a str) -> Fut<'a, Option<u64>> {
        let path = self.root.join(key);
        blocking(move || match std::fs::metadata(&path) {
            Ok(file) => Ok(file.is_file().then_some(file.len())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("looking at", &path)(e)),
        })
        .boxed()
    }

    fn place(&self, key: &str) -> String {
        self.root.join(key).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(dir: &Path, turns: usize) -> FolderStaging {
        let turns = Arc::new(Semaphore::new(turns));
        FolderStaging(Some(Open::new(temporary(dir).unwrap(), turns)))
    }

    fn open(staging: &mut FolderStaging) -> &mut Open {
        staging.0.as_mut().unwrap()
    }

    /// Writes more than goes to the disk at once, and how much had been written when that began.
    async fn written(staging: &mut FolderStaging) -> (Vec<u8>, Option<(u64, u64)>) {
        let (mut bytes, mut began) = (Vec::new(), None);
        for n in 0_u8..160 {
            let piece = vec![n; BUFFER / 2 + usize::from(n)];
            staging.write(&piece).await.unwrap();
            bytes.extend(piece);
            let open = open(staging);
            if open.begun > 0 {
                began.get_or_insert((open.begun, open.size));
            }
        }
        (bytes, began)
    }

    #[tokio::test]
    async fn a_large_file_goes_to_the_disk_while_it_is_written_if_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        for turns in [1, 0] {
            let mut staging = begun(dir.path(), turns);
            let (bytes, began) = written(&mut staging).await;
            match began {
                Some((begun, size)) => assert!(turns == 1 && begun == size && size >= AHEAD),
                None => assert_eq!(turns, 0),
            }
            let staged = Box::new(staging).finish().await.unwrap();
            assert!(std::fs::read(&staged.handle).unwrap() == bytes);
            let sum = hex(&Sha256::digest(&bytes));
            let size = u64::try_from(bytes.len()).unwrap();
            assert_eq!((staged.size, staged.sha256), (size, sum));
        }
    }

    #[tokio::test]
    async fn a_file_that_could_not_be_brought_to_the_disk_is_not_staged() {
        let dir = tempfile::tempdir().unwrap();
        let fails = || {
            let error = std::io::Error::other("no disk");
            Some(tokio::spawn(async {
                Err(failed(TO_DISK, Path::new("it"))(error))
            }))
        };
        let mut staging = begun(dir.path(), 1);
        staging.write(b"text").await.unwrap();
        open(&mut staging).ahead = fails();
        let error = Box::new(staging).finish().await.unwrap_err();
        assert_eq!(error.to_string(), "bringing to the disk it: no disk");

        let mut staging = begun(dir.path(), 1);
        (open(&mut staging).size, open(&mut staging).ahead) = (AHEAD, fails());
        let piece = vec![0; BUFFER];
        let error = staging.write(&piece).await.unwrap_err();
        assert_eq!(error.to_string(), "bringing to the disk it: no disk");
        staging.write(&piece).await.unwrap_err();
        Box::new(staging).finish().await.unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
