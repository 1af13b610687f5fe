//! A connection that application code is let near.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::CancelToken;

use super::tls::Tls;
use crate::store::StoreError;

/// The server is asked for no longer than this to end a statement.
const INTERRUPT: Duration = Duration::from_secs(5);

/// A connection of the pool that goes back there only if it is said to be as it was: else it is closed, and
/// what runs on it is ended.
pub(super) struct Lent {
    object: Option<Object>,
    tls: Tls,
}

/// A connection that is used after it was given back; only a bug of ours gets here.
fn gone() -> StoreError {
    StoreError::unavailable("using a connection", "it was given back")
}

impl Lent {
    pub(super) fn new(object: Object, tls: Tls) -> Self {
        let object = Some(object);
        Self { object, tls }
    }

    pub(super) fn object(&mut self) -> Result<&mut Object, StoreError> {
        self.object.as_mut().ok_or_else(gone)
    }

    /// It is as it was.
    pub(super) fn give_back(mut self) {
        drop(self.object.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else {
            return;
        };
        let token = object.deref_mut().cancel_token();
        let tls = self.tls.clone();
        // A server that works on a statement does not see that its client has gone: it is told, beside.
        if !object.deref().is_closed()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { interrupt(token, &tls).await });
        }
        drop(Object::take(object));
    }
}

/// Ends the statement that runs on a connection, if there is one.
pub(super) async fn interrupt(token: CancelToken, tls: &Tls) {
    let Ok(tls) = tls.connector() else {
        return;
    };
    let asked = tokio::time::timeout(INTERRUPT, token.cancel_query(tls)).await;
    if !matches!(asked, Ok(Ok(()))) {
        tracing::debug!("a statement could not be ended; its own time-out ends it");
    }
}
