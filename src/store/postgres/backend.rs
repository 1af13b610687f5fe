//! The steps of the boundary, each in a transaction of its own.

use std::sync::Arc;

use futures_util::FutureExt;

use super::PostgresStore;
use super::record::record_now;
use crate::clock::{Clock, Measured};
use crate::model::{
    Batch, BatchFilter, BatchId, BatchesPage, Block, Cursor, HistoryEntry, JobKey, NewBatch,
    OpEntry, OpId, OutputFile, Status, Timestamp, Token, WorkerEntry, WorkerNo,
};
use crate::store::steps::single::Known;
use crate::store::steps::{
    append, close, discard, guard, history, keep, list, look, ops, purge, read, record, redact,
    release, retry, rows, submit, take_over,
};
use crate::store::{
    Added, AppendBlocks, AppendContent, AppendPiece, Backend, Begun, BlockOutcomes, Children,
    Claim, ClaimRef, ClaimedTask, CloseRef, CloseTask, Dialect, Ended, Found, FreeSlot, Fut,
    HistoryPage, Holder, Kept, LiveOp, LoadPiece, Look, NewAppend, NewWorker, Notice, NoticeRef,
    OpRegistration, OpState, Part, Piece, PurgePage, PurgeScan, Purgeable, QueryBlock, Recorded,
    RowsPage, Running, Signal, Submitted, TakenOver, Transacted,
};
use std::time::Duration;

impl Backend for PostgresStore {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn enter(&self, worker: NewWorker, now: Timestamp) -> Fut<'_, WorkerNo> {
        async move {
            let entered = step!(self, tx => self.enter_now(&tx, &worker, now)).await;
            let (life, committed) = entered?;
            let no = life.keep();
            self.after(committed, now).await;
            Ok(no)
        }
        .boxed()
    }

    fn leave(&self, worker: WorkerNo, now: Timestamp) -> Fut<'_, ()> {
        async move {
            let left = write!(self, now, tx => take_over::leave(&tx, worker, now)).await;
            // A record that could not be ended is one without a lock: its worker is dead.
            self.session.let_go(worker);
            left?;
            // Others see it from here on.
            self.session.here().await
        }
        .boxed()
    }

    fn abandon(&self, worker: WorkerNo) {
        self.session.let_go(worker);
    }

    fn register_ops(&self, ops: Vec<OpRegistration>, now: Timestamp) -> Fut<'_, Vec<OpId>> {
        write!(self, now, tx => guard::register_ops(&tx, &ops, now)).boxed()
    }

    fn ops(&self) -> Fut<'_, Vec<OpEntry>> {
        read!(self, tx => async {
            let mut locks = self.locks(&tx).await?;
            ops::ops(&tx, &mut locks).await
        })
        .boxed()
    }

    fn op(&self, key: JobKey, batch: Option<BatchId>) -> Fut<'_, Option<OpState>> {
        read!(self, tx => async {
            let mut locks = self.locks(&tx).await?;
            ops::op(&tx, &mut locks, &key, batch).await
        })
        .boxed()
    }

    fn live_ops(&self) -> Fut<'_, Vec<LiveOp>> {
        read!(self, tx => ops::live_ops(&tx)).boxed()
    }

    fn pause_op(&self, key: JobKey, by: String, now: Timestamp) -> Fut<'_, bool> {
        write!(self, now, tx => ops::pause_op(&tx, &key, &by, now)).boxed()
    }

    fn resume_op(&self, key: JobKey, by: String, now: Timestamp) -> Fut<'_, bool> {
        write!(self, now, tx => ops::resume_op(&tx, &key, &by, now)).boxed()
    }

    fn set_op(
        &self,
        key: JobKey,
        from: Option<String>,
        to: Option<String>,
        by: String,
        now: Timestamp,
    ) -> Fut<'_, Recorded> {
        write!(self, now, tx => ops::set_op(&tx,
            &key,
            from.as_deref(),
            to.as_deref(),
            &by,
            now,
        ))
        .boxed()
    }

    fn workers(&self) -> Fut<'_, Vec<WorkerEntry>> {
        read!(self, tx => async {
            let mut locks = self.locks(&tx).await?;
            ops::workers(&tx, &mut locks).await
        })
        .boxed()
    }

    fn submit(
        &self,
        batch: NewBatch,
        blocks: Vec<Block>,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Fut<'_, Submitted> {
        let asked = Arc::new((batch, blocks));
        let submit = move || {
            let asked = Arc::clone(&asked);
            write!(self, now, tx => async {
                let mut known = Known::default();
                submit::submit(&tx, &mut known, &asked.0, &asked.1, hash, now).await
            })
            .boxed()
        };
        self.over_silent(now, submit).boxed()
    }

    fn submit_many(&self, queries: Vec<QueryBlock>, now: Timestamp) -> Fut<'_, Vec<Submitted>> {
        let mut queries: Vec<_> = queries.into_iter().map(|q| Arc::new((q, now))).collect();
        async move {
            match queries.pop() {
                Some(one) if queries.is_empty() => Ok(vec![self.submit_together(one).await?]),
                last => {
                    queries.extend(last);
                    self.submit_all(queries).await
                }
            }
        }
        .boxed()
    }

    fn begin_load(&self, batch: NewBatch, token: Token, now: Timestamp) -> Fut<'_, Submitted> {
        let batch = Arc::new(batch);
        let begin = move || {
            let batch = Arc::clone(&batch);
            write!(self, now, tx => submit::begin_load(&tx, &batch, token, now)).boxed()
        };
        self.over_silent(now, begin).boxed()
    }

    fn load(&self, piece: LoadPiece, now: Timestamp) -> Fut<'_, ()> {
        write!(self, now, tx => submit::load(&tx, &piece, now)).boxed()
    }

    fn finish_load(
        &self,
        batch: NewBatch,
        token: Token,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Fut<'_, Submitted> {
        async move {
            let (done, left) =
                write!(self, now, tx => submit::finish_load(&tx, &batch, token, hash, now)).await?;
            if let Some(left) = left {
                // The same content was there: what was loaded goes.
                self.discard_rest(left, now).await?;
            }
            Ok(done)
        }
        .boxed()
    }

    fn discard_load(&self, id: BatchId, token: Token) -> Fut<'_, ()> {
        let now = self.now();
        async move {
            match write!(self, now, tx => discard::take_load(&tx, id, token.0)).await? {
                Some(left) => self.discard_rest(left, now).await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn append(
        &self,
        append: NewAppend,
        blocks: AppendBlocks,
        content: AppendContent,
        now: Timestamp,
    ) -> Fut<'_, Added> {
        async move { self.append_whole(&append, &blocks, &content, now).await }.boxed()
    }

    fn begin_append(&self, append: NewAppend, token: Token, now: Timestamp) -> Fut<'_, Begun> {
        async move { self.append_begin(&append, token, now).await }.boxed()
    }

    fn append_piece(&self, piece: AppendPiece, now: Timestamp) -> Fut<'_, ()> {
        write!(self, now, tx => append::piece(&tx, piece.batch, piece.token, &piece.blocks, now))
            .boxed()
    }

    fn finish_append(
        &self,
        append: NewAppend,
        token: Token,
        content: AppendContent,
        now: Timestamp,
    ) -> Fut<'_, Added> {
        async move { self.append_finish(&append, token, &content, now).await }.boxed()
    }

    fn discard_append(&self, id: BatchId, token: Token) -> Fut<'_, ()> {
        self.append_discard(id, token).boxed()
    }

    fn release(&self, id: BatchId, by: String, now: Timestamp) -> Fut<'_, ()> {
        write!(self, now, tx => release::release(&tx, id, &by, now)).boxed()
    }

    fn abort(&self, id: BatchId, by: String, now: Timestamp) -> Fut<'_, ()> {
        self.abort_now(id, by, now).boxed()
    }

    fn look(&self, look: Look, now: Timestamp) -> Fut<'_, Found> {
        async move {
            let look = &look;
            let (found, bundled) = read!(self, tx => look::look(&tx, look, now)).await?;
            if look.only.is_none() {
                self.bundles.see(&look.ops, &found.heads, &bundled);
            }
            Ok(found)
        }
        .boxed()
    }

    fn offer(&self, key: &JobKey, slot: Arc<FreeSlot>) -> bool {
        self.slots.offer(key, slot);
        true
    }

    fn submit_at_once(
        &self,
        query: Arc<(QueryBlock, Timestamp)>,
        holder: Holder,
        now: Timestamp,
    ) -> Fut<'_, Option<(Submitted, Option<ClaimedTask>)>> {
        self.submit_now_at_once(query, holder, now).boxed()
    }

    fn claim(&self, ask: Claim, now: Timestamp) -> Fut<'_, Vec<ClaimedTask>> {
        async move { self.claim_now(&ask, now).await }.boxed()
    }

    fn record(&self, worker: WorkerNo, parts: Vec<Part>, now: Timestamp) -> Fut<'_, Vec<Recorded>> {
        async move {
            let parts = &parts[..];
            let again = self.doubts.has(parts);
            let bundles = &self.bundles;
            let recorded =
                step!(self, again, tx => record_now(&tx, bundles, worker, parts, now)).await;
            self.doubts.settle(parts, &recorded);
            let (answers, committed) = recorded?;
            bundles.forget(parts.iter().map(|part| &part.claim));
            self.after(committed, now).await;
            Ok(answers)
        }
        .boxed()
    }

    fn transact(
        &self,
        worker: WorkerNo,
        claim: ClaimRef,
        piece: Piece,
        _soft: bool,
        now: Timestamp,
    ) -> Fut<'_, Transacted> {
        self.transact_now(worker, claim, piece, now).boxed()
    }

    fn give_back(&self, worker: WorkerNo, tasks: Vec<ClaimRef>, now: Timestamp) -> Fut<'_, ()> {
        async move {
            let tasks = &tasks[..];
            write!(self, now, tx => record::give_back(&tx, worker, tasks, now)).await?;
            self.bundles.forget(tasks.iter());
            Ok(())
        }
        .boxed()
    }

    fn beat(&self, worker: WorkerNo) -> Fut<'_, Vec<Running>> {
        async move {
            // One that lost its lock takes it again first, and then compares.
            self.session.is_heard(worker)?;
            read!(self, tx => take_over::beat(&tx, worker)).await
        }
        .boxed()
    }

    fn dead_workers(&self) -> Fut<'_, Vec<WorkerNo>> {
        self.dead_now().boxed()
    }

    fn take_over(&self, dead: WorkerNo, now: Timestamp) -> Fut<'_, TakenOver> {
        write!(self, now, tx => take_over::take_over(&tx, &self.damage, dead, now)).boxed()
    }

    fn claim_close(
        &self,
        worker: WorkerNo,
        token: Token,
        max: u32,
        now: Timestamp,
    ) -> Fut<'_, Vec<CloseTask>> {
        async move {
            if !read!(self, tx => close::is_ready(&tx)).await? {
                return Ok(Vec::new());
            }
            write!(self, now, tx => close::claim_close(&tx, worker, token, max, now)).await
        }
        .boxed()
    }

    fn outcomes(&self, id: BatchId, from: i64, max_bytes: usize) -> Fut<'_, Vec<BlockOutcomes>> {
        read!(self, tx => close::outcomes(&tx, id, from, max_bytes)).boxed()
    }

    fn close(
        &self,
        worker: WorkerNo,
        task: CloseRef,
        files: Vec<OutputFile>,
        now: Timestamp,
    ) -> Fut<'_, Recorded> {
        write!(self, now, tx => close::close(&tx, worker, task, &files, now)).boxed()
    }

    fn close_later(
        &self,
        worker: WorkerNo,
        task: CloseRef,
        error: String,
        due: Timestamp,
    ) -> Fut<'_, Recorded> {
        let now = due;
        write!(self, now, tx => close::close_later(&tx, worker, task, &error, due)).boxed()
    }

    fn claim_notices(
        &self,
        worker: WorkerNo,
        token: Token,
        ops: Vec<OpId>,
        now: Timestamp,
    ) -> Fut<'_, Vec<Notice>> {
        async move {
            let ops = &ops[..];
            if !read!(self, tx => close::has_notices(&tx, ops, now)).await? {
                return Ok(Vec::new());
            }
            let claimed =
                write!(self, now, tx => close::claim_notices(&tx, worker, token, ops, now)).await?;
            let refs: Vec<NoticeRef> = claimed.iter().map(|notice| notice.claim).collect();
            let read = read!(self, tx => close::read_notices(&tx, &claimed)).await;
            if read.is_err() {
                let back = refs.into_iter().map(|notice| (notice, Some(now))).collect();
                self.settle_notices(worker, back).await?;
            }
            read
        }
        .boxed()
    }

    fn settle_notices(
        &self,
        worker: WorkerNo,
        settled: Vec<(NoticeRef, Option<Timestamp>)>,
    ) -> Fut<'_, ()> {
        let now = self.now();
        write!(self, now, tx => close::settle_notices(&tx, worker, &settled)).boxed()
    }

    fn keep(&self, now: Timestamp) -> Fut<'_, Kept> {
        async move {
            if self.may_sweep() {
                write!(self, now, tx => keep::settle_missed(&tx)).await?;
            }
            let (due, next_due) = read!(self, tx => keep::is_due(&tx, now)).await?;
            if !due {
                return Ok(Kept {
                    next_due,
                    ..Kept::default()
                });
            }
            write!(self, now, tx => keep::keep(&tx, &self.damage, now)).await
        }
        .boxed()
    }

    fn batch(&self, id: BatchId) -> Fut<'_, Option<Batch>> {
        read!(self, tx => read::batch(&tx, id)).boxed()
    }

    fn ended(&self, id: BatchId) -> Fut<'_, Ended> {
        read!(self, tx => read::ended(&tx, id)).boxed()
    }

    fn find_external(&self, app: String, external_id: String) -> Fut<'_, Option<BatchId>> {
        read!(self, tx => read::external(&tx, &app, &external_id)).boxed()
    }

    fn list(&self, filter: BatchFilter, after: Option<Cursor>, limit: u32) -> Fut<'_, BatchesPage> {
        read!(self, tx => list::list(&tx, &filter, after, limit)).boxed()
    }

    fn children(&self, id: BatchId) -> Fut<'_, Children> {
        read!(self, tx => retry::children(&tx, id)).boxed()
    }

    fn rows(&self, id: BatchId, after: u32, status: Option<Status>) -> Fut<'_, RowsPage> {
        read!(self, tx => rows::rows_after(&tx, id, after, status)).boxed()
    }

    fn history(&self, id: BatchId, from: i64) -> Fut<'_, HistoryPage> {
        read!(self, tx => history::history(&tx, id, from)).boxed()
    }

    fn line_history(&self, id: BatchId, line: u32) -> Fut<'_, Option<Vec<HistoryEntry>>> {
        read!(self, tx => history::line_history(&tx, id, line)).boxed()
    }

    fn redact(&self, id: BatchId, line: u32, by: String, now: Timestamp) -> Fut<'_, bool> {
        write!(self, now, tx => redact::redact(&tx, id, line, &by, now)).boxed()
    }

    fn purgeable(&self, scan: PurgeScan, now: Timestamp) -> Fut<'_, PurgePage> {
        read!(self, tx => purge::purgeable(&tx, &scan, now)).boxed()
    }

    fn purge_mark(
        &self,
        ids: Vec<BatchId>,
        by: Option<String>,
        now: Timestamp,
    ) -> Fut<'_, Vec<BatchId>> {
        write!(self, now, tx => purge::mark(&tx, &ids, by.as_deref(), now)).boxed()
    }

    fn purging(&self, limit: u32) -> Fut<'_, Vec<Purgeable>> {
        read!(self, tx => purge::purging(&tx, limit)).boxed()
    }

    fn purge_piece(&self, id: BatchId, most: u32) -> Fut<'_, bool> {
        let now = self.now();
        write!(self, now, tx => purge::piece(&tx, id, most)).boxed()
    }

    fn keeps(&self) -> Fut<'_, Vec<(OpId, Duration)>> {
        read!(self, tx => purge::keeps(&tx)).boxed()
    }

    fn forget(&self, now: Timestamp, most: u32) -> Fut<'_, u64> {
        async move {
            let due = read!(self, tx => purge::forgettable(&tx, 1, now)).await?;
            if due.is_empty() {
                return Ok(0);
            }
            write!(self, now, tx => purge::forget(&tx, most, now)).await
        }
        .boxed()
    }

    fn epoch(&self) -> Fut<'_, String> {
        read!(self, tx => read::epoch(&tx)).boxed()
    }

    fn signal(&self) -> Signal {
        self.waker.signal()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        let clock: Arc<Measured> = Arc::clone(&self.clock);
        clock
    }

    fn heartbeat(&self) -> Option<Duration> {
        Some(self.options.heartbeat)
    }
}
