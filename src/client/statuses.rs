//! What is asked again and again: where a batch stands, and whether it is done.

use std::time::Duration;

use super::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Batch, BatchId, Kind, Progress};
use crate::store::Ended;

impl Client {
    /// The batch or query as it is, or was a moment ago.
    ///
    /// Where it has ended the database is asked once, and then a copy answers. With a cache that
    /// processes share ([`StatusCache::redis`](crate::StatusCache::redis)) an open one is a copy too,
    /// for [`StatusCache::open_for`](crate::StatusCache::open_for).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Unavailable`].
    pub async fn batch_status(&self, id: BatchId) -> Result<Batch> {
        self.seen(id, self.statuses.batch(id).await?)
    }

    /// As [`Client::batch_status`], and never older than now.
    pub(crate) async fn batch_now(&self, id: BatchId) -> Result<Batch> {
        self.seen(id, self.statuses.now(id).await?)
    }

    /// The batch as the store has it, whatever is copied: also whether it was purged.
    pub(crate) async fn read(&self, id: BatchId) -> Result<Batch> {
        self.seen(id, self.statuses.read(id).await?)
    }

    /// The batch after this client has changed it.
    pub(crate) async fn changed(&self, id: BatchId) -> Result<Batch> {
        self.seen(id, self.statuses.changed(id).await?)
    }

    /// The batch after it was submitted, or found to be there: its name is known from now on.
    pub(super) async fn submitted(&self, id: BatchId) -> Result<Batch> {
        let batch = self.read(id).await?;
        self.named(&batch).await;
        Ok(batch)
    }

    /// A submitted batch's external id is known from now on.
    pub(super) async fn named(&self, batch: &Batch) {
        if let Some(name) = &batch.external_id {
            let app = batch.app.as_str();
            self.statuses.name(app, name, batch.id, true).await;
        }
    }

    fn seen(&self, id: BatchId, batch: Option<Batch>) -> Result<Batch> {
        let mut batch = batch.ok_or_else(|| Error::not_found(id))?;
        batch.progress = self.progress(&batch);
        Ok(batch)
    }

    /// As [`Client::batch_status`]: look at [`Batch::done`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Unavailable`].
    pub async fn batch_done(&self, id: BatchId) -> Result<Batch> {
        self.batch_status(id).await
    }

    /// As [`Client::batch_done`], for a slow query.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], for a batch too; [`ErrorKind::Unavailable`].
    pub async fn slow_query_done(&self, id: BatchId) -> Result<Batch> {
        let query = self.batch_status(id).await?;
        if query.kind == Kind::Query {
            return Ok(query);
        }
        let text = format!("there is no slow query {id}: that is a batch");
        Err(Error::new(ErrorKind::NotFound, "not_found", text))
    }

    pub(super) fn progress(&self, batch: &Batch) -> Option<Progress> {
        if batch.done {
            return None;
        }
        let started = batch.started_at?;
        let elapsed = self.clock.now().duration_since(started).as_secs_f64();
        let ended = batch.counts.rows.saturating_sub(batch.counts.pending);
        #[allow(clippy::cast_precision_loss)]
        let (ended, pending) = (ended as f64, batch.counts.pending as f64);
        let rate = if elapsed > 0.0 { ended / elapsed } else { 0.0 };
        Some(Progress {
            rows_per_second: rate,
            eta_seconds: (rate > 0.0).then(|| pending / rate),
        })
    }

    /// Waits until the batch or query is done, and returns it; `None` for ever waits without end.
    ///
    /// **Cancellation:** safe.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Unavailable`].
    pub async fn wait_done(&self, id: BatchId, most: Option<Duration>) -> Result<Batch> {
        let until = most.and_then(|most| tokio::time::Instant::now().checked_add(most));
        // Taken before the first look, so that an end between look and wait is not missed.
        let mut signal = self.store.signal();
        loop {
            signal.take();
            // Each change of any batch wakes: little is asked before there is something to return.
            match self.statuses.end(id).await? {
                Ended::Yes(batch) => return Ok(*batch),
                Ended::NotYet => {}
                Ended::Unknown => return Err(Error::not_found(id)),
            }
            match until {
                None => signal.changed().await,
                Some(until) => {
                    if tokio::time::timeout_at(until, signal.changed())
                        .await
                        .is_err()
                    {
                        return self.batch_now(id).await;
                    }
                }
            }
        }
    }

    /// Takes a row's input, result, messages and texts away from a batch that has ended; false where it
    /// has no such line.
    ///
    /// A query's result goes from the copies of its status with it: from those that processes share at
    /// once, from another process's memory within [`StatusCache::open_for`](crate::StatusCache::open_for)
    /// times 100. Output files are not touched. **Cancellation:** it was done, or not; repeat it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] where it has not ended; [`ErrorKind::Unavailable`].
    pub async fn redact(&self, id: BatchId, line: u32) -> Result<bool> {
        let (by, now) = (self.by.to_string(), self.clock.now());
        let redacted = self.store.redact(id, line, by, now).await;
        // An answer that was lost may have been yes.
        self.statuses.forget(&[id]).await;
        Ok(redacted?)
    }
}
