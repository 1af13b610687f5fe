//! append: rows are added to a held batch, in as many rounds as it takes.

use std::io::Read;

use tokio_util::sync::CancellationToken;

use super::{Client, NewRow};
use crate::error::{Error, Result};
use crate::ingest::{Format, Options};
use crate::intake::{self, Intake, Source};
use crate::model::{Batch, BatchId, Kind};
use crate::store::NewAppend;

/// How rows are appended.
#[derive(Debug, Clone, Default)]
pub struct AppendOptions {
    /// Your own name for these rows, unique in their batch: appending them again under it adds nothing.
    ///
    /// Without one, rows that the batch's latest append had are taken for a repeat of it.
    pub key: Option<String>,
    /// Release the batch in the transaction in which the rows begin to count.
    pub release: bool,
}

/// What an append came to.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The batch as it is after it.
    pub batch: Batch,
    /// Rows that it added, now or, where it is repeated, before.
    pub rows: u64,
    /// The line of the first of them; none where there are none.
    pub first_line: Option<u32>,
    /// The line of the last of them; none where there are none.
    pub last_line: Option<u32>,
    /// They had been added before: this call added nothing.
    pub repeated: bool,
    /// What was read, with the lines of the input itself.
    pub intake: Intake,
}

impl Client {
    /// Appends rows to a batch in status `wait`; acknowledged, and durable, when it returns.
    ///
    /// All of them count at once, or none, with the release where [`AppendOptions::release`] asks for
    /// it. A row without a line gets the next number; a given line must be above the batch's last.
    /// No rows change nothing, and with a release act as [`Client::wait_off`].
    ///
    /// A repeat is answered with [`Appended::repeated`] and adds nothing, also when the batch has been
    /// released since; so a call whose answer was lost may be made again.
    ///
    /// **Cancellation:** nothing of it counts, or all of it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound);
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) where the batch is not held
    /// (`wrong_state`), another append to it is being loaded (`append_in_progress`), or the key was
    /// used with other content (`duplicate`); [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where
    /// a line does not rise (`bad_line`); [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use rowmill::model::{JobKey, Kind, NewBatch, Status};
    /// use rowmill::{AppendOptions, Client, NewRow, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let client = Client::new(Store::sqlite(dir.path().join("rowmill.db")).await?);
    /// let held = NewBatch { hold: true, ..NewBatch::new(JobKey::new("bank", "post", Kind::Batch)?) };
    /// let batch = client.batch_submit(held, [NewRow::json(&1)?]).await?;
    /// let release = AppendOptions { release: true, ..AppendOptions::default() };
    /// let appended = client.batch_append(batch.id, [NewRow::json(&2)?, NewRow::json(&3)?], release).await?;
    /// assert_eq!((appended.rows, appended.first_line, appended.last_line), (2, Some(2), Some(3)));
    /// assert_eq!((appended.batch.status, appended.batch.counts.rows), (Status::Queued, 3));
    /// # Ok(()) }
    /// ```
    pub async fn batch_append<R>(
        &self,
        id: BatchId,
        rows: R,
        options: AppendOptions,
    ) -> Result<Appended>
    where
        R: IntoIterator<Item = NewRow> + Send + 'static,
        R::IntoIter: Send,
    {
        let batch = self.appendable(id, &options).await?;
        let release = options.release;
        let never = CancellationToken::new();
        let appended = self.append(&batch, Source::rows(rows), options, &never);
        match appended.await? {
            Ok(appended) => Ok(appended),
            Err(intake) => {
                let batch = if release {
                    self.wait_off(id).await?
                } else {
                    batch
                };
                Ok(Appended {
                    batch,
                    rows: 0,
                    first_line: None,
                    last_line: None,
                    repeated: false,
                    intake,
                })
            }
        }
    }

    /// Appends the records of a file or pipe, read as a stream: memory stays flat.
    ///
    /// Lines go on as if the files were joined: line p of this one becomes the batch's last line + p.
    /// A CSV's header may have the batch's columns in another order, and others: those are added to
    /// the batch's. A CSV without a header has the batch's columns, where it has any. An input
    /// without rows is refused.
    ///
    /// **Cancellation:** nothing of it counts, or all of it.
    ///
    /// # Errors
    /// As [`Client::batch_append`]; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) also where the
    /// input cannot be read or has no rows.
    pub async fn batch_append_reader(
        &self,
        id: BatchId,
        reader: impl Read + Send + 'static,
        read: Options,
        options: AppendOptions,
    ) -> Result<Appended> {
        let never = CancellationToken::new();
        self.batch_append_until(id, reader, read, options, &never)
            .await
    }

    /// As [`Client::batch_append_reader`], until `stop`, at which nothing of it is left behind.
    pub(crate) async fn batch_append_until(
        &self,
        id: BatchId,
        reader: impl Read + Send + 'static,
        mut read: Options,
        options: AppendOptions,
        stop: &CancellationToken,
    ) -> Result<Appended> {
        let batch = self.appendable(id, &options).await?;
        if read.format == Format::Csv && !read.header && read.columns.is_none() {
            read.columns = batch.columns.clone().filter(|c| !c.is_empty());
        }
        let source = Source::reader(reader, read);
        let appended = self.append(&batch, source, options, stop).await?;
        appended.map_err(|_| intake::no_rows())
    }

    /// The batch that rows are to be appended to; its state is looked at when they are.
    async fn appendable(&self, id: BatchId, options: &AppendOptions) -> Result<Batch> {
        if options
            .key
            .as_ref()
            .is_some_and(|key| key.is_empty() || key.len() > 500)
        {
            return Err(Error::invalid(
                "bad_key",
                "an append key has 1 to 500 bytes",
            ));
        }
        let batch = self.batch_now(id).await?;
        if batch.kind != Kind::Batch {
            let text = format!("{id} is a slow query, which has one row; only a batch takes more");
            return Err(Error::invalid("wrong_kind", text));
        }
        Ok(batch)
    }

    /// Appends a source's rows; what was read of it where it has none.
    async fn append(
        &self,
        batch: &Batch,
        source: Source,
        options: AppendOptions,
        stop: &CancellationToken,
    ) -> Result<Result<Appended, Intake>> {
        let AppendOptions { key, release } = options;
        let append = NewAppend {
            batch: batch.id,
            key,
            release,
            by: self.by.to_string(),
        };
        let builder = self.builder(&batch.key()).await?;
        let (added, intake) = intake::append(self, append, builder, source, stop).await?;
        let Some(added) = added else {
            return Ok(Err(intake));
        };
        Ok(Ok(Appended {
            batch: self.changed(batch.id).await?,
            rows: added.rows,
            first_line: Some(added.first_line),
            last_line: Some(added.last_line),
            repeated: added.repeated,
            intake,
        }))
    }
}
