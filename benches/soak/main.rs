//! An hour of everything at once on one file: random batches, kills, freezes, aborts, two worker processes.
//!
//! `cargo bench --bench soak [-- --seconds N] [--seed N]` [3600 seconds]. Whatever ends is compared with
//! what was submitted; what has ended must not change; memory and the file must stay bounded. It ends
//! with an error at the first thing that is not as it must be, and names the seed.

mod actions;
mod checks;
mod dice;
mod work;
mod workers;

use std::path::Path;
use std::time::{Duration, Instant};

use actions::Soak;

pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let (mut seconds, mut seed) = (3600, None);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_default();
        match arg.as_str() {
            "work" => return runtime.block_on(work::work(Path::new(&value))),
            "--seconds" => seconds = value.parse()?,
            "--seed" => seed = Some(value.parse()?),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos();
    let seed = seed.unwrap_or(u64::from(now));
    let soaked = runtime.block_on(soak(Duration::from_secs(seconds), seed));
    soaked.map_err(|error| format!("with seed {seed}: {error}").into())
}

async fn soak(time: Duration, seed: u64) -> Result<(), Failed> {
    println!("soak for {} s with seed {seed}", time.as_secs());
    let folder = tempfile::Builder::new()
        .prefix("soak-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut soak = Soak::begin(folder.path(), seed).await?;
    let began = Instant::now();
    let mut told = began;
    while began.elapsed() < time {
        soak.act().await?;
        soak.check().await?;
        if told.elapsed() > time / 10 {
            told = Instant::now();
            soak.tell(began.elapsed());
        }
    }
    soak.end().await?;
    soak.tell(began.elapsed());
    soak.bounded()?;
    println!("no invariant was broken");
    Ok(())
}
