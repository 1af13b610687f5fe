//! history: what happened to a batch's rows, attempt by attempt.

use futures_util::Stream;

use super::{Client, pages};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BatchId, HistoryEntry};

impl Client {
    /// The attempts of one row, or of every block in line order, read as a stream.
    ///
    /// It is read off what the attempts have left behind, a few blocks at a time. An attempt that goes on
    /// has no end. A row that was aborted or expired before it ran has an entry without a worker.
    /// **Cancellation:** safe.
    ///
    /// # Errors
    /// In the stream: [`ErrorKind::NotFound`] where there is no such batch or line;
    /// [`ErrorKind::Conflict`] where it was purged; [`ErrorKind::Unavailable`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_util::TryStreamExt;
    /// use rowmill::model::{HistoryEntry, Status};
    /// # use rowmill::{Client, NewRow, Store, model::{JobKey, Kind, NewBatch}};
    /// # let dir = tempfile::tempdir()?;
    /// # let client = Client::new(Store::sqlite(dir.path().join("rowmill.db")).await?);
    /// # let rows = [NewRow::json(&1)?];
    /// # let batch = client.batch_submit(NewBatch::new(JobKey::new("bank", "post", Kind::Batch)?), rows).await?;
    /// client.batch_abort(batch.id, std::time::Duration::ZERO).await?;
    /// let entries: Vec<HistoryEntry> = client.history(batch.id, Some(1)).try_collect().await?;
    /// assert_eq!((entries.len(), entries[0].after, entries[0].worker), (1, Status::Aborted, None));
    /// # Ok(()) }
    /// ```
    pub fn history(
        &self,
        id: BatchId,
        line: Option<u32>,
    ) -> impl Stream<Item = Result<HistoryEntry>> + Send + use<> {
        let store = self.store.clone();
        pages::stream(0, move |from| {
            let store = store.clone();
            async move {
                if let Some(line) = line {
                    let entries = store.line_history(id, line).await?;
                    return Ok((entries.ok_or_else(|| no_line(id, line))?, None));
                }
                let page = store.history(id, from).await?;
                Ok((page.entries, page.next))
            }
        })
    }
}

fn no_line(id: BatchId, line: u32) -> Error {
    let text = format!("batch {id} has no row of line {line}");
    Error::new(ErrorKind::NotFound, "not_found", text)
}
