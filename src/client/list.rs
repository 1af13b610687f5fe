//! list: batches newest first, as a stream or by pages.

use futures_util::Stream;

use super::{Client, pages};
use crate::error::Result;
use crate::model::{Batch, BatchFilter, BatchesPage, Cursor};

/// Batches that a stream asks for at once.
const PAGE: u32 = 100;

impl Client {
    /// All batches and queries that fit, newest first, read as a stream.
    ///
    /// Purged ones are not in it. A batch that is submitted while the stream is read is not in it either.
    /// **Cancellation:** safe.
    ///
    /// # Errors
    /// In the stream: [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_util::TryStreamExt;
    /// use rowmill::model::{BatchFilter, JobKey, Kind, NewBatch, Status};
    /// # use rowmill::{Batch, Client, NewRow, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let client = Client::new(Store::sqlite(dir.path().join("rowmill.db")).await?);
    /// # let rows = [NewRow::json(&1)?];
    /// let batch = client.batch_submit(NewBatch::new(JobKey::new("bank", "post", Kind::Batch)?), rows).await?;
    /// let queued = BatchFilter { status: Some(Status::Queued), ..BatchFilter::default() };
    /// let found: Vec<Batch> = client.list(queued).try_collect().await?;
    /// assert_eq!(found.iter().map(|b| b.id).collect::<Vec<_>>(), [batch.id]);
    /// # Ok(()) }
    /// ```
    pub fn list(&self, filter: BatchFilter) -> impl Stream<Item = Result<Batch>> + Send + use<> {
        let client = self.clone();
        pages::stream(None, move |after| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let page = client.look(filter, after, PAGE).await?;
                Ok((page.data, page.next.map(Some)))
            }
        })
    }

    /// One page of [`Client::list`]: `limit` batches behind a place, fewer where the list ends.
    ///
    /// **Cancellation:** safe.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn list_page(
        &self,
        filter: BatchFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<BatchesPage> {
        let mut page = BatchesPage {
            data: Vec::new(),
            next: after,
        };
        loop {
            let have = u32::try_from(page.data.len()).unwrap_or(u32::MAX);
            if have >= limit {
                return Ok(page);
            }
            let more = self.look(filter.clone(), page.next, limit - have).await?;
            page.data.extend(more.data);
            page.next = more.next;
            if page.next.is_none() {
                return Ok(page);
            }
        }
    }

    /// What one step of the store finds.
    async fn look(
        &self,
        filter: BatchFilter,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<BatchesPage> {
        let mut page = self.store.list(filter, after, limit).await?;
        for batch in &mut page.data {
            batch.progress = self.progress(batch);
        }
        Ok(page)
    }
}
