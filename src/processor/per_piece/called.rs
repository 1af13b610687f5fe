//! One call of the application's within a transaction: it ends, or is dropped.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::context::CancelCause;
use super::super::desk::Work;
use super::super::limit::passed;
use super::limit;
use crate::processor::RowFailure;

/// What a call came to.
pub(super) enum Called<T> {
    Ended(Result<T, RowFailure>),
    Panicked(Box<dyn Any + Send>),
    /// It was dropped; its statement is still to be interrupted.
    TimedOut,
    /// It is to stop at once; likewise.
    Cut,
}

/// Waits for a call, no longer than its op's time-out or the grace of an end.
pub(super) async fn called<T>(
    work: &Work,
    call: impl Future<Output = Result<T, RowFailure>> + Send,
) -> Called<T> {
    let mut call = Call(Some(AssertUnwindSafe(call).catch_unwind().boxed()));
    tokio::select! {
        biased;
        ended = &mut call => ended.map_or_else(Called::Panicked, Called::Ended),
        () = passed(limit(work)) => Called::TimedOut,
        () = cut(work) => Called::Cut,
    }
}

/// A call that is over when it is dropped, whatever its destructors do.
struct Call<'a, T>(Option<BoxFuture<'a, T>>);

impl<T> Future for Call<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            Some(call) => call.poll_unpin(cx),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Call<'_, T> {
    fn drop(&mut self) {
        let call = self.0.take();
        drop(catch_unwind(AssertUnwindSafe(|| drop(call))));
    }
}

/// Ends when what runs is to be dropped: nobody waits for what it comes to.
async fn cut(work: &Work) {
    match work.cancel.cancelled().await {
        CancelCause::Shutdown => tokio::time::sleep(work.grace).await,
        CancelCause::Aborted => tokio::time::sleep(work.settings.abort_grace).await,
        CancelCause::Fenced => {}
    }
}
