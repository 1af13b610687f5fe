//! doctor: looks at the file and at what is in it, and says what is wrong; changes nothing.
//!
//! Every read is short, so that the WAL can be reset while it goes on; what is looked at in several
//! reads is looked at again before it is called wrong, because others go on writing.

mod file;

use std::path::Path;

use super::db::now as run;
use super::errors::sqlite_error;
use super::liveness;
use super::open::{self, Options};
use crate::model::Timestamp;
use crate::store::steps::doctor::{Words, looks};
use crate::store::{Check, Diagnosis, StoreError};

/// What to do where the file is damaged.
const WORDS: Words = Words {
    report: "restore the file from a copy, and report it with this text: it must not happen",
    unread: "restore the file from a copy, with its -wal beside it",
};

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
    let dead = liveness::dead(&c, &options_of(options, &path).workers_dir());
    run(async {
        looks(&c, dead, now, &WORDS, &mut found).await;
        Ok(())
    })?;
    Ok(found)
}

fn options_of(options: &Options, path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        ..options.clone()
    }
}

fn unread(name: &'static str, error: &StoreError) -> Check {
    WORDS.unread(name, error)
}

/// A number that a pragma answers.
fn number(c: &rusqlite::Connection, pragma: &'static str) -> Result<i64, StoreError> {
    c.query_row(pragma, [], |r| r.get(0))
        .map_err(sqlite_error("reading the file's header"))
}
