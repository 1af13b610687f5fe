//! What the workers do: rows say themselves what is to become of them.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rowmill::model::{Backoff, OpSettings};
use rowmill::sqlite::{TransactionalProcessor, Tx};
use rowmill::{
    BatchProcessor, CancellationToken, ChunkCx, ChunkOut, ChunkProcessor, InputRow, JobManager,
    Kind, Message, ObjectStore, QueryCx, RowCx, RowFailure, SlowQueryProcessor, Status, Store,
};
use serde::{Deserialize, Serialize};

use super::Failed;

/// What a worker's process says once it can be asked to stop.
pub(crate) const HEARS: &[u8] = b"hears\n";
pub(crate) const APP: &str = "soak";
pub(crate) const FILE: &str = "out.txt";
/// The table of the transactional op.
pub(crate) const SCHEMA: &str = "create table moves (batch text not null, line integer not null); create index moves_batch on moves (batch);";

/// What is to become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fate {
    Good,
    Bad,
    Panic,
    Retry,
    Later,
    Slow,
}

impl Fate {
    pub(crate) const ALL: [Self; 6] = [
        Self::Good,
        Self::Bad,
        Self::Panic,
        Self::Retry,
        Self::Later,
        Self::Slow,
    ];

    /// How such a row ends if nothing stops it.
    pub(crate) fn ends(self) -> Status {
        match self {
            Self::Bad | Self::Panic => Status::Failed,
            Self::Good | Self::Retry | Self::Later | Self::Slow => Status::Success,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Input {
    pub(crate) n: u32,
    pub(crate) fate: Fate,
}

fn decide(fate: Fate, attempt: u32) -> Result<(), RowFailure> {
    match (fate, attempt) {
        (Fate::Bad, _) => Err(Message::new("bad", 100).into()),
        (Fate::Panic, _) => panic!("as it was told to"),
        (Fate::Retry, 1) => Err(RowFailure::retry("once more")),
        (Fate::Later, 1) => Err(RowFailure::Later(Duration::from_millis(50))),
        _ => Ok(()),
    }
}

struct Rows;

impl BatchProcessor for Rows {
    type Block = ();
    type Context = ();
    type Input = Input;
    type Output = u32;

    async fn process(&self, cx: &mut RowCx<'_, (), ()>, row: Input) -> Result<u32, RowFailure> {
        if row.fate == Fate::Slow {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cx.write_line(FILE, &row.n.to_string());
        decide(row.fate, cx.attempt())?;
        Ok(row.n)
    }
}

struct Chunks;

impl ChunkProcessor for Chunks {
    type Block = ();
    type Context = ();
    type Input = Input;
    type Output = u32;

    async fn process(
        &self,
        cx: &ChunkCx<'_, (), ()>,
        rows: Vec<InputRow<Input>>,
        out: &mut ChunkOut<u32>,
    ) -> Result<(), RowFailure> {
        for (at, InputRow { input, .. }) in rows.into_iter().enumerate() {
            out.write_line(at, FILE, &input.n.to_string());
            // A panic fails the chunk as a whole; its rows without an outcome run again one by one.
            match decide(input.fate, cx.attempt()) {
                Ok(()) => out.success(at, &input.n),
                Err(failure) => out.failure(at, failure),
            }
        }
        Ok(())
    }
}

struct Moves;

impl TransactionalProcessor for Moves {
    type Block = ();
    type Context = ();
    type Input = Input;
    type Output = u32;

    fn process(
        &self,
        tx: &mut Tx<'_>,
        cx: &mut RowCx<'_, (), ()>,
        row: Input,
    ) -> Result<u32, RowFailure> {
        let noted = (cx.batch().to_string(), cx.line().0);
        tx.execute("insert into moves values (?1, ?2)", noted)?;
        cx.write_line(FILE, &row.n.to_string());
        decide(row.fate, cx.attempt())?;
        Ok(row.n)
    }
}

struct Ask;

impl SlowQueryProcessor for Ask {
    type Block = ();
    type Context = ();
    type Input = Input;
    type Output = u32;

    async fn query(&self, cx: &mut QueryCx<'_, (), ()>, row: Input) -> Result<u32, RowFailure> {
        let mut file = cx.create_file(FILE).await?;
        file.write(format!("{}\n", row.n).as_bytes()).await?;
        cx.finish_file(file).await?;
        decide(row.fate, cx.attempt())?;
        Ok(row.n)
    }
}

pub(crate) fn settings() -> OpSettings {
    OpSettings {
        max_attempts: 2,
        // Kills come every few seconds; no row here is to blame for one.
        max_lost: 1000,
        backoff: Backoff {
            base: Duration::from_millis(20),
            ..Backoff::default()
        },
        abort_grace: Duration::from_secs(2),
        ..OpSettings::default()
    }
}

pub(crate) async fn manager(folder: &Path) -> Result<JobManager, Failed> {
    let store = Store::sqlite(folder.join("rowmill.db")).await?;
    let mut builder = JobManager::builder(store)
        .objects(ObjectStore::folder(folder.join("files")))
        .grace(Duration::from_secs(2))
        .batch(APP, "rows", Rows)
        .chunk(APP, "chunks", Chunks)
        .transactional(APP, "moves", Moves)
        .slow_query(APP, "ask", Ask);
    for op in ["rows", "chunks", "moves"] {
        builder = builder.settings(APP, op, Kind::Batch, settings());
    }
    Ok(builder
        .settings(APP, "ask", Kind::Query, settings())
        .build()?)
}

/// A worker process: works until it is told to stop.
pub(crate) async fn work(folder: &Path) -> Result<(), Failed> {
    // The panics are part of the programme.
    std::panic::set_hook(Box::new(|_| ()));
    let stop = CancellationToken::new();
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    std::io::stdout().write_all(HEARS)?;
    std::io::stdout().flush()?;
    tokio::spawn({
        let stop = stop.clone();
        async move {
            term.recv().await;
            stop.cancel();
        }
    });
    Ok(manager(folder).await?.run(stop).await?)
}
