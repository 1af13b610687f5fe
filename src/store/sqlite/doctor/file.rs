//! The file, the folder and the disk that it is on.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::Connection;

use super::{Check, number, unread};
use crate::store::Schema;
use crate::store::StoreError;
use crate::store::sqlite::errors::sqlite_error;
use crate::store::sqlite::open;

/// Findings of the integrity check that are named.
const FINDINGS: usize = 3;
/// A WAL that is larger was not reset for long: its limit is 64 MiB.
const WAL: u64 = 512 << 20;
/// With less free space, the next large batch may fill the disk.
const FREE: u64 = 512 << 20;

/// Whether there is a file; none is no fault, but a folder that is missing is.
pub(super) fn exists(path: &Path, checks: &mut Vec<Check>) -> bool {
    if path.exists() {
        return true;
    }
    let dir = folder(path);
    checks.push(if dir.is_dir() {
        let detail = format!(
            "{} does not exist yet; the first submit makes it",
            path.display()
        );
        Check::ok("file", detail)
    } else {
        let detail = format!("the folder {} does not exist", dir.display());
        Check::repair(
            "file",
            detail,
            "make the folder, or name another with --database",
        )
    });
    false
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

pub(super) fn schema(schema: &Schema) -> Check {
    if schema.pending.is_empty() {
        let newest = schema.applied.last().map_or("", String::as_str);
        return Check::ok("schema", format!("up to date ({newest})"));
    }
    Check::repair(
        "schema",
        format!("older than this program: {}", schema.pending.join(", ")),
        "run `rowmill migrate`, then `rowmill doctor` again: what is stored was not looked at",
    )
}

/// A look at the file of a database.
type Look = fn(&Connection, &Path) -> Result<Check, StoreError>;

pub(super) fn looks(c: &Connection, path: &Path, checks: &mut Vec<Check>) {
    let all: [(&'static str, Look); 8] = [
        ("integrity", integrity),
        ("journal", journal),
        ("wal", wal),
        ("free_pages", free_pages),
        ("folder", writable),
        ("disk_space", |_, path| Ok(disk_space(path))),
        ("file_system", |_, path| Ok(file_system(path))),
        ("lock_files", lock_files),
    ];
    for (name, look) in all {
        checks.push(look(c, path).unwrap_or_else(|e| unread(name, &e)));
    }
}

fn integrity(c: &Connection, _: &Path) -> Result<Check, StoreError> {
    let mut statement = c.prepare("pragma quick_check(100)")?;
    let found = statement.query_map([], |r| r.get::<_, String>(0))?;
    let found = found
        .collect::<Result<Vec<String>, _>>()
        .map_err(sqlite_error("checking the file"))?;
    let bad: Vec<&str> = found
        .iter()
        .map(String::as_str)
        .filter(|line| *line != "ok")
        .take(FINDINGS)
        .collect();
    Ok(if bad.is_empty() {
        Check::ok("integrity", "SQLite's quick_check finds nothing")
    } else {
        Check::repair(
            "integrity",
            bad.join("; ").replace('\n', " "),
            "stop all workers and restore the file from a copy, with its -wal beside it",
        )
    })
}

fn journal(c: &Connection, _: &Path) -> Result<Check, StoreError> {
    let mode: String = c.query_row("pragma journal_mode", [], |r| r.get(0))?;
    Ok(if mode.eq_ignore_ascii_case("wal") {
        Check::ok("journal", "WAL")
    } else {
        Check::repair(
            "journal",
            format!("the journal's mode is {mode}, not WAL"),
            "run any command that writes, such as `rowmill migrate`: it switches back to WAL",
        )
    })
}

fn wal(_: &Connection, path: &Path) -> Result<Check, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    let size = std::fs::metadata(Path::new(&name)).map_or(0, |file| file.len());
    let detail = format!("{} waiting in the WAL", mib(size));
    Ok(if size <= WAL {
        Check::ok("wal", detail)
    } else {
        Check::repair(
            "wal",
            detail,
            "look for a program that has kept a read of the file open for long, and end it",
        )
    })
}

fn free_pages(c: &Connection, _: &Path) -> Result<Check, StoreError> {
    let page = number(c, "pragma page_size")?;
    let free = number(c, "pragma freelist_count")?;
    let count = number(c, "pragma page_count")?;
    let bytes = |pages: i64| mib(u64::try_from(pages.saturating_mul(page)).unwrap_or(0));
    Ok(Check::ok(
        "free_pages",
        format!(
            "{} of {} are free in the file, and are used again",
            bytes(free),
            bytes(count)
        ),
    ))
}

fn writable(_: &Connection, path: &Path) -> Result<Check, StoreError> {
    let dir = folder(path);
    for place in [path, dir] {
        if !may_write(place) {
            return Ok(Check::repair(
                "folder",
                format!("{} cannot be written by this user", place.display()),
                "give this user the right to write the file and its folder: SQLite makes files beside it",
            ));
        }
    }
    Ok(Check::ok(
        "folder",
        format!("{} is writable", dir.display()),
    ))
}

/// Whether this process may write there, without trying.
fn may_write(path: &Path) -> bool {
    let Ok(name) = std::ffi::CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: `name` ends in NUL and outlives the call.
    unsafe { libc::access(name.as_ptr(), libc::W_OK) == 0 }
}

fn disk_space(path: &Path) -> Check {
    match free_space(folder(path)) {
        Some(free) => space(free),
        None => Check::ok("disk_space", "not known on this file system"),
    }
}

fn space(free: u64) -> Check {
    let detail = format!("{} free on the database's disk", mib(free));
    if free >= FREE {
        return Check::ok("disk_space", detail);
    }
    Check::repair(
        "disk_space",
        detail,
        "make room: purge old batches with `rowmill purge`, or move the database to a larger disk",
    )
}

/// Bytes that an unprivileged user may still write.
fn free_space(dir: &Path) -> Option<u64> {
    let name = std::ffi::CString::new(dir.as_os_str().as_bytes()).ok()?;
    let mut info = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` ends in NUL and `info` has room for what is written.
    if unsafe { libc::statvfs(name.as_ptr(), info.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: statvfs returned 0, so it filled `info`.
    let info = unsafe { info.assume_init() };
    // Their types are others on other platforms.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    Some((info.f_bavail as u64).saturating_mul(info.f_frsize as u64))
}

fn file_system(path: &Path) -> Check {
    match open::refuse_network_file_system(path) {
        Ok(()) => Check::ok("file_system", "a local one"),
        Err(error) => Check::repair(
            "file_system",
            error.to_string(),
            "stop all workers, move the file to a local disk, and name it with --database",
        ),
    }
}

/// The folder with the workers' locks, without which no worker can start.
fn lock_files(_: &Connection, path: &Path) -> Result<Check, StoreError> {
    let dir = open::Options::new(path).workers_dir();
    Ok(if !dir.exists() || (dir.is_dir() && may_write(&dir)) {
        Check::ok("lock_files", format!("{} is writable", dir.display()))
    } else {
        Check::repair(
            "lock_files",
            format!("{} cannot be written by this user", dir.display()),
            "give this user the right to write the folder: the workers' locks are in it",
        )
    })
}

/// Bytes for people.
fn mib(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes > 0 && bytes < MIB {
        return format!("{} KiB", bytes.div_ceil(1024));
    }
    format!("{} MiB", bytes / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_to_be_repaired() {
        assert!(space(FREE).ok);
        let full = space(FREE - 1);
        assert!(!full.ok && full.repair.is_some(), "{full:?}");
        assert_eq!(full.detail, "511 MiB free on the database's disk");
    }

    #[test]
    fn what_is_free_on_a_disk_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_space(dir.path()).is_some());
        assert_eq!(free_space(&dir.path().join("missing")), None);
    }
}
