//! record: tasks of bundles that ended with all that was to be said of them.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::super::db::only;
use super::super::errors::postgres_error;
use super::super::ready::ask;
use super::super::record::{Bodies, Told};
use super::super::tx::Link;
use crate::model::{BatchId, Timestamp, WorkerNo};
use crate::store::steps::db::{Value, change, params, us};
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
    let of = |part: fn(&Part) -> u32| -> Vec<i32> {
        told.iter()
            .map(|(_, (_, p))| part(p).cast_signed())
            .collect()
    };
    let bundles: Vec<Uuid> = told.iter().map(|(bundle, _)| bundle.0).collect();
    let batches: Vec<Uuid> = told.iter().map(|(_, (_, p))| p.claim.batch.0).collect();
    let tokens: Vec<i64> = told.iter().map(|(_, (_, p))| p.claim.token.0).collect();
    let (success, failed) = (of(|p| p.success), of(|p| p.failed));
    let bodies = Bodies(told.iter().map(|(_, (_, p))| p.body.as_str()).collect());
    let sql = only!("bundle_record");
    let wrong = || postgres_error(sql.name);
    let at = Value::Time(us(now));
    let rows = ask(
        tx,
        sql,
        &[
            (&worker.0, Type::INT8),
            (&at, Type::TIMESTAMPTZ),
            (&bundles, Type::UUID_ARRAY),
            (&batches, Type::UUID_ARRAY),
            (&tokens, Type::INT8_ARRAY),
            (&success, Type::INT4_ARRAY),
            (&failed, Type::INT4_ARRAY),
            (&bodies, Type::TEXT_ARRAY),
        ],
    )
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
