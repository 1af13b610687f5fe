//! Many queued tasks, made in minutes: each op's first batch is submitted by the store's own step, and the others are copies of its
//! records under ids of their own, made by the server.

use std::time::Instant;

use rowmill::Store;
use rowmill::model::{
    BatchId, BlockBuilder, ContentHash, JobKey, Kind, NewBatch, OpId, Timestamp, WorkerNo,
};
use rowmill::postgres::tokio_postgres::Client as Server;
use rowmill::store::{NewWorker, OpRegistration, Serves};

use crate::batch::Posting;
use crate::figures::Failed;
use crate::place::{Fresh, Place};

/// Tasks of a batch, of one row each.
pub const TASKS: u64 = 100;

/// A database with queued tasks, and a worker who may claim them.
pub struct Loaded {
    pub fresh: Fresh,
    pub store: Store,
    pub server: Server,
    pub worker: WorkerNo,
    pub ops: Vec<OpId>,
    /// How it was made.
    pub note: String,
}

impl Loaded {
    /// So many batches for each op.
    pub async fn of(place: &Place, batches: &[u64]) -> Result<Self, Failed> {
        let began = Instant::now();
        let fresh = place.fresh()?;
        let (store, server) = (fresh.store().await?, fresh.server().await?);
        server.batch_execute("set search_path to rowmill").await?;
        let now = store.clock().now();
        let keys =
            (1..=batches.len()).map(|n| JobKey::new("bench", &format!("op{n}"), Kind::Batch));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let ops = keys.iter().cloned().map(|key| OpRegistration {
            key,
            notify: false,
            max_lost: 3,
            keep: None,
        });
        let ops = store.register_ops(ops.collect(), now).await?;
        let mut first = Vec::new();
        for key in keys {
            first.push(submit(&store, key, now).await?);
        }
        copy(&server, &first, batches).await?;
        // As it is some minutes later.
        let seen_to =
            "vacuum (analyze) batches; vacuum (analyze) blocks; vacuum (analyze) queue; checkpoint";
        for statement in seen_to.split("; ") {
            server.batch_execute(statement).await?;
        }
        let counted = server.query_one(
            "select count(*) from queue where what = 0 and state = 1",
            &[],
        );
        let counted: i64 = counted.await?.try_get(0)?;
        let (expected, took) = (batches.iter().sum::<u64>() * TASKS, began.elapsed());
        if counted.cast_unsigned() != expected {
            return Err(format!("{counted} of {expected} tasks are queued").into());
        }
        let worker = NewWorker {
            host: "bench".into(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            ops: ops
                .iter()
                .map(|op| Serves {
                    op: *op,
                    notify: false,
                })
                .collect(),
            only: None,
        };
        let worker = store.enter(worker, now).await?;
        let note = format!(
            "{expected} tasks of one row, {TASKS} a batch, {} ops: of each op the store's own submit made the first batch; INSERT … SELECT \
             copied its records for the others; then VACUUM (ANALYZE) and a checkpoint: {:.0} s",
            batches.len(),
            took.as_secs_f64(),
        );
        Ok(Self {
            fresh,
            store,
            server,
            worker,
            ops,
            note,
        })
    }
}

/// One batch, by the step that stores every batch.
async fn submit(store: &Store, key: JobKey, now: Timestamp) -> Result<BatchId, Failed> {
    let mut builder = BlockBuilder::new(1, usize::MAX);
    let mut blocks = Vec::new();
    for n in 0..TASKS {
        let input = serde_json::to_string(&Posting::nth(n))?;
        blocks.extend(builder.push(u32::try_from(n + 1)?, &input));
    }
    blocks.extend(builder.finish());
    let mut hash = ContentHash::default();
    blocks.iter().for_each(|block| hash.add(block));
    let batch = NewBatch::new(key);
    Ok(store.submit(batch, blocks, hash.finish(), now).await?.id())
}

/// Copies what the first batches are, until each op has as many as it is to have.
async fn copy(server: &Server, first: &[BatchId], batches: &[u64]) -> Result<(), Failed> {
    let first: Vec<String> = first.iter().map(ToString::to_string).collect();
    let more: Vec<i64> = batches
        .iter()
        .map(|n| n.saturating_sub(1).cast_signed())
        .collect();
    server
        .batch_execute(
            "create temporary table made (id uuid not null, first uuid not null, n bigint not null)",
        )
        .await?;
    // In turn, as they would come; ids are in the order of time.
    server
        .execute(
            "insert into made
             select ('0fffffff-ffff-7000-8000-' || lpad(to_hex(row_number() over (order by n, first)), 12, '0'))::uuid, first, n
               from (select f::uuid as first, more from unnest($1::text[], $2::bigint[]) u (f, more)) u,
                    generate_series(1, more) n
              order by 1",
            &[&first, &more],
        )
        .await?;
    server.batch_execute("analyze made").await?;
    for (table, batch, others) in [
        ("batches", "id", &["root"][..]),
        ("blocks", "batch", &[]),
        ("queue", "batch", &[]),
    ] {
        let sql = "select quote_ident(column_name) from information_schema.columns
                    where table_schema = 'rowmill' and table_name = $1 order by ordinal_position";
        let found = server.query(sql, &[&table]).await?;
        let names = found.iter().map(|row| row.try_get(0));
        let names = names.collect::<Result<Vec<String>, _>>()?;
        let values = names.iter().map(|name| match name.as_str() {
            name if name == batch || others.contains(&name) => "m.id".to_owned(),
            "created_at" | "age" => format!("t.{name} + m.n * interval '1 microsecond'"),
            name => format!("t.{name}"),
        });
        let (names, values) = (names.join(", "), values.collect::<Vec<_>>().join(", "));
        let sql = format!(
            "insert into {table} ({names}) select {values} from made m join {table} t on t.{batch} = m.first"
        );
        server.batch_execute(&sql).await?;
    }
    Ok(())
}
