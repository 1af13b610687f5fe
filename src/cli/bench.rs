//! `bench`: rows a second on this machine and disk.

use std::path::Path;

use super::args::Bench;
use super::exit::Failure;
use super::output;
use super::session::Session;
use crate::bench::{self, Options};

pub(super) async fn run(session: &Session, args: &Bench) -> Result<(), Failure> {
    session.on_a_file("bench")?;
    // The disk that is measured is the database's.
    let folder = session.database().parent();
    let folder = folder.filter(|dir| !dir.as_os_str().is_empty());
    let report = bench::run(Options {
        rows: args.rows,
        shape: args.shape,
        dir: folder.unwrap_or(Path::new(".")).to_owned(),
    })
    .await?;
    if session.json {
        return output::print_json(&report);
    }
    output::print(&format!("{report}\n"))
}
