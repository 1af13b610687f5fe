//! Slots of this process's workers that are free: a query that is submitted alone begins in one at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{ClaimRef, QueryBlock, Submitted};
use crate::model::{BatchId, JobKey, OpId, TaskId, Timestamp, Token, WorkerNo};

/// Who submits waits so long for a slot's worker to have stored the query; then it is stored as any.
const STORES: Duration = Duration::from_secs(2);

/// Who has what fills a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Whose slot it is.
    pub worker: WorkerNo,
    /// The one op.
    pub op: OpId,
    /// The fence of what fills it.
    pub token: Token,
    /// Each row may start at most once: the start must survive a power failure.
    pub once: bool,
}

impl Holder {
    /// The claim of a query that fills the slot.
    #[must_use]
    pub fn claim(&self, batch: BatchId) -> ClaimRef {
        ClaimRef {
            batch,
            task: TaskId(0),
            no: 0,
            attempt: 1,
            token: self.token,
        }
    }
}

/// A query that is to fill a slot.
#[derive(Debug)]
pub struct Candidate {
    /// The query, and when it came.
    pub query: Arc<(QueryBlock, Timestamp)>,
    /// Where its submitter hears that it was stored; dropped, it is stored as any.
    pub stored: oneshot::Sender<Submitted>,
}

/// A slot of a worker that has nothing to claim: a query that is submitted alone may be stored as running in it.
///
/// It is asked for once, or taken back.
///
/// ```
/// use rowmill::model::{OpId, Token, WorkerNo};
/// use rowmill::store::{FreeSlot, Holder};
///
/// let token = Token::random()?;
/// let holder = Holder { worker: WorkerNo(1), op: OpId(1), token, once: false };
/// let (slot, mut asked) = FreeSlot::new(holder);
/// assert!(!slot.is_taken());
/// assert!(slot.take_back() && slot.is_taken());
/// assert!(!slot.take_back(), "it is over");
/// assert!(asked.try_recv().is_err(), "nobody asks for it any more");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FreeSlot {
    holder: Holder,
    ask: Mutex<Option<oneshot::Sender<Candidate>>>,
}

impl FreeSlot {
    /// A slot, and where its worker hears of who asks for it; an error there says that nobody does.
    #[must_use]
    pub fn new(holder: Holder) -> (Arc<Self>, oneshot::Receiver<Candidate>) {
        let (ask, asked) = oneshot::channel();
        let ask = Mutex::new(Some(ask));
        (Arc::new(Self { holder, ask }), asked)
    }

    /// Who has what fills it.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// The worker has something else for it: false where somebody has asked for it already, or it was taken back.
    pub fn take_back(&self) -> bool {
        self.ask().take().is_some()
    }

    /// Whether somebody has asked for it, or it was taken back.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.ask().is_none()
    }

    /// Whether its worker still waits for who asks for it.
    fn is_free(&self) -> bool {
        self.ask().as_ref().is_some_and(|ask| !ask.is_closed())
    }

    fn ask(&self) -> MutexGuard<'_, Option<oneshot::Sender<Candidate>>> {
        self.ask.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that nobody else can ask for any more.
pub(crate) struct Taken(oneshot::Sender<Candidate>);

impl Taken {
    /// Has the query stored in it; `None` where that is not known to be done, and it is to be stored as any.
    ///
    /// **Cancellation:** what has begun goes on.
    pub(in crate::store) async fn stores(
        self,
        query: Arc<(QueryBlock, Timestamp)>,
    ) -> Option<Submitted> {
        let (stored, told) = oneshot::channel();
        self.0.send(Candidate { query, stored }).ok()?;
        tokio::time::timeout(STORES, told).await.ok()?.ok()
    }
}

/// The slots that are free in this process.
#[derive(Default)]
pub(crate) struct FreeSlots(Mutex<HashMap<JobKey, Vec<Arc<FreeSlot>>>>);

impl FreeSlots {
    pub(crate) fn offer(&self, key: &JobKey, slot: Arc<FreeSlot>) {
        let mut all = self.all();
        let free = all.entry(key.clone()).or_default();
        free.retain(|other| other.is_free());
        free.push(slot);
    }

    /// Takes one that is free.
    pub(crate) fn take(&self, key: &JobKey) -> Option<Taken> {
        let mut all = self.all();
        let free = all.get_mut(key)?;
        while let Some(slot) = free.pop() {
            let ask = slot.ask().take();
            if let Some(ask) = ask.filter(|ask| !ask.is_closed()) {
                return Some(Taken(ask));
            }
        }
        None
    }

    fn all(&self) -> MutexGuard<'_, HashMap<JobKey, Vec<Arc<FreeSlot>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockBuilder, ContentHash, Kind, NewBatch};

    fn slot() -> (Arc<FreeSlot>, oneshot::Receiver<Candidate>) {
        FreeSlot::new(Holder {
            worker: WorkerNo(1),
            op: OpId(1),
            token: Token(1),
            once: false,
        })
    }

    fn key(op: &str) -> JobKey {
        JobKey::new("bank", op, Kind::Query).unwrap()
    }

    fn query() -> Arc<(QueryBlock, Timestamp)> {
        let mut builder = BlockBuilder::new(1, usize::MAX);
        builder.push(1, "7");
        let block = builder.finish().unwrap();
        let hash = ContentHash::of(&block);
        Arc::new((
            (NewBatch::new(key("a")), block, hash),
            Timestamp::UNIX_EPOCH,
        ))
    }

    #[test]
    fn a_slot_is_taken_once_and_by_its_op_alone() {
        let slots = FreeSlots::default();
        let (slot, mut asked) = slot();
        slots.offer(&key("a"), Arc::clone(&slot));
        assert!(slots.take(&key("b")).is_none());
        let taken = slots.take(&key("a")).expect("it is free");
        assert!(slots.take(&key("a")).is_none());
        assert!(!slot.take_back(), "somebody asks for it");
        drop(taken);
        let over = asked.try_recv().expect_err("nobody has asked");
        assert_eq!(over, oneshot::error::TryRecvError::Closed);
    }

    #[test]
    fn a_slot_that_was_given_up_is_taken_by_nobody() {
        let slots = FreeSlots::default();
        let ((back, _back), (gone, asked), (free, mut open)) = (slot(), slot(), slot());
        for slot in [&free, &back, &gone] {
            slots.offer(&key("a"), Arc::clone(slot));
        }
        assert!(back.take_back());
        drop(asked);
        drop(slots.take(&key("a")).expect("one is free"));
        assert!(open.try_recv().is_err() && free.is_taken());
    }

    #[test]
    fn slots_that_were_given_up_are_not_kept() {
        let slots = FreeSlots::default();
        for gone in [false, true].repeat(500) {
            let (slot, asked) = slot();
            slots.offer(&key("a"), Arc::clone(&slot));
            if gone {
                drop(asked);
            } else {
                assert!(slot.take_back());
            }
        }
        assert_eq!(slots.all()[&key("a")].len(), 1);
    }

    #[tokio::test]
    async fn who_asks_is_told_what_was_stored_and_waits_for_nobody_without_end() {
        let slots = FreeSlots::default();
        for answers in [Some(true), Some(false), None] {
            let (slot, asked) = slot();
            slots.offer(&key("a"), slot);
            let (taken, query) = (slots.take(&key("a")).unwrap(), query());
            let id = query.0.0.id;
            let worker = async {
                let candidate = asked.await.expect("asked");
                assert_eq!(candidate.query.0.0.id, id);
                match answers {
                    Some(true) => {
                        candidate.stored.send(Submitted::New(id)).unwrap();
                        None
                    }
                    Some(false) => None,
                    None => Some(candidate),
                }
            };
            let (told, held) = tokio::join!(taken.stores(query), worker);
            assert_eq!(told, answers.unwrap_or(false).then_some(Submitted::New(id)));
            assert!(held.is_none_or(|candidate| candidate.stored.is_closed()));
        }
    }
}
