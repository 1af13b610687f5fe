//! doctor: looks at the file and at what is in it, and says what is wrong; changes nothing.
//!
//! Every read is short, so that the WAL can be reset while it goes on; what is looked at in several
//! reads is looked at again before it is called wrong, because others go on writing.

mod file;
mod rows;
mod state;

use std::path::Path;

use super::errors::sqlite_error;
use super::open::{self, Options};
use super::sql::{all, sql};
use crate::model::Timestamp;
use crate::store::StoreError;

/// Output files whose sizes are to be compared with those in the object store.
const FILES: i64 = 100;
/// Examples that are named of what is wrong many times.
const EXAMPLES: usize = 3;

/// What a look at one thing found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Nothing is to be repaired.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do, where there is something.
    pub repair: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            ok: true,
            detail: detail.into(),
            repair: None,
        }
    }

    /// Something is to be repaired.
    pub fn repair(
        name: &'static str,
        detail: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        Self {
            name,
            ok: false,
            detail: detail.into(),
            repair: Some(repair.into()),
        }
    }
}

/// What was found in a database.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis {
    /// What was looked at, in order.
    pub checks: Vec<Check>,
    /// Keys and sizes of the newest output files.
    pub files: Vec<(String, u64)>,
}

/// Something that is wrong many times, with a few examples.
#[derive(Default)]
struct Wrong {
    count: u64,
    examples: Vec<String>,
}

impl Wrong {
    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(what());
        }
    }

    fn check(self, name: &'static str, well: impl Into<String>, repair: &str) -> Check {
        if self.count == 0 {
            return Check::ok(name, well);
        }
        let mut detail = self.examples.join("; ");
        let more = self
            .count
            .saturating_sub(u64::try_from(self.examples.len()).unwrap_or(0));
        if more > 0 {
            detail.push_str(&format!("; and {more} more"));
        }
        Check::repair(name, detail, repair)
    }
}

/// Looks at everything. What cannot be read is a finding, except what makes the file none of ours.
pub(super) fn doctor(options: &Options, now: Timestamp) -> Result<Diagnosis, StoreError> {
    let path = open::resolve(&options.path);
    let mut found = Diagnosis::default();
    if !file::exists(&path, &mut found.checks) {
        return Ok(found);
    }
    let mut c = match open::inspect(&path) {
        Ok(c) => c,
        Err(error @ StoreError::Unusable(_)) => return Err(error),
        Err(error) => {
            found.checks.push(Check::repair(
                "file",
                error.to_string(),
                "make the file and its folder readable and writable to this user",
            ));
            return Ok(found);
        }
    };
    if !open::whose(&c, &path)? {
        let detail = format!("{} is empty", path.display());
        found.checks.push(Check::ok("file", detail));
        return Ok(found);
    }
    let schema = open::schema(&mut c, &path)?;
    open::may_write(&c, &path)?;
    found
        .checks
        .push(Check::ok("file", path.display().to_string()));
    let pending = !schema.pending.is_empty();
    found.checks.push(file::schema(&schema));
    file::looks(&c, &path, &mut found.checks);
    if pending {
        // What is in it is looked at by statements that know the newest schema alone.
        return Ok(found);
    }
    let mut add = |name, looked: Result<Check, StoreError>| {
        found
            .checks
            .push(looked.unwrap_or_else(|e| unread(name, &e)));
    };
    for (name, look) in rows::LOOKS {
        add(name, look(&c));
    }
    let scene = state::Scene::of(&c, &options_of(options, &path), now);
    match scene {
        Ok(scene) => {
            for (name, look) in state::LOOKS {
                add(name, look(&scene));
            }
        }
        Err(error) => add("workers", Err(error)),
    }
    found.files = all(&c, sql!("doctor_files"), [FILES], |r| {
        Ok((r.get(0)?, r.get(1)?))
    })
    .unwrap_or_default();
    Ok(found)
}

fn options_of(options: &Options, path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        ..options.clone()
    }
}

/// What could not be looked at.
fn unread(name: &'static str, error: &StoreError) -> Check {
    Check::repair(
        name,
        format!("could not be looked at: {error}"),
        "restore the file from a copy, with its -wal beside it",
    )
}

/// A number that a pragma answers.
fn number(c: &rusqlite::Connection, pragma: &'static str) -> Result<i64, StoreError> {
    c.query_row(pragma, [], |r| r.get(0))
        .map_err(sqlite_error("reading the file's header"))
}
