//! Those who ask again and again whether it is done.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rowmill::{BatchId, Client, JobKey, Kind, NewBatch, StatusCache};

use crate::batch;
use crate::figures::{Failed, Figures, Target, per_second};
use crate::itself;
use crate::place::{Fresh, On, Place, store};
use crate::profile::Profiled;
use crate::works::input;

// What reads the protocol, and what traces a file; both count statements for the costs that are noted.
#[allow(dead_code)]
#[path = "../../tests/it/cost/traced.rs"]
mod traced;
#[allow(dead_code)]
#[path = "../../tests/it/cost/wire.rs"]
mod wire;

/// Ended batches that are asked for in turn.
const BATCHES: usize = 1_000;
/// Polls a second, and for how long.
const RATE: u64 = 10_000;
const SECONDS: u64 = 5;
/// Polls as fast as they go.
const TIMES: usize = 200;
/// Polls of a batch that is open, each of which asks the database.
const OPEN: u64 = 100;

/// Nobody is asked for statements by their names here.
fn names(_: &[&str]) -> HashMap<String, String> {
    HashMap::new()
}

/// Counts the statements that go to the database.
enum Counter {
    Server(wire::Wire),
    File(traced::Trace),
}

impl Counter {
    async fn of(fresh: &Fresh, on: On) -> Self {
        match on {
            On::Postgres => Self::Server(wire::Wire::before(&fresh.at()).await),
            On::Sqlite => Self::File(traced::Trace::of(Path::new(&fresh.at()))),
        }
    }

    /// Where the database is reached so that it is counted.
    fn at(&self, fresh: &Fresh) -> String {
        match self {
            // What asks for TLS first would not be understood.
            Self::Server(wire) => format!("{}?sslmode=disable", wire.url()),
            Self::File(_) => fresh.at(),
        }
    }

    /// Statements since it was asked last.
    fn take(&self) -> u64 {
        let asked = match self {
            Self::Server(wire) => wire.take().into_iter().map(|asked| asked.statements),
            Self::File(trace) => {
                let steps = trace.take().steps.into_iter();
                return steps.flat_map(|step| step.statements.into_values()).sum();
            }
        };
        asked
            .flat_map(std::collections::BTreeMap::into_values)
            .sum()
    }
}

async fn poll(client: &Client, id: BatchId) -> Result<(), Failed> {
    match client.batch_done(id).await?.done {
        true => Ok(()),
        false => Err("a batch has not ended".into()),
    }
}

/// A thousand ended batches, asked for at a rate and then as fast as they can be, with the cache of a process.
pub async fn polls(place: &Place, figures: &mut Figures) -> Result<(), Failed> {
    let fresh = place.fresh()?;
    let manager = batch::manager(&fresh.at(), fresh.folder()).await?;
    let key = JobKey::new("bench", "echo", Kind::Query)?;
    let mut ids = Vec::new();
    for n in 0..BATCHES {
        let query = manager.slow_query_submit(NewBatch::new(key.clone()), input(n as u64)?);
        ids.push(query.await?.id);
    }
    let nobody = rowmill::CancellationToken::new();
    manager.run_until_idle(&nobody).await?;
    let open = manager.slow_query_submit(NewBatch::new(key), input(0)?);
    let open = open.await?.id;
    drop(manager);

    let counter = Counter::of(&fresh, place.on).await;
    let store = store(&counter.at(&fresh)).await?;
    let client = Client::new(store).cached(StatusCache::memory());
    for id in &ids {
        poll(&client, *id).await?;
    }
    counter.take();

    let profiled = Profiled::of("polls")?;
    let (began, used) = (Instant::now(), itself::cpu()?);
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(SECONDS) {
        // What came due since the last look is asked at once.
        let due = (began.elapsed().as_secs_f64() * RATE as f64) as u64;
        while asked < due {
            poll(&client, ids[asked as usize % BATCHES]).await?;
            asked += 1;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (took, used) = (began.elapsed(), itself::cpu()? - used);
    drop(profiled);
    let statements = counter.take();
    figures.add(
        format!("polls at {RATE} a second for {SECONDS} s"),
        "/s",
        per_second(asked, took),
    );
    let none = Target::AtMost(0.0);
    figures.aim("statements of them", "", statements as f64, none);
    figures.add("CPU of one of them", "µs", used * 1e6 / asked.max(1) as f64);

    let (began, used) = (Instant::now(), itself::cpu()?);
    for _ in 0..TIMES {
        for id in &ids {
            poll(&client, *id).await?;
        }
    }
    let (took, used) = (began.elapsed(), itself::cpu()? - used);
    let times = (TIMES * BATCHES) as u64;
    figures.add("polls as fast as they go", "/s", per_second(times, took));
    figures.add("CPU of one of them, fast", "µs", used * 1e6 / times as f64);

    counter.take();
    for _ in 0..OPEN {
        client.batch_done(open).await?;
    }
    let each = counter.take() as f64 / OPEN as f64;
    figures.add("statements of a poll of an open batch", "", each);
    Ok(())
}
