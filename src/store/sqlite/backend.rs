//! The steps of the boundary, each given to the thread that makes it: what it must survive is said here.

use std::sync::Arc;

use futures_util::FutureExt;
use rusqlite::Connection;

use super::db::now as run;
use super::liveness::{Life, Locks};
use super::writer::Durability;
use super::{SqliteStore, liveness, transact};
use crate::model::{
    Batch, BatchFilter, BatchId, BatchesPage, Block, Cursor, HistoryEntry, JobKey, NewBatch,
    OpEntry, OpId, OutputFile, Status, Timestamp, Token, WorkerEntry, WorkerNo,
};
use crate::store::steps::single::Known;
use crate::store::steps::submit::Asked;
use crate::store::steps::{
    claim, close, discard, end, guard, history, keep, list, look, ops, purge, read, record, redact,
    release, retry, rows, submit, take_over,
};
use crate::store::{
    Added, AppendBlocks, AppendContent, AppendPiece, Backend, Begun, BlockOutcomes, Children,
    Claim, ClaimRef, ClaimedTask, CloseRef, CloseTask, Dialect, Ended, Found, Fut, HistoryPage,
    Kept, LiveOp, LoadPiece, Look, NewAppend, NewWorker, Notice, NoticeRef, OpRegistration,
    OpState, Part, Piece, PurgePage, PurgeScan, Purgeable, QueryBlock, Recorded, RowsPage, Running,
    Signal, Submitted, TakenOver, Then, Transacted,
};

impl Backend for SqliteStore {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn enter(&self, worker: NewWorker, now: Timestamp) -> Fut<'_, WorkerNo> {
        async move {
            let life = Life::begin(&self.workers_dir)?;
            let (lock, dir) = (life.name.clone(), self.workers_dir.clone());
            let no = self
                .write(move |c| {
                    run(take_over::enter(
                        c,
                        &mut Locks::new(dir),
                        &lock,
                        &worker,
                        now,
                    ))
                })
                .await?;
            self.lives().insert(no, life);
            Ok(no)
        }
        .boxed()
    }

    fn leave(&self, worker: WorkerNo, now: Timestamp) -> Fut<'_, ()> {
        async move {
            let left = self
                .write_soft(move |c| run(take_over::leave(c, worker, now)))
                .await;
            let life = self.lives().remove(&worker);
            // A record that could not be ended is one without a lock: its worker is dead.
            if let (Some(life), Ok(true)) = (life, &left) {
                life.end(&self.workers_dir);
            }
            left.map(|_| ())
        }
        .boxed()
    }

    fn abandon(&self, worker: WorkerNo) {
        drop(self.lives().remove(&worker));
    }

    fn register_ops(&self, ops: Vec<OpRegistration>, now: Timestamp) -> Fut<'_, Vec<OpId>> {
        self.write(move |c| run(guard::register_ops(c, &ops, now)))
    }

    fn ops(&self) -> Fut<'_, Vec<OpEntry>> {
        let dir = self.workers_dir.clone();
        self.read(move |c| run(ops::ops(c, &mut Locks::new(dir))))
    }

    fn op(&self, key: JobKey, batch: Option<BatchId>) -> Fut<'_, Option<OpState>> {
        let dir = self.workers_dir.clone();
        self.read(move |c| run(ops::op(c, &mut Locks::new(dir), &key, batch)))
    }

    fn live_ops(&self) -> Fut<'_, Vec<LiveOp>> {
        self.read(|c| run(ops::live_ops(c)))
    }

    fn pause_op(&self, key: JobKey, by: String, now: Timestamp) -> Fut<'_, bool> {
        self.write(move |c| run(ops::pause_op(c, &key, &by, now)))
    }

    fn resume_op(&self, key: JobKey, by: String, now: Timestamp) -> Fut<'_, bool> {
        self.write(move |c| run(ops::resume_op(c, &key, &by, now)))
    }

    fn set_op(
        &self,
        key: JobKey,
        from: Option<String>,
        to: Option<String>,
        by: String,
        now: Timestamp,
    ) -> Fut<'_, Recorded> {
        self.write(move |c| {
            run(ops::set_op(
                c,
                &key,
                from.as_deref(),
                to.as_deref(),
                &by,
                now,
            ))
        })
    }

    fn workers(&self) -> Fut<'_, Vec<WorkerEntry>> {
        let dir = self.workers_dir.clone();
        self.read(move |c| run(ops::workers(c, &mut Locks::new(dir))))
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
            self.write(move |c| {
                run(submit::submit(
                    c,
                    &mut Known::default(),
                    &asked.0,
                    &asked.1,
                    hash,
                    now,
                ))
            })
        };
        self.over_silent(now, submit).boxed()
    }

    fn submit_many(&self, queries: Vec<QueryBlock>, now: Timestamp) -> Fut<'_, Vec<Submitted>> {
        let queries = Arc::new(queries);
        let submit = move || {
            let queries = Arc::clone(&queries);
            self.write(move |c| {
                let asked: Vec<_> = queries.iter().map(|q| Asked::of(q, now)).collect();
                run(submit::submit_many(c, &asked))
            })
        };
        self.over_silent(now, submit).boxed()
    }

    fn begin_load(&self, batch: NewBatch, token: Token, now: Timestamp) -> Fut<'_, Submitted> {
        let begin = move || {
            let batch = batch.clone();
            self.write_soft(move |c| run(submit::begin_load(c, &batch, token, now)))
        };
        self.over_silent(now, begin).boxed()
    }

    fn load(&self, piece: LoadPiece, now: Timestamp) -> Fut<'_, ()> {
        // Nothing is acknowledged before `finish_load`; but what is not synced here is synced by the
        // next commit of somebody else, who would wait for all of it.
        self.write(move |c| run(submit::load(c, &piece, now)))
    }

    fn finish_load(
        &self,
        batch: NewBatch,
        token: Token,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Fut<'_, Submitted> {
        async move {
            let finish =
                move |c: &Connection| run(submit::finish_load(c, &batch, token, hash, now));
            let (done, left) = self.write(finish).await?;
            if let Some(left) = left {
                // The same content was there: what was loaded goes.
                self.discard_rest(left).await?;
            }
            Ok(done)
        }
        .boxed()
    }

    fn discard_load(&self, id: BatchId, token: Token) -> Fut<'_, ()> {
        async move {
            let mark = move |c: &Connection| run(discard::take_load(c, id, token.0));
            match self.write_soft(mark).await? {
                Some(left) => self.discard_rest(left).await,
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
        self.append_whole(append, blocks, content, now).boxed()
    }

    fn begin_append(&self, append: NewAppend, token: Token, now: Timestamp) -> Fut<'_, Begun> {
        self.append_begin(append, token, now).boxed()
    }

    fn append_piece(&self, piece: AppendPiece, now: Timestamp) -> Fut<'_, ()> {
        self.append_next(piece, now).boxed()
    }

    fn finish_append(
        &self,
        append: NewAppend,
        token: Token,
        content: AppendContent,
        now: Timestamp,
    ) -> Fut<'_, Added> {
        self.append_finish(append, token, content, now).boxed()
    }

    fn discard_append(&self, id: BatchId, token: Token) -> Fut<'_, ()> {
        self.append_discard(id, token).boxed()
    }

    fn release(&self, id: BatchId, by: String, now: Timestamp) -> Fut<'_, ()> {
        self.write(move |c| run(release::release(c, id, &by, now)))
    }

    fn abort(&self, id: BatchId, by: String, now: Timestamp) -> Fut<'_, ()> {
        self.write(move |c| run(end::abort(c, id, &by, now)))
    }

    fn look(&self, look: Look, now: Timestamp) -> Fut<'_, Found> {
        self.read(move |c| {
            let (found, _) = run(look::look(c, &look, now))?;
            Ok(found)
        })
    }

    fn claim(&self, ask: Claim, now: Timestamp) -> Fut<'_, Vec<ClaimedTask>> {
        let (once, damage) = (ask.once, self.damage.clone());
        let step = move |c: &Connection| run(claim::claim(c, &damage, &ask, now));
        self.write_as(once, step)
    }

    fn record(&self, worker: WorkerNo, parts: Vec<Part>, now: Timestamp) -> Fut<'_, Vec<Recorded>> {
        let is_soft = |p: &Part| matches!(p.then, Then::GoesOn { soft: true, .. });
        let soft = parts.iter().all(is_soft);
        if soft {
            let step = move |c: &Connection| run(record::record(c, worker, &parts, now));
            self.writer.between(Durability::Process, step).boxed()
        } else {
            self.write(move |c| run(record::record(c, worker, &parts, now)))
        }
    }

    fn transact(
        &self,
        worker: WorkerNo,
        claim: ClaimRef,
        piece: Piece,
        soft: bool,
        now: Timestamp,
    ) -> Fut<'_, Transacted> {
        let guest = Arc::clone(&self.guest);
        let step = move |c: &Connection| transact::transact(c, &guest, worker, &claim, piece, now);
        self.writer.alone(Durability::of(soft), step).boxed()
    }

    fn give_back(&self, worker: WorkerNo, tasks: Vec<ClaimRef>, now: Timestamp) -> Fut<'_, ()> {
        self.write(move |c| run(record::give_back(c, worker, &tasks, now)))
    }

    fn beat(&self, worker: WorkerNo) -> Fut<'_, Vec<Running>> {
        self.read(move |c| run(take_over::beat(c, worker)))
    }

    fn dead_workers(&self) -> Fut<'_, Vec<WorkerNo>> {
        let dir = self.workers_dir.clone();
        self.read(move |c| liveness::dead(c, &dir))
    }

    fn take_over(&self, dead: WorkerNo, now: Timestamp) -> Fut<'_, TakenOver> {
        self.take_over_and_clear(dead, now).boxed()
    }

    fn claim_close(
        &self,
        worker: WorkerNo,
        token: Token,
        max: u32,
        now: Timestamp,
    ) -> Fut<'_, Vec<CloseTask>> {
        async move {
            let ready = self.read(|c| run(close::is_ready(c))).await?;
            if !ready {
                return Ok(Vec::new());
            }
            self.write_soft(move |c| run(close::claim_close(c, worker, token, max, now)))
                .await
        }
        .boxed()
    }

    fn outcomes(&self, id: BatchId, from: i64, max_bytes: usize) -> Fut<'_, Vec<BlockOutcomes>> {
        self.read(move |c| run(close::outcomes(c, id, from, max_bytes)))
    }

    fn close(
        &self,
        worker: WorkerNo,
        task: CloseRef,
        files: Vec<OutputFile>,
        now: Timestamp,
    ) -> Fut<'_, Recorded> {
        self.write(move |c| run(close::close(c, worker, task, &files, now)))
    }

    fn close_later(
        &self,
        worker: WorkerNo,
        task: CloseRef,
        error: String,
        due: Timestamp,
    ) -> Fut<'_, Recorded> {
        self.write(move |c| run(close::close_later(c, worker, task, &error, due)))
    }

    fn claim_notices(
        &self,
        worker: WorkerNo,
        token: Token,
        ops: Vec<OpId>,
        now: Timestamp,
    ) -> Fut<'_, Vec<Notice>> {
        async move {
            let looked = ops.clone();
            let ready = self.read(move |c| run(close::has_notices(c, &looked, now)));
            if !ready.await? {
                return Ok(Vec::new());
            }
            let claimed =
                self.write_soft(move |c| run(close::claim_notices(c, worker, token, &ops, now)));
            let claimed = claimed.await?;
            let refs: Vec<NoticeRef> = claimed.iter().map(|notice| notice.claim).collect();
            let read = self
                .read(move |c| run(close::read_notices(c, &claimed)))
                .await;
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
        self.write_soft(move |c| run(close::settle_notices(c, worker, &settled)))
    }

    fn keep(&self, now: Timestamp) -> Fut<'_, Kept> {
        async move {
            let (due, next_due) = self.read(move |c| run(keep::is_due(c, now))).await?;
            if !due {
                return Ok(Kept {
                    next_due,
                    ..Kept::default()
                });
            }
            let damage = self.damage.clone();
            self.write(move |c| run(keep::keep(c, &damage, now))).await
        }
        .boxed()
    }

    fn batch(&self, id: BatchId) -> Fut<'_, Option<Batch>> {
        self.read(move |c| run(read::batch(c, id)))
    }

    fn ended(&self, id: BatchId) -> Fut<'_, Ended> {
        self.read(move |c| run(read::ended(c, id)))
    }

    fn find_external(&self, app: String, external_id: String) -> Fut<'_, Option<BatchId>> {
        self.read(move |c| run(read::external(c, &app, &external_id)))
    }

    fn list(&self, filter: BatchFilter, after: Option<Cursor>, limit: u32) -> Fut<'_, BatchesPage> {
        self.read(move |c| run(list::list(c, &filter, after, limit)))
    }

    fn children(&self, id: BatchId) -> Fut<'_, Children> {
        self.read(move |c| run(retry::children(c, id)))
    }

    fn rows(&self, id: BatchId, after: u32, status: Option<Status>) -> Fut<'_, RowsPage> {
        self.read(move |c| run(rows::rows_after(c, id, after, status)))
    }

    fn history(&self, id: BatchId, from: i64) -> Fut<'_, HistoryPage> {
        self.read(move |c| run(history::history(c, id, from)))
    }

    fn line_history(&self, id: BatchId, line: u32) -> Fut<'_, Option<Vec<HistoryEntry>>> {
        self.read(move |c| run(history::line_history(c, id, line)))
    }

    fn redact(&self, id: BatchId, line: u32, by: String, now: Timestamp) -> Fut<'_, bool> {
        self.write(move |c| run(redact::redact(c, id, line, &by, now)))
    }

    fn purgeable(&self, scan: PurgeScan, now: Timestamp) -> Fut<'_, PurgePage> {
        self.read(move |c| run(purge::purgeable(c, &scan, now)))
    }

    fn purge_mark(
        &self,
        ids: Vec<BatchId>,
        by: Option<String>,
        now: Timestamp,
    ) -> Fut<'_, Vec<BatchId>> {
        self.write(move |c| run(purge::mark(c, &ids, by.as_deref(), now)))
    }

    fn purging(&self, limit: u32) -> Fut<'_, Vec<Purgeable>> {
        self.read(move |c| run(purge::purging(c, limit)))
    }

    fn purge_piece(&self, id: BatchId, most: u32) -> Fut<'_, bool> {
        // The mark was durable before; a piece that a power failure takes back is removed again.
        self.write_soft(move |c| run(purge::piece(c, id, most)))
    }

    fn keeps(&self) -> Fut<'_, Vec<(OpId, std::time::Duration)>> {
        self.read(|c| run(purge::keeps(c)))
    }

    fn forget(&self, now: Timestamp, most: u32) -> Fut<'_, u64> {
        async move {
            let due = self
                .read(move |c| run(purge::forgettable(c, 1, now)))
                .await?;
            if due.is_empty() {
                return Ok(0);
            }
            self.write_soft(move |c| run(purge::forget(c, most, now)))
                .await
        }
        .boxed()
    }

    fn epoch(&self) -> Fut<'_, String> {
        self.read(|c| run(read::epoch(c)))
    }

    fn signal(&self) -> Signal {
        self.waker.signal()
    }
}
