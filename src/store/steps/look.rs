//! look: what there is for a worker to do, as of one moment.

use super::claim::heads;
use super::close::{has_notices, is_ready};
use super::db::Db;
use super::together::both;
use crate::model::Timestamp;
use crate::store::{Found, Look, StoreError};

/// What is there, and of which ops the best ready task stands with others.
pub(in crate::store) async fn look(
    c: &impl Db,
    look: &Look,
    now: Timestamp,
) -> Result<(Found, Vec<bool>), StoreError> {
    let closes = async { Ok(look.closes && is_ready(c).await?) };
    let notices = has_notices(c, &look.receivers, now);
    let ends = both(closes, notices);
    // One wait for all of it.
    let (heads, (closes, notices)) = both(heads(c, &look.ops, look.only), ends).await?;
    let (heads, bundled) = heads.into_iter().unzip();
    let found = Found {
        heads,
        closes,
        notices,
    };
    Ok((found, bundled))
}
