//! More output files than a process may have open.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rowmill::ObjectStore;
use rowmill::files::{ObjectBackend, StageError, Staged, Staging};
use rowmill::model::{BatchId, Kind};
use serde_json::Value;

use super::world::{Crowd, World, numbers, read, rows, settings, submit};

type Fut<'a, T> = BoxFuture<'a, Result<T, StageError>>;

/// An object store that does as another one, and counts the files that are being staged.
struct Counted {
    under: ObjectStore,
    staging: Crowd,
}

/// A file that is being staged in it.
struct Open(Option<Box<dyn Staging>>, Crowd);

impl Drop for Open {
    fn drop(&mut self) {
        self.1.leave();
    }
}

impl Staging for Open {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> Fut<'a, ()> {
        self.0.as_mut().unwrap().write(bytes)
    }

    fn finish(mut self: Box<Self>) -> Fut<'static, Staged> {
        self.0.take().unwrap().finish()
    }
}

impl ObjectBackend for Counted {
    fn stage(&self, batch: BatchId) -> Fut<'_, Box<dyn Staging>> {
        async move {
            let staged = self.under.stage(batch).await?;
            self.staging.enter();
            let open = Open(Some(staged), self.staging.clone());
            Ok(Box::new(open) as Box<dyn Staging>)
        }
        .boxed()
    }

    fn publish<'a>(&'a self, staged: &'a Staged, key: &'a str) -> Fut<'a, ()> {
        self.under.publish(staged, key)
    }

    fn unstage<'a>(&'a self, batch: BatchId, staged: &'a [Staged]) -> Fut<'a, ()> {
        self.under.unstage(batch, staged)
    }

    fn staged(&self) -> Fut<'_, Vec<BatchId>> {
        self.under.staged()
    }

    fn clear(&self, batch: BatchId) -> Fut<'_, ()> {
        self.under.clear(batch)
    }

    fn open<'a>(&'a self, key: &'a str) -> Fut<'a, Box<dyn tokio::io::AsyncRead + Send + Unpin>> {
        self.under.open(key)
    }

    fn remove<'a>(&'a self, folder: &'a str) -> Fut<'a, ()> {
        self.under.remove(folder)
    }

    fn size<'a>(&'a self, key: &'a str) -> Fut<'a, Option<u64>> {
        self.under.size(key)
    }

    fn place(&self, key: &str) -> String {
        self.under.place(key)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_for_every_row_needs_no_more_open_files_than_a_process_may_have() {
    let world = World::new().await;
    let staging = Crowd::default();
    let objects = ObjectStore::new(Counted {
        under: ObjectStore::folder(world.folder()),
        staging: staging.clone(),
    });
    let processor = rows(|cx, input| {
        // Two rows write to each file, far from each other; the names are not in the rows' order.
        let n = input.as_i64().unwrap();
        cx.write_line(&format!("{}.txt", (n * 7) % 300), &format!("{n}"));
        cx.write_line("all.txt", &format!("{n}"));
        async { Ok(Value::Null) }.boxed()
    });
    let manager = world.builder().objects(objects);
    let manager = manager.batch("bank", "post", processor);
    let small = settings(|s| s.block_rows = 50);
    let manager = manager
        .settings("bank", "post", Kind::Batch, small)
        .build()
        .unwrap();
    let id = submit(&manager, "post", numbers(600)).await;
    world.work_to_the_end(&manager).await;
    let batch = manager.batch_done(id).await.unwrap();
    assert!(batch.done);
    assert_eq!(batch.files.len(), 301);
    for n in [1, 150, 299, 300] {
        let name = format!("{}.txt", (n * 7) % 300);
        let text = format!("{n}\n{}\n", n + 300);
        assert_eq!(read(&manager, &batch, &name).await, text);
    }
    let all: String = (1..=600).map(|n| format!("{n}\n")).collect();
    assert_eq!(read(&manager, &batch, "all.txt").await, all);
    assert!(staging.most() <= 256, "{} were open", staging.most());
    world.end(&manager).await;
}
