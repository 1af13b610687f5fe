//! Children that are kept between tasks.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::child::{Child, GRACE};
use super::spec::CommandSpec;

/// A command that ends without a word is given so long, once, to show that it stays without a row.
const STAYS: Duration = Duration::from_secs(2);

/// The children of one op: at most so many as its spec says, started when they are needed.
pub(super) struct Pool {
    spec: Arc<CommandSpec>,
    slots: Semaphore,
    /// How many slots there are.
    size: AtomicUsize,
    /// A child has written something: the command is one that works.
    spoke: AtomicBool,
    idle: Mutex<Vec<Child>>,
}

/// The right to have one child.
pub(super) struct Slot<'a> {
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

/// A child that a task works with. Dropped, it goes back if it owes nothing, and is killed if it does.
pub(super) struct Leased<'a> {
    pool: &'a Pool,
    /// Taken when it is dropped.
    child: Option<Child>,
}

impl Pool {
    pub(super) fn new(spec: CommandSpec) -> Self {
        let size = spec.children.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            slots: Semaphore::new(size),
            size: AtomicUsize::new(size),
            spec: Arc::new(spec),
            spoke: AtomicBool::new(false),
            idle: Mutex::default(),
        }
    }

    pub(super) fn spec(&self) -> &CommandSpec {
        &self.spec
    }

    /// Makes room for so many children. It never shrinks: who runs fewer tasks has fewer at work, and
    /// the others wait idle.
    pub(super) fn grow(&self, children: usize) {
        let children = children.min(Semaphore::MAX_PERMITS);
        let before = self.size.fetch_max(children, Ordering::Relaxed);
        self.slots.add_permits(children.saturating_sub(before));
    }

    /// Waits for a slot. **Cancellation:** safe.
    pub(super) async fn slot(&self) -> Option<Slot<'_>> {
        Some(Slot {
            pool: self,
            _permit: self.slots.acquire().await.ok()?,
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Child>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Slot<'a> {
    pub(super) fn spec(&self) -> &'a CommandSpec {
        &self.pool.spec
    }

    /// An idle child, else a new one. **Cancellation:** safe.
    ///
    /// # Errors
    /// None can be started.
    pub(super) async fn child(&self) -> io::Result<Leased<'a>> {
        let pool = self.pool;
        loop {
            // A statement of its own, so that the lock is not held while the child is tried.
            let idle = pool.idle().pop();
            let child = match idle {
                Some(mut child) => {
                    if !child.kept_still() {
                        continue;
                    }
                    child
                }
                None => Child::start(&pool.spec).await?,
            };
            return Ok(Leased {
                pool,
                child: Some(child),
            });
        }
    }
}

impl Slot<'_> {
    /// Whether the command, given no row, stays to wait for one.
    ///
    /// Asked when a child ended without a word and none has ever written one: a script that is not
    /// there, or that misses a library, ends by itself, and that is no row's fault.
    pub(super) async fn stays(&self) -> bool {
        if self.pool.spoke.load(Ordering::Relaxed) {
            return true;
        }
        match self.child().await {
            Ok(mut leased) => match leased.get() {
                Some(child) => timeout(STAYS, child.process.ended()).await.is_err(),
                None => true,
            },
            Err(_) => false,
        }
    }

    /// Notes whether a child has written something.
    pub(super) fn heard(&self, child: &Child) {
        if child.output.spoke() {
            self.pool.spoke.store(true, Ordering::Relaxed);
        }
    }
}

impl Leased<'_> {
    /// The child, to be used by name.
    pub(super) fn get(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.child.take()
            && child.is_idle()
        {
            self.pool.idle().push(child);
        }
    }
}

/// Threads that wait for children whose input was closed.
static LEAVING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

impl Drop for Pool {
    fn drop(&mut self) {
        let mut idle = std::mem::take(&mut *self.idle());
        if idle.is_empty() {
            return;
        }
        for child in &mut idle {
            child.feed.close();
        }
        let wait = move || {
            let limit = Instant::now() + GRACE;
            for child in &idle {
                child.process.wait_until(limit);
            }
        };
        let children = std::thread::Builder::new().name("rowmill-leaving".to_owned());
        let mut leaving = LEAVING.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|thread| !thread.is_finished());
        // Without a thread the children are dropped with its closure, and so killed at once.
        leaving.extend(children.spawn(wait));
    }
}

/// Blocks until the children of all managers that were dropped have ended, 5 s at most.
///
/// For the end of `main`: a child is killed when its worker ends, however little it had left to do.
pub fn settle() {
    let leaving = std::mem::take(&mut *LEAVING.lock().unwrap_or_else(PoisonError::into_inner));
    for thread in leaving {
        let _ = thread.join();
    }
}
