//! Ops and workers: how they stand, pause and resume, settings while workers run.

use super::Client;
use crate::config::LiveSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Batch, JobKey, OpEntry, OpSettings, Status, WorkerEntry};
use crate::store::Recorded;

/// Others that set the same op at the same moment are given way to so often.
const TRIES: u32 = 20;

/// Why nothing of a batch is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Its op is paused.
    Paused,
    /// Its op's concurrency is 0, here or in the database.
    NoConcurrency,
    /// No live worker works on its op.
    NoWorker,
}

impl Client {
    /// Every op that the store knows, and those registered in this process.
    ///
    /// Work is counted up to [`Amount::MOST`](crate::model::Amount::MOST) tasks an op and state.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn ops(&self) -> Result<Vec<OpEntry>> {
        let mut ops = self.store.ops().await?;
        for op in self.registry.ops() {
            if !ops.iter().any(|known| known.key == op.key) {
                ops.push(OpEntry::unused(op.key.clone()));
            }
        }
        ops.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(ops)
    }

    /// One op of [`Client::ops`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Unavailable`].
    pub async fn op(&self, key: &JobKey) -> Result<OpEntry> {
        let ops = self.ops().await?;
        let found = ops.into_iter().find(|op| op.key == *key);
        found.ok_or_else(|| unknown(key))
    }

    /// Whether the store knows the op.
    pub(crate) async fn has_used(&self, key: &JobKey) -> Result<bool> {
        Ok(self.store.op(key.clone(), None).await?.is_some())
    }

    /// Workers that have not ended.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn workers(&self) -> Result<Vec<WorkerEntry>> {
        Ok(self.store.workers().await?)
    }

    /// Pauses an op: nothing of it is claimed any more, rows that run may finish. A paused one is no error.
    ///
    /// Workers notice within a second. Aborts and expiry go on. **Cancellation:** it is paused, or not; a
    /// repeat is no error.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where nobody has used it and it is not registered here;
    /// [`ErrorKind::Unavailable`].
    pub async fn op_pause(&self, key: &JobKey) -> Result<OpEntry> {
        self.op(key).await?;
        self.pause(key).await?;
        self.op(key).await
    }

    pub(crate) async fn pause(&self, key: &JobKey) -> Result<()> {
        let (by, now) = (self.by.to_string(), self.clock.now());
        self.store.pause_op(key.clone(), by, now).await?;
        Ok(())
    }

    /// Resumes an op. One that is not paused is no error. **Cancellation:** as [`Client::op_pause`].
    ///
    /// # Errors
    /// As [`Client::op_pause`].
    pub async fn op_resume(&self, key: &JobKey) -> Result<OpEntry> {
        self.op(key).await?;
        self.resume(key).await?;
        self.op(key).await
    }

    pub(crate) async fn resume(&self, key: &JobKey) -> Result<()> {
        let (by, now) = (self.by.to_string(), self.clock.now());
        self.store.resume_op(key.clone(), by, now).await?;
        Ok(())
    }

    /// Sets settings of an op over those of its processes, all of them or none: keys as in the
    /// configuration file (`backoff.base` for one in a table), values as they are written there. An
    /// empty value leaves a key to the processes again; `none` lifts a limit that they set.
    ///
    /// Tasks that begin from then on run under them, within a second in every worker; `block_rows`
    /// and `block_bytes` are for submits.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with everything that is wrong, a line each; [`ErrorKind::NotFound`] as
    /// [`Client::op_pause`]; [`ErrorKind::Conflict`] where others set it without end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use rowmill::{Client, NewRow, Store, model::{JobKey, Kind, NewBatch}};
    /// # let dir = tempfile::tempdir()?;
    /// # let client = Client::new(Store::sqlite(dir.path().join("rowmill.db")).await?);
    /// # let rows = [NewRow::json(&1)?];
    /// let key = JobKey::new("bank", "post", Kind::Batch)?;
    /// # client.batch_submit(NewBatch::new(key.clone()), rows).await?;
    /// let op = client.op_set(&key, &[("concurrency".into(), "4".into())]).await?;
    /// assert_eq!(op.settings.as_deref(), Some(r#"{"concurrency":4}"#));
    /// assert!(client.op_pause(&key).await?.paused);
    /// # Ok(()) }
    /// ```
    pub async fn op_set(&self, key: &JobKey, changes: &[(String, String)]) -> Result<OpEntry> {
        self.op(key).await?;
        let base = self.registry.settings_of(key).unwrap_or_default();
        self.set(key, &base, changes).await?;
        self.op(key).await
    }

    /// As [`Client::op_set`], judged together with `base`.
    pub(crate) async fn set(
        &self,
        key: &JobKey,
        base: &OpSettings,
        changes: &[(String, String)],
    ) -> Result<()> {
        for _ in 0..TRIES {
            let state = self.store.op(key.clone(), None).await?;
            let from = state.and_then(|state| state.settings);
            let to = changed(from.as_deref(), base, changes)?;
            let (by, now) = (self.by.to_string(), self.clock.now());
            let set = self.store.set_op(key.clone(), from, to, by, now).await?;
            if set == Recorded::Done {
                return Ok(());
            }
        }
        let text = format!("{key} is being set by others again and again; try again");
        Err(Error::new(ErrorKind::Conflict, "busy", text))
    }

    /// The settings in force in this process: what is set in the database over what was registered.
    pub(crate) async fn settings_in_force(&self, key: &JobKey) -> Result<OpSettings> {
        let base = self.registry.settings_of(key).unwrap_or_default();
        let state = self.store.op(key.clone(), None).await?;
        Ok(in_force(state.and_then(|s| s.settings).as_deref(), &base))
    }

    /// Why nothing of a batch is claimed, as far as ops and workers tell; `None` where it is worked on,
    /// waits for a time or its release, or has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub async fn waits(&self, batch: &Batch) -> Result<Option<Waits>> {
        if batch.done || batch.status == Status::Wait {
            return Ok(None);
        }
        let key = batch.key();
        let Some(state) = self.store.op(key.clone(), Some(batch.id)).await? else {
            return Ok(None);
        };
        let paused = self.why_paused(&key, state.paused, state.settings.as_deref());
        Ok(if paused.is_some() {
            paused
        } else if state.workers == 0 && batch.run_at.is_none_or(|at| at <= self.clock.now()) {
            Some(Waits::NoWorker)
        } else {
            None
        })
    }

    /// Ops registered in this process that are paused and have queued work, and what pauses them.
    pub(crate) async fn paused_work(&self) -> Result<Vec<(OpEntry, Waits)>> {
        let ops = self.ops().await?.into_iter();
        let served = ops.filter(|op| self.registry.has(&op.key) && !op.queued.is_none());
        Ok(served
            .filter_map(|op| {
                let why = self.why_paused(&op.key, op.paused, op.settings.as_deref())?;
                Some((op, why))
            })
            .collect())
    }

    /// Ops that no processor of this process is for, which have queued work and no live worker.
    pub(crate) async fn strange_work(&self) -> Result<Vec<OpEntry>> {
        let ops = self.ops().await?.into_iter();
        let left = ops.filter(|op| !self.registry.has(&op.key) && op.is_unserved());
        Ok(left
            .filter(|op| {
                self.why_paused(&op.key, op.paused, op.settings.as_deref())
                    .is_none()
            })
            .collect())
    }

    fn why_paused(&self, key: &JobKey, paused: bool, set: Option<&str>) -> Option<Waits> {
        let base = self.registry.settings_of(key).unwrap_or_default();
        if paused {
            Some(Waits::Paused)
        } else if in_force(set, &base).concurrency == Some(0) {
            Some(Waits::NoConcurrency)
        } else {
            None
        }
    }
}

/// What is in force; settings that cannot be read or do not fit are no reason to refuse a submit.
pub(crate) fn in_force(set: Option<&str>, base: &OpSettings) -> OpSettings {
    let live = set.and_then(|set| LiveSettings::parse(set).ok());
    let settings = live.map(|live| live.over(base));
    settings
        .filter(|settings| settings.check().is_empty())
        .unwrap_or_else(|| base.clone())
}

pub(crate) fn unknown(key: &JobKey) -> Error {
    let text = format!(
        "there is no {} op {key}: nobody has used it, and it is not configured here",
        key.kind.as_str()
    );
    Error::new(ErrorKind::NotFound, "unknown_op", text)
}

/// What is to be stored after the changes.
fn changed(
    from: Option<&str>,
    base: &OpSettings,
    changes: &[(String, String)],
) -> Result<Option<String>> {
    let bad = |lines: Vec<String>| Error::invalid("bad_setting", lines.join("\n"));
    let mut live = match from.map(LiveSettings::parse) {
        None => LiveSettings::default(),
        Some(Ok(live)) => live,
        Some(Err(why)) => {
            let text =
                format!("what is set for the op now cannot be read, so it is not changed: {why}");
            return Err(Error::new(ErrorKind::Conflict, "bad_setting", text));
        }
    };
    let wrong: Vec<String> = changes
        .iter()
        .filter_map(|(key, value)| live.set(key, value).err())
        .collect();
    if !wrong.is_empty() {
        return Err(bad(wrong));
    }
    let wrong = live.over(base).check();
    if !wrong.is_empty() {
        let lines = wrong.into_iter().map(|(key, why)| format!("{key}: {why}"));
        return Err(bad(lines.collect()));
    }
    Ok(live.to_json())
}
