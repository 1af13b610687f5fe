//! Batches of one block, as every slow query is one: submitted and ended with few writes.
//!
//! What `submit` and `end` do step by step for a batch of any size is one write each where there is
//! one block, because nothing of such a batch is ever seen half done.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::db::{
    Bundles, Db, Insert, Many, Sql, Us, Value, all, change, corrupt, insert, one, params, sql, us,
    us_opt,
};
use super::guard::op_id;
use super::release::queued_or_later;
use super::retry;
use super::submit::{Asked, BLOCKS, columns};
use super::together::{both, together};
use crate::model::{BatchId, BatchState, Block, JobKey, NewBatch, OpId, Timestamp};
use crate::store::{BatchHead, ClaimedTask, Holder, Part, StoreError};

/// What the submits of one step share: it is looked up once.
#[derive(Default)]
pub(in crate::store) struct Known {
    ops: HashMap<JobKey, i64>,
    /// The turn of the next task of an op at a priority. What the step itself adds does not change it.
    turns: HashMap<(i64, i32), i64>,
}

impl Known {
    /// A batch's op, which is made known, and the turn of its task.
    async fn of(
        &mut self,
        c: &impl Db,
        batch: &NewBatch,
        now: Timestamp,
    ) -> Result<(i64, i64), StoreError> {
        let op = self.ops.get(&batch.key).copied();
        let turn = op.and_then(|op| self.turns.get(&(op, batch.priority)));
        if let (Some(op), Some(turn)) = (op, turn) {
            return Ok((op, *turn));
        }
        let (op, turn) = match self.found(c, batch).await? {
            Some(found) => found,
            None => (op_id(c, &batch.key, now).await?, None),
        };
        let turn = turn.unwrap_or(0);
        self.ops.insert(batch.key.clone(), op);
        self.turns.insert((op, batch.priority), turn);
        Ok((op, turn))
    }

    async fn found(
        &self,
        c: &impl Db,
        batch: &NewBatch,
    ) -> Result<Option<(i64, Option<i64>)>, StoreError> {
        let NewBatch { key, priority, .. } = batch;
        let (app, name) = (key.app.as_str(), key.op.as_str());
        let asked = params![app, name, key.kind.code(), *priority];
        one(c, sql!("submit_op"), asked, |r| Ok((r.get(0)?, r.get(1)?))).await
    }
}

/// How batches that are whole come to be.
const BATCHES: Insert = insert!(sql!("submit_whole"), "copy_batches");
/// So many tasks stand together at most: a record of them fits four times on a page.
pub(in crate::store) const MEMBERS: usize = 100;
/// Of fewer each stands alone.
const FEWEST: usize = 8;
/// A row of more bytes, with its context, stands alone, so that what one claim takes of rows that stand together is bounded.
pub(in crate::store) const MEMBER_BYTES: usize = 4 << 10;
/// How their tasks do.
const TASKS: Insert = insert!(sql!("queue_add"), "copy_queue");

/// A batch of one block without rejected rows, that is not there yet.
pub(in crate::store) struct Whole<'a> {
    batch: &'a NewBatch,
    block: &'a Block,
    hash: &'a [u8; 32],
    op: i64,
    turn: i64,
    columns: Option<String>,
    now: Timestamp,
}

impl<'a> Whole<'a> {
    /// Finds its op, which is made known, and its turn.
    pub(in crate::store) async fn of(
        c: &impl Db,
        known: &mut Known,
        batch: &'a NewBatch,
        block: &'a Block,
        hash: &'a [u8; 32],
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let (op, turn) = known.of(c, batch, now).await?;
        Ok(Self {
            batch,
            block,
            hash,
            op,
            turn,
            columns: columns(batch)?,
            now,
        })
    }

    /// Whether its task may stand with others: it is to begin as soon as it can, whatever its time is.
    fn may_stand_with_others(&self) -> bool {
        let Self { batch, block, .. } = self;
        let small = block.body.len() + batch.context.get().len() <= MEMBER_BYTES;
        !batch.hold
            && batch.run_at.is_none()
            && batch.expires_at.is_none()
            && block.rows == 1
            && small
    }

    fn record(&self) -> [Value<'_>; 21] {
        let Self {
            batch, block, now, ..
        } = self;
        let state = if batch.hold {
            BatchState::Wait
        } else {
            BatchState::Queued
        };
        params![
            batch.id,
            self.op,
            state.code(),
            batch.context.get(),
            batch.priority,
            batch.external_id.as_deref(),
            batch.by.as_str(),
            us(*now),
            us_opt(batch.run_at),
            us_opt(batch.expires_at),
            self.columns.as_deref(),
            block.rows,
            block.body.len(),
            block.last_line(),
            i64::from(!batch.hold),
            self.hash,
            retry::root(batch),
            retry::parent(batch),
            retry::generation(batch),
            1,
            1
        ]
    }

    /// As [`Whole::record`], with the bundle in which its task stands.
    fn bundled(&self, id: Option<BatchId>) -> [Value<'_>; 22] {
        let mut record = [Value::from(id); 22];
        for (to, value) in record.iter_mut().zip(self.record()) {
            *to = value;
        }
        record
    }

    fn block(&self) -> [Value<'_>; 7] {
        let Self { batch, block, .. } = self;
        params![
            batch.id,
            0,
            block.first_line,
            block.rows,
            0,
            block.lines.as_deref(),
            block.body.as_str(),
        ]
    }

    fn task(&self) -> [Value<'_>; 17] {
        let Self {
            batch, block, now, ..
        } = self;
        let (task, due) = queued_or_later(us_opt(batch.run_at), *now);
        params![
            batch.id,
            0,
            0,
            0,
            self.op,
            task.code(),
            batch.priority,
            self.turn,
            us(*now),
            due,
            block.rows,
            None::<&[u32]>,
            0,
            0,
            0,
            0,
            false
        ]
    }
}

/// Its task as a worker begins it at once.
impl Whole<'_> {
    pub(in crate::store) fn op(&self) -> OpId {
        OpId(self.op)
    }

    fn claimed(&self, holder: Holder, now: Timestamp) -> [Value<'_>; 10] {
        params![
            self.batch.id,
            self.op,
            self.batch.priority,
            self.turn,
            us(self.now),
            self.block.rows,
            holder.token.0,
            holder.worker.0,
            us(now),
            if holder.once { 2 } else { 0 },
        ]
    }

    fn task_of(&self, holder: Holder) -> ClaimedTask {
        let Self { batch, block, .. } = self;
        ClaimedTask {
            batch: Arc::new(BatchHead {
                id: batch.id,
                key: batch.key.clone(),
                context: batch.context.clone(),
                root: retry::root(batch),
                generation: retry::generation(batch),
                expires_at: batch.expires_at,
            }),
            claim: holder.claim(batch.id),
            failures: 0,
            laters: 0,
            suspect: holder.once,
            accused: false,
            believed: false,
            first_line: block.first_line,
            lines: block.lines.clone(),
            body: block.body.clone(),
            pick: None,
            rows: block.rows,
        }
    }
}

/// Stores batches with their blocks and tasks; those that may stand with others do, where the database has that.
async fn store_together(c: &impl Db, whole: Vec<Whole<'_>>) -> Result<(), StoreError> {
    let Some(Bundles { batches, tasks }) = c.bundles() else {
        return store(c, &whole).await;
    };
    let (bundles, alone) = bundled(whole);
    let all = || bundles.iter().flatten();
    let named = bundles.iter().flat_map(|bundle| {
        let id = bundle.first().map(|first| first.batch.id);
        bundle.iter().map(move |one| one.bundled(id))
    });
    c.add(batches, &Many::of(named)).await?;
    c.add(BLOCKS, &Many::of(all().map(Whole::block))).await?;
    let members = |bundle: &Vec<Whole<'_>>| bundle.iter().map(|one| one.batch.id).collect();
    let members: Vec<Vec<BatchId>> = bundles.iter().map(members).collect();
    let records = bundles
        .iter()
        .zip(&members)
        .filter_map(|(bundle, members)| {
            let first = bundle.first()?;
            Some(params![
                first.batch.id,
                first.op,
                first.batch.priority,
                first.turn,
                us(first.now),
                members.len(),
                &members[..]
            ])
        });
    c.each(tasks, &Many::of(records)).await?;
    if alone.is_empty() {
        return Ok(());
    }
    store(c, &alone).await
}

/// Those whose tasks stand together, and the others.
fn bundled(whole: Vec<Whole<'_>>) -> (Vec<Vec<Whole<'_>>>, Vec<Whole<'_>>) {
    let (mut groups, mut alone) = (BTreeMap::<_, Vec<Whole<'_>>>::new(), Vec::new());
    for one in whole {
        if one.may_stand_with_others() {
            let group = (one.op, one.batch.priority, one.turn);
            groups.entry(group).or_default().push(one);
        } else {
            alone.push(one);
        }
    }
    let mut bundles = Vec::new();
    for (_, mut group) in groups {
        while group.len() >= FEWEST {
            let rest = group.split_off(group.len().min(MEMBERS));
            bundles.push(group);
            group = rest;
        }
        alone.append(&mut group);
    }
    (bundles, alone)
}

/// Stores batches with their blocks and tasks.
async fn store(c: &impl Db, whole: &[Whole<'_>]) -> Result<(), StoreError> {
    let given = whole.iter().filter(|one| !one.batch.hold);
    let (batches, blocks, tasks) = (
        Many::of(whole.iter().map(Whole::record)),
        Many::of(whole.iter().map(Whole::block)),
        Many::of(given.map(Whole::task)),
    );
    if whole.len() > 1 {
        c.add(BATCHES, &batches).await?;
        c.add(BLOCKS, &blocks).await?;
        return c.add(TASKS, &tasks).await;
    }
    // One wait for all three.
    let added = [
        c.add(BATCHES, &batches),
        c.add(BLOCKS, &blocks),
        c.add(TASKS, &tasks),
    ];
    together(added).await.map(drop)
}

/// Stores a batch of one block without rejected rows, that is not there yet.
pub(in crate::store) async fn submit(c: &impl Db, whole: &Whole<'_>) -> Result<(), StoreError> {
    store(c, std::slice::from_ref(whole)).await?;
    name(c, whole).await
}

/// As [`submit`], its task claimed for a slot by this statement.
pub(in crate::store) async fn submit_claimed(
    c: &impl Db,
    whole: &Whole<'_>,
    sql: Sql,
    holder: Holder,
    now: Timestamp,
) -> Result<ClaimedTask, StoreError> {
    let (batch, block) = (Many::of([whole.record()]), Many::of([whole.block()]));
    let task = whole.claimed(holder, now);
    // One wait for all three.
    let added = both(c.add(BATCHES, &batch), c.add(BLOCKS, &block));
    let (_, claimed) = both(added, change(c, sql, task)).await?;
    if claimed != 1 {
        return Err(corrupt("a claimed task was not added"));
    }
    name(c, whole).await?;
    Ok(whole.task_of(holder))
}

/// Notes the external id of a batch that is new.
async fn name(c: &impl Db, whole: &Whole<'_>) -> Result<(), StoreError> {
    let Whole {
        batch, hash, now, ..
    } = whole;
    if let Some(external) = &batch.external_id {
        change(
            c,
            sql!("submit_external"),
            params![batch.key.app.as_str(), external, batch.id, *hash, us(*now)],
        )
        .await?;
    }
    Ok(())
}

/// Stores those of many queries that are not there yet and that nothing else may stand for: no external
/// id, no batch that they repeat, no other of the same id. Returns which these are.
pub(in crate::store) async fn submit_new(
    c: &impl Db,
    known: &mut Known,
    queries: &[Asked<'_>],
) -> Result<HashSet<BatchId>, StoreError> {
    if queries.len() < 2 {
        return Ok(HashSet::new());
    }
    let mut times: HashMap<BatchId, usize> = HashMap::with_capacity(queries.len());
    for Asked { query, .. } in queries {
        *times.entry(query.id).or_default() += 1;
    }
    let alone = |query: &NewBatch| {
        query.external_id.is_none() && query.retry_of.is_none() && times.get(&query.id) == Some(&1)
    };
    let ids: Vec<BatchId> = queries.iter().map(|asked| asked.query.id).collect();
    let there = all(c, sql!("submit_there"), params![&ids[..]], |r| r.get(0)).await?;
    let there: HashSet<BatchId> = there.into_iter().collect();
    let mut new = Vec::new();
    for Asked {
        query,
        block,
        hash,
        at,
    } in queries
    {
        if alone(query) && block.rejected.is_empty() && !there.contains(&query.id) {
            new.push(Whole::of(c, known, query, block, hash, *at).await?);
        }
    }
    let ids = new.iter().map(|whole| whole.batch.id).collect();
    store_together(c, new).await?;
    Ok(ids)
}

/// Ends a batch whose one block a part has said everything about; false where there are more blocks.
pub(in crate::store) async fn end(
    c: &impl Db,
    part: &Part,
    op: i64,
    started_at: Option<Us>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // Only the first block can be alone: no look at the others.
    if part.claim.no != 0 {
        return Ok(false);
    }
    let batch = part.claim.batch;
    let state = BatchState::of_counts(u64::from(part.failed), 0, 0);
    let (success, failed) = (part.success, part.failed);
    let params = params![batch, state.code(), success, failed, started_at, us(now)];
    if change(c, sql!("end_single"), params).await? == 0 {
        return Ok(false);
    }
    change(c, sql!("end_single_notice"), params![batch, op, us(now)]).await?;
    Ok(true)
}
