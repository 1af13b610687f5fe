//! Ops and workers as people see them: what waits, what runs, who works.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{BatchId, JobKey, OpId, Timestamp, WorkerNo};

/// Work of one state, counted up to a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Amount {
    /// Tasks.
    pub tasks: u64,
    /// Their rows.
    pub rows: u64,
    /// There are more: counting ended at [`Amount::MOST`] tasks.
    pub more: bool,
}

impl Amount {
    /// Tasks that are counted: a count of all of a million would be paid by whoever works on them.
    pub const MOST: u64 = 10_000;

    /// Whether there is none.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.tasks == 0
    }
}

/// An op that the store knows, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpEntry {
    /// Its number; none where it is configured and nobody has used it yet.
    pub id: Option<OpId>,
    /// Its names.
    pub key: JobKey,
    /// Claimed by nobody until it is resumed.
    pub paused: bool,
    /// What is set here over the processes' own settings: a JSON object.
    pub settings: Option<String>,
    /// Claimable now.
    pub queued: Amount,
    /// Claimed.
    pub running: Amount,
    /// Due later: a start that was asked for, or another go.
    pub later: Amount,
    /// When the oldest batch that has queued work was made.
    pub oldest_queued: Option<Timestamp>,
    /// Live workers that work on whatever comes for it.
    pub workers: u32,
}

impl OpEntry {
    /// An op that nobody has used yet.
    #[must_use]
    pub fn unused(key: JobKey) -> Self {
        Self {
            id: None,
            key,
            paused: false,
            settings: None,
            queued: Amount::default(),
            running: Amount::default(),
            later: Amount::default(),
            oldest_queued: None,
            workers: 0,
        }
    }

    /// Whether work waits for it and no live worker takes any.
    #[must_use]
    pub fn is_unserved(&self) -> bool {
        self.workers == 0 && !(self.queued.is_none() && self.later.is_none())
    }
}

impl Serialize for OpEntry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self {
            id,
            key,
            paused,
            settings,
            queued,
            running,
            later,
            oldest_queued,
            workers,
        } = self;
        let settings = settings.as_deref().unwrap_or("{}");
        let settings: &serde_json::value::RawValue =
            serde_json::from_str(settings).map_err(serde::ser::Error::custom)?;
        let mut op = to.serialize_struct("OpEntry", 11)?;
        op.serialize_field("id", &id.map(|id| id.0))?;
        op.serialize_field("app", &key.app)?;
        op.serialize_field("op", &key.op)?;
        op.serialize_field("kind", key.kind.as_str())?;
        op.serialize_field("paused", paused)?;
        op.serialize_field("settings", settings)?;
        op.serialize_field("queued", queued)?;
        op.serialize_field("running", running)?;
        op.serialize_field("later", later)?;
        op.serialize_field("oldest_queued_at", oldest_queued)?;
        op.serialize_field("workers", workers)?;
        op.end()
    }
}

/// A worker that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerEntry {
    /// Its number.
    pub no: WorkerNo,
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// rowmill's version.
    pub version: String,
    /// When it began.
    pub started_at: Timestamp,
    /// What it works on.
    pub ops: Vec<JobKey>,
    /// It works on this batch alone.
    pub only: Option<BatchId>,
    /// Tasks that it has claimed.
    pub running: u64,
    /// Its life is held; where it is not, the next look of another worker takes over from it.
    pub alive: bool,
}

impl Serialize for WorkerEntry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self {
            no,
            host,
            pid,
            version,
            started_at,
            ops,
            only,
            running,
            alive,
        } = self;
        let names = |key: &JobKey| {
            serde_json::json!({
                "app": key.app.as_str(), "op": key.op.as_str(), "kind": key.kind.as_str()
            })
        };
        let ops: Vec<serde_json::Value> = ops.iter().map(names).collect();
        let mut worker = to.serialize_struct("WorkerEntry", 9)?;
        worker.serialize_field("no", no)?;
        worker.serialize_field("host", host)?;
        worker.serialize_field("pid", pid)?;
        worker.serialize_field("version", version)?;
        worker.serialize_field("started_at", started_at)?;
        worker.serialize_field("ops", &ops)?;
        worker.serialize_field("batch", only)?;
        worker.serialize_field("running", running)?;
        worker.serialize_field("alive", alive)?;
        worker.end()
    }
}
