//! Real servers for the tests, one of a kind for the whole process: found on the machine, started without a container.
//!
//! Every one listens on 127.0.0.1 alone, keeps what it has in a temporary folder, and dies with the test process.

mod cluster;
mod database;
mod folder;
mod frames;
mod minio;
mod pgbouncer;
mod postgres;
mod process;
pub mod programs;
mod proxy;
mod redis;

pub use cluster::RedisCluster;
pub use database::{Database, Template};
pub use minio::Minio;
pub use pgbouncer::PgBouncer;
pub use postgres::{Options, Postgres};
pub use proxy::Proxy;
pub use redis::Redis;

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// How long a server may take to start or to end; a busy machine is slow, and nobody waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the servers' own connections run on: a test's runtime may end, or stand still, at any time.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let builder = builder.worker_threads(1).thread_name("servers");
        builder.enable_all().build().expect("a runtime")
    })
}

/// The answer of this future, from a test that is async or not.
pub fn block_on<F>(future: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let (answer, answered) = channel();
    runtime().spawn(async move { answer.send(future.await) });
    answered.recv().expect("an answer: the task panicked")
}

/// Asks again until there is an answer; panics where none comes in time.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
