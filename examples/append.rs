//! A batch that is filled in rounds: held, appended to by several files, then released.
//!
//! Run with: `cargo run --example append`

use rowmill::ingest::Options;
use rowmill::model::{JobKey, Kind, NewBatch};
use rowmill::{AppendOptions, BatchProcessor, JobManager, ObjectStore, RowCx, RowFailure, Store};
use tokio::io::AsyncReadExt as _;

#[derive(serde::Deserialize)]
struct Booking {
    branch: String,
    cents: String,
}

struct Book;

impl BatchProcessor for Book {
    type Block = ();
    type Context = ();
    type Input = Booking;
    type Output = i64;

    async fn process(&self, cx: &mut RowCx<'_, (), ()>, row: Booking) -> Result<i64, RowFailure> {
        let cents = row.cents.parse()?;
        let line = cx.line();
        cx.write_line("day.txt", &format!("line {line}: {} {cents}", row.branch));
        Ok(cents)
    }
}

const MORNING: &str = "branch,cents\nnorth,100\nsouth,250\n";
const NOON: &str = "branch,cents\neast,75\n";
const EVENING: &str = "cents,branch\n990,west\n10,north\n";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let manager = JobManager::builder(Store::sqlite(folder.path().join("rowmill.db")).await?)
        .objects(ObjectStore::folder(folder.path().join("files")))
        .batch("bank", "book", Book)
        .build()?;

    let held = NewBatch {
        hold: true,
        ..NewBatch::new(JobKey::new("bank", "book", Kind::Batch)?)
    };
    let day = manager
        .batch_submit_reader(held, MORNING.as_bytes(), Options::csv())
        .await?
        .batch;
    println!("morning: {}, {} rows", day.status, day.counts.rows);

    // The same file under the same key a second time is answered, and not added.
    for _ in 0..2 {
        let key = Some("noon".to_owned());
        let options = AppendOptions {
            key,
            release: false,
        };
        let added = manager
            .batch_append_reader(day.id, NOON.as_bytes(), Options::csv(), options)
            .await?;
        println!(
            "noon: {} rows from line {}, repeated: {}",
            added.rows,
            added.first_line.unwrap_or(0),
            added.repeated
        );
    }
    let options = AppendOptions {
        release: true,
        ..AppendOptions::default()
    };
    let added = manager
        .batch_append_reader(day.id, EVENING.as_bytes(), Options::csv(), options)
        .await?;
    println!("evening: released, {}", added.batch.status);
    let late = manager
        .batch_append_reader(
            day.id,
            "branch,cents\nlate,1\n".as_bytes(),
            Options::csv(),
            AppendOptions::default(),
        )
        .await;
    println!(
        "too late: {}",
        late.err().map_or("taken", |error| error.code())
    );

    while !manager.tick().await?.is_idle() {}
    let day = manager.batch_done(day.id).await?;
    println!("{}: {} rows", day.status, day.counts.success);
    for file in &day.files {
        let mut text = String::new();
        let mut open = manager.open_file(file).await?;
        open.read_to_string(&mut text).await?;
        print!("{text}");
    }
    manager.stop().await?;
    Ok(())
}
