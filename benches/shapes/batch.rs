//! What most shapes' rows are, and the manager that works on them.

use std::path::Path;
use std::time::Duration;

use rowmill::model::OpSettings;
use rowmill::{BatchProcessor, JobManager, Kind, QueryCx, RowCx, RowFailure, SlowQueryProcessor};

use crate::effects::{Bad, INSERT, OnFile, OnServer};
use crate::figures::Failed;
use crate::place::{objects, store};

/// Parses a row, and returns a small result.
struct Trivial;

#[derive(serde::Serialize, serde::Deserialize)]
pub struct Posting {
    account: String,
    amount: String,
    r#type: String,
    r#ref: String,
}

impl Posting {
    pub fn nth(n: u64) -> Self {
        let mixed = n.wrapping_mul(2_654_435_761) % (1 << 48);
        Self {
            account: format!("ACC{:06}", n % 1_000_000),
            amount: format!("{}.{:02}", n * 7919 % 10_000, n % 100),
            r#type: ["credit", "debit"][usize::from(n % 2 == 1)].into(),
            r#ref: format!("REF-{mixed:012x}"),
        }
    }
}

impl BatchProcessor for Trivial {
    type Block = ();
    type Context = ();
    type Input = Posting;
    type Output = String;

    async fn process(&self, _: &mut RowCx<'_, (), ()>, row: Posting) -> Result<String, RowFailure> {
        Ok(row.amount)
    }

    fn wants_ends(&self) -> bool {
        false
    }
}

/// Waits 5 ms for something else.
struct Waits;

impl BatchProcessor for Waits {
    type Block = ();
    type Context = ();
    type Input = u64;
    type Output = ();

    async fn process(&self, _: &mut RowCx<'_, (), ()>, _: u64) -> Result<(), RowFailure> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(())
    }

    fn wants_ends(&self) -> bool {
        false
    }
}

/// Answers a query with what it was asked.
struct Echo;

impl SlowQueryProcessor for Echo {
    type Block = ();
    type Context = ();
    type Input = u64;
    type Output = u64;

    async fn query(&self, _: &mut QueryCx<'_, (), ()>, n: u64) -> Result<u64, RowFailure> {
        Ok(n)
    }

    fn wants_ends(&self) -> bool {
        false
    }
}

/// One for all ops of this file, and for `commits`, whose rows have a commit each.
pub async fn manager(at: &str, folder: &Path) -> Result<JobManager, Failed> {
    let one = |block_rows| OpSettings {
        local_concurrency: Some(1),
        block_rows,
        ..OpSettings::default()
    };
    Ok(JobManager::builder(store(at).await?)
        .objects(objects(folder))
        .batch("bench", "trivial", Trivial)
        .batch("bench", "waits", Waits)
        .settings("bench", "waits", Kind::Batch, one(100))
        .slow_query("bench", "echo", Echo)
        .transactional("bench", "commits", OnFile(Bad::None, INSERT))
        .transactional("bench", "commits", OnServer(Bad::None, INSERT))
        .settings("bench", "commits", Kind::Batch, one(1))
        .build()?)
}
