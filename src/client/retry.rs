//! retry: a child batch of the rows that failed.

use std::collections::VecDeque;

use futures_util::Stream;

use super::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::intake::{self, Source};
use crate::model::{Batch, BatchId, NewBatch, RawJson, RetryOf, RowView, Status};
use crate::store::{Child, Children, Store};

/// How often the rows are chosen again because another retry of the batch came first.
const TRIES: u32 = 5;

/// What a retry came to.
#[derive(Debug, Clone)]
pub struct Retried {
    /// The child batch.
    pub batch: Batch,
    /// Nothing was left to be retried: it is the latest retry that there was.
    pub repeated: bool,
}

impl Client {
    /// Submits the rows of an ended batch or query that failed as a child batch, to run at once.
    ///
    /// The child has the same lines, inputs, context, priority and idempotency keys, and no name, start
    /// or expiry of its parent's. Records that were refused at intake and rows that were redacted are left
    /// out. No row runs twice because it was asked for twice: what an earlier retry of this batch has in
    /// hand, or brought to success or failure, is not taken again, and where that leaves nothing the answer
    /// is the latest retry. Of two calls at the same moment one makes the child.
    ///
    /// **Cancellation:** nothing of the child is seen, or all of it; ask again to know.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] where it has not ended (`wrong_state`), was purged
    /// (`purged`) or has no row that could be retried (`nothing_to_retry`); [`ErrorKind::Unavailable`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use rowmill::{BatchProcessor, JobManager, Message, NewRow, RowCx, RowFailure, Store, model::{JobKey, Kind, NewBatch}};
    /// # struct Refuse;
    /// # impl BatchProcessor for Refuse {
    /// #     type Block = ();
    /// #     type Context = ();
    /// #     type Input = i64;
    /// #     type Output = ();
    /// #     async fn process(&self, _: &mut RowCx<'_, (), ()>, n: i64) -> Result<(), RowFailure> {
    /// #         if n == 2 { Err(Message::new("no_funds", 101).into()) } else { Ok(()) }
    /// #     }
    /// # }
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::sqlite(dir.path().join("rowmill.db")).await?;
    /// # let manager = JobManager::builder(store).batch("bank", "post", Refuse).build()?;
    /// # let rows = [NewRow::json(&1)?, NewRow::json(&2)?];
    /// # let batch = manager.batch_submit(NewBatch::new(JobKey::new("bank", "post", Kind::Batch)?), rows).await?;
    /// # manager.tick().await?;
    /// // Of its two rows one has failed.
    /// let retried = manager.retry(batch.id).await?;
    /// assert_eq!((retried.batch.parent, retried.batch.counts.rows), (Some(batch.id), 1));
    /// assert!(manager.retry(batch.id).await?.repeated, "no row is taken twice");
    /// # Ok(()) }
    /// ```
    pub async fn retry(&self, id: BatchId) -> Result<Retried> {
        let mut tries = 1;
        loop {
            match self.try_retry(id).await {
                Err(error) if error.code() == "retried" && tries < TRIES => tries += 1,
                answer => return answer,
            }
        }
    }

    async fn try_retry(&self, id: BatchId) -> Result<Retried> {
        let parent = self.batch_now(id).await?;
        if !parent.done {
            let text = format!(
                "batch {id} is {}; its failed rows can be retried when it has ended",
                parent.status
            );
            return Err(conflict("wrong_state", text));
        }
        let children = self.store.children(id).await?;
        not_purged(id, &children)?;
        let new = self.signed(child(&parent, &children));
        let builder = self.builder(&new.key).await?;
        let rows = failed_rows(self.store.clone(), id, &children.batches);
        let source = Source::pages(parent.columns.clone(), rows);
        match intake::submit(self, new, builder, source).await {
            Ok((child, _)) => Ok(Retried {
                batch: self.submitted(child).await?,
                repeated: false,
            }),
            Err(error) if error.code() == "no_rows" => match children.batches.last() {
                Some(latest) => Ok(Retried {
                    batch: self.batch_now(latest.id).await?,
                    repeated: true,
                }),
                None => {
                    let text = format!("batch {id} has no failed row that could run again");
                    Err(conflict("nothing_to_retry", text))
                }
            },
            Err(error) => Err(error),
        }
    }
}

fn conflict(code: &'static str, text: String) -> Error {
    Error::new(ErrorKind::Conflict, code, text)
}

/// Refuses what nobody can know any more: which rows failed, and which of them ran again.
fn not_purged(id: BatchId, children: &Children) -> Result<()> {
    if children.purged {
        let text = format!("batch {id} was purged; its rows are gone");
        return Err(conflict("purged", text));
    }
    match children.batches.iter().find(|c| c.purged && c.ran > 0) {
        None => Ok(()),
        Some(child) => {
            let text = format!(
                "batch {id} was retried as {}, which was purged; which rows ran again is not known any more",
                child.id
            );
            Err(conflict("purged", text))
        }
    }
}

fn child(parent: &Batch, children: &Children) -> NewBatch {
    NewBatch {
        context: parent.context.clone(),
        priority: parent.priority,
        columns: parent.columns.clone(),
        retry_of: Some(RetryOf {
            parent: parent.id,
            root: parent.root,
            generation: parent.generation.saturating_add(1),
            before: u32::try_from(children.batches.len()).unwrap_or(u32::MAX),
        }),
        ..NewBatch::new(parent.key())
    }
}

/// Rows on their way into a child: line and input.
type Rows = Vec<(u32, Box<RawJson>)>;

/// A batch's failed rows that no earlier retry has, a block at a time.
fn failed_rows(
    store: Store,
    id: BatchId,
    children: &[Child],
) -> impl Stream<Item = Result<Rows>> + Send + use<> {
    // What was purged and may be passed over gave no row an outcome.
    let children = children.iter().filter(|child| !child.purged);
    let earlier: Vec<Earlier> = children.map(|child| Earlier::new(child.id)).collect();
    futures_util::stream::try_unfold((Some(0), earlier), move |(after, mut earlier)| {
        let store = store.clone();
        async move {
            let Some(after) = after else { return Ok(None) };
            let page = store.rows(id, after, Some(Status::Failed)).await?;
            let mut rows = Rows::new();
            for row in page.rows {
                if runs_again(&row) && !is_taken(&store, &mut earlier, row.line.0).await? {
                    rows.push((row.line.0, row.input));
                }
            }
            Ok(Some((rows, (page.next, earlier))))
        }
    })
}

/// Whether a row that failed is one, and still holds what it was given.
fn runs_again(row: &RowView) -> bool {
    let refused = row.attempt == Some(0);
    !refused && !row.redacted
}

async fn is_taken(store: &Store, earlier: &mut [Earlier], line: u32) -> Result<bool> {
    for child in earlier {
        if child.has(store, line).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rows of an earlier retry, read beside its parent's: a block's lines are all that is held.
struct Earlier {
    id: BatchId,
    /// Lines, and whether the row may be taken again.
    ahead: VecDeque<(u32, bool)>,
    next: Option<u32>,
}

impl Earlier {
    fn new(id: BatchId) -> Self {
        Self {
            id,
            ahead: VecDeque::new(),
            next: Some(0),
        }
    }

    /// Whether it has a row that may not be taken again; lines are asked for in their order.
    async fn has(&mut self, store: &Store, line: u32) -> Result<bool> {
        loop {
            while let Some((at, free)) = self.ahead.front().copied() {
                if at >= line {
                    return Ok(at == line && !free);
                }
                self.ahead.pop_front();
            }
            let Some(after) = self.next else {
                return Ok(false);
            };
            // What stands before the line is not asked for any more.
            let page = store.rows(self.id, after.max(line - 1), None).await?;
            self.next = page.next;
            let rows = page.rows.iter().map(|row| {
                // Nobody brought it to an outcome, and nobody will.
                let free = matches!(row.status, Status::Aborted | Status::Expired);
                (row.line.0, free)
            });
            self.ahead.extend(rows);
        }
    }
}
