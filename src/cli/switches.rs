//! How the output is: flags, and what the environment says where they are not given.

use super::args::{Global, LogForm};
use super::exit::Failure;

/// Flags about the output, with what the environment says.
pub(super) struct Switches {
    pub(super) json: bool,
    pub(super) verbose: u8,
    pub(super) log: LogForm,
}

/// Whether the environment asks for JSON, before anybody knows whether it is as it must be.
pub(super) fn json_by_environment() -> bool {
    std::env::var("ROWMILL_JSON").is_ok_and(|text| matches!(text.as_str(), "1" | "true"))
}

/// Reads the environment for the flags that were not given.
pub(super) fn switches(global: &Global) -> Result<Switches, Failure> {
    let bad = |name: &str, wants: &str| Failure::invalid("usage", format!("{name}: {wants}"));
    let var = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let json = match var("ROWMILL_JSON").as_deref() {
        _ if global.json => true,
        None | Some("0" | "false") => false,
        Some("1" | "true") => true,
        Some(_) => return Err(bad("ROWMILL_JSON", "must be 1 or 0")),
    };
    let verbose = match var("ROWMILL_VERBOSE") {
        Some(text) if global.verbose == 0 => text
            .parse()
            .map_err(|_| bad("ROWMILL_VERBOSE", "must be a number: 0, 1 or 2"))?,
        _ => global.verbose,
    };
    let log = match (global.log, var("ROWMILL_LOG").as_deref()) {
        (Some(log), _) => log,
        (None, None | Some("text")) => LogForm::Text,
        (None, Some("json")) => LogForm::Json,
        (None, Some(_)) => return Err(bad("ROWMILL_LOG", "must be text or json")),
    };
    Ok(Switches { json, verbose, log })
}
