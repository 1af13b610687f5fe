//! What must hold, whatever was done.

use std::time::Duration;

use futures_util::TryStreamExt;
use rowmill::{Batch, BatchId, RowView, Status};
use tokio::io::AsyncReadExt;

use super::Failed;
use super::actions::{Known, Soak};
use super::work::{FILE, Fate};

/// Memory of a worker at most.
const PEAK_MB: u64 = 250;
/// The file with its log at most, however long it goes on.
const FILE_MB: u64 = 300;
/// Ended batches that are looked at again.
const ENDED: usize = 300;
/// A batch that is not held and not paused for ever ends within this.
const LONG: Duration = Duration::from_secs(300);

impl Soak {
    /// Looks at one open batch after the other, and at what has ended.
    pub(crate) async fn check(&mut self) -> Result<(), Failed> {
        let ids: Vec<BatchId> = self.open.keys().copied().collect();
        for id in ids {
            let batch = self.client.batch_status(id).await?;
            let counts = batch.counts;
            let ended = counts.success + counts.failed + counts.aborted + counts.expired;
            if ended + counts.pending != counts.rows {
                return Err(format!("counts do not add up: {batch:?}").into());
            }
            if batch.done
                && let Some(known) = self.open.remove(&id)
            {
                self.ended_as_told(&batch, &known).await?;
                self.ended.push_back((id, summary(&batch)?));
                self.count("ended", 1);
            } else if let Some(known) = self.open.get(&id)
                && known.since.elapsed() > LONG
                && !known.held
            {
                return Err(format!("it does not end: {batch:?}").into());
            }
        }
        while self.ended.len() > ENDED {
            self.ended.pop_front();
        }
        self.unchanged().await
    }

    /// One of those that ended is as it was, until it is purged.
    async fn unchanged(&mut self) -> Result<(), Failed> {
        let Some((id, was)) = self.ended.pop_front() else {
            return Ok(());
        };
        let batch = self.client.batch_status(id).await?;
        if batch.purged_at.is_some() {
            return Ok(());
        }
        let is = summary(&batch)?;
        if is != was {
            return Err(format!("what had ended has changed: {was} → {is}").into());
        }
        self.ended.push_back((id, was));
        Ok(())
    }

    async fn ended_as_told(&mut self, batch: &Batch, known: &Known) -> Result<(), Failed> {
        let rows: Vec<RowView> = self.client.rows(batch.id, None).try_collect().await?;
        let lines: Vec<u32> = rows.iter().map(|r| r.line.0).collect();
        if !lines.iter().eq(known.fates.keys()) {
            return Err(format!("its rows are not those of its submitter: {batch:?}").into());
        }
        for (row, fate) in rows.iter().zip(known.fates.values()) {
            let stopped = match row.status {
                Status::Aborted => known.aborted,
                Status::Expired => known.expires,
                status => status == fate.ends(),
            };
            if !stopped {
                return Err(format!("a row that is {fate:?} has ended so: {row:?}").into());
            }
        }
        let count = |status| {
            let found = rows.iter().filter(|r| r.status == status);
            u64::try_from(found.count()).unwrap_or(u64::MAX)
        };
        use Status::{Aborted, Expired, Failed as Bad, Success};
        let counts = &batch.counts;
        let told = [
            counts.success,
            counts.failed,
            counts.aborted,
            counts.expired,
        ];
        if told != [Success, Bad, Aborted, Expired].map(count) {
            return Err(format!("its counts are not those of its rows: {batch:?}").into());
        }
        if known.op == "moves" {
            self.moved(batch, &rows)?;
        }
        self.files(batch, known, &rows).await
    }

    /// The effects of a transactional op: once for each row that succeeded, and for no other.
    fn moved(&self, batch: &Batch, rows: &[RowView]) -> Result<(), Failed> {
        let id = batch.id.to_string();
        let mut found = self
            .db
            .prepare_cached("select line from moves where batch = ?1 order by line")?;
        let found: Vec<u32> = found
            .query_map([&id], |r| r.get(0))?
            .collect::<Result<_, _>>()?;
        let good = rows.iter().filter(|r| r.status == Status::Success);
        if !good.map(|r| r.line.0).eq(found) {
            return Err(format!("its effects are not those of its good rows: {batch:?}").into());
        }
        self.db
            .execute("delete from moves where batch = ?1", [&id])?;
        Ok(())
    }

    /// Output files have the lines of the rows that wrote, in their order.
    async fn files(&self, batch: &Batch, known: &Known, rows: &[RowView]) -> Result<(), Failed> {
        // A chunk that panics gives its rows no outcome and no text.
        let silent =
            |r: &RowView| known.op == "chunks" && known.fates.get(&r.line.0) == Some(&Fate::Panic);
        let writes = |r: &&RowView| match r.status {
            Status::Success => true,
            Status::Failed => batch.kind == rowmill::Kind::Batch && !silent(r),
            _ => false,
        };
        let expected: String = rows
            .iter()
            .filter(writes)
            .map(|r| format!("{}\n", r.line))
            .collect();
        let mut text = String::new();
        if let Some(file) = batch.files.iter().find(|f| f.name == FILE) {
            let mut open = self.client.open_file(file).await?;
            open.read_to_string(&mut text).await?;
        }
        if text != expected {
            return Err(format!("its file is not what its rows wrote: {batch:?}").into());
        }
        Ok(())
    }

    /// Nothing is left to do.
    pub(crate) fn settled(&self) -> Result<(), Failed> {
        let count = |sql: &str| self.db.query_row(sql, [], |r| r.get::<_, i64>(0));
        for (what, sql) in [
            ("tasks", "select count(*) from queue"),
            ("effects", "select count(*) from moves"),
            (
                "blocks that belong to nothing",
                "select count(*) from blocks k where not exists (select 1 from batches b where b.id = k.batch and k.no < b.blocks)
                    and not exists (select 1 from appends a where a.batch = k.batch and a.token is not null)",
            ),
        ] {
            let left = count(sql)?;
            if left != 0 {
                return Err(format!("{left} {what} are left").into());
            }
        }
        Ok(())
    }

    /// Memory and file are bounded.
    pub(crate) fn bounded(&self) -> Result<(), Failed> {
        let peak = self.workers.peak_mb;
        let largest = self.sizes.iter().max_by_key(|(file, log)| file + log);
        let (file, log) = largest.copied().unwrap_or_default();
        println!("at most: a worker {peak} MB, the file {file} MB with a log of {log} MB");
        if peak > PEAK_MB || file + log > FILE_MB {
            return Err("too large".into());
        }
        Ok(())
    }

    pub(crate) fn tell(&self, after: Duration) {
        let done: Vec<String> = self
            .done
            .iter()
            .map(|(what, n)| format!("{n} {what}"))
            .collect();
        println!(
            "{:>5} s: {}, {} kills; a worker's peak {} MB, the file {} MB, its log {} MB",
            after.as_secs(),
            done.join(", "),
            self.workers.kills,
            self.workers.peak_mb,
            self.sizes.last().map_or(0, |s| s.0),
            self.sizes.last().map_or(0, |s| s.1),
        );
    }
}

fn summary(batch: &Batch) -> Result<String, Failed> {
    Ok(serde_json::to_string(batch)?)
}
