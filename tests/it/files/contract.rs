//! What every object store promises, run on the folder, on the S3 server in the test's process and on MinIO.

use rowmill::ObjectStore;
use rowmill::model::BatchId;

use super::{begun, noise, read, sha256, stage};
use crate::support::minio::Bucket;
use crate::support::s3::S3;

/// Where a store keeps its files, behind its back.
trait Make {
    fn make() -> Self;

    fn objects(&self) -> ObjectStore;

    /// All that is there, staged or published.
    fn keys(&self) -> Vec<String>;
}

impl Make for S3 {
    fn make() -> Self {
        Self::start()
    }

    fn objects(&self) -> ObjectStore {
        self.objects()
    }

    fn keys(&self) -> Vec<String> {
        self.keys()
    }
}

impl Make for Bucket {
    fn make() -> Self {
        Self::fresh()
    }

    fn objects(&self) -> ObjectStore {
        self.objects()
    }

    fn keys(&self) -> Vec<String> {
        self.keys()
    }
}

struct Folder(tempfile::TempDir);

impl Make for Folder {
    fn make() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn objects(&self) -> ObjectStore {
        ObjectStore::folder(self.0.path())
    }

    fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut dirs = vec![self.0.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    let key = path.strip_prefix(self.0.path()).expect("below it");
                    keys.push(key.to_str().expect("UTF-8").to_owned());
                }
            }
        }
        keys.sort();
        keys
    }
}

async fn is_checked_and_nothing_is_left<M: Make>() {
    let made = M::make();
    made.objects().check().await.expect("it can be used");
    assert_eq!(made.keys(), [""; 0]);
    assert_eq!(made.objects().staged().await.unwrap(), []);
}

async fn staged_is_seen_by_nobody<M: Make>() {
    let made = M::make();
    let (objects, batch) = (made.objects(), BatchId::new());
    let staged = stage(&objects, batch, b"one").await;
    assert_eq!((staged.size, staged.sha256), (3, sha256(b"one")));
    assert_eq!(objects.size("bank/post/1/a.csv").await.unwrap(), None);
    assert!(objects.open("bank/post/1/a.csv").await.is_err());
    assert!(made.keys().iter().all(|key| key.starts_with(".staging/")));
    assert_eq!(objects.staged().await.unwrap(), [batch]);
}

async fn publish_replaces_and_can_be_repeated<M: Make>() {
    let made = M::make();
    let (objects, batch) = (made.objects(), BatchId::new());
    let key = format!("bank/post/{batch}/a.csv");
    for text in [&b"first"[..], b"", b"the third"] {
        let staged = stage(&objects, batch, text).await;
        for _ in 0..3 {
            objects.publish(&staged, &key).await.expect("published");
            assert_eq!(read(&objects, &key).await, text);
            let size = u64::try_from(text.len()).unwrap();
            assert_eq!(objects.size(&key).await.unwrap(), Some(size));
        }
        // Even when the answer to the first was lost, and all was cleared since.
        objects.clear(batch).await.expect("cleared");
        objects.publish(&staged, &key).await.expect("it is there");
    }
    assert_eq!(made.keys(), [key]);
    assert_eq!(objects.staged().await.unwrap(), []);
}

async fn what_is_gone_is_not_published<M: Make>() {
    let made = M::make();
    let (objects, batch) = (made.objects(), BatchId::new());
    let staged = stage(&objects, batch, b"one").await;
    objects.clear(batch).await.expect("cleared");
    assert!(objects.publish(&staged, "bank/post/1/a.csv").await.is_err());
    let other = stage(&objects, batch, b"another").await;
    objects.publish(&other, "bank/post/1/a.csv").await.unwrap();
    assert!(objects.publish(&staged, "bank/post/1/a.csv").await.is_err());
    assert_eq!(read(&objects, "bank/post/1/a.csv").await, b"another");
}

async fn unstage_takes_what_it_is_given_and_no_more<M: Make>() {
    let made = M::make();
    let (objects, batch) = (made.objects(), BatchId::new());
    let mut files = Vec::new();
    for text in [b"one", b"two", b"new"] {
        files.push(stage(&objects, batch, text).await);
    }
    for _ in 0..2 {
        objects.unstage(batch, &files[..2]).await.expect("unstaged");
        assert_eq!(made.keys().len(), 1);
    }
    objects.publish(&files[2], "a/b/c/d").await.expect("kept");
    objects.unstage(batch, &files).await.expect("unstaged");
    assert_eq!(made.keys(), ["a/b/c/d"]);
    objects.unstage(batch, &[]).await.expect("nothing to do");
}

async fn clear_removes_what_was_abandoned<M: Make>() {
    let made = M::make();
    let (objects, batch) = (made.objects(), BatchId::new());
    let other = stage(&objects, BatchId::new(), b"another batch's").await;
    stage(&objects, batch, b"whole").await;
    // A process that is killed drops nothing.
    for len in [100, 20 << 20] {
        std::mem::forget(begun(&objects, batch, &noise(len)).await);
    }
    let again = made.objects();
    assert_eq!(again.staged().await.unwrap().len(), 2);
    again.clear(batch).await.expect("cleared");
    assert_eq!(made.keys().len(), 1);
    again.publish(&other, "a/b/c/d").await.expect("it is left");
    again.clear(batch).await.expect("nothing to do");
}

async fn a_large_file_is_the_same_bytes<M: Make>() {
    let made = M::make();
    let (objects, batch) = (made.objects(), BatchId::new());
    // A part exactly, one byte more, and some parts.
    for len in [8 << 20, (8 << 20) + 1, 20 << 20] {
        let bytes = noise(len);
        let staged = stage(&objects, batch, &bytes).await;
        assert_eq!(staged.size, u64::try_from(len).unwrap());
        assert_eq!(staged.sha256, sha256(&bytes));
        objects.publish(&staged, "a/b/c/large").await.unwrap();
        assert!(read(&objects, "a/b/c/large").await == bytes, "{len}");
    }
    objects.clear(batch).await.expect("cleared");
    assert_eq!(made.keys(), ["a/b/c/large"]);
}

async fn remove_takes_a_folder_and_not_its_neighbour<M: Make>() {
    let made = M::make();
    let (objects, batch) = (made.objects(), BatchId::new());
    for key in ["a/b/1/x", "a/b/1/y", "a/b/12/x", "a/b/2/x"] {
        let staged = stage(&objects, batch, b"one").await;
        objects.publish(&staged, key).await.expect("published");
    }
    objects.clear(batch).await.expect("cleared");
    for _ in 0..2 {
        objects.remove("a/b/1").await.expect("removed");
        assert_eq!(made.keys(), ["a/b/12/x", "a/b/2/x"]);
    }
}

async fn a_key_may_hold_any_character<M: Make>() {
    let made = M::make();
    let (objects, batch) = (made.objects(), BatchId::new());
    let keys = [
        "Bank & Söhne/post/1/a b+c%25=d&e'f.csv",
        "bank/post/1/#?*(1)[x]~!.txt",
        "bank/ポスト/1/名前.csv",
    ];
    for key in keys {
        let staged = stage(&objects, batch, key.as_bytes()).await;
        objects.publish(&staged, key).await.expect("published");
        assert_eq!(read(&objects, key).await, key.as_bytes());
        assert!(objects.size(key).await.unwrap().is_some());
    }
    objects.clear(batch).await.expect("cleared");
    assert_eq!(made.keys(), keys);
    for key in keys {
        let folder = key.rsplit_once('/').expect("a folder").0;
        objects.remove(folder).await.expect("removed");
    }
    assert_eq!(made.keys(), [""; 0]);
}

macro_rules! each_case {
    ($($case:ident),+ $(,)?) => {
        mod folder {
            $(#[tokio::test]
            async fn $case() {
                super::$case::<super::Folder>().await;
            })+
        }

        mod s3 {
            $(#[tokio::test]
            async fn $case() {
                super::$case::<super::S3>().await;
            })+
        }

        mod minio {
            $(#[tokio::test]
            async fn $case() {
                super::$case::<super::Bucket>().await;
            })+
        }
    };
}

each_case! {
    is_checked_and_nothing_is_left,
    staged_is_seen_by_nobody,
    publish_replaces_and_can_be_repeated,
    what_is_gone_is_not_published,
    unstage_takes_what_it_is_given_and_no_more,
    clear_removes_what_was_abandoned,
    a_large_file_is_the_same_bytes,
    remove_takes_a_folder_and_not_its_neighbour,
    a_key_may_hold_any_character,
}
