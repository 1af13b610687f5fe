//! What the tests of stores and of the engine share: stores, a clock that stands still, builders, invariants.

mod appends;
pub mod certificates;
#[cfg(feature = "probe")]
pub mod disturbed;
pub mod facts;
pub mod kit;
pub mod minio;
pub mod postgres;
pub mod s3;
pub mod servers;
pub mod sqlite;

pub use facts::{Facts, check};
pub use kit::{Kit, Outcomes, start};
pub use postgres::{Pooled, Postgres};
pub use sqlite::Sqlite;

use std::future::Future;

use rowmill::Store;

/// A store of one make, fresh for each case.
pub trait Harness: Send + Sync + Sized + 'static {
    /// Opens an empty store.
    fn open() -> impl Future<Output = Self> + Send;

    /// The store, the clock and builders.
    fn kit(&self) -> &Kit;

    /// Opens the same store again, as another process would; dropping it is that process's death.
    fn again(&self) -> impl Future<Output = Store> + Send;

    /// A table of the application's in the same database: `effects (n)`.
    fn make_effects(&self);

    /// A piece that notes `n` in that table and then comes to this part.
    fn piece(&self, n: i64, part: Option<rowmill::store::Part>) -> rowmill::store::Piece;

    /// A piece that notes `n` in that table and then panics.
    fn piece_that_panics(&self, n: i64) -> rowmill::store::Piece;

    /// What is noted there.
    fn effects(&self) -> Vec<i64>;

    /// Everything that is stored, read behind the store's back.
    fn facts(&self) -> Facts;

    /// Writes behind the store's back what the store never would; `?1` is the batch.
    fn damage(&self, id: rowmill::BatchId, sql: &str);

    /// A batch's rows as a person reads them: by SQL, in line order.
    fn batchrows(&self, id: rowmill::BatchId) -> Vec<facts::SqlRow>;
}

/// Checks the invariants, in what is stored and in what the store says of it.
pub async fn invariants(h: &impl Harness) {
    let facts = h.facts();
    check(&facts);
    for batch in facts.batches.iter().filter(|b| !b.loading()) {
        let kit = h.kit();
        let seen = kit.batch(batch.id).await;
        assert_eq!(seen.purged_at.is_some(), batch.purged);
        if batch.purged {
            assert!(seen.done && kit.store.rows(batch.id, 0, None).await.is_err());
            continue;
        }
        let rows = kit.rows(batch.id).await;
        assert!(rows.is_sorted_by(|a, b| a.line < b.line), "lines rise");
        assert_eq!(seen.counts.rows, batch.rows, "every row is counted");
        assert_eq!(
            u64::try_from(rows.len()).unwrap(),
            batch.rows,
            "every row is seen"
        );
        let ended = facts.ended(batch.id);
        let count = |status| {
            let found = rows.iter().filter(|r| r.status == status).count();
            u64::try_from(found).unwrap()
        };
        use rowmill::Status::{Aborted, Expired, Failed, Success};
        assert_eq!(
            [Success, Failed, Aborted, Expired].map(count),
            ended,
            "rows are seen as they ended"
        );
        for row in rows.iter().take(100) {
            history(kit, batch.id, row).await;
        }
        // The view unfolds all that there is.
        if facts.blocks.iter().map(|block| block.rows).sum::<u32>() <= 500 {
            by_sql(&rows, &h.batchrows(batch.id));
        }
        assert_eq!(seen.done, batch.ended());
        if seen.done {
            let c = seen.counts;
            assert_eq!([c.success, c.failed, c.aborted, c.expired], ended);
            assert_eq!(c.pending, 0);
            assert_eq!(seen.done_at.is_some(), seen.done);
        }
    }
}

/// What SQL says of rows is what the store says of them, white space between tokens apart.
fn by_sql(rows: &[rowmill::RowView], found: &[facts::SqlRow]) {
    assert_eq!(rows.len(), found.len());
    for (row, by_sql) in rows.iter().zip(found) {
        let raw = |json: &Option<Box<rowmill::RawJson>>| json.as_ref().map(|j| tokens(j.get()));
        let text = |json: &Option<String>| json.as_deref().map(tokens);
        assert_eq!(
            (row.line.0, row.status.as_str(), tokens(row.input.get())),
            (by_sql.line, by_sql.status.as_str(), tokens(&by_sql.input)),
        );
        assert_eq!(raw(&row.result), text(&by_sql.result), "{row:?}");
        assert_eq!(raw(&row.messages), text(&by_sql.messages), "{row:?}");
        assert_eq!(row.attempt, by_sql.attempt, "{row:?}");
        let at = row.done_at.map(|at| at.as_millisecond());
        assert_eq!(at, by_sql.done_at.map(|at| at.as_millisecond()), "{row:?}");
    }
}

/// A JSON text without white space between its tokens.
fn tokens(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keeps = |c: &char| {
        let keeps = in_string || !c.is_ascii_whitespace();
        (in_string, escaped) = match *c {
            '"' if !escaped => (!in_string, false),
            '\\' => (in_string, !escaped),
            _ => (in_string, false),
        };
        keeps
    };
    json.chars().filter(keeps).collect()
}

/// A row's history ends in what the row is.
async fn history(kit: &Kit, id: rowmill::BatchId, row: &rowmill::RowView) {
    use rowmill::Status::{Inprog, Queued, Wait};
    let told = kit.store.line_history(id, row.line.0).await;
    let told = told.expect("read").expect("a line");
    let rising = told.is_sorted_by_key(|e| (e.attempt, e.ended_at.is_none(), e.ended_at));
    assert!(rising, "{told:#?}");
    let open = told.iter().filter(|e| e.ended_at.is_none()).count();
    assert_eq!(open, usize::from(row.status == Inprog), "{told:#?}");
    let finals = told.iter().filter(|e| e.after.is_final()).count();
    assert_eq!(finals, usize::from(row.status.is_final()), "{told:#?}");
    match (row.status, told.last()) {
        (Wait, None) | (Queued, None) => {}
        (Queued, Some(last)) => assert_eq!(last.after, Queued),
        (status, last) => {
            let last = last.expect("an attempt");
            assert_eq!(last.after, status, "{told:#?}");
            assert_eq!(last.ended_at, row.done_at, "{told:#?}");
        }
    }
}
