//! Panics outside of a processor's own method: in the application's types, and in its object store.

use rowmill::model::{BatchId, NewBatch, Status};
use rowmill::sqlite::{TransactionalProcessor, Tx};
use rowmill::{
    BatchProcessor, Builder, ChunkCx, ChunkOut, ChunkProcessor, InputRow, JobManager, RowCx,
    RowFailure,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::world::{LONG, World, code, inputs, key, raw, rows_of};

/// A word that cannot be read or written where it says so.
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        assert!(word != "unreadable", "secret: a bug of the application's");
        Ok(Self(word))
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != "unwritable", "secret: a bug of the application's");
        to.serialize_str(&self.0)
    }
}

/// An error that has no text where it is asked for it.
#[derive(Debug)]
struct Speechless;

impl std::fmt::Display for Speechless {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("secret: a bug of the application's")
    }
}

impl std::error::Error for Speechless {}

fn answer(word: Word) -> Result<Word, RowFailure> {
    match word.0.as_str() {
        "speechless" => Err(RowFailure::Error(Box::new(Speechless))),
        _ => Ok(word),
    }
}

struct Words;

impl BatchProcessor for Words {
    type Block = ();
    type Context = Word;
    type Input = Word;
    type Output = Word;

    async fn process(&self, _: &mut RowCx<'_, (), Word>, word: Word) -> Result<Word, RowFailure> {
        answer(word)
    }
}

impl ChunkProcessor for Words {
    type Block = ();
    type Context = Word;
    type Input = Word;
    type Output = Word;

    async fn process(
        &self,
        _: &ChunkCx<'_, (), Word>,
        rows: Vec<InputRow<Word>>,
        out: &mut ChunkOut<Word>,
    ) -> Result<(), RowFailure> {
        for (i, row) in rows.into_iter().enumerate() {
            match answer(row.input) {
                Ok(word) => out.success(i, &word),
                Err(failure) => out.failure(i, failure),
            }
        }
        Ok(())
    }
}

impl TransactionalProcessor for Words {
    type Block = ();
    type Context = Word;
    type Input = Word;
    type Output = Word;

    fn process(
        &self,
        _: &mut Tx<'_>,
        _: &mut RowCx<'_, (), Word>,
        word: Word,
    ) -> Result<Word, RowFailure> {
        answer(word)
    }
}

/// The op `bank/post` of each kind of processor of rows.
fn every_kind(world: &World) -> [(&'static str, Builder); 3] {
    let new = || world.builder();
    [
        ("rows", new().batch("bank", "post", Words)),
        ("chunks", new().chunk("bank", "post", Words)),
        ("transactions", new().transactional("bank", "post", Words)),
    ]
}

async fn submit(manager: &JobManager, context: &str, words: &[&str]) -> BatchId {
    let new = NewBatch {
        context: raw(&format!("{context:?}")),
        ..NewBatch::new(key("post"))
    };
    let rows: Vec<Value> = words.iter().map(|word| Value::from(*word)).collect();
    let batch = manager.batch_submit(new, inputs(&rows)).await;
    batch.expect("submitted").id
}

async fn work(world: &World, manager: &JobManager, what: &str) {
    let worked = tokio::time::timeout(LONG, world.work(manager)).await;
    worked.unwrap_or_else(|_| panic!("{what} go on without end"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_whose_types_panic_costs_itself_alone() {
    for bad in ["unreadable", "unwritable", "speechless"] {
        let world = World::new().await;
        for (what, builder) in every_kind(&world) {
            let manager = builder.build().unwrap();
            let id = submit(&manager, "fine", &["a", bad, "b"]).await;
            work(&world, &manager, what).await;
            let rows = rows_of(&manager, id).await;
            let statuses: Vec<Status> = rows.iter().map(|row| row.status).collect();
            assert_eq!(
                statuses,
                [Status::Success, Status::Failed, Status::Success],
                "{what}, {bad}"
            );
            assert!(["panic", "processing_error"].contains(&code(&rows[1]).as_str()));
            world.end(&manager).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_whose_type_panics_fails_every_row_once() {
    let world = World::new().await;
    for (what, builder) in every_kind(&world) {
        let manager = builder.build().unwrap();
        let id = submit(&manager, "unreadable", &["a", "b"]).await;
        work(&world, &manager, what).await;
        let rows = rows_of(&manager, id).await;
        let codes: Vec<String> = rows.iter().map(code).collect();
        assert_eq!(codes, ["panic", "panic"], "{what}");
        assert_eq!(rows[0].attempt, Some(1), "{what}");
        world.end(&manager).await;
    }
}
