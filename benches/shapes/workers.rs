//! One batch by several processes: trivial rows, rows that take their time, and commits that do.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rowmill::{BatchId, CancellationToken, Client};

use crate::Size;
use crate::batch::{Posting, manager};
use crate::effects;
use crate::figures::{Failed, Figures, Target, per_second};
use crate::place::{Fresh, On, Place};
use crate::profile::Profiled;
use crate::works::{held, released};

/// How long a commit takes in `commits`, in microseconds.
const COMMIT: u64 = 5_000;

/// What a worker's process does, until it is killed.
pub async fn work(at: &str, folder: &Path) -> Result<(), Failed> {
    let manager = manager(at, folder).await?;
    println!("ready");
    manager.run(CancellationToken::new()).await?;
    Ok(())
}

/// A worker's process; dropping it kills it.
struct Worker(Child);

impl Worker {
    fn start(fresh: &Fresh) -> Result<Self, Failed> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("work").arg(fresh.at()).arg(fresh.folder());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let worker = Self(child);
        match BufReader::new(stdout).lines().next() {
            Some(Ok(line)) if line == "ready" => Ok(worker),
            _ => Err("a worker ended before it worked".into()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A held batch of so many rows.
async fn batch(client: &Client, op: &str, rows: u64) -> Result<BatchId, Failed> {
    match op {
        "trivial" => held(client, op, (0..rows).map(Posting::nth)).await,
        "commits" => held(client, op, (0..rows).map(effects::row)).await,
        _ => held(client, op, 0..rows).await,
    }
}

/// Rows a second of one batch by each of these numbers of processes that have worked on a smaller one before.
///
/// One number comes after the other, in each other round the last one first: what one leaves to be written is in the way of the next.
async fn crew(
    place: &Place,
    figures: &mut Figures,
    op: &str,
    inputs: u64,
    (numbers, round): (&[usize], usize),
) -> Result<Vec<f64>, Failed> {
    let mut rates = vec![0.0; numbers.len()];
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    for at in order {
        let workers = numbers[at];
        let fresh = effects::made(place).await?;
        if op == "commits" {
            let delay = format!("commit_delay = {COMMIT}");
            fresh.set(&[&delay, "commit_siblings = 0"]).await?;
        }
        // Blocks are as small as their op wants them.
        let client = manager(&fresh.at(), fresh.folder()).await?.client();
        let warm = inputs / 10;
        let warms = batch(&client, op, warm).await?;
        let id = batch(&client, op, inputs).await?;
        let crew = (0..workers).map(|_| Worker::start(&fresh));
        let crew = crew.collect::<Result<Vec<_>, _>>()?;
        // Connections and statements that a process has not had yet are not what is measured.
        released(&client, warms, warm).await?;
        if place.on == On::Postgres {
            // What was loaded is on the disk, and is not written meanwhile.
            fresh.server().await?.batch_execute("checkpoint").await?;
        }
        let profiled = Profiled::of(&format!("{op}, {workers} workers"))?;
        let rate = per_second(inputs, released(&client, id, inputs).await?);
        drop(profiled);
        drop(crew);
        figures.add(format!("{workers} workers"), "/s", rate);
        rates[at] = rate;
    }
    Ok(rates)
}

pub async fn workers(
    place: &Place,
    size: &Size,
    round: usize,
    figures: &mut Figures,
) -> Result<(), Failed> {
    let numbers = [1, 2, 4, 8];
    // A batch of N is over in 0.4 s, and one of 5 N in 2 s, of which what a process does once is a part that is seen.
    let rates = crew(place, figures, "trivial", size.rows * 20, (&numbers, round)).await?;
    let best = rates.iter().copied().fold(0.0, f64::max);
    for (workers, rate) in numbers.iter().zip(&rates).skip(1) {
        // No worker more is to cost anything in a file, which has one writer.
        let (of_best, of_one) = match (place.on, workers) {
            (On::Postgres, 4) => (Some(Target::AtLeast(0.85)), None),
            (On::Postgres, 8) => (Some(Target::AtLeast(0.9)), None),
            (On::Sqlite, 4) => (None, Some(Target::AtLeast(1.0))),
            _ => (None, None),
        };
        let name = format!("{workers} workers, of the best number");
        figures.aim(name, "times", rate / best, of_best);
        let name = format!("{workers} workers, of one");
        figures.aim(name, "times", rate / rates[0], of_one);
    }
    Ok(())
}

/// Rows of 5 ms, one at a time in each process.
pub async fn slow(place: &Place, round: usize, figures: &mut Figures) -> Result<(), Failed> {
    let rates = crew(place, figures, "waits", 4_000, (&[1, 4], round)).await?;
    let times = rates[1] / rates[0];
    let target = Target::AtLeast(place.on.pick(3.8, 1.0));
    figures.aim("4 workers, of one", "times", times, target);
    Ok(())
}

/// Rows of one INSERT, each in a transaction of its own that waits 5 ms for its commit, one at a time in each process.
pub async fn commits(
    place: &Place,
    size: &Size,
    round: usize,
    figures: &mut Figures,
) -> Result<(), Failed> {
    // A file has one writer, and its commits take what the disk takes.
    if place.on == On::Sqlite {
        figures.note("on a server alone".into());
        return Ok(());
    }
    let rows = (size.rows / 250).max(500);
    let rates = crew(place, figures, "commits", rows, (&[1, 8], round)).await?;
    let times = rates[1] / rates[0];
    figures.aim("8 workers, of one", "times", times, Target::AtLeast(6.0));
    Ok(())
}
