//! An application's own binary: every command of `rowmill`, with the application's processors in it.
//!
//! `cargo run --example own_binary -- run FILE --app shop --op price` works off a file; without
//! arguments it types a few commands itself.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use rowmill::{BatchProcessor, BoxError, Builder, InitBlock, Initializer, Message};
use rowmill::{RowCx, RowFailure, model::AppName};

/// What all rows of the app share in a process: here a price table, in life a pool.
struct Prices(Vec<(&'static str, u64)>);

impl InitBlock for Prices {}

struct OpenPrices;

impl Initializer for OpenPrices {
    type Block = Prices;

    async fn init(&self, _: &AppName) -> Result<Prices, BoxError> {
        Ok(Prices(vec![("apple", 30), ("pear", 45)]))
    }
}

#[derive(serde::Deserialize)]
struct Order {
    article: String,
    pieces: String,
}

struct Price;

impl BatchProcessor for Price {
    type Block = Prices;
    type Context = ();
    type Input = Order;
    type Output = u64;

    async fn process(
        &self,
        cx: &mut RowCx<'_, Prices, ()>,
        order: Order,
    ) -> Result<u64, RowFailure> {
        let Order { article, pieces } = order;
        let pieces: u64 = pieces
            .parse()
            .map_err(|_| Message::new("bad_number", 101).field("pieces"))?;
        let prices = &cx.block().0;
        let found = prices.iter().find(|(name, _)| *name == article);
        let (_, cents) = found.ok_or_else(|| Message::new("no_such_article", 102).val(&article))?;
        let total = pieces * cents;
        cx.write_line("prices.csv", &format!("{article},{pieces},{total}"));
        Ok(total)
    }
}

fn parts() -> Builder {
    Builder::new()
        .initializer("shop", OpenPrices)
        .batch("shop", "price", Price)
}

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        return rowmill::cli::run(parts());
    }
    let folder = Path::new("target/own_binary");
    // What an earlier run left.
    drop(std::fs::remove_dir_all(folder));
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let orders = "article,pieces\napple,3\npear,2\nplum,1\n";
        std::fs::write(folder.join("orders.csv"), orders)
    });
    if let Err(error) = written {
        eprintln!("{}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    let place =
        "--database sqlite:target/own_binary/rowmill.db --objects file:target/own_binary/files";
    let mut ended = ExitCode::FAILURE;
    for command in [
        "submit target/own_binary/orders.csv --app shop --op price --external-id monday",
        "work --once",
        "status ext:shop/monday",
        "rows ext:shop/monday --status failed --format csv",
    ] {
        println!("$ own_binary {command}");
        let args = format!("own_binary {command} {place}");
        let args = args.split_whitespace().map(OsString::from);
        ended = rowmill::cli::run_with(parts(), args);
    }
    ended
}
