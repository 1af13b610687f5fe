//! A submit inside a transaction that the caller has open.

use super::{NewRow, check};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::intake::next_line;
use crate::model::{BatchId, Block, BlockBuilder, ContentHash, Kind, NewBatch, OpSettings};
use crate::store::sqlite::{Joined, submit_within};
use crate::store::{Submitted, postgres};

/// Rows of a submit that is part of the caller's transaction.
const MAX_ROWS: u64 = 100_000;
/// Bytes of their inputs.
const MAX_BYTES: usize = 64 << 20;

/// Submits a batch or slow query inside a transaction of the caller's on rowmill's own SQLite file.
///
/// **Transaction:** it is there, and is worked on, if and only if the caller commits; beside the caller's own
/// writes. From inside a [`TransactionalProcessor`](crate::sqlite::TransactionalProcessor) it joins the row's
/// transaction: it is there if and only if the row succeeds. At most 100,000 rows and 64 MiB. The same
/// id or external id again with the same content is the batch that is there.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where there is no row or are too many, lines do not rise, a
/// slow query has more than one row, or the file is not rowmill's or has another schema;
/// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) where the id was used with other content. The caller's
/// transaction then goes on without it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use rowmill::model::{JobKey, Kind, NewBatch};
/// use rowmill::sqlite::{rusqlite::Connection, submit_in};
/// use rowmill::{Client, NewRow, Store};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("rowmill.db");
/// let client = Client::new(Store::sqlite(&path).await?);
/// let mut mine = Connection::open(&path)?;
/// mine.execute_batch("create table orders (id integer primary key)")?;
///
/// let tx = mine.transaction()?;
/// tx.execute("insert into orders values (7)", [])?;
/// let rows = [NewRow::json(&7)?];
/// let id = submit_in(&tx, NewBatch::new(JobKey::new("shop", "invoice", Kind::Batch)?), rows)?;
/// tx.commit()?;
/// assert_eq!(client.batch_status(id).await?.counts.pending, 1);
/// # Ok(()) }
/// ```
pub fn submit_in(
    tx: &impl Joined,
    batch: NewBatch,
    rows: impl IntoIterator<Item = NewRow>,
) -> Result<BatchId> {
    let (blocks, hash) = gathered(&batch, rows)?;
    let done = submit_within(tx, &batch, &blocks, hash, SystemClock.now())?;
    Ok(done.id())
}

/// Submits a batch or slow query inside a transaction of the caller's on rowmill's own PostgreSQL database.
///
/// **Transaction:** it is there, and is worked on, if and only if the caller commits; beside the caller's own
/// writes. From inside a [`TransactionalProcessor`](crate::postgres::TransactionalProcessor) it is there if and only if the
/// row succeeds. At most 100,000 rows and 64 MiB. The same id or external id again with the same
/// content is the batch that is there. rowmill's tables are those of the schema `rowmill`; the caller's search
/// path is as it was. Workers are woken by the commit, which makes the server let one such commit through at a time.
/// **Cancellation:** dropped halfway, the transaction is to be rolled back.
///
/// # Errors
/// As [`sqlite::submit_in`](crate::sqlite::submit_in); also [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) where others
/// were in the way (a deadlock, a serialization failure): all of the transaction is then to be made again.
///
/// ```no_run
/// # async fn order(client: &mut rowmill::postgres::tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use rowmill::model::{JobKey, Kind, NewBatch};
/// use rowmill::{NewRow, postgres::submit_in};
/// let tx = client.transaction().await?;
/// tx.execute("insert into orders values (7)", &[]).await?;
/// let rows = [NewRow::json(&7)?];
/// submit_in(&tx, NewBatch::new(JobKey::new("shop", "invoice", Kind::Batch)?), rows).await?;
/// tx.commit().await?;
/// # Ok(()) }
/// ```
pub async fn submit_in_postgres(
    tx: &tokio_postgres::Transaction<'_>,
    batch: NewBatch,
    rows: impl IntoIterator<Item = NewRow>,
) -> Result<BatchId> {
    let (blocks, hash) = gathered(&batch, rows)?;
    let now = SystemClock.now();
    let done: Submitted = postgres::submit_within(tx, &batch, &blocks, hash, now).await?;
    Ok(done.id())
}

/// Rows as blocks, with the hash of all of them; refuses what does not belong into a transaction.
fn gathered(
    batch: &NewBatch,
    rows: impl IntoIterator<Item = NewRow>,
) -> Result<(Vec<Block>, [u8; 32])> {
    check(batch, batch.key.kind)?;
    let usual = OpSettings::default();
    let bytes = usize::try_from(usual.block_bytes).unwrap_or(usize::MAX);
    let mut builder = BlockBuilder::new(usual.block_rows, bytes);
    let mut blocks = Vec::new();
    let (mut count, mut size, mut last) = (0_u64, 0_usize, 0);
    for row in rows {
        last = next_line(last, row.line)?;
        count += 1;
        size += row.input.get().len();
        if count > MAX_ROWS || size > MAX_BYTES {
            let text = "a submit inside a transaction has at most 100,000 rows and 64 MiB; submit it after the commit";
            return Err(Error::invalid("too_large", text));
        }
        blocks.extend(builder.push(last, row.input.get()));
    }
    blocks.extend(builder.finish());
    if count == 0 {
        return Err(crate::intake::no_rows());
    }
    if batch.key.kind == Kind::Query && (count, last) != (1, 1) {
        let text = "a slow query has one row, in line 1";
        return Err(Error::invalid("bad_line", text));
    }
    let mut hash = ContentHash::default();
    blocks.iter().for_each(|block| hash.add(block));
    Ok((blocks, hash.finish()))
}
