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
    /// [`ErrorKind::Unavailable`].
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
