//! record: tasks of bundles that ended with all that was to be said of them.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::super::db::only;
use super::super::errors::postgres_error;
use super::super::ready;
use super::super::record::{Lists, Told};
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
    let mut told = told;
    told.sort_by_key(|(bundle, (_, part))| (*bundle, part.claim.token.0));
    let rows = ask(tx, told.as_slice(), worker, now).await?;
    let wrong = || postgres_error(only!("bundle_record").name);
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
            None => {
                let places: Option<Vec<i64>> = row.try_get(2).map_err(wrong())?;
                let places = places.into_iter().flatten();
                // Counted from 1.
                ended.extend(places.filter_map(|place| usize::try_from(place - 1).ok()));
            }
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

/// Sends what is told of tasks, those of a bundle one after the other.
async fn ask(
    tx: &impl Link,
    told: &[(BatchId, Told<'_>)],
    worker: WorkerNo,
    now: Timestamp,
) -> Result<Vec<Row>, StoreError> {
    let (mut bundles, mut tokens) = (Vec::new(), Vec::new());
    let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
    let mut place = 0_i32;
    for group in told
        .chunk_by(|(a, (_, one)), (b, (_, other))| a == b && one.claim.token == other.claim.token)
    {
        let Some((bundle, (_, part))) = group.first() else {
            continue;
        };
        bundles.push(bundle.0);
        tokens.push(part.claim.token.0);
        firsts.push(place + 1);
        place += i32::try_from(group.len()).unwrap_or(i32::MAX);
        lasts.push(place);
    }
    let parts: Vec<&Part> = told.iter().map(|(_, (_, part))| *part).collect();
    let lists = Lists::of(&parts);
    let at = Value::Time(us(now));
    let params: [(&(dyn ToSql + Sync), Type); 10] = [
        (&worker.0, Type::INT8),
        (&at, Type::TIMESTAMPTZ),
        (&bundles, Type::UUID_ARRAY),
        (&tokens, Type::INT8_ARRAY),
        (&firsts, Type::INT4_ARRAY),
        (&lasts, Type::INT4_ARRAY),
        (&lists.batches, Type::UUID_ARRAY),
        (&lists.success, Type::INT4_ARRAY),
        (&lists.failed, Type::INT4_ARRAY),
        (&lists.bodies, Type::TEXT_ARRAY),
    ];
    ready::ask(tx, only!("bundle_record"), &params).await
}
