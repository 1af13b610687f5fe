//! Rows on SQLite beside a plain row queue: `cargo bench --bench sqlite [-- SHAPE [ROWS]]`.

use rowmill::bench::{Options, Shape, run};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds --bench to whatever is asked for.
    let mut words = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let shape: Shape = words.next().as_deref().unwrap_or("rows").parse()?;
    let mut options = Options::new(shape, std::env::current_dir()?);
    if let Some(rows) = words.next() {
        options.rows = rows.parse()?;
    }
    let report = run(options).await?;
    println!("{report}");
    Ok(())
}
