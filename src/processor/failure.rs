//! Why a row did not succeed, in the processor's words.

use std::time::Duration;

use super::BoxError;
use crate::model::Message;

/// What a processor returns instead of a result.
///
/// Any error turns into [`RowFailure::Error`] by `?`; a [`Message`] turns into [`RowFailure::Failed`].
///
/// ```
/// use rowmill::{Message, RowFailure};
/// fn amount(text: &str) -> Result<u64, RowFailure> {
///     let cents: u64 = text.parse()?;
///     if cents == 0 {
///         return Err(Message::new("amount_is_zero", 101).field("amount").into());
///     }
///     Ok(cents)
/// }
/// assert!(matches!(amount("x"), Err(RowFailure::Error(_))));
/// assert!(matches!(amount("0"), Err(RowFailure::Failed(_))));
/// ```
#[derive(Debug)]
pub enum RowFailure {
    /// The verdict on the row: final, with what its owner reads.
    Failed(Vec<Message>),
    /// It may work another time: one failure, then again after this delay or the op's back-off.
    Retry(Option<Duration>, BoxError),
    /// Nothing is wrong, it is only too early: again after this delay; counts nothing.
    Later(Duration),
    /// An error that the row's owner cannot help: one failure; its text goes to the log alone.
    Error(BoxError),
}

impl RowFailure {
    /// The verdict with one message.
    #[must_use]
    pub fn failed(message: Message) -> Self {
        Self::Failed(vec![message])
    }

    /// Another time, by the op's back-off.
    pub fn retry(source: impl Into<BoxError>) -> Self {
        Self::Retry(None, source.into())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for RowFailure {
    fn from(error: E) -> Self {
        Self::Error(Box::new(error))
    }
}

impl From<Message> for RowFailure {
    fn from(message: Message) -> Self {
        Self::failed(message)
    }
}
