//! A store with a clock that stands still, and short words for what every case does.

use std::sync::Arc;
use std::time::Duration;

use rowmill::Store;
use rowmill::clock::{Clock, ManualClock};
use rowmill::model::{
    Batch, BatchId, Block, BlockBuilder, ContentHash, EndedAs, JobKey, Kind, Message, NewBatch,
    OpId, OutcomeStatus, RowOutcome, RowView, Timestamp, Token, WorkerNo, encode_outcome,
};
use rowmill::store::{
    Again, Claim, ClaimedTask, Head, Look, NewWorker, OpRegistration, Part, Recorded, Serves,
    StoreError, Submitted, TakenOver, Then,
};

/// When every case begins.
pub fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

pub struct Kit {
    pub store: Store,
    pub clock: Arc<ManualClock>,
}

impl Kit {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            clock: Arc::new(ManualClock::at(start())),
        }
    }

    /// A client at the kit's time, without a worker.
    pub fn client(&self) -> rowmill::Client {
        let builder = rowmill::JobManager::builder(self.store.clone());
        let manager = builder.clock(Arc::clone(&self.clock)).build();
        manager.expect("a manager").client().clone()
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub fn in_seconds(&self, seconds: u64) -> Timestamp {
        self.now() + Duration::from_secs(seconds)
    }

    pub fn key(&self) -> JobKey {
        self.key_of("post")
    }

    pub fn key_of(&self, op: &str) -> JobKey {
        JobKey::new("bank", op, Kind::Batch).expect("names")
    }

    pub fn query_key(&self) -> JobKey {
        JobKey::new("bank", "statement", Kind::Query).expect("names")
    }

    /// The best ready task of an op, or of a batch alone.
    pub async fn heads(&self, op: OpId, only: Option<BatchId>) -> Result<Vec<Head>, StoreError> {
        let look = Look {
            ops: vec![op],
            only,
            ..Look::default()
        };
        Ok(self.store.look(look, self.now()).await?.heads)
    }

    /// A batch of the op `bank/post`.
    pub fn new_batch(&self) -> NewBatch {
        NewBatch::new(self.key())
    }

    pub fn held(&self) -> NewBatch {
        NewBatch {
            hold: true,
            ..self.new_batch()
        }
    }

    /// Blocks of so many rows each, lines from 1 without gaps; the input is the line.
    pub fn blocks(&self, sizes: &[u32]) -> Vec<Block> {
        let mut line = 0;
        sizes
            .iter()
            .map(|size| {
                let mut builder = BlockBuilder::new(*size, usize::MAX);
                for _ in 0..*size {
                    line += 1;
                    assert!(builder.push(line, &line.to_string()).is_none());
                }
                builder.finish().expect("a block of rows")
            })
            .collect()
    }

    /// A block in which every row with a `true` was refused at intake.
    pub fn block_with_rejected(&self, rows: &[bool]) -> Block {
        let mut builder = BlockBuilder::new(u32::MAX, usize::MAX);
        for (line, rejected) in (1..).zip(rows) {
            let full = if *rejected {
                builder.push_rejected(line, "\"?\"", Message::new("bad_json", 22))
            } else {
                builder.push(line, &line.to_string())
            };
            assert!(full.is_none());
        }
        builder.finish().expect("a block of rows")
    }

    pub fn hash(&self, blocks: &[Block]) -> [u8; 32] {
        let mut hash = ContentHash::default();
        blocks.iter().for_each(|b| hash.add(b));
        hash.finish()
    }

    pub async fn try_submit(
        &self,
        batch: NewBatch,
        blocks: Vec<Block>,
    ) -> Result<Submitted, StoreError> {
        let hash = self.hash(&blocks);
        self.store.submit(batch, blocks, hash, self.now()).await
    }

    pub async fn submit(&self, batch: NewBatch, sizes: &[u32]) -> BatchId {
        let submitted = self.try_submit(batch, self.blocks(sizes)).await;
        submitted.expect("submitted").id()
    }

    /// A batch of one block, to run at once.
    pub async fn rows_of(&self, rows: u32) -> BatchId {
        self.submit(self.new_batch(), &[rows]).await
    }

    pub async fn register(&self, key: JobKey, notify: bool, max_lost: u32) -> OpId {
        let op = OpRegistration {
            key,
            notify,
            max_lost,
            keep: None,
        };
        let ids = self.store.register_ops(vec![op], self.now()).await;
        ids.expect("registered")[0]
    }

    /// The op `bank/post`, whose ends are told.
    pub async fn op(&self) -> OpId {
        self.register(self.key(), true, 3).await
    }

    pub async fn worker(&self) -> WorkerNo {
        self.worker_of(&self.store).await
    }

    pub async fn worker_of(&self, store: &Store) -> WorkerNo {
        self.enter(store, Vec::new(), None).await
    }

    /// A worker of these ops, or of one batch of them alone.
    pub async fn enter(&self, store: &Store, ops: Vec<Serves>, only: Option<BatchId>) -> WorkerNo {
        let worker = NewWorker {
            host: "here".to_owned(),
            pid: 1,
            version: "0",
            ops,
            only,
        };
        store.enter(worker, self.now()).await.expect("entered")
    }

    /// An op and a worker, which most cases begin with.
    pub async fn op_and_worker(&self) -> (OpId, WorkerNo) {
        (self.op().await, self.worker().await)
    }

    pub fn ask(&self, worker: WorkerNo, op: OpId) -> Claim {
        Claim {
            worker,
            op,
            token: Token::random().expect("a token"),
            max_tasks: 1000,
            max_rows: u64::MAX,
            max_bytes: usize::MAX,
            split_over: None,
            cap: None,
            only: None,
            oldest: false,
            once: false,
        }
    }

    pub async fn claim_as(&self, ask: Claim) -> Vec<ClaimedTask> {
        let claimed = self.store.claim(ask, self.now()).await;
        claimed.expect("claimed")
    }

    /// Claims everything that is ready.
    pub async fn claim(&self, worker: WorkerNo, op: OpId) -> Vec<ClaimedTask> {
        self.claim_as(self.ask(worker, op)).await
    }

    /// Claims the next task.
    pub async fn claim_one(&self, worker: WorkerNo, op: OpId) -> ClaimedTask {
        let ask = Claim {
            max_tasks: 1,
            ..self.ask(worker, op)
        };
        let mut claimed = self.claim_as(ask).await;
        assert_eq!(claimed.len(), 1, "one task is ready");
        claimed.remove(0)
    }

    pub async fn record(&self, worker: WorkerNo, part: Part) -> Recorded {
        self.try_record(worker, part).await.expect("recorded")
    }

    pub async fn try_record(&self, worker: WorkerNo, part: Part) -> Result<Recorded, StoreError> {
        let answers = self.store.record(worker, vec![part], self.now()).await?;
        assert_eq!(answers.len(), 1);
        Ok(answers[0])
    }

    /// Every row of the task succeeds.
    pub async fn succeed(&self, worker: WorkerNo, task: &ClaimedTask) -> Recorded {
        self.record(worker, Outcomes::of(task).all_success().ends())
            .await
    }

    /// Notes the row that starts.
    pub async fn start_row(&self, worker: WorkerNo, task: &ClaimedTask, part: u32, row: u32) {
        let part = Outcomes::of(task).part(part).goes_on(Some(row));
        assert_eq!(self.record(worker, part).await, Recorded::Done);
    }

    pub async fn take_over(&self, worker: WorkerNo) -> TakenOver {
        let taken = self.store.take_over(worker, self.now()).await;
        taken.expect("taken over")
    }

    /// Claims and succeeds until nothing is ready.
    pub async fn work_off(&self, worker: WorkerNo, op: OpId) {
        loop {
            let tasks = self.claim(worker, op).await;
            if tasks.is_empty() {
                return;
            }
            for task in tasks {
                assert_eq!(self.succeed(worker, &task).await, Recorded::Done);
            }
        }
    }

    pub async fn abort(&self, id: BatchId) {
        let done = self.store.abort(id, "eve".to_owned(), self.now()).await;
        done.expect("aborted");
    }

    pub async fn release(&self, id: BatchId) -> Result<(), StoreError> {
        self.store.release(id, "rob".to_owned(), self.now()).await
    }

    /// Marks an ended batch as purged; false where it stays.
    pub async fn mark_purged(&self, id: BatchId) -> bool {
        let by = Some("pam".to_owned());
        let marked = self.store.purge_mark(vec![id], by, self.now());
        marked.await.expect("marked") == [id]
    }

    /// Purges an ended batch whole.
    pub async fn purge(&self, id: BatchId) {
        assert!(self.mark_purged(id).await, "it may be purged");
        while !self.store.purge_piece(id, 1000).await.expect("purged") {}
    }

    pub async fn find(&self, id: BatchId) -> Option<Batch> {
        self.store.batch(id).await.expect("read")
    }

    pub async fn batch(&self, id: BatchId) -> Batch {
        self.find(id).await.expect("a batch")
    }

    pub async fn rows(&self, id: BatchId) -> Vec<RowView> {
        let mut rows = Vec::new();
        let mut after = Some(0);
        while let Some(from) = after {
            let page = self.store.rows(id, from, None).await.expect("a page");
            rows.extend(page.rows);
            after = page.next;
        }
        rows
    }

    pub async fn row(&self, id: BatchId, line: u32) -> RowView {
        let page = self.store.rows(id, line - 1, None).await.expect("a page");
        let row = page.rows.into_iter().next().expect("a row");
        assert_eq!(row.line.0, line);
        row
    }
}

/// Builds a part of an attempt.
pub struct Outcomes<'t> {
    task: &'t ClaimedTask,
    rows: Vec<(u32, RowOutcome)>,
    again: Vec<Again>,
    part: u32,
}

impl<'t> Outcomes<'t> {
    pub fn of(task: &'t ClaimedTask) -> Self {
        Self {
            task,
            rows: Vec::new(),
            again: Vec::new(),
            part: 0,
        }
    }

    pub fn part(mut self, part: u32) -> Self {
        self.part = part;
        self
    }

    pub fn put(mut self, row: u32, outcome: RowOutcome) -> Self {
        self.rows.push((row, outcome));
        self
    }

    pub fn success(self, row: u32) -> Self {
        self.put(row, RowOutcome::success(Some(format!("{{\"row\":{row}}}"))))
    }

    pub fn failed(self, row: u32) -> Self {
        let message = Message::new("no_such_account", 101);
        self.put(row, RowOutcome::of(OutcomeStatus::Failed, message))
    }

    /// The row failed and goes again at `due`.
    pub fn retry(mut self, row: u32, due: Option<Timestamp>) -> Self {
        self.again.push(Again {
            ordinals: vec![row],
            due_at: due,
            failures: self.task.failures + 1,
            laters: self.task.laters,
            suspect: false,
        });
        let message = Message::new("busy", 102);
        self.put(row, RowOutcome::of(OutcomeStatus::Retry(None), message))
    }

    pub fn later(mut self, row: u32, due: Timestamp) -> Self {
        self.again.push(Again {
            ordinals: vec![row],
            due_at: Some(due),
            failures: self.task.failures,
            laters: self.task.laters + 1,
            suspect: false,
        });
        let outcome = RowOutcome {
            status: OutcomeStatus::Later(Duration::from_secs(1)),
            ..RowOutcome::success(None)
        };
        self.put(row, outcome)
    }

    /// The row writes to an output file and succeeds.
    pub fn writes(self, row: u32, file: &str, text: &str) -> Self {
        let outcome = RowOutcome {
            files: vec![(file.parse().expect("a name"), text.to_owned())],
            ..RowOutcome::success(None)
        };
        self.put(row, outcome)
    }

    /// The task's rows that have no outcome here.
    pub fn left(&self) -> Vec<u32> {
        let all = rows_of(self.task);
        let has = |row: &u32| self.rows.iter().any(|(r, _)| r == row);
        all.into_iter().filter(|row| !has(row)).collect()
    }

    pub fn all_success(mut self) -> Self {
        for row in self.left() {
            self = self.success(row);
        }
        self
    }

    pub fn goes_on(self, row_now: Option<u32>) -> Part {
        self.then(Then::GoesOn {
            row_now,
            soft: false,
        })
    }

    /// The attempt ends and every row has an outcome.
    pub fn ends(self) -> Part {
        self.ends_as(EndedAs::Finished, Vec::new())
    }

    pub fn ends_as(self, ended_as: EndedAs, rest: Vec<u32>) -> Part {
        let aborted = |(_, o): &&(u32, RowOutcome)| o.status == OutcomeStatus::Aborted;
        let interrupted = u32::try_from(self.rows.iter().filter(aborted).count()).unwrap();
        self.then(Then::Ends {
            ended_as,
            rest,
            interrupted,
        })
    }

    fn then(self, then: Then) -> Part {
        let mut body = String::new();
        let mut files = false;
        for (_, outcome) in &self.rows {
            encode_outcome(&mut body, outcome);
            files |= !outcome.files.is_empty();
        }
        let count = |status| {
            let found = self.rows.iter().filter(|(_, o)| o.status == status).count();
            u32::try_from(found).unwrap()
        };
        let ordinals: Vec<u32> = self.rows.iter().map(|(row, _)| *row).collect();
        let whole = self.task.pick.is_none() && ordinals.iter().copied().eq(0..self.task.rows);
        Part {
            claim: self.task.claim,
            part: self.part,
            ordinals: (!whole).then_some(ordinals),
            body: Arc::new(body),
            success: count(OutcomeStatus::Success),
            failed: count(OutcomeStatus::Failed),
            files,
            again: self.again,
            then,
            capped: false,
            more: false,
        }
    }
}

/// The ordinals of a task's rows.
pub fn rows_of(task: &ClaimedTask) -> Vec<u32> {
    task.pick
        .clone()
        .unwrap_or_else(|| (0..task.rows).collect())
}
