//! record: the tasks of which everything was said at once go by one statement, the others one by one.

use std::collections::BTreeSet;
use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::bundle;
use super::db::only;
use super::errors::postgres_error;
use super::ready::ask;
use super::tx::Link;
use crate::model::{BatchId, EndedAs, Timestamp, WorkerNo};
use crate::store::steps::db::{Db as _, Value, us};
use crate::store::steps::{end, record};
use crate::store::{Part, Recorded, StoreError, Then};

/// Whether a part is all that is ever said of an attempt, and every row of it has ended.
fn is_whole(part: &Part) -> bool {
    let finished = matches!(
        &part.then,
        Then::Ends { ended_as: EndedAs::Finished, rest, interrupted: 0 } if rest.is_empty()
    );
    finished && part.part == 0 && part.ordinals.is_none() && part.again.is_empty() && !part.files
}

/// As [`record::record`].
pub(super) async fn record_now(
    tx: &impl Link,
    bundles: &bundle::Known,
    worker: WorkerNo,
    parts: &[Part],
    now: Timestamp,
) -> Result<Vec<Recorded>, StoreError> {
    if tx.is_again() {
        // What may have been recorded before is looked for one by one.
        return record::record(tx, worker, parts, now).await;
    }
    let mut answers = vec![Recorded::Fenced; parts.len()];
    let whole = parts.iter().enumerate().filter(|(_, part)| is_whole(part));
    let (together, mut whole) = bundles.split(whole.collect());
    whole.extend(bundle::record(tx, worker, together, now, &mut answers).await?);
    // In the order of their batches: others that end some of them do not wait for each other.
    whole.sort_unstable_by_key(|(_, part)| (part.claim.batch, part.claim.task));
    record_whole(tx, worker, &whole, now, &mut answers).await?;
    // Those that stand together, and nothing here knew of it, are found one by one.
    let left = |(at, _): &Told<'_>| answers.get(*at) != Some(&Recorded::Done);
    let (places, rest): (Vec<usize>, Vec<&Part>) = parts.iter().enumerate().filter(left).unzip();
    if !rest.is_empty() {
        let done = record::record_these(tx, worker, &rest, now).await?;
        for (at, answer) in places.into_iter().zip(done) {
            if let Some(place) = answers.get_mut(at) {
                *place = answer;
            }
        }
    }
    Ok(answers)
}

/// A part, and its place among those that are recorded together.
pub(super) type Told<'a> = (usize, &'a Part);

/// What rows came to, which the driver logs nothing of.
pub(super) struct Bodies<'a>(Vec<&'a str>);

impl std::fmt::Debug for Bodies<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::write!(f, "{} bodies", self.0.len())
    }
}

impl ToSql for Bodies<'_> {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(of, out)
    }

    fn accepts(of: &Type) -> bool {
        <Vec<&str>>::accepts(of)
    }

    to_sql_checked!();
}

/// What is told of parts, a list for each column.
pub(super) struct Lists<'a> {
    pub(super) batches: Vec<Uuid>,
    pub(super) success: Vec<i32>,
    pub(super) failed: Vec<i32>,
    pub(super) bodies: Bodies<'a>,
}

impl<'a> Lists<'a> {
    pub(super) fn of(parts: &[&'a Part]) -> Self {
        Self {
            batches: parts.iter().map(|p| p.claim.batch.0).collect(),
            success: parts.iter().map(|p| p.success.cast_signed()).collect(),
            failed: parts.iter().map(|p| p.failed.cast_signed()).collect(),
            bodies: Bodies(parts.iter().map(|p| p.body.as_str()).collect()),
        }
    }
}

async fn record_whole(
    tx: &impl Link,
    worker: WorkerNo,
    told: &[Told<'_>],
    now: Timestamp,
    answers: &mut [Recorded],
) -> Result<(), StoreError> {
    if told.is_empty() {
        return Ok(());
    }
    let parts: Vec<&Part> = told.iter().map(|(_, part)| *part).collect();
    let tasks: Vec<i64> = parts.iter().map(|p| p.claim.task.0).collect();
    let tokens: Vec<i64> = parts.iter().map(|p| p.claim.token.0).collect();
    let sql = only!("record_whole");
    let wrong = || postgres_error(sql.name);
    let lists = Lists::of(&parts);
    let at = Value::Time(us(now));
    let params: [(&(dyn ToSql + Sync), Type); 8] = [
        (&worker.0, Type::INT8),
        (&at, Type::TIMESTAMPTZ),
        (&tasks, Type::INT8_ARRAY),
        (&lists.batches, Type::UUID_ARRAY),
        (&tokens, Type::INT8_ARRAY),
        (&lists.success, Type::INT4_ARRAY),
        (&lists.failed, Type::INT4_ARRAY),
        (&lists.bodies, Type::TEXT_ARRAY),
    ];
    let rows = ask(tx, sql, &params).await?;
    // Rows of a batch that goes on are news for nobody.
    let mut is_news = told.iter().any(|(_, part)| part.capped);
    let mut open: BTreeSet<BatchId> = BTreeSet::new();
    for row in &rows {
        let place: i64 = row.try_get(0).map_err(wrong())?;
        let ended: bool = row.try_get(1).map_err(wrong())?;
        // Counted from 1.
        let told = usize::try_from(place - 1).ok().and_then(|at| told.get(at));
        let Some((at, part)) = told else { continue };
        if let Some(answer) = answers.get_mut(*at) {
            *answer = Recorded::Done;
        }
        is_news |= ended;
        match ended {
            true => {}
            false if part.more => {}
            // Where there are several blocks there is a close task.
            false if part.claim.no > 0 => tx.settle_later(part.claim.batch),
            false => {
                open.insert(part.claim.batch);
            }
        }
    }
    tx.wrote_some(is_news);
    for batch in open {
        let known = tx.later().contains(&batch);
        if !known {
            end::settle(tx, batch, now).await?;
        }
    }
    Ok(())
}
