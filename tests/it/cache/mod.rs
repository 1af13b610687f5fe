//! Statuses that are copied: what is asked again and again, with each cache.

mod changes;
mod cluster;
mod faults;
mod keys;
mod polls;
mod same;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rowmill::{Builder, Client, JobManager, RedisOptions, StatusCache};

use crate::e2e::world::World;
use crate::support::servers::Redis;

/// Long enough that a busy machine is no fault of the server.
async fn patient(redis: &Redis) -> StatusCache {
    patient_at(&redis.url()).await
}

async fn patient_at(urls: &str) -> StatusCache {
    let options = RedisOptions::new(urls).response(Duration::from_secs(10));
    StatusCache::redis_by(options).await.expect("a URL")
}

/// Doubles a number; a query's answer is an object.
fn manager(world: &World, cache: StatusCache) -> JobManager {
    manager_by(world.builder(), cache)
}

fn manager_by(builder: Builder, cache: StatusCache) -> JobManager {
    use rowmill::{QueryCx, RawJson, RowCx, RowFailure};
    struct Double;
    impl rowmill::BatchProcessor for Double {
        type Block = ();
        type Context = ();
        type Input = i64;
        type Output = i64;
        async fn process(&self, cx: &mut RowCx<'_, (), ()>, n: i64) -> Result<i64, RowFailure> {
            cx.write_line("doubled.csv", &(n * 2).to_string());
            match n {
                13 => Err(rowmill::Message::new("unlucky", 13).into()),
                n => Ok(n * 2),
            }
        }
    }
    struct Ask;
    impl rowmill::SlowQueryProcessor for Ask {
        type Block = ();
        type Context = ();
        type Input = Box<RawJson>;
        type Output = Box<RawJson>;
        async fn query(
            &self,
            _: &mut QueryCx<'_, (), ()>,
            input: Box<RawJson>,
        ) -> Result<Box<RawJson>, RowFailure> {
            Ok(input)
        }
    }
    let builder = builder.cache(cache);
    let builder = builder.batch("bank", "double", Double);
    builder
        .slow_query("bank", "ask", Ask)
        .build()
        .expect("a manager")
}

/// Another process's client to the same database.
async fn other(world: &World, cache: StatusCache) -> Client {
    Client::new(world.again().await).cached(cache)
}

/// What is told while it lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Lines of a level that speak of the cache.
    fn count(&self, level: &str) -> usize {
        let bytes = self.0.lock().expect("one").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        let told = |line: &&str| line.contains(level) && line.contains("the status cache");
        text.lines().filter(told).count()
    }
}

/// Waits until something holds, which is looked at again and again.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect(what);
}
