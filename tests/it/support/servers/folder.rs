//! The folder of this process's servers, and the end of it.

use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use super::process;

const PREFIX: &str = "rowmill-test-";

struct Home {
    path: PathBuf,
    /// Held while this process lives: a folder whose lock is free belongs to a dead one.
    _lock: File,
}

static HOME: OnceLock<Home> = OnceLock::new();

fn home() -> &'static Path {
    let home = HOME.get_or_init(|| {
        sweep();
        // It gets its name only once it is locked, so that no sweep meets it before.
        let named = format!(".{PREFIX}");
        let made = tempfile::Builder::new().prefix(&named).tempdir();
        let made = made.expect("a folder").keep();
        let lock = File::create(made.join("lock")).expect("a lock");
        lock.try_lock().expect("a lock of our own");
        let name = made.file_name().expect("a name").to_string_lossy();
        let path = made.with_file_name(name.trim_start_matches('.'));
        std::fs::rename(&made, &path).expect("a name");
        // The servers run as somebody else, and have to come through.
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("permissions");
        // SAFETY: the function is there as long as the process.
        unsafe { libc::atexit(end) };
        Home { path, _lock: lock }
    });
    &home.path
}

/// Removes what processes that were killed have left.
fn sweep() {
    let entries = std::fs::read_dir(std::env::temp_dir()).expect("the temporary folder");
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let lock = is_ours.then(|| File::open(entry.path().join("lock")));
        if let Some(Ok(lock)) = lock
            && lock.try_lock().is_ok()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

extern "C" fn end() {
    process::end_all();
    if let Some(home) = HOME.get() {
        let _ = std::fs::remove_dir_all(&home.path);
    }
}

/// A new folder of whom the servers run as.
pub fn folder(of: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let no = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = home().join(format!("{no}-{of}"));
    std::fs::create_dir(&path).expect("a folder");
    hand_over(&path);
    path
}

/// Makes it theirs whom the servers run as.
pub fn hand_over(path: &Path) {
    if process::is_root() {
        let nobody = Some(process::NOBODY);
        chown(path, nobody, nobody).expect("a new owner");
    }
}

/// A port that nobody has, and that no outgoing connection takes while its server is down: it is below their range.
/// So is the port 10 000 above it, which a node of a Redis cluster takes as well.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u32 = 12_000;
    const PORTS: u32 = 10_000;
    let is_free = |port: u32| {
        let port = u16::try_from(port).ok()?;
        let tried = std::net::TcpListener::bind(("127.0.0.1", port));
        tried.is_ok().then_some(port)
    };
    // Processes at the same time begin at different places.
    let from = std::process::id().wrapping_mul(61);
    (0..PORTS)
        .find_map(|_| {
            let no = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let port = FIRST + from.wrapping_add(no) % PORTS;
            is_free(port + 10_000).and(is_free(port))
        })
        .expect("a free port")
}
