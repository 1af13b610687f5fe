//! append: a source's rows are added to a held batch, all of them at once.

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Intake, Piece, Sink, Source, next, pour, read};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BatchId, BlockBuilder, Token};
use crate::probe;
use crate::store::{
    Added, AppendBlocks, AppendContent, AppendPiece, Begun, NewAppend, Store, StoreError,
};
use tokio::sync::mpsc;

/// Adds a source's rows to a held batch; `None` where it has none, and nothing was done.
///
/// Where `stop` comes first, what was stored is removed before it returns.
pub(crate) async fn append(
    client: &Client,
    append: NewAppend,
    builder: BlockBuilder,
    source: Source,
    stop: &CancellationToken,
) -> Result<(Option<Added>, Intake)> {
    let mut inbox = read(source, builder, true);
    let first = tokio::select! {
        first = next(&mut inbox) => first?,
        () = stop.cancelled() => return Err(stopped()),
    };
    let Some((hash, intake)) = first.whole() else {
        return load(client, append, first, inbox, stop).await;
    };
    if intake.rows == 0 {
        return Ok((None, intake));
    }
    let content = content(hash, &intake);
    let now = client.clock.now();
    let added = client.store.append(append, first.blocks, content, now);
    Ok((Some(added.await?), intake))
}

fn content(hash: [u8; 32], intake: &Intake) -> AppendContent {
    AppendContent {
        hash,
        columns: intake.columns.clone(),
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Conflict, "stopped", "the append was stopped")
}

async fn load(
    client: &Client,
    append: NewAppend,
    first: Piece,
    mut inbox: mpsc::Receiver<Result<Piece>>,
    stop: &CancellationToken,
) -> Result<(Option<Added>, Intake)> {
    let token = Token::random().map_err(|e| StoreError::unavailable("making a token", e))?;
    let (store, batch) = (&client.store, append.batch);
    let mut guard = Discard {
        store: store.clone(),
        batch,
        token,
        armed: true,
    };
    let loaded = async {
        let now = client.clock.now();
        let begun = store.begin_append(append.clone(), token, now).await?;
        probe::at("append_begun");
        let mut load = Load {
            client,
            batch,
            token,
            wanted: begun == Begun::New,
            keyed: append.key.is_some(),
            refused: None,
        };
        let (hash, intake) = pour(first, &mut inbox, &mut load).await?;
        let content = content(hash, &intake);
        let now = client.clock.now();
        let added = store.finish_append(append, token, content, now).await;
        let added = match (added, load.refused) {
            (Err(StoreError::AppendLost(_)), Some(refused)) => return Err(refused.into()),
            (added, _) => added?,
        };
        probe::at("append_finished");
        Ok((Some(added), intake))
    };
    let loaded = tokio::select! {
        loaded = loaded => loaded,
        () = stop.cancelled() => Err(stopped()),
    };
    guard.armed = false;
    if loaded.is_err() {
        guard.discard().await;
    }
    loaded
}

struct Load<'a> {
    client: &'a Client,
    batch: BatchId,
    token: Token,
    /// A repeat is read for its content alone.
    wanted: bool,
    keyed: bool,
    /// Why no more is stored.
    refused: Option<StoreError>,
}

impl Sink for Load<'_> {
    async fn put(&mut self, blocks: AppendBlocks) -> Result<()> {
        if !self.wanted {
            return Ok(());
        }
        let stores = !blocks.following.is_empty() || !blocks.given.is_empty();
        let piece = AppendPiece {
            batch: self.batch,
            token: self.token,
            blocks,
        };
        let now = self.client.clock.now();
        let (store, token) = (&self.client.store, self.token);
        match store.append_piece(piece, now).await {
            // Given lines that are there already may be those of a repeat: the content tells.
            Err(refused @ StoreError::BadLine { .. }) if !self.keyed => {
                store.discard_append(self.batch, token).await?;
                self.wanted = false;
                self.refused = Some(refused);
            }
            stored => stored?,
        }
        if stores {
            probe::at("append_piece");
        }
        Ok(())
    }
}

/// Removes an append that fails or is dropped, so that the next one need not wait for its silence.
struct Discard {
    store: Store,
    batch: BatchId,
    token: Token,
    armed: bool,
}

impl Discard {
    /// Where even this fails, the next append or the keeper removes it a minute later.
    async fn discard(&self) {
        if let Err(error) = self.store.discard_append(self.batch, self.token).await {
            let batch = self.batch;
            tracing::warn!(%batch, %error, "what was loaded could not be removed; it is swept later");
        }
    }
}

impl Drop for Discard {
    fn drop(&mut self) {
        let Some(runtime) = Handle::try_current().ok().filter(|_| self.armed) else {
            return;
        };
        let dropped = Self {
            store: self.store.clone(),
            armed: false,
            ..*self
        };
        runtime.spawn(async move { dropped.discard().await });
    }
}
