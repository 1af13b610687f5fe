//! Four workers on one batch of 200,000 rows, of which two are killed at random moments while the server restarts once,
//! beside an undisturbed run: the same counts, the same bytes, and how much longer it takes.
//!
//! `cargo bench --bench disturbed [-- --rows N] [--rounds N] [--seed N]` [200000, 3 rounds]. It fails where a
//! disturbed run takes 5 s more than the undisturbed one.

// The servers that the tests start; of what they can, little is used here.
#[allow(dead_code, unused_imports)]
#[path = "../tests/it/support/servers/mod.rs"]
mod servers;

#[path = "../tests/it/support/disturbed.rs"]
mod disturbed;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use disturbed::{Failed, WORKERS, run, work};
use servers::{Options, Postgres};

/// What two deaths and a restart may cost.
const MOST: Duration = Duration::from_secs(5);

fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let (mut rows, mut rounds, mut seed) = (200_000, 3, None);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_default();
        match arg.as_str() {
            "work" => {
                let folder = args.next().unwrap_or_default();
                return runtime.block_on(work(&value, Path::new(&folder)));
            }
            "--rows" => rows = value.parse()?,
            "--rounds" => rounds = value.parse()?,
            "--seed" => seed = Some(value.parse()?),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos();
    let seed: u64 = seed.unwrap_or(u64::from(now));
    runtime.block_on(measure(rows, rounds, seed))
}

async fn measure(rows: u64, rounds: u64, seed: u64) -> Result<(), Failed> {
    let program = std::env::current_exe()?;
    let worker = |url: &str, folder: &Path| {
        let mut command = Command::new(&program);
        command.arg("work").arg(url).arg(folder);
        command
    };
    // The disk counts: what is acknowledged survives the restart.
    let mut server = Postgres::start(&Options {
        settings: &[("fsync", "on"), ("full_page_writes", "on")],
        ..Options::default()
    });
    let plain = run(&mut server, rows, worker, None).await?;
    println!(
        "undisturbed: {rows} rows by {WORKERS} workers in {:.2?}",
        plain.took
    );
    println!("stored: {} bytes", plain.stored);
    let mut slowest = Duration::ZERO;
    for seed in (0..rounds).map(|round| seed.wrapping_add(round)) {
        let came = run(&mut server, rows, worker, Some(seed)).await?;
        println!("disturbed, seed {seed}: {:.2?}", came.took);
        for event in &came.events {
            println!("  {event}");
        }
        if came.files != plain.files {
            return Err(format!("with seed {seed} the output files are others").into());
        }
        slowest = slowest.max(came.took.saturating_sub(plain.took));
    }
    println!("the same counts and bytes; at most {slowest:.2?} more");
    if slowest > MOST {
        return Err(format!("it took {slowest:.2?} more, and may take {MOST:?}").into());
    }
    Ok(())
}
