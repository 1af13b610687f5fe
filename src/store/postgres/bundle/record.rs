//! record: tasks of bundles that ended with all that was to be said of them.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::super::db::only;
use super::super::errors::postgres_error;
use super::super::record::{Lists, Told};
use super::super::tx::Link;
use crate::model::{BatchId, Timestamp, WorkerNo};
use crate::store::steps::db::{change, params};
use crate::store::{Part, Recorded, StoreError};

/// Records tasks of bundles; returns those whose bundle is not there any more: they stand alone, or are somebody else's.
pub(in crate::store::postgres) async fn record<'a>(
    tx: &impl Link,
    worker: WorkerNo,
    told: Vec<(BatchId, Told<'a>)>,
    now: Timestamp,
    answers: &mut [Recorded],
) -> Result<Vec<Told<'a>>, StoreError> {
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let bundles: Vec<Uuid> = told.iter().map(|(bundle, _)| bundle.0).collect();
    let parts: Vec<&Part> = told.iter().map(|(_, (_, part))| *part).collect();
    let sql = only!("bundle_record");
    let wrong = || postgres_error(sql.name);
    let lists = Lists::of(&parts);
    let rows = lists
        .tell(tx, sql, worker, now, (&bundles, Type::UUID_ARRAY))
        .await?;
    let (mut held, mut through) = (BTreeSet::new(), Vec::new());
    let mut ended = BTreeSet::new();
    for row in &rows {
        let bundle: Option<Uuid> = row.try_get(0).map_err(wrong())?;
        match bundle {
            Some(bundle) => {
                held.insert(BatchId(bundle));
                if row.try_get(1).map_err(wrong())? {
                    through.push(BatchId(bundle));
                }
            }
            // Counted from 1.
            None => ended.extend(usize::try_from(
                row.try_get::<_, i64>(2).map_err(wrong())? - 1,
            )),
        }
    }
    tx.wrote_some(!ended.is_empty());
    let (mut alone, mut strange) = (Vec::new(), BTreeSet::new());
    for (place, (bundle, (at, part))) in told.into_iter().enumerate() {
        if ended.contains(&place) {
            if let Some(answer) = answers.get_mut(at) {
                *answer = Recorded::Done;
            }
            continue;
        }
        if held.contains(&bundle) {
            strange.insert(bundle);
        }
        alone.push((at, part));
    }
    // Of one of these a task was counted that had not ended by this: what is left of it is found by itself.
    through.retain(|bundle| !strange.contains(bundle));
    super::loosen_these(tx, &strange.into_iter().collect::<Vec<_>>()).await?;
    if !through.is_empty() {
        change(tx, only!("bundle_end"), params![&through[..]]).await?;
    }
    Ok(alone)
}
