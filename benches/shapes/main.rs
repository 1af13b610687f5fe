//! What work of several shapes costs on PostgreSQL and on a SQLite file: each figure beside one of the same run.
//!
//! `cargo bench --bench shapes [-- --on postgres|sqlite] [--rows N] [--rounds N] [SHAPE…]` [both, 1000000, 3, all of them].
//! The shapes: `rows queries clients transactional set failed linear workers slow files small polls`. A line is the median of
//! its rounds with the least and the most; what it is compared with runs in the same round. PostgreSQL is a server
//! of the program's own, whose every commit is on the disk.

// The server that the tests start; of what it can, little is used here.
#[allow(dead_code, unused_imports)]
#[path = "../../tests/it/support/servers/mod.rs"]
mod servers;

mod batch;
mod behind;
mod effects;
mod ends;
mod figures;
mod place;
mod whole;

use std::path::Path;

use figures::{Failed, Figures};
use place::{On, Place};

/// How much of it there is to do.
pub struct Size {
    pub rows: u64,
    pub rounds: usize,
}

const SHAPES: [&str; 12] = [
    "rows",
    "queries",
    "clients",
    "transactional",
    "set",
    "failed",
    "linear",
    "workers",
    "slow",
    "files",
    "small",
    "polls",
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
    let mut shapes = Vec::new();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "work" => {
                let (at, folder) = (value()?, value()?);
                return runtime.block_on(batch::work(&at, Path::new(&folder)));
            }
            "--on" => on = vec![value()?.parse()?],
            "--rows" => size.rows = value()?.parse()?,
            "--rounds" => size.rounds = value()?.parse()?,
            shape => match SHAPES.iter().find(|name| **name == shape) {
                Some(name) => shapes.push(*name),
                None => return Err(format!("no shape is called {shape}").into()),
            },
        }
    }
    if shapes.is_empty() {
        shapes = SHAPES.to_vec();
    }
    for on in on {
        let place = Place::new(on);
        println!("\n{on}: {} rounds", size.rounds);
        for shape in &shapes {
            runtime.block_on(measure(&place, shape, &size))?;
        }
    }
    Ok(())
}

async fn measure(place: &Place, shape: &str, size: &Size) -> Result<(), Failed> {
    let mut figures = Figures::new(shape);
    for _ in 0..size.rounds {
        match shape {
            "rows" => whole::rows(place, size, &mut figures).await?,
            "queries" => whole::queries(place, size, &mut figures).await?,
            "clients" => ends::clients(place, &mut figures).await?,
            "transactional" => effects::transactional(place, size, &mut figures).await?,
            "set" => effects::set(place, size, &mut figures).await?,
            "failed" => effects::failed(place, size, &mut figures).await?,
            "linear" => batch::linear(place, size, &mut figures).await?,
            "workers" => batch::workers(place, size, &mut figures).await?,
            "slow" => batch::slow(place, &mut figures).await?,
            "files" => ends::files(place, size, &mut figures).await?,
            "small" => behind::small(place, size, &mut figures).await?,
            _ => ends::polls(place, &mut figures).await?,
        }
    }
    figures.print();
    Ok(())
}
