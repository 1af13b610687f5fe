//! What is asked without a wait in between.
//!
//! An error is the one that came first: what a statement that failed leaves of its transaction on PostgreSQL says only that it did.

use futures_util::future::{Either, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::db::corrupt;
use crate::store::StoreError;

/// The answers in the order of what was asked.
pub(in crate::store) async fn together<T>(
    asked: impl IntoIterator<Item = impl Future<Output = Result<T, StoreError>>>,
) -> Result<Vec<T>, StoreError> {
    let asked = asked.into_iter().enumerate();
    let mut asked: FuturesUnordered<_> = asked
        .map(|(at, one)| async move { Ok::<_, StoreError>((at, one.await?)) })
        .collect();
    let mut told = Vec::with_capacity(asked.len());
    let mut aftermath = None;
    while let Some(one) = asked.next().await {
        match one {
            Ok(one) => told.push(one),
            // Answers that came at the same moment are not always taken in the order in which they came.
            Err(error) if error.is_aftermath() => aftermath = Some(error),
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = aftermath {
        return Err(error);
    }
    told.sort_unstable_by_key(|(at, _)| *at);
    Ok(told.into_iter().map(|(_, one)| one).collect())
}

/// As [`together`], of two that answer differently.
pub(in crate::store) async fn both<A, B>(
    first: impl Future<Output = Result<A, StoreError>>,
    second: impl Future<Output = Result<B, StoreError>>,
) -> Result<(A, B), StoreError> {
    let first = first.map(|told| told.map(Either::Left)).left_future();
    let second = second.map(|told| told.map(Either::Right)).right_future();
    let mut told = together([first, second]).await?.into_iter();
    match (told.next(), told.next()) {
        (Some(Either::Left(first)), Some(Either::Right(second))) => Ok((first, second)),
        _ => Err(corrupt("two were asked, and others answered")),
    }
}
