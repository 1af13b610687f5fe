//! Where the programs of the servers are; `./check` looks in the same places and installs what is not there.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::process;

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
    let found = sought(name, &["/usr/local/sbin", "/usr/sbin"]);
    found.unwrap_or_else(|| panic!("{name} is not there. {INSTALL}"))
}

/// A program in the path, or in one of these folders.
fn sought(name: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path);
    let mut places = path.chain(more.iter().map(PathBuf::from));
    places.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
}

/// What is built of MinIO; `./check` has the same.
pub const MINIO: &str = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c";
/// How long the build may take: three minutes on two free cores, and ten on two busy ones.
const MINIO_BUILD: Duration = Duration::from_secs(20 * 60);

/// MinIO's program: the one that `ROWMILL_TEST_MINIO` names, else the one that was built before, else it is built.
pub fn minio() -> &'static Path {
    // What failed once is not tried again by each test.
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| match std::env::var_os("ROWMILL_TEST_MINIO") {
        Some(named) if Path::new(&named).is_file() => Ok(named.into()),
        Some(named) => Err(format!("ROWMILL_TEST_MINIO={named:?} is no file")),
        None => built(),
    });
    match found {
        Ok(program) => program,
        Err(why) => panic!(
            "MinIO is not there ({why}). ./check test builds it, and so does, with Go 1.24 or newer: \
             GOBIN=\"$PWD\" CGO_ENABLED=0 go install {MINIO} && export ROWMILL_TEST_MINIO=\"$PWD/minio\""
        ),
    }
}

/// Where it is kept: root's own folder cannot be entered by whom the servers run as.
fn cache() -> Result<PathBuf, String> {
    if process::is_root() {
        return Ok("/var/cache/rowmill-test".into());
    }
    let from = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = from("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&from("HOME")?).join(".cache")));
    Ok(cache.ok_or("HOME is not set")?.join("rowmill-test"))
}

/// Builds it where it was not built before; processes at the same time wait for the one that does.
fn built() -> Result<PathBuf, String> {
    let told = |e: std::io::Error| e.to_string();
    let cache = cache()?;
    let (_, version) = MINIO.split_once('@').ok_or("no version")?;
    let program = cache.join(format!("minio-{version}"));
    if program.is_file() {
        return Ok(program);
    }
    let go = sought("go", &["/usr/local/go/bin"]).ok_or("and Go, to build it, is not there")?;
    std::fs::create_dir_all(&cache).map_err(told)?;
    let lock = File::create(cache.join("lock")).map_err(told)?;
    lock.lock().map_err(told)?;
    if program.is_file() {
        return Ok(program);
    }
    let temp = tempfile::tempdir_in(&cache).map_err(told)?;
    let log = File::create(temp.path().join("log")).map_err(told)?;
    eprintln!("building {MINIO}");
    let mut build = Command::new("nice")
        .arg(go)
        // Not all of the machine, and no debugging information.
        .args(["install", "-p", "2", "-ldflags=-s -w", MINIO])
        .env("CGO_ENABLED", "0")
        .env("GOBIN", temp.path())
        .current_dir(temp.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(told)?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(told)?;
    let began = Instant::now();
    let ended = loop {
        if let Some(status) = build.try_wait().map_err(told)? {
            break status.to_string();
        }
        if began.elapsed() > MINIO_BUILD {
            process::send(-build.id().cast_signed(), libc::SIGKILL);
            let _ = build.wait();
            break format!("not in {MINIO_BUILD:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let made = temp.path().join("minio");
    if !made.is_file() {
        return Err(format!(
            "go install: {ended}: {}",
            process::log(temp.path())
        ));
    }
    std::fs::rename(made, &program).map_err(told)?;
    Ok(program)
}
