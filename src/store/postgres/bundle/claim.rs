//! claim: the best tasks of an op where they stand together.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};
use uuid::Uuid;

use super::super::db::only;
use super::super::errors::postgres_error;
use super::super::ready;
use super::super::tx::{Link as _, Tx};
use super::{loosen, loosen_these};
use crate::model::{BatchId, JobKey, TaskId, Timestamp};
use crate::store::steps::claim::raw;
use crate::store::steps::db::{Db, Value, all, params, us};
use crate::store::steps::single::{MEMBER_BYTES, MEMBERS};
use crate::store::{BatchHead, Claim, ClaimRef, ClaimedTask, StoreError};

/// What became of an op's best tasks.
pub(in crate::store::postgres) enum Best {
    /// They stand alone, or are more than is asked for.
    Alone,
    /// Some stood together, and stand alone now.
    Loosened,
    /// They are claimed, each with its bundle.
    Claimed(Vec<(BatchId, ClaimedTask)>),
    /// One of them is to be looked at by itself.
    Strange,
}

/// Claims an op's best tasks where they stand together and all of them fit; where they do not fit, they stand alone
/// from now on, if that is wanted.
pub(in crate::store::postgres) async fn claim(
    tx: &Tx,
    ask: &Claim,
    key: &JobKey,
    loosens: bool,
    now: Timestamp,
) -> Result<Best, StoreError> {
    let bytes = u64::try_from(ask.max_bytes / MEMBER_BYTES).unwrap_or(u64::MAX);
    let room = match ask.cap {
        None if !ask.once => u64::from(ask.max_tasks).min(ask.max_rows).min(bytes),
        // Each begins by itself.
        _ => 0,
    };
    // Where they are not full, the next run takes more.
    let most = (room / MEMBERS as u64).max(1);
    let found = best(tx, ask, most, false).await?;
    let Some((best, _)) = found.first() else {
        return Ok(Best::Alone);
    };
    let mut tasks = 0;
    let fits = |(_, of): &&(BatchId, u64)| {
        tasks += of;
        tasks <= room
    };
    let fitting: Vec<&(BatchId, u64)> = found.iter().take_while(fits).collect();
    if fitting.is_empty() {
        if loosens && loosen_these(tx, &[*best]).await? {
            return Ok(Best::Loosened);
        }
        return Ok(Best::Alone);
    }
    let bundles: Vec<BatchId> = fitting.iter().map(|(bundle, _)| *bundle).collect();
    let expected: u64 = fitting.iter().map(|(_, tasks)| tasks).sum();
    take(tx, ask, key, &bundles, expected, now).await
}

/// The bundles that an op's best tasks stand in, and how many tasks each has; nobody else claims of them before this transaction ends.
/// `any`: also behind tasks that stand alone.
async fn best(
    c: &impl Db,
    ask: &Claim,
    most: u64,
    any: bool,
) -> Result<Vec<(BatchId, u64)>, StoreError> {
    let sql = if ask.oldest {
        only!("bundle_oldest")
    } else {
        only!("bundle_ready")
    };
    all(c, sql, params![ask.op.0, most, any], |r| {
        Ok((r.get(0)?, r.get(1)?))
    })
    .await
}

/// Makes each of an op's best tasks one of its own, where they stand together; whether they did.
pub(in crate::store::postgres) async fn loosen_best(
    c: &impl Db,
    ask: &Claim,
    any: bool,
) -> Result<bool, StoreError> {
    let found = match ask.only {
        Some(batch) => return loosen(c, &[batch]).await,
        None => best(c, ask, 1, any).await?,
    };
    let bundles: Vec<BatchId> = found.into_iter().map(|(bundle, _)| bundle).collect();
    loosen_these(c, &bundles).await
}

async fn take(
    tx: &Tx,
    ask: &Claim,
    key: &JobKey,
    bundles: &[BatchId],
    expected: u64,
    now: Timestamp,
) -> Result<Best, StoreError> {
    let bundles: Vec<Uuid> = bundles.iter().map(|bundle| bundle.0).collect();
    let at = Value::Time(us(now));
    let params: [(&(dyn ToSql + Sync), Type); 4] = [
        (&bundles, Type::UUID_ARRAY),
        (&ask.token.0, Type::INT8),
        (&ask.worker.0, Type::INT8),
        (&at, Type::TIMESTAMPTZ),
    ];
    let sql = only!("bundle_take");
    let found = ready::ask(tx, sql, &params).await?;
    tx.wrote_some(!found.is_empty());
    let mut tasks = Vec::with_capacity(usize::try_from(expected).unwrap_or(0).min(MEMBERS));
    for row in &found {
        let members = Members::read(row).map_err(postgres_error(sql.name))?;
        if !members.are_as_usual() {
            return Ok(Best::Strange);
        }
        for at in 0..members.ids.len() {
            match members.task(at, ask, key)? {
                Some(task) => tasks.push((BatchId(members.bundle), task)),
                None => return Ok(Best::Strange),
            }
        }
    }
    if u64::try_from(tasks.len()).ok() != Some(expected) {
        return Ok(Best::Strange);
    }
    Ok(Best::Claimed(tasks))
}

/// The tasks of a bundle: lists of what is known of each, in one order.
struct Members<'a> {
    bundle: Uuid,
    ids: Vec<Uuid>,
    first_lines: Vec<i32>,
    /// None where it is kept in another form, which nothing here reads.
    bodies: Vec<Option<&'a str>>,
    contexts: Vec<&'a str>,
    roots: Vec<Uuid>,
    generations: Vec<i32>,
    /// Whether each is open and nothing ends it early.
    open: Vec<bool>,
}

impl<'a> Members<'a> {
    fn read(row: &'a Row) -> Result<Self, tokio_postgres::Error> {
        /// No list where there is nothing to list.
        fn list<'a, T: FromSql<'a>>(
            row: &'a Row,
            at: usize,
        ) -> Result<Vec<T>, tokio_postgres::Error> {
            Ok(row.try_get::<_, Option<Vec<T>>>(at)?.unwrap_or_default())
        }
        Ok(Self {
            bundle: row.try_get(0)?,
            ids: list(row, 1)?,
            first_lines: list(row, 2)?,
            bodies: list(row, 3)?,
            contexts: list(row, 4)?,
            roots: list(row, 5)?,
            generations: list(row, 6)?,
            open: list(row, 7)?,
        })
    }

    /// Whether none of them is to be looked at by itself.
    fn are_as_usual(&self) -> bool {
        self.open.iter().all(|open| *open)
    }

    /// `None`: it is not as it must be, and is to be looked at by itself.
    fn task(
        &self,
        at: usize,
        ask: &Claim,
        key: &JobKey,
    ) -> Result<Option<ClaimedTask>, StoreError> {
        let known = || {
            let id = BatchId(*self.ids.get(at)?);
            let first_line = u32::try_from(*self.first_lines.get(at)?).ok()?;
            let generation = u32::try_from(*self.generations.get(at)?).ok()?;
            let root = BatchId(*self.roots.get(at)?);
            let texts = ((*self.bodies.get(at)?)?, *self.contexts.get(at)?);
            Some((id, first_line, generation, root, texts))
        };
        let Some((id, first_line, generation, root, (body, context))) = known() else {
            return Ok(None);
        };
        let head = BatchHead {
            id,
            key: key.clone(),
            context: raw(context.to_owned())?,
            root,
            generation,
            expires_at: None,
        };
        Ok(Some(ClaimedTask {
            batch: Arc::new(head),
            claim: ClaimRef {
                batch: id,
                task: TaskId(0),
                no: 0,
                attempt: 1,
                token: ask.token,
            },
            failures: 0,
            laters: 0,
            suspect: false,
            accused: false,
            believed: false,
            first_line,
            lines: None,
            body: body.to_owned(),
            pick: None,
            rows: 1,
        }))
    }
}
