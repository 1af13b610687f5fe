//! What work of several shapes costs on PostgreSQL and on a SQLite file: each figure beside one of the same run.
//!
//! `cargo bench --bench shapes [-- --on postgres|sqlite] [--rows N] [--rounds N] [--plot] [SHAPE…]` [both, 1000000, 3, all of them].
//! A line is the median of its rounds with the least and the most, and what it is to reach: `target ≥ 0.5: met`, or `missed`,
//! which are words and no more. What it is compared with runs in the same round. PostgreSQL is a server of the
//! program's own, whose every commit is on the disk. N is what most shapes have; `linear` goes up to thirty times as many.
//!
//! | shape | what |
//! | --- | --- |
//! | `rows`, `queries` | what `rowmill bench` measures, beside the row queue |
//! | `clients` | 64 clients that submit a query each, one by one |
//! | `transactional`, `set` | an INSERT or an indexed UPDATE a row in its outcome's transaction, or one for a block's, beside the same statements alone |
//! | `failed`, `retried` | some rows fail, or fail once and come again at once, beside none |
//! | `linear` | batches of 10,000 rows up to ten times N, and of three times that, a process each: the rate, and its peak memory; `--plot` draws both into `docs/benchmarks/linear.svg` |
//! | `workers`, `slow` | 1, 2, 4, 8 processes on one batch of twenty times N; 1 and 4 on rows of 5 ms |
//! | `commits` | 1 and 8 processes on one batch, each commit of which takes 5 ms |
//! | `files` | an output file of 128 bytes a row, a process each |
//! | `small` | 10 rows behind five times N that run |
//! | `batches` | a tenth of N in batches of 100 rows, submitted one by one, beside as many rows in one batch |
//! | `polls` | polls of ended batches at 10,000 a second, and as fast as they go: statements, processor time |
//! | `incompressible` | rows whose text does not compress, beside trivial ones; bytes written |
//! | `history` | rows and queries in tables that hold N ended queries, beside empty ones |
//! | `candidates` | what could be done otherwise on a row's way, beside what is done: reading, keeping, sending, asking |
//! | `backlog` | a claim where ten times N tasks are queued in 100 ops, without and beside an old snapshot |

// The server that the tests start; of what it can, little is used here.
#[allow(dead_code, unused_imports)]
#[path = "../../tests/it/support/servers/mod.rs"]
mod servers;

mod backlog;
mod batch;
mod behind;
mod candidates;
mod effects;
mod ends;
mod figures;
mod floor;
mod history;
mod itself;
mod linear;
mod load;
mod place;
mod plot;
mod polls;
mod profile;
mod random;
mod whole;
mod workers;
mod works;

use std::path::Path;

use figures::{Failed, Figures};
use place::{On, Place};

/// How much of it there is to do.
pub struct Size {
    pub rows: u64,
    pub rounds: usize,
}

const SHAPES: [&str; 19] = [
    "rows",
    "queries",
    "clients",
    "transactional",
    "set",
    "failed",
    "retried",
    "linear",
    "workers",
    "slow",
    "commits",
    "files",
    "small",
    "batches",
    "polls",
    "incompressible",
    "history",
    "backlog",
    "candidates",
];

fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut on = vec![On::Postgres, On::Sqlite];
    let mut size = Size {
        rows: 1_000_000,
        rounds: 3,
    };
    let mut plots = false;
    let mut shapes = Vec::new();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "work" => {
                let (at, folder) = (value()?, value()?);
                return runtime.block_on(workers::work(&at, Path::new(&folder)));
            }
            "whole" => {
                let (at, folder, rows) = (value()?, value()?, value()?.parse()?);
                return runtime.block_on(linear::whole(&at, Path::new(&folder), rows));
            }
            "file" => {
                let (at, folder, rows) = (value()?, value()?, value()?.parse()?);
                return runtime.block_on(ends::file(&at, Path::new(&folder), rows));
            }
            "--on" => on = vec![value()?.parse()?],
            "--rows" => size.rows = value()?.parse()?,
            "--rounds" => size.rounds = value()?.parse()?,
            "--plot" => plots = true,
            shape => match SHAPES.iter().find(|name| **name == shape) {
                Some(name) => shapes.push(*name),
                None => return Err(format!("no shape is called {shape}").into()),
            },
        }
    }
    if shapes.is_empty() {
        shapes = SHAPES.to_vec();
    }
    if plots && !shapes.contains(&"linear") {
        return Err("--plot draws what linear measures".into());
    }
    let mut series = Vec::new();
    for on in on {
        let place = Place::new(on);
        println!("\n{on}: {} rounds", size.rounds);
        for shape in &shapes {
            let figures = runtime.block_on(measure(&place, shape, &size))?;
            figures.print();
            if *shape == "linear" {
                series.push(plot::Series::of(on, &size, &figures));
            }
        }
    }
    if plots {
        plot::write(&series, &size)?;
    }
    Ok(())
}

async fn measure(place: &Place, shape: &str, size: &Size) -> Result<Figures, Failed> {
    let mut figures = Figures::new(shape);
    // What takes minutes to load serves all rounds.
    if shape == "backlog" {
        backlog::backlog(place, size, &mut figures).await?;
        return Ok(figures);
    }
    for round in 0..size.rounds {
        match shape {
            "rows" => whole::rows(place, size, &mut figures).await?,
            "queries" => whole::queries(place, size, &mut figures).await?,
            "clients" => ends::clients(place, &mut figures).await?,
            "transactional" => effects::transactional(place, size, &mut figures).await?,
            "set" => effects::set(place, size, &mut figures).await?,
            "failed" => effects::failed(place, size, &mut figures).await?,
            "retried" => effects::retried(place, size, &mut figures).await?,
            "linear" => linear::linear(place, size, &mut figures).await?,
            "workers" => workers::workers(place, size, round, &mut figures).await?,
            "slow" => workers::slow(place, round, &mut figures).await?,
            "commits" => workers::commits(place, size, round, &mut figures).await?,
            "files" => ends::files(place, size, &mut figures).await?,
            "small" => behind::small(place, size, &mut figures).await?,
            "batches" => behind::batches(place, size, &mut figures).await?,
            "polls" => polls::polls(place, &mut figures).await?,
            "incompressible" => random::incompressible(place, size, &mut figures).await?,
            "candidates" => candidates::candidates(place, size, &mut figures).await?,
            _ => history::history(place, size, &mut figures).await?,
        }
    }
    Ok(figures)
}
