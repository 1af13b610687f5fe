//! A slot that is offered to whoever submits a query alone.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Op;
use crate::model::{Delivery, Token, WorkerNo};
use crate::store::{Candidate, ClaimRef, FreeSlot, Holder};

/// A slot that is offered, and how often settings had changed then.
pub(super) struct Offer {
    slot: Arc<FreeSlot>,
    at: u64,
}

impl Op {
    /// Whether a task that the store believes to run here may be on its way to a slot.
    pub(in crate::engine) fn expects(&self, claim: &ClaimRef) -> bool {
        let offered = self.offered.as_ref();
        offered.is_some_and(|offer| offer.slot.holder().token == claim.token)
    }

    /// Whether nothing is claimed, or to be claimed, beside what runs. A capped op's slots are counted by claims.
    pub(in crate::engine) fn is_idle(&self) -> bool {
        let is_capped = self.settings().concurrency.is_some();
        !self.more && !self.claiming && self.queue.is_empty() && !self.is_held() && !is_capped
    }

    /// Offers a slot, where one is free and none is offered.
    pub(in crate::engine) fn offer(
        &mut self,
        worker: WorkerNo,
    ) -> std::io::Result<Option<(Arc<FreeSlot>, oneshot::Receiver<Candidate>)>> {
        if self.offered.is_some() || self.free() == 0 {
            return Ok(None);
        }
        let (slot, asked) = FreeSlot::new(Holder {
            worker,
            op: self.id,
            token: Token::random()?,
            once: self.settings().delivery == Delivery::AtMostOnce,
        });
        self.offered = Some(Offer {
            slot: Arc::clone(&slot),
            at: self.changes,
        });
        Ok(Some((slot, asked)))
    }

    /// Takes back what is offered, where that has not been taken.
    pub(in crate::engine) fn take_back(&mut self) {
        self.offered.take_if(|offer| offer.slot.take_back());
    }

    /// The slot with this token is offered no more; whether it was under the settings in force.
    pub(in crate::engine) fn filled(&mut self, token: Token) -> bool {
        let offer = self
            .offered
            .take_if(|offer| offer.slot.holder().token == token);
        offer.is_some_and(|offer| offer.at == self.changes)
    }
}
