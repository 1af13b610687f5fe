//! What is done to the store, by chance.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use rowmill::model::{JobKey, NewBatch, RawJson, Timestamp};
use rowmill::sqlite::rusqlite::Connection;
use rowmill::{AppendOptions, Batch, BatchId, Client, Kind, NewRow, Purge, Status};

use super::Failed;
use super::dice::Dice;
use super::work::{APP, Fate, Input, SCHEMA, manager};
use super::workers::Workers;

/// Batches that have not ended at most; beyond it nothing is submitted.
const OPEN: usize = 60;
/// Ended batches are kept so long.
const KEEP: Duration = Duration::from_secs(15);

/// What was submitted and what was asked of it.
pub(crate) struct Known {
    pub(crate) op: &'static str,
    /// By line.
    pub(crate) fates: BTreeMap<u32, Fate>,
    pub(crate) held: bool,
    pub(crate) aborted: bool,
    pub(crate) expires: bool,
    pub(crate) since: Instant,
}

pub(crate) struct Soak {
    pub(crate) folder: PathBuf,
    pub(crate) client: Client,
    pub(crate) db: Connection,
    pub(crate) workers: Workers,
    pub(crate) open: BTreeMap<BatchId, Known>,
    /// What ended, as it ended.
    pub(crate) ended: VecDeque<(BatchId, String)>,
    /// Of the file and of its log, in MB.
    pub(crate) sizes: Vec<(u64, u64)>,
    pub(crate) done: BTreeMap<&'static str, u64>,
    paused: Option<JobKey>,
    dice: Dice,
    last: [Instant; 3],
}

impl Soak {
    pub(crate) async fn begin(folder: &Path, seed: u64) -> Result<Self, Failed> {
        let file = folder.join("rowmill.db");
        // It knows the ops from the start, whenever the workers come.
        let client = manager(folder).await?.client();
        let db = Connection::open(&file)?;
        db.busy_timeout(Duration::from_secs(60))?;
        db.execute_batch(SCHEMA)?;
        Ok(Self {
            folder: folder.to_owned(),
            client,
            db,
            workers: Workers::start(folder)?,
            open: BTreeMap::new(),
            ended: VecDeque::new(),
            sizes: Vec::new(),
            done: BTreeMap::new(),
            paused: None,
            dice: Dice::new(seed),
            last: [Instant::now(); 3],
        })
    }

    pub(crate) fn count(&mut self, what: &'static str, by: u64) {
        *self.done.entry(what).or_default() += by;
    }

    /// One thing, whatever comes up.
    pub(crate) async fn act(&mut self) -> Result<(), Failed> {
        match self.dice.below(20) {
            0..=6 if self.open.len() < OPEN => self.submit().await?,
            7..=8 if self.open.len() < OPEN => self.ask().await?,
            9..=10 => self.append().await?,
            11 => self.release().await?,
            12 => self.abort().await?,
            13 => self.pause().await?,
            14 => self.retry().await?,
            _ => tokio::time::sleep(Duration::from_millis(self.dice.below(60))).await,
        }
        let [fault, purge, look] = &mut self.last;
        if fault.elapsed() > Duration::from_millis(1000 + self.dice.below(2000)) {
            *fault = Instant::now();
            let at = usize::try_from(self.dice.below(2))?;
            match self.dice.below(8) {
                0 => self.workers.replace(at, false)?,
                1 => self.workers.freeze(at).await?,
                _ => self.workers.replace(at, true)?,
            }
        } else if purge.elapsed() > KEEP / 3 {
            *purge = Instant::now();
            let what = Purge {
                older_than: KEEP,
                ..Purge::default()
            };
            let purged = self.client.purge(&what).await?;
            self.count("purged", purged.batches);
            self.weigh()?;
        } else if look.elapsed() > Duration::from_secs(2) {
            *look = Instant::now();
            self.workers.alive()?;
        }
        Ok(())
    }

    /// The sizes of the file and of its log.
    pub(crate) fn weigh(&mut self) -> Result<(), Failed> {
        let size = |name| std::fs::metadata(self.folder.join(name)).map(|m| m.len() >> 20);
        self.sizes
            .push((size("rowmill.db")?, size("rowmill.db-wal")?));
        Ok(())
    }

    fn fates(&mut self, rows: u64) -> Vec<Fate> {
        let odd = self.dice.below(4);
        let mut fate = || match self.dice.below(100) {
            n if n < odd => *self.dice.pick(&Fate::ALL).unwrap_or(&Fate::Good),
            _ => Fate::Good,
        };
        (0..rows).map(|_| fate()).collect()
    }

    fn rows(fates: &[Fate], from: u32) -> Result<Vec<NewRow>, Failed> {
        let row = |(n, fate): (u32, &Fate)| Ok(NewRow::json(&Input { n, fate: *fate })?);
        (from..).zip(fates).map(row).collect()
    }

    async fn submit(&mut self) -> Result<(), Failed> {
        let op = *self
            .dice
            .pick(&["rows", "chunks", "moves"])
            .unwrap_or(&"rows");
        let most = if self.dice.once_in(10) { 6000 } else { 300 };
        let count = 1 + self.dice.below(most);
        let fates = self.fates(count);
        let hold = self.dice.once_in(5);
        let expires = self.dice.once_in(10);
        let in_ms = |ms| Timestamp::now() + Duration::from_millis(ms);
        let new = NewBatch {
            hold,
            priority: i32::try_from(self.dice.below(3))? - 1,
            run_at: self.dice.once_in(10).then(|| in_ms(500)),
            expires_at: expires.then(|| in_ms(800)),
            ..NewBatch::new(JobKey::new(APP, op, Kind::Batch)?)
        };
        let rows = Self::rows(&fates, 1)?;
        let batch = self.client.batch_submit(new, rows).await?;
        self.know(batch.id, op, (1..).zip(fates).collect(), hold, expires);
        self.count("batches", 1);
        self.count("rows", count);
        Ok(())
    }

    fn know(
        &mut self,
        id: BatchId,
        op: &'static str,
        fates: BTreeMap<u32, Fate>,
        held: bool,
        expires: bool,
    ) {
        let known = Known {
            op,
            fates,
            held,
            aborted: false,
            expires,
            since: Instant::now(),
        };
        self.open.insert(id, known);
    }

    async fn ask(&mut self) -> Result<(), Failed> {
        let fate = *self.dice.pick(&Fate::ALL).unwrap_or(&Fate::Good);
        let input = serde_json::to_string(&Input { n: 1, fate })?;
        let new = NewBatch::new(JobKey::new(APP, "ask", Kind::Query)?);
        let query = self
            .client
            .slow_query_submit(new, RawJson::from_string(input)?);
        let id = query.await?.id;
        self.know(id, "ask", [(1, fate)].into(), false, false);
        self.count("queries", 1);
        Ok(())
    }

    fn any(&mut self, held: Option<bool>) -> Option<BatchId> {
        let which = self
            .open
            .iter()
            .filter(|(_, k)| held.is_none_or(|h| h == k.held));
        let ids: Vec<BatchId> = which.map(|(id, _)| *id).collect();
        self.dice.pick(&ids).copied()
    }

    async fn append(&mut self) -> Result<(), Failed> {
        let Some(id) = self.any(Some(true)) else {
            return Ok(());
        };
        let count = 1 + self.dice.below(1500);
        let fates = self.fates(count);
        let last = self
            .open
            .get(&id)
            .and_then(|k| k.fates.keys().last().copied());
        let first = last.unwrap_or(0) + 1;
        let rows = Self::rows(&fates, first)?;
        let options = AppendOptions {
            key: Some(format!("after {first}")),
            release: self.dice.once_in(3),
        };
        let release = options.release;
        match self.client.batch_append(id, rows, options).await {
            Ok(appended) => {
                if (appended.rows, appended.first_line) != (count, Some(first)) {
                    return Err(format!("{count} rows from {first} on: {appended:?}").into());
                }
                let known = self.open.get_mut(&id).ok_or("known")?;
                known.fates.extend((first..).zip(fates));
                known.held = !release;
                self.count("appends", 1);
                self.count("rows", count);
                Ok(())
            }
            // It expired meanwhile.
            Err(error) if error.code() == "wrong_state" && self.expires(id) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn expires(&self, id: BatchId) -> bool {
        self.open.get(&id).is_some_and(|k| k.expires || k.aborted)
    }

    async fn release(&mut self) -> Result<(), Failed> {
        let Some(id) = self.any(Some(true)) else {
            return Ok(());
        };
        match self.client.wait_off(id).await {
            Ok(_) => {}
            Err(error) if error.code() == "wrong_state" && self.expires(id) => {}
            Err(error) => return Err(error.into()),
        }
        self.open.get_mut(&id).ok_or("known")?.held = false;
        Ok(())
    }

    async fn abort(&mut self) -> Result<(), Failed> {
        if let Some(id) = self.any(None) {
            let known = self.open.get_mut(&id).ok_or("known")?;
            (known.aborted, known.held) = (true, false);
            self.client.batch_abort(id, Duration::ZERO).await?;
            self.count("aborts", 1);
        }
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), Failed> {
        if let Some(key) = self.paused.take() {
            self.client.op_resume(&key).await?;
            return Ok(());
        }
        let op = *self
            .dice
            .pick(&["rows", "chunks", "moves"])
            .unwrap_or(&"rows");
        let key = JobKey::new(APP, op, Kind::Batch)?;
        self.client.op_pause(&key).await?;
        self.paused = Some(key);
        Ok(())
    }

    /// Retries a batch that has failed lately, and once more: one child, whatever comes.
    async fn retry(&mut self) -> Result<(), Failed> {
        let ended: Vec<BatchId> = self.ended.iter().rev().take(20).map(|e| e.0).collect();
        let Some(id) = self.dice.pick(&ended).copied() else {
            return Ok(());
        };
        let batch = self.client.batch_status(id).await?;
        if batch.purged_at.is_some() || batch.counts.failed == 0 || batch.kind == Kind::Query {
            return Ok(());
        }
        let retried = match self.client.retry(id).await {
            Ok(retried) => retried,
            // An earlier retry of it was purged meanwhile: nobody knows which rows it took.
            Err(error) if error.code() == "purged" => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.open.contains_key(&retried.batch.id) || retried.repeated {
            return Ok(());
        }
        let failed = self.inputs(id, Some(Status::Failed)).await?;
        // Rows that an earlier retry had are not among them, but for those that it aborted.
        let fates = self.inputs(retried.batch.id, None).await?;
        if fates
            .iter()
            .any(|(line, fate)| failed.get(line) != Some(fate))
        {
            let child = retried.batch;
            return Err(format!("a retry of {id} has rows that had not failed: {child:?}").into());
        }
        let op = self.op_of(&batch)?;
        self.know(retried.batch.id, op, fates, false, false);
        self.count("retries", 1);
        Ok(())
    }

    /// What is to become of the rows of a batch, by line.
    async fn inputs(
        &self,
        id: BatchId,
        status: Option<Status>,
    ) -> Result<BTreeMap<u32, Fate>, Failed> {
        let mut rows = std::pin::pin!(self.client.rows(id, status));
        let mut fates = BTreeMap::new();
        while let Some(row) = rows.try_next().await? {
            let input: Input = serde_json::from_str(row.input.get())?;
            fates.insert(row.line.0, input.fate);
        }
        Ok(fates)
    }

    fn op_of(&self, batch: &Batch) -> Result<&'static str, Failed> {
        let ops = ["rows", "chunks", "moves", "ask"];
        let op = ops.into_iter().find(|op| *op == batch.op.as_str());
        op.ok_or_else(|| format!("an unknown op: {}", batch.op).into())
    }

    /// Nothing new comes: everything must end.
    pub(crate) async fn end(&mut self) -> Result<(), Failed> {
        if let Some(key) = self.paused.take() {
            self.client.op_resume(&key).await?;
        }
        while let Some(id) = self.any(Some(true)) {
            drop(self.client.wait_off(id).await);
            self.open.get_mut(&id).ok_or("known")?.held = false;
        }
        let until = Instant::now() + Duration::from_secs(120);
        while !self.open.is_empty() {
            if Instant::now() > until {
                let ids: Vec<String> = self.open.keys().map(ToString::to_string).collect();
                return Err(format!("these never end: {}", ids.join(", ")).into());
            }
            self.check().await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.workers.alive()?;
        self.settled()
    }
}
