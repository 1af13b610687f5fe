//! Which command, and whether it can be started.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a program is looked for when there is no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A command that runs rows: one JSON line a row to its standard input, one back from its output.
///
/// ```
/// use rowmill::processor::command::CommandSpec;
/// let spec = CommandSpec {
///     command: vec!["no-such-program".into()],
///     dir: ".".into(),
///     window: 32,
///     children: 2,
/// };
/// assert!(spec.check().unwrap_err().contains("no-such-program"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program and its arguments. A program with a slash is relative to `dir`, another is
    /// looked for in `PATH`.
    pub command: Vec<String>,
    /// The folder that children start in.
    pub dir: PathBuf,
    /// Rows that are written to a child beyond those that it answered: 1 or more.
    pub window: usize,
    /// Children at once, and so tasks at once: 1 or more.
    pub children: usize,
}

/// Arguments may be secrets; only the program is shown.
impl fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSpec")
            .field("program", &self.program())
            .field("dir", &self.dir)
            .field("window", &self.window)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}

impl CommandSpec {
    /// Says whether the command could be started now: its folder and its program are there, and the
    /// program may be run.
    ///
    /// # Errors
    /// What is wrong, for the person who configured it.
    pub fn check(&self) -> Result<(), String> {
        if let Some(mistake) = self.mistakes().first() {
            return Err((*mistake).to_owned());
        }
        let dir = self.folder();
        if !dir.is_dir() {
            return Err(format!("{} is not a folder", dir.display()));
        }
        let program = self.program();
        if program.contains('/') {
            let path = dir.join(program);
            return match look(&path) {
                Found::Program => Ok(()),
                Found::Other => Err(format!("{} cannot be executed", path.display())),
                Found::Nothing => Err(format!("{} does not exist", path.display())),
            };
        }
        let mut other = None;
        let paths = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        for folder in std::env::split_paths(&paths) {
            let path = dir.join(folder).join(program);
            match look(&path) {
                Found::Program => return Ok(()),
                Found::Other => other = other.or(Some(path)),
                Found::Nothing => {}
            }
        }
        Err(match other {
            Some(path) => format!("{} cannot be executed", path.display()),
            None => format!("{program} is in no folder of PATH"),
        })
    }

    /// What cannot be, whatever is installed.
    pub(in crate::processor) fn mistakes(&self) -> Vec<&'static str> {
        let mut mistakes = Vec::new();
        if self.program().is_empty() {
            mistakes.push("the command is empty");
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            mistakes.push("the command holds a NUL character");
        }
        if self.window == 0 {
            mistakes.push("window must be 1 or more");
        }
        if self.children == 0 {
            mistakes.push("children must be 1 or more");
        }
        mistakes
    }

    pub(super) fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// The folder of `rowmill.toml` is the empty path, which nobody can change to.
    pub(super) fn folder(&self) -> &Path {
        if self.dir == Path::new("") {
            Path::new(".")
        } else {
            &self.dir
        }
    }
}

enum Found {
    Program,
    /// Something that cannot be executed by us.
    Other,
    Nothing,
}

fn look(path: &Path) -> Found {
    match path.metadata() {
        Err(_) => Found::Nothing,
        Ok(found) if found.is_file() && may_execute(path.as_os_str()) => Found::Program,
        Ok(_) => Found::Other,
    }
}

fn may_execute(path: &OsStr) -> bool {
    let Ok(path) = CString::new(path.as_bytes()) else {
        return false;
    };
    // SAFETY: the path is a string that ends in NUL and outlives the call.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}
