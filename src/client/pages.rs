//! What is read a page at a time, as one stream.

use std::future::Future;

use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use crate::error::{Error, Result};

/// The items of one page after the other; each tells where the next begins, and the last that there is none.
///
/// A page is asked for when the items of the one before have been taken.
pub(super) fn stream<P, T, F>(
    first: P,
    page: impl FnMut(P) -> F + Send,
) -> impl Stream<Item = Result<T>> + Send
where
    P: Send,
    T: Send,
    F: Future<Output = Result<(Vec<T>, Option<P>)>> + Send,
{
    let pages = stream::try_unfold((Some(first), page), |(place, mut page)| async move {
        let Some(place) = place else { return Ok(None) };
        let (items, next) = page(place).await?;
        Ok::<_, Error>(Some((items, (next, page))))
    });
    pages
        .map_ok(|items| stream::iter(items).map(Ok))
        .try_flatten()
}
