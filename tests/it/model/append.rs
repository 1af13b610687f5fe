//! Appends, those that count and those whose loader dies.

use std::time::Duration;

use rowmill::BatchId;
use rowmill::model::{Timestamp, Token};
use rowmill::store::{AppendBlocks, AppendPiece, NewAppend, StoreError};

use super::{Row, Run};
use crate::support::Harness as _;

impl Run {
    /// Whether an append may begin now; one that was silent for a minute makes place.
    fn may_append(&mut self, id: BatchId) -> Result<(), &'static str> {
        let now = self.kit().now();
        let batch = self.of(id);
        let silent = |at: Timestamp| at + Duration::from_secs(60) <= now;
        match batch.appending {
            _ if !batch.held => Err("wrong state"),
            Some(at) if !silent(at) => Err("in progress"),
            _ => {
                batch.appending = None;
                Ok(())
            }
        }
    }

    fn assert_refused<T: std::fmt::Debug>(refused: Result<T, StoreError>, why: &str) {
        let as_expected = match &refused {
            Err(StoreError::WrongState { .. }) => why == "wrong state",
            Err(StoreError::AppendInProgress(_)) => why == "in progress",
            _ => false,
        };
        assert!(as_expected, "{refused:?} is not {why}");
    }

    fn next_append(&mut self, id: BatchId) -> NewAppend {
        self.appends += 1;
        self.kit().new_append(id, &self.appends.to_string())
    }

    pub(super) async fn append(&mut self, at: usize, sizes: &[u32], release: bool) {
        let Some(id) = self.pick(at) else { return };
        let append = NewAppend {
            release,
            ..self.next_append(id)
        };
        let answer = self.kit().try_append(append, sizes).await;
        if let Err(why) = self.may_append(id) {
            return Self::assert_refused(answer, why);
        }
        let added = answer.expect("appended");
        assert_eq!(
            added.rows,
            sizes.iter().copied().map(u64::from).sum::<u64>()
        );
        let batch = self.of(id);
        let open = Row::Open { due: batch.starts };
        for (no, size) in (batch.blocks..).zip(sizes) {
            for row in 0..*size {
                let last = batch.lines.values().max().copied();
                batch.lines.insert((no, row), last.unwrap_or(0) + 1);
                batch.rows.insert((no, row), open);
            }
        }
        batch.blocks += i64::try_from(sizes.len()).unwrap();
        batch.held = !release;
    }

    pub(super) async fn strand(&mut self, at: usize) {
        let Some(id) = self.pick(at) else { return };
        let append = self.next_append(id);
        let token = Token::random().expect("a token");
        let kit = self.h.kit();
        let now = kit.now();
        let begun = kit.store.begin_append(append, token, now).await;
        if let Err(why) = self.may_append(id) {
            return Self::assert_refused(begun, why);
        }
        begun.expect("begun");
        let kit = self.h.kit();
        let piece = AppendPiece {
            batch: id,
            token,
            blocks: AppendBlocks {
                following: vec![kit.block_with_rejected(&[false, true])],
                given: Vec::new(),
            },
        };
        let stored = kit.store.append_piece(piece, now).await;
        stored.expect("stored");
        self.of(id).appending = Some(now);
    }
}
