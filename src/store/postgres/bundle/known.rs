//! What this process knows of bundles. What it does not know, or wrongly, costs a statement more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::record::Told;
use crate::model::{BatchId, OpId, Token};
use crate::store::{Claim, ClaimRef, Head};

/// Of so many claimed tasks, the latest, it is known in which bundles they are, and of up to as many before them.
const KNOWN: usize = 1 << 16;

#[derive(Default)]
pub(in crate::store::postgres) struct Known {
    members: Mutex<Members>,
    /// Whether bundles of an op waited when it was last looked at.
    waiting: Mutex<HashMap<OpId, bool>>,
}

/// The bundles of tasks that were claimed here, and under which token.
#[derive(Default)]
struct Members {
    latest: HashMap<BatchId, (BatchId, Token)>,
    before: HashMap<BatchId, (BatchId, Token)>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Takes in what was seen when these ops were looked at.
    pub(in crate::store::postgres) fn see(&self, ops: &[OpId], heads: &[Head], bundled: &[bool]) {
        let mut waiting = lock(&self.waiting);
        for op in ops {
            let mut heads = heads.iter().zip(bundled);
            waiting.insert(*op, heads.any(|(head, bundled)| head.op == *op && *bundled));
        }
    }

    /// Whether an op's best tasks may stand together: some were seen, or nobody has looked. Whoever submits some is
    /// heard of, and it is looked again.
    pub(in crate::store::postgres) fn are_expected(&self, ask: &Claim) -> bool {
        ask.only.is_some() || lock(&self.waiting).get(&ask.op) != Some(&false)
    }

    /// Tasks were claimed, each with its bundle.
    pub(in crate::store::postgres) fn claimed(&self, tasks: Vec<(BatchId, ClaimRef)>) {
        let mut members = lock(&self.members);
        if members.latest.len() + tasks.len() > KNOWN {
            members.before = std::mem::take(&mut members.latest);
        }
        let entry = |(bundle, claim): (BatchId, ClaimRef)| (claim.batch, (bundle, claim.token));
        members.latest.extend(tasks.into_iter().map(entry));
    }

    /// The bundle of a claimed task.
    fn of(&self, claim: &ClaimRef) -> Option<BatchId> {
        let members = lock(&self.members);
        let latest = members.latest.get(&claim.batch);
        let (bundle, token) = latest.or_else(|| members.before.get(&claim.batch))?;
        (*token == claim.token).then_some(*bundle)
    }

    /// These have ended, or stand alone.
    pub(in crate::store::postgres) fn forget<'a>(
        &self,
        claims: impl Iterator<Item = &'a ClaimRef>,
    ) {
        let mut members = lock(&self.members);
        if members.latest.is_empty() && members.before.is_empty() {
            return;
        }
        for claim in claims {
            members.latest.remove(&claim.batch);
            members.before.remove(&claim.batch);
        }
    }

    /// Forgets the bundle of a claimed task with all its tasks; whether it was known.
    pub(in crate::store::postgres) fn take(&self, claim: &ClaimRef) -> bool {
        let Some(bundle) = self.of(claim) else {
            return false;
        };
        let mut members = lock(&self.members);
        members.latest.retain(|_, (of, _)| *of != bundle);
        members.before.retain(|_, (of, _)| *of != bundle);
        true
    }

    /// Those of the parts in whose stead a bundle may stand, and the others.
    pub(in crate::store::postgres) fn split<'a>(
        &self,
        told: Vec<Told<'a>>,
    ) -> (Vec<(BatchId, Told<'a>)>, Vec<Told<'a>>) {
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for one in told {
            match self.of(&one.1.claim) {
                Some(bundle) => together.push((bundle, one)),
                None => alone.push(one),
            }
        }
        (together, alone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaskId;

    fn claim(token: i64) -> ClaimRef {
        ClaimRef {
            batch: BatchId::new(),
            task: TaskId(0),
            no: 0,
            attempt: 1,
            token: Token(token),
        }
    }

    #[test]
    fn the_latest_claimed_tasks_are_known_and_the_oldest_forgotten() {
        let (known, bundle) = (Known::default(), BatchId::new());
        let claims: Vec<ClaimRef> = (0..3).map(claim).collect();
        for one in &claims {
            let mut tasks = vec![(bundle, *one)];
            tasks.extend((1..KNOWN).map(|_| (BatchId::new(), claim(9))));
            known.claimed(tasks);
        }
        let found: Vec<_> = claims.iter().map(|one| known.of(one)).collect();
        assert_eq!(found, [None, Some(bundle), Some(bundle)]);
        let other = ClaimRef {
            token: Token(7),
            ..claims[2]
        };
        assert_eq!(known.of(&other), None, "another claim of it");
        assert!(known.take(&claims[2]));
        assert_eq!(
            (known.of(&claims[1]), known.take(&claims[2])),
            (None, false)
        );
    }
}
