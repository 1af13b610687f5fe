//! `bench`: rows a second on this machine and disk.

use std::path::Path;

use super::args::Bench;
use super::exit::Failure;
use super::output;
use super::session::Session;
use crate::bench::{self, Options};
use crate::store::postgres;

pub(super) async fn run(session: &Session, args: &Bench) -> Result<(), Failure> {
    let database = session.server().map(postgres::Options::new).transpose()?;
    let dir = match &database {
        Some(_) => std::env::temp_dir(),
        // The disk that is measured is the database's.
        None => {
            let folder = session.database().parent();
            let folder = folder.filter(|dir| !dir.as_os_str().is_empty());
            folder.unwrap_or(Path::new(".")).to_owned()
        }
    };
    let report = bench::run(Options {
        rows: args.rows,
        shape: args.shape,
        dir,
        database,
    })
    .await?;
    if session.json {
        return output::print_json(&report);
    }
    output::print(&format!("{report}\n"))
}
