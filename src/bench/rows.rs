//! One batch of many rows, by the API and from a CSV.

use std::io::Read;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::place::Place;
use super::report::Rates;
use super::work::{self, APP, OP, Post};
use super::{failed, per_second};
use crate::client::NewRow;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{JobKey, Kind, NewBatch};

fn batch() -> Result<NewBatch> {
    let key = JobKey::new(APP, OP, Kind::Batch);
    Ok(NewBatch::new(key.map_err(|e| failed("naming the op", e))?))
}

/// Submits, then works until the last outcome is recorded.
pub(super) async fn measure(place: &Place, rows: u64) -> Result<Rates> {
    let manager = place
        .manager("rows", |builder| builder.batch(APP, OP, Post))
        .await?;
    let began = Instant::now();
    let source = (0..rows).map(|i| NewRow {
        line: None,
        input: work::input(i),
    });
    let submitted = manager.batch_submit(batch()?, source).await?;
    let acknowledged = Instant::now();
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
    let done = manager.wait_done(submitted.id, None).await?;
    let ended = Instant::now();
    stop.cancel();
    running.await.map_err(|e| failed("stopping", e))??;
    if done.counts.success != rows {
        let counts = format!("{} of {rows} rows succeeded", done.counts.success);
        return Err(failed("working", counts));
    }
    Ok(Rates {
        submit_rows_per_s: per_second(rows, acknowledged - began),
        process_rows_per_s: per_second(rows, ended - acknowledged),
        end_to_end_rows_per_s: per_second(rows, ended - began),
    })
}

/// Submits the same rows as a CSV; rows a second.
pub(super) async fn measure_csv(place: &Place, rows: u64) -> Result<f64> {
    let manager = place
        .manager("csv", |builder| builder.batch(APP, OP, Post))
        .await?;
    let began = Instant::now();
    let options = crate::ingest::Options::csv();
    let submission = manager
        .batch_submit_reader(batch()?, Csv::new(rows), options)
        .await?;
    let took = began.elapsed();
    if submission.intake.rows == rows {
        Ok(per_second(rows, took))
    } else {
        Err(Error::new(
            ErrorKind::Internal,
            "bench_failed",
            "the CSV lost rows",
        ))
    }
}

/// A CSV that is made while it is read.
struct Csv {
    text: String,
    at: usize,
    next: u64,
    rows: u64,
}

impl Csv {
    fn new(rows: u64) -> Self {
        Self {
            text: work::HEADER.to_owned(),
            at: 0,
            next: 0,
            rows,
        }
    }
}

impl Read for Csv {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.text.len() {
            self.text.clear();
            self.at = 0;
            while self.text.len() < 64 << 10 && self.next < self.rows {
                work::csv(&mut self.text, self.next);
                self.next += 1;
            }
        }
        let mut left = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let read = left.read(room)?;
        self.at += read;
        Ok(read)
    }
}
