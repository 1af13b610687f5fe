//! Four workers on one batch, two killed, a restart of the server; `benches/disturbed.rs` also measures it.

use std::path::Path;
use std::process::Command;

use crate::support::disturbed::{run, work};
use crate::support::servers::{Options, Postgres as Server};

const ROWS: u64 = 200_000;
const VARIABLE: &str = "ROWMILL_TEST_ONE_OF_FOUR";

/// This same test binary, as one of the workers.
fn worker(url: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "fault::postgres::four::run_as_one_of_four"]);
    command.args(["--nocapture", "--test-threads=1"]);
    command.env(VARIABLE, format!("{url} {}", folder.display()));
    command
}

/// Not a test by itself: works when it was started for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_as_one_of_four() {
    if let Ok(task) = std::env::var(VARIABLE) {
        let (url, folder) = task.split_once(' ').unwrap();
        work(url, Path::new(folder)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_workers_of_which_two_are_killed_and_a_restart_change_no_byte() {
    let mut server = Server::start(&Options::default());
    let undisturbed = run(&mut server, ROWS, worker, None).await.unwrap();
    assert!(undisturbed.events.is_empty() && undisturbed.files.len() == 2);
    let dice = u64::from(std::process::id());
    let disturbed = run(&mut server, ROWS, worker, Some(dice)).await;
    let disturbed = disturbed.unwrap_or_else(|e| panic!("with the dice at {dice}: {e}"));
    println!(
        "{:.2?} undisturbed, {} bytes",
        undisturbed.took, undisturbed.stored
    );
    println!("{:.2?}: {:?}", disturbed.took, disturbed.events);
    assert_eq!(
        disturbed.events.len(),
        4,
        "two kills, a restart, what was lost"
    );
    assert!(disturbed.files == undisturbed.files, "dice at {dice}");
}
