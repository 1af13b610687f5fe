//! purge: ended batches that are old enough go, and leave a tombstone.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use serde::Serialize;

use super::Client;
use crate::engine::purge::{self, FORGET, PAGE, PurgeError};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AppName, BatchId, JobKey, OpId, OpName, Timestamp};
use crate::store::{PurgeScan, Purgeable};

/// Batches that are removed at once: their pieces share commits.
const AT_ONCE: usize = 16;

/// Which ended batches are purged.
#[derive(Debug, Clone, Default)]
pub struct Purge {
    /// Those that ended longer ago than this.
    pub older_than: Duration,
    /// Those of this app alone.
    pub app: Option<AppName>,
    /// Those of this op alone, of batches and of slow queries.
    pub op: Option<OpName>,
    /// Counts them and removes nothing.
    pub dry_run: bool,
}

/// What was purged, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    /// Batches and slow queries.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// Bytes of their inputs and output files.
    pub bytes: u64,
    /// Their output files.
    pub files: u64,
    /// Batches that are old enough and stay for now: their end is still to be told, or a retry of them is open.
    pub waiting: u64,
}

impl Purged {
    fn add(&mut self, batch: &Purgeable) {
        self.batches += 1;
        self.rows += batch.rows;
        self.bytes += batch.bytes;
        self.files += batch.files;
    }
}

impl Client {
    /// Removes rows, outcomes, history and output files of batches that ended long enough ago.
    ///
    /// What stays of each is a tombstone, for 400 days: its names and counts, so that its status is
    /// still answered, and its hash, so that the same submission is still known. A batch whose end
    /// waits to be told stays until it was told, for 30 days after its end at most; so does one of
    /// which a retry is open. What an earlier purge left half done is finished first, of any op.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use rowmill::{Client, NewRow, Purge, Store, model::{JobKey, Kind, NewBatch}};
    /// # let dir = tempfile::tempdir()?;
    /// # let client = Client::new(Store::sqlite(dir.path().join("rowmill.db")).await?);
    /// let new = NewBatch::new(JobKey::new("bank", "post", Kind::Batch)?);
    /// let rows = [NewRow::json(&1)?];
    /// let batch = client.batch_submit(new, rows).await?;
    /// client.batch_abort(batch.id, Duration::ZERO).await?;
    /// let purged = client.purge(&Purge { older_than: Duration::ZERO, ..Purge::default() }).await?;
    /// assert_eq!((purged.batches, purged.rows), (1, 1));
    /// assert_eq!(client.batch_status(batch.id).await?.counts.aborted, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// **Commits together:** a piece of a batch. From its first on nobody sees a row of the batch.
    /// **Cancellation:** what is done is done; the next purge goes on.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the store or the object store cannot be read or written.
    pub async fn purge(&self, what: &Purge) -> Result<Purged> {
        let mut purged = Purged::default();
        self.purge_into(what, &mut purged).await?;
        Ok(purged)
    }

    /// As [`Client::purge`]; what was done so far is in `purged` whatever happens.
    pub(crate) async fn purge_into(&self, what: &Purge, purged: &mut Purged) -> Result<()> {
        let now = self.clock.now();
        if !what.dry_run {
            self.finish_purges(purged).await?;
        }
        // Longer than there has been time: nothing is as old.
        let Ok(before) = now.checked_sub(what.older_than) else {
            return Ok(());
        };
        let ops = self.store.ops().await?;
        let ops = ops.iter().filter(|op| is_of(&op.key, what));
        for op in ops.filter_map(|op| op.id) {
            self.purge_op(op, before, now, what.dry_run, purged).await?;
        }
        if !what.dry_run {
            while self.store.forget(now, FORGET).await? == u64::from(FORGET) {}
        }
        Ok(())
    }

    /// Finishes what was marked and cut off.
    async fn finish_purges(&self, purged: &mut Purged) -> Result<()> {
        loop {
            let marked = self.store.purging(PAGE).await?;
            if marked.is_empty() {
                return Ok(());
            }
            self.remove(marked, purged).await?;
        }
    }

    async fn purge_op(
        &self,
        op: OpId,
        before: Timestamp,
        now: Timestamp,
        dry_run: bool,
        purged: &mut Purged,
    ) -> Result<()> {
        let mut scan = PurgeScan {
            op,
            before,
            after: None,
            limit: PAGE,
        };
        loop {
            let page = self.store.purgeable(scan, now).await?;
            purged.waiting += page.waiting;
            if dry_run {
                page.batches.iter().for_each(|batch| purged.add(batch));
            } else if !page.batches.is_empty() {
                let ids: Vec<BatchId> = page.batches.iter().map(|batch| batch.id).collect();
                let by = Some(self.by.to_string());
                let marked = self.store.purge_mark(ids, by, now).await?;
                self.statuses.forget(&marked).await;
                let mut batches = page.batches;
                batches.retain(|batch| marked.contains(&batch.id));
                self.remove(batches, purged).await?;
            }
            match page.next {
                Some(next) => scan.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Removes batches that are marked.
    async fn remove(&self, batches: Vec<Purgeable>, purged: &mut Purged) -> Result<()> {
        let removing = futures_util::stream::iter(batches)
            .map(|batch| async move {
                let mut pieces = u32::MAX;
                purge::remove(&self.store, &self.objects, &batch, &mut pieces).await?;
                Ok::<_, PurgeError>(batch)
            })
            .buffer_unordered(AT_ONCE);
        let mut removing = std::pin::pin!(removing);
        while let Some(batch) = removing.try_next().await.map_err(failed)? {
            purged.add(&batch);
        }
        Ok(())
    }
}

fn is_of(key: &JobKey, what: &Purge) -> bool {
    what.app.as_ref().is_none_or(|app| *app == key.app)
        && what.op.as_ref().is_none_or(|name| *name == key.op)
}

fn failed(error: PurgeError) -> Error {
    match error {
        PurgeError::Store(error) => error.into(),
        PurgeError::Stage(error) => Error::with(
            ErrorKind::Unavailable,
            "objects_unavailable",
            error.to_string(),
            error,
        ),
    }
}
