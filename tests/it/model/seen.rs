//! What was seen once: attempts only grow, and what has ended does not change.

use std::collections::BTreeMap;

use rowmill::BatchId;

use super::Run;
use crate::support::Harness as _;

#[derive(Default)]
pub(super) struct Seen {
    /// The latest attempt of each row, by batch and line.
    attempts: BTreeMap<(BatchId, u32), u32>,
    /// Rows and batches that had ended, as they were.
    rows: BTreeMap<(BatchId, u32), String>,
    batches: BTreeMap<BatchId, String>,
}

impl Run {
    /// Compares everything with how it was seen before.
    pub(super) async fn look(&mut self) {
        for id in self.ids.clone() {
            let batch = self.h.kit().batch(id).await;
            if batch.done {
                let is = serde_json::to_string(&batch).expect("JSON");
                let was = self.seen.batches.entry(id).or_insert_with(|| is.clone());
                assert_eq!(*was, is, "what has ended changed");
            }
            for row in self.h.kit().rows(id).await {
                let at = (id, row.line.0);
                let attempt = row.attempt.unwrap_or(0);
                let before = self.seen.attempts.insert(at, attempt).unwrap_or(0);
                assert!(attempt >= before, "{row:?} was at attempt {before}");
                if row.status.is_final() {
                    let is = serde_json::to_string(&row).expect("JSON");
                    let was = self.seen.rows.entry(at).or_insert_with(|| is.clone());
                    assert_eq!(*was, is, "a row that had ended changed");
                } else {
                    assert!(!self.seen.rows.contains_key(&at), "{row:?} had ended");
                }
            }
        }
    }
}
