//! What each shape of work costs, in what no other work on the machine changes: statements, round trips, records, bytes.
//! docs/performance.md says what it is for.

mod instructions;
mod noted;
mod postgres;
mod shapes;
mod sqlite;
mod table;
mod traced;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Statements of the engine's looks at what time and others have changed. How often they are made depends on the
/// moment: a transaction that has no others, and changes nothing, is counted apart.
const LOOKS: &str = "begin commit beat heads heads_of dead locks live_ops close_any notice_ready
    keep_appends keep_due_expiry keep_due_notice keep_due_task keep_ended keep_giving keep_loads
    forget_due purge_keeps purging worker_list worker_alive op_get claim_oldest claim_ready";
/// Those that a change of anything makes, and each look at the time as well, which `live_ops` belongs to.
const WOKEN: [&str; 3] = ["heads", "close_any", "notice_ready"];

type Counts = BTreeMap<String, u64>;

/// Whether nothing but looks is among these statements.
fn is_look(statements: &Counts) -> bool {
    let looks: Vec<&str> = LOOKS.split_whitespace().collect();
    statements.keys().all(|name| looks.contains(&name.as_str()))
}

/// How many looks were made because something had changed.
fn woken<'a>(all: impl Iterator<Item = &'a Counts>) -> u64 {
    let (mut looks, mut by_time) = (0, 0);
    for statements in all.filter(|statements| is_look(statements)) {
        let of = |name: &str| statements.get(name).copied().unwrap_or_default();
        looks += WOKEN.iter().map(|name| of(name)).sum::<u64>();
        by_time += of("live_ops");
    }
    looks.saturating_sub(by_time * WOKEN.len() as u64)
}

fn add(to: &mut Counts, counts: &Counts) {
    for (name, n) in counts {
        *to.entry(name.clone()).or_default() += n;
    }
}

/// The names of the statements in these folders, by their texts.
fn names(folders: &[&str]) -> HashMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let mut names = HashMap::new();
    for folder in folders {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder of SQL") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy();
            let text = std::fs::read_to_string(&path).expect("readable");
            names.insert(text.trim().to_owned(), name.into_owned());
        }
    }
    names
}

/// One thread, which looks at nothing else before all that it can do is done: what one claim takes is worked
/// off, and recorded together, however busy the machine is.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let builder = builder.event_interval(1_000_000).enable_all();
    builder.build().expect("a runtime")
}
