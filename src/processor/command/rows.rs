//! A task's rows as its processor takes them.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::processor::desk::Work;

/// Rows as they are taken. A call of [`Rows::next`] that is dropped loses none: a suspect row is
/// committed as started before it arrives.
pub(super) struct Rows {
    taker: Option<Work>,
    taking: Option<BoxFuture<'static, (Work, Option<usize>)>>,
}

impl Rows {
    pub(super) fn new(taker: Work) -> Self {
        Self {
            taker: Some(taker),
            taking: None,
        }
    }

    /// Whether there may be another.
    pub(super) fn more(&self) -> bool {
        self.taker.is_some() || self.taking.is_some()
    }

    /// The next row. **Cancellation:** safe.
    pub(super) async fn next(&mut self) -> Option<usize> {
        if let Some(mut work) = self.taker.take() {
            self.taking = Some(
                async move {
                    let place = work.next().await;
                    (work, place)
                }
                .boxed(),
            );
        }
        let (work, place) = self.taking.as_mut()?.await;
        self.taking = None;
        if place.is_some() {
            self.taker = Some(work);
        }
        place
    }
}
