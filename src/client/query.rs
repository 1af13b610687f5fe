//! Slow queries: submitted alone or many at once.

use tokio::time::Instant;

use super::{Client, check};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Batch, BatchId, Block, BlockBuilder, ContentHash, Kind, NewBatch, RawJson};
use crate::store::Submitted;

/// Queries of one call: nobody else writes meanwhile.
const MOST: usize = 10_000;
/// Bytes of their inputs and contexts, where there are several.
const MOST_BYTES: usize = 64 << 20;

/// A slow query to submit.
#[derive(Debug, Clone)]
pub struct NewQuery {
    /// What is to answer it, and how it is to run.
    pub query: NewBatch,
    /// What is asked: any JSON.
    pub input: Box<RawJson>,
}

/// A slow query that was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmittedQuery {
    /// Its id; that of the query that is there, where the same was submitted before.
    pub id: BatchId,
    /// The same content was there already, under the same id or external id.
    pub existed: bool,
}

impl Client {
    /// Submits one slow query; acknowledged, and durable, when it returns.
    ///
    /// The same id or external id again with the same content returns the query that is there.
    /// **Cancellation:** it is stored, or not; repeat it with the same id to know.
    ///
    /// # Errors
    /// As [`Client::batch_submit`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use rowmill::model::{JobKey, Kind, NewBatch, RawJson, Status};
    /// # use rowmill::{Client, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let client = Client::new(Store::sqlite(dir.path().join("rowmill.db")).await?);
    /// let new = NewBatch::new(JobKey::new("bank", "statement", Kind::Query)?);
    /// let query = client.slow_query_submit(new, RawJson::from_string(r#"{"account":"ACC1"}"#.into())?).await?;
    /// assert_eq!(client.slow_query_done(query.id).await?.status, Status::Queued);
    /// # Ok(()) }
    /// ```
    pub async fn slow_query_submit(&self, query: NewBatch, input: Box<RawJson>) -> Result<Batch> {
        let now = self.clock.now();
        let query = self.ready(NewQuery { query, input })?;
        let (new, began) = (query.0.clone(), Instant::now());
        let submitted = self.store.submit_many(vec![query], now).await?;
        match submitted.as_slice() {
            [Submitted::New(_)] => {
                let query = Batch::submitted(new, 1, now);
                self.statuses.known(&query, began).await;
                self.named(&query).await;
                Ok(query)
            }
            [Submitted::Existing(id)] => self.submitted(*id).await,
            _ => Err(Error::new(
                ErrorKind::Internal,
                "internal",
                "one query, one id",
            )),
        }
    }

    /// Submits many slow queries in one transaction: all or none.
    ///
    /// What is returned stands in the order of `queries`: at most 10,000, and 64 MiB of inputs and
    /// contexts. **Cancellation:** all or none of them is stored; repeat them with the same ids to know.
    ///
    /// # Errors
    /// As [`Client::batch_submit`]; [`ErrorKind::Invalid`] also where they are too many (`too_large`).
    pub async fn slow_query_submit_many(
        &self,
        queries: Vec<NewQuery>,
    ) -> Result<Vec<SubmittedQuery>> {
        let sizes = queries
            .iter()
            .map(|q| q.input.get().len() + q.query.context.get().len());
        if queries.len() > MOST || (queries.len() > 1 && sizes.sum::<usize>() > MOST_BYTES) {
            let text = "one call submits at most 10,000 slow queries, and 64 MiB of inputs and contexts; make several calls";
            return Err(Error::invalid("too_large", text));
        }
        let ready = queries.into_iter().map(|query| self.ready(query));
        let ready = ready.collect::<Result<Vec<_>>>()?;
        let submitted = self.store.submit_many(ready, self.clock.now()).await?;
        let submitted = submitted.into_iter().map(|submitted| SubmittedQuery {
            id: submitted.id(),
            existed: matches!(submitted, Submitted::Existing(_)),
        });
        Ok(submitted.collect())
    }

    /// A query as it is stored.
    fn ready(&self, query: NewQuery) -> Result<(NewBatch, Block, [u8; 32])> {
        let NewQuery { query, input } = query;
        let query = self.signed(query);
        check(&query, Kind::Query)?;
        let mut builder = BlockBuilder::new(1, usize::MAX);
        builder.push(1, input.get());
        let block = builder.finish().unwrap_or_default();
        let hash = ContentHash::of(&block);
        Ok((query, block, hash))
    }
}
