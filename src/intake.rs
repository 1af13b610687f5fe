//! intake: rows from any source to blocks in the store, a piece at a time.
//!
//! The source is read on a thread of its own; no transaction lives as long as it does.

mod append;
mod source;

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::{Encoding, Packing};
use crate::model::{BatchId, Block, BlockBuilder, ContentHash, Message, NewBatch, Token};
use crate::probe;
use crate::store::{AppendBlocks, LoadPiece, StoreError, Submitted};

pub(crate) use append::append;
pub(crate) use source::{Source, next_line};

/// Bytes of one transaction; twice that is the bound of surface and design.
const PIECE: usize = 2 << 20;
/// A submit of so many rows or bytes is one transaction.
const SMALL_ROWS: u32 = 1000;
const SMALL_BYTES: usize = 1 << 20;
/// Pieces read ahead of the store.
const AHEAD: usize = 2;
/// A slow source is not taken for a dead one: the load is touched this often.
const TOUCH: Duration = Duration::from_secs(20);
/// Rejected records that are told one by one.
const TOLD: usize = 10;

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intake {
    /// Rows, rejected ones among them.
    pub rows: u64,
    /// Records that could not be rows; each is a failed row.
    pub rejected: u64,
    /// Lines of nothing.
    pub blank: u64,
    /// The first rejected records: line and message.
    pub first_rejected: Vec<(u32, Message)>,
    /// A CSV's columns.
    pub columns: Option<Vec<String>>,
    /// The encoding that an input was read in; `None` where rows were given by call.
    pub encoding: Option<Encoding>,
    /// How the input was packed.
    pub packing: Option<Packing>,
}

impl Intake {
    /// Refuses an input without rows.
    pub(crate) fn or_no_rows(self) -> Result<Self> {
        if self.rows == 0 {
            return Err(no_rows());
        }
        Ok(self)
    }
}

/// Blocks on their way to the store.
struct Piece {
    blocks: AppendBlocks,
    last: Option<([u8; 32], Intake)>,
}

impl Piece {
    /// What was read, where this is all of it and fits one transaction.
    fn whole(&self) -> Option<([u8; 32], Intake)> {
        let last = self.last.as_ref();
        let small = |intake: &Intake| {
            intake.rows <= u64::from(SMALL_ROWS) || size(&self.blocks) <= SMALL_BYTES
        };
        last.filter(|(_, intake)| small(intake)).cloned()
    }
}

pub(crate) struct Feeder<'a> {
    builder: BlockBuilder,
    blocks: AppendBlocks,
    /// Lines count from the batch's last one, which only the store knows.
    follows: bool,
    bytes: usize,
    hash: ContentHash,
    intake: Intake,
    pieces: &'a mpsc::Sender<Result<Piece>>,
}

impl<'a> Feeder<'a> {
    fn new(builder: BlockBuilder, follows: bool, pieces: &'a mpsc::Sender<Result<Piece>>) -> Self {
        Self {
            builder,
            blocks: AppendBlocks::default(),
            follows,
            bytes: 0,
            hash: ContentHash::default(),
            intake: Intake::default(),
            pieces,
        }
    }

    /// Takes a row; false when nobody wants more.
    fn row(&mut self, line: u32, input: &str) -> bool {
        self.intake.rows += 1;
        let full = self.builder.push(line, input);
        full.is_none_or(|block| self.block(block))
    }

    fn rejected(&mut self, line: u32, input: &str, message: Message) -> bool {
        self.intake.rows += 1;
        self.intake.rejected += 1;
        if self.intake.first_rejected.len() < TOLD {
            self.intake.first_rejected.push((line, message.clone()));
        }
        let full = self.builder.push_rejected(line, input, message);
        full.is_none_or(|block| self.block(block))
    }

    /// The rows to come have lines of the batch's own; false when nobody wants more.
    fn lines_are_given(&mut self) -> bool {
        let open = self.builder.finish();
        let more = open.is_none_or(|block| self.block(block));
        self.hash.lines_begin_anew();
        self.follows = false;
        more
    }

    fn block(&mut self, block: Block) -> bool {
        self.hash.add(&block);
        self.bytes += block.body.len();
        if self.follows {
            self.blocks.following.push(block);
        } else {
            self.blocks.given.push(block);
        }
        self.bytes < PIECE || self.send(None)
    }

    fn send(&mut self, last: Option<([u8; 32], Intake)>) -> bool {
        let blocks = std::mem::take(&mut self.blocks);
        self.bytes = 0;
        self.pieces
            .blocking_send(Ok(Piece { blocks, last }))
            .is_ok()
    }

    fn end(mut self) {
        if let Some(block) = self.builder.finish() {
            self.block(block);
        }
        let hash = std::mem::take(&mut self.hash).finish();
        let intake = std::mem::take(&mut self.intake);
        self.send(Some((hash, intake)));
    }
}

/// Reads a source on a thread of its own, little ahead of whoever takes its pieces.
fn read(source: Source, builder: BlockBuilder, follows: bool) -> mpsc::Receiver<Result<Piece>> {
    let (pieces, inbox) = mpsc::channel(AHEAD);
    let Source { feed, waits } = source;
    let run = move || {
        let mut feeder = Feeder::new(builder, follows, &pieces);
        match feed(&mut feeder) {
            Ok(()) => feeder.end(),
            Err(error) => drop(pieces.blocking_send(Err(error))),
        }
    };
    if waits {
        // Where there is no thread, the end of its pieces says so.
        drop(std::thread::Builder::new().spawn(run));
    } else {
        tokio::task::spawn_blocking(run);
    }
    inbox
}

/// Stores a source's rows as a batch; seen by nobody until all of them are there.
pub(crate) async fn submit(
    client: &Client,
    mut batch: NewBatch,
    builder: BlockBuilder,
    source: Source,
) -> Result<(BatchId, Intake)> {
    let mut inbox = read(source, builder, false);
    let first = next(&mut inbox).await?;
    if let Some((hash, intake)) = first.whole() {
        let intake = intake.or_no_rows()?;
        batch.columns.clone_from(&intake.columns);
        let now = client.clock.now();
        let blocks = first.blocks.given;
        let done = client.store.submit(batch, blocks, hash, now).await?;
        return Ok((done.id(), intake));
    }
    load(client, batch, first, inbox).await
}

fn size(blocks: &AppendBlocks) -> usize {
    let all = blocks.following.iter().chain(&blocks.given);
    all.map(|b| b.body.len()).sum()
}

pub(crate) fn no_rows() -> Error {
    Error::invalid("no_rows", "the input has no rows; nothing was stored")
}

async fn next(inbox: &mut mpsc::Receiver<Result<Piece>>) -> Result<Piece> {
    match inbox.recv().await {
        Some(piece) => piece,
        None => Err(Error::new(
            ErrorKind::Internal,
            "internal",
            "the reader of the input ended without a word",
        )),
    }
}

/// Takes what was read, a piece at a time; one without blocks says that the loader lives.
trait Sink: Send {
    fn put(&mut self, blocks: AppendBlocks) -> impl Future<Output = Result<()>> + Send;
}

/// Hands all pieces to a sink.
async fn pour(
    mut piece: Piece,
    inbox: &mut mpsc::Receiver<Result<Piece>>,
    sink: &mut impl Sink,
) -> Result<([u8; 32], Intake)> {
    loop {
        if !piece.blocks.following.is_empty() || !piece.blocks.given.is_empty() {
            sink.put(piece.blocks).await?;
        }
        if let Some(last) = piece.last {
            return Ok(last);
        }
        piece = loop {
            match tokio::time::timeout(TOUCH, next(inbox)).await {
                Ok(piece) => break piece?,
                Err(_) => sink.put(AppendBlocks::default()).await?,
            }
        };
    }
}

async fn load(
    client: &Client,
    mut batch: NewBatch,
    first: Piece,
    mut inbox: mpsc::Receiver<Result<Piece>>,
) -> Result<(BatchId, Intake)> {
    let token = Token::random().map_err(|e| StoreError::unavailable("making a token", e))?;
    let store = &client.store;
    let begun = store
        .begin_load(batch.clone(), token, client.clock.now())
        .await?;
    probe::at("load_begun");
    let guard = Discard {
        client,
        id: batch.id,
        token,
        armed: matches!(begun, Submitted::New(_)),
    };
    let mut load = Load {
        client,
        id: batch.id,
        token,
        wanted: guard.armed,
        next_no: 0,
    };
    let loaded = async {
        let (hash, intake) = pour(first, &mut inbox, &mut load).await?;
        batch.columns.clone_from(&intake.columns);
        let now = client.clock.now();
        let done = store.finish_load(batch, token, hash, now).await?;
        probe::at("load_finished");
        Ok((done.id(), intake))
    };
    let loaded = loaded.await;
    guard.end(loaded).await
}

struct Load<'a> {
    client: &'a Client,
    id: BatchId,
    token: Token,
    /// A repeat is read for its content alone.
    wanted: bool,
    next_no: i64,
}

impl Sink for Load<'_> {
    async fn put(&mut self, blocks: AppendBlocks) -> Result<()> {
        if !self.wanted {
            return Ok(());
        }
        let piece = LoadPiece {
            id: self.id,
            token: self.token,
            first_no: self.next_no,
            blocks: blocks.given,
        };
        self.next_no += i64::try_from(piece.blocks.len()).unwrap_or(i64::MAX);
        let stores = !piece.blocks.is_empty();
        self.client
            .store
            .load(piece, self.client.clock.now())
            .await?;
        if stores {
            probe::at("load_piece");
        }
        Ok(())
    }
}

/// Removes a load that fails; where even that fails, the keeper removes it a minute later.
struct Discard<'a> {
    client: &'a Client,
    id: BatchId,
    token: Token,
    armed: bool,
}

impl Discard<'_> {
    async fn end<T>(self, loaded: Result<T>) -> Result<T> {
        if loaded.is_err()
            && self.armed
            && let Err(error) = self.client.store.discard_load(self.id, self.token).await
        {
            tracing::warn!(batch = %self.id, %error, "what was loaded could not be removed; it is swept later");
        }
        loaded
    }
}
