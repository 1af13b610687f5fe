//! What the model knows of retries and lists.

use std::collections::{BTreeMap, BTreeSet};

use rowmill::model::Status;

use super::{Batch, Row, Run};

/// The line of every row.
pub(super) fn lines_of(blocks: &[rowmill::model::Block]) -> BTreeMap<(i64, u32), u32> {
    let rows = (0_i64..)
        .zip(blocks)
        .flat_map(|(no, block)| (0..block.rows).map(move |row| ((no, row), block.line(row).0)));
    rows.collect()
}

impl Run {
    /// The rows that a retry of an ended batch takes: what failed and ran, and no retry has or ended.
    fn to_retry(&self, id: rowmill::BatchId) -> BTreeSet<u32> {
        let parent = &self.batches[&id];
        let taken = |line: u32| {
            parent.children.iter().any(|child| {
                let child = &self.batches[child];
                let mut there = child.rows.iter().filter(|(at, _)| child.lines[at] == line);
                there.any(|(_, row)| !matches!(row, Row::Ended(Status::Aborted | Status::Expired)))
            })
        };
        let failed = parent.rows.iter().filter(|(at, row)| {
            **row == Row::Ended(Status::Failed) && !parent.refused.contains(at)
        });
        let failed = failed.map(|(at, _)| parent.lines[at]);
        failed.filter(|line| !taken(*line)).collect()
    }

    pub(super) async fn retry(&mut self, id: rowmill::BatchId) {
        let client = self.kit().client();
        let answer = client.retry(id).await;
        let (expected, children) = (self.to_retry(id), self.batches[&id].children.clone());
        let refused = |code| assert_eq!(answer.as_ref().unwrap_err().code(), code);
        if !self.batches[&id].done() {
            return refused("wrong_state");
        }
        if expected.is_empty() && children.is_empty() {
            return refused("nothing_to_retry");
        }
        let answer = answer.expect("retried");
        if expected.is_empty() {
            assert!(answer.repeated && children.contains(&answer.batch.id));
            return;
        }
        assert!(!answer.repeated && !children.contains(&answer.batch.id));
        let child = answer.batch.id;
        let seen = self.kit().rows(child).await;
        let seen: Vec<u32> = seen.iter().map(|r| r.line.0).collect();
        assert!(expected.iter().copied().eq(seen));
        // A retry of so few rows is one block.
        let at = |row: usize| (0, u32::try_from(row).unwrap());
        let rows = (0..expected.len()).map(|row| (at(row), Row::Open { due: None }));
        let lines = expected
            .iter()
            .enumerate()
            .map(|(row, line)| (at(row), *line));
        let batch = Batch::new(rows.collect(), lines.collect());
        self.batches.insert(child, batch);
        self.ids.push(child);
        self.of(id).children.push(child);
    }

    /// Every batch is in the list of its status alone, and every row with it.
    pub(super) async fn compare_lists(&self) {
        for status in Status::ALL {
            let filter = rowmill::model::BatchFilter {
                status: Some(status),
                ..Default::default()
            };
            let page = self.kit().store.list(filter, None, 1000).await;
            let listed: BTreeSet<_> = page.expect("a page").data.iter().map(|b| b.id).collect();
            let is = |id: &&rowmill::BatchId| self.batches[id].status() == status;
            assert_eq!(listed, self.ids.iter().filter(is).copied().collect());
        }
    }
}
