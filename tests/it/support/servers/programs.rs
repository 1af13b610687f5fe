//! Where the programs of the servers are; `./check` looks in the same places and installs what is not there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const INSTALL: &str = "./check installs it, and so does, as root on Debian or Ubuntu: apt-get install -y postgresql redis-server pgbouncer";

/// The folder of `initdb` and `postgres`.
pub fn postgres_bin() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        let is_whole = |bin: &PathBuf| bin.join("initdb").exists() && bin.join("postgres").exists();
        if let Some(bin) = std::env::var_os("ROWMILL_TEST_PG_BIN") {
            let bin = PathBuf::from(bin);
            assert!(
                is_whole(&bin),
                "ROWMILL_TEST_PG_BIN={} has no initdb and postgres in it",
                bin.display()
            );
            return bin;
        }
        let found = configured().into_iter().chain(packaged()).find(is_whole);
        found.unwrap_or_else(|| panic!("PostgreSQL is not there. {INSTALL}"))
    })
}

/// What `pg_config` says; it may come without a server.
fn configured() -> Option<PathBuf> {
    let told = Command::new("pg_config").arg("--bindir").output().ok()?;
    let bin = String::from_utf8(told.stdout).ok()?;
    Some(PathBuf::from(bin.trim()))
}

/// Debian's folders, the newest version first.
fn packaged() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort();
    let newest_first = versions.into_iter().rev();
    newest_first.map(|(_, folder)| folder.join("bin")).collect()
}

/// A program in the path, or where Debian keeps servers that users have not in theirs.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path);
    let mut places = path.chain(["/usr/local/sbin".into(), "/usr/sbin".into()]);
    let found = places.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()));
    found.unwrap_or_else(|| panic!("{name} is not there. {INSTALL}"))
}
