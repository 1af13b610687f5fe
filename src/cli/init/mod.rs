//! `init`: a first configuration, input and handler that work as they are.

use std::fs::File;
use std::io::{ErrorKind as IoError, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::exit::Failure;
use super::output;
use super::session::quoted;
use crate::error::{Error, ErrorKind};

/// What is written, under which name. The configuration is the last: where it is, the rest is.
const FILES: [(&str, &str); 3] = [
    ("transactions.csv", include_str!("transactions.csv")),
    ("post.py", include_str!("post.py")),
    ("rowmill.toml", include_str!("rowmill.toml")),
];
const RUN: &str = "run transactions.csv --app bank --op post";

#[derive(Args)]
#[command(after_help = "\
Example:
  rowmill init jobs
  cd jobs && rowmill run transactions.csv --app bank --op post")]
pub(super) struct Init {
    /// The folder, which is made where there is none
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// What `init --json` prints.
#[derive(Serialize)]
struct Answer {
    files: Vec<String>,
    /// The command to type next.
    next: String,
}

/// Writes the files, all or none; a file that is there is never written over.
pub(super) fn run(args: &Init, program: &str, json: bool) -> Result<(), Failure> {
    let dir = &args.dir;
    std::fs::create_dir_all(dir)
        .map_err(|e| Failure::io(format_args!("making {}", dir.display()), e))?;
    let mut written = Vec::new();
    for (name, text) in FILES {
        let path = dir.join(name);
        if let Err(failure) = write(&path, text) {
            for path in &written {
                drop(std::fs::remove_file(path));
            }
            return Err(failure);
        }
        written.push(path);
    }
    let next = next(dir, program);
    let files: Vec<String> = written.iter().map(|p| p.display().to_string()).collect();
    if json {
        return output::print_json(&Answer { files, next });
    }
    let mut text: String = files.iter().map(|f| format!("wrote {f}\n")).collect();
    text.push_str(&format!("next: {next}\n"));
    output::print(&text)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e| Failure::io(format_args!("writing {}", path.display()), e);
    let mut file = match File::create_new(path) {
        Ok(file) => file,
        Err(error) if error.kind() == IoError::AlreadyExists => {
            let text = format!(
                "{} is there already, and is not written over; name an empty folder: rowmill init DIR",
                path.display()
            );
            return Err(Error::new(ErrorKind::Conflict, "exists", text).into());
        }
        Err(error) => return Err(failed(error)),
    };
    file.write_all(text.as_bytes()).map_err(|error| {
        // A file that is cut off would not be written over the next time.
        drop(std::fs::remove_file(path));
        failed(error)
    })
}

fn next(dir: &Path, program: &str) -> String {
    let program = quoted(program);
    if dir == Path::new(".") {
        return format!("{program} {RUN}");
    }
    let dir = dir.display().to_string();
    // A program that was named by its place is found from the folder above alone.
    let config = quoted(&format!("{dir}/rowmill.toml"));
    let input = quoted(&format!("{dir}/transactions.csv"));
    if program.contains('/') {
        return format!("{program} run {input} --app bank --op post --config {config}");
    }
    format!("cd {} && {program} {RUN}", quoted(&dir))
}
