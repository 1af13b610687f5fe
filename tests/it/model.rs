//! Random sequences of the store's steps against a small model of what a batch is.
//!
//! The model knows rows and who has them; it knows no blocks' bodies, no parts and no counts. After
//! every step the store's status and counts must be the model's, and at the end the invariants hold.

mod append;
mod retry;
mod seen;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rowmill::model::{EndedAs, NewBatch, OpId, Status, Timestamp, WorkerNo};
use rowmill::store::{ClaimedTask, Recorded};

use crate::support::kit::rows_of;
use crate::support::{Facts, Harness, Kit, Outcomes, Sqlite, check, invariants};

/// What a worker answers for a row.
#[derive(Debug, Clone, Copy)]
enum Word {
    Success,
    Failed,
    Retry {
        due: bool,
    },
    Later,
    /// Nothing yet: the attempt goes on.
    Nothing,
}

/// One step; indices are taken modulo what there is.
#[derive(Debug, Clone)]
enum Act {
    Submit {
        blocks: Vec<u32>,
        hold: bool,
        rejected: bool,
        expires: bool,
        starts: bool,
    },
    Release(usize),
    Append {
        at: usize,
        blocks: Vec<u32>,
        release: bool,
    },
    /// An append whose loader dies after its first piece.
    Strand(usize),
    Claim {
        worker: usize,
        most: u32,
        oldest: bool,
        split: Option<u32>,
    },
    Record {
        task: usize,
        words: Vec<Word>,
    },
    GiveBack(usize),
    Lose {
        worker: usize,
        at: usize,
    },
    Abort(usize),
    Retry(usize),
    Wait(u64),
    Keep,
    Close {
        worker: usize,
        works: bool,
    },
    /// A write under a token that was taken away.
    Haunt(usize),
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        4 => Just(Word::Success),
        2 => Just(Word::Failed),
        1 => any::<bool>().prop_map(|due| Word::Retry { due }),
        1 => Just(Word::Later),
        2 => Just(Word::Nothing),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let blocks = || prop::collection::vec(1_u32..5, 1..4);
    let chance = || prop::bool::weighted(0.2);
    prop_oneof![
        3 => (blocks(), chance(), chance(), chance(), chance())
            .prop_map(|(blocks, hold, rejected, expires, starts)| Act::Submit { blocks, hold, rejected, expires, starts }),
        1 => any::<usize>().prop_map(Act::Release),
        3 => (any::<usize>(), blocks(), chance()).prop_map(|(at, blocks, release)| Act::Append { at, blocks, release }),
        1 => any::<usize>().prop_map(Act::Strand),
        6 => (any::<usize>(), 1_u32..4, any::<bool>(), prop::option::of(1_u32..3))
            .prop_map(|(worker, most, oldest, split)| Act::Claim { worker, most, oldest, split }),
        9 => (any::<usize>(), prop::collection::vec(word(), 1..5)).prop_map(|(task, words)| Act::Record { task, words }),
        1 => any::<usize>().prop_map(Act::GiveBack),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(worker, at)| Act::Lose { worker, at }),
        1 => any::<usize>().prop_map(Act::Abort),
        2 => any::<usize>().prop_map(Act::Retry),
        2 => (1_u64..15).prop_map(Act::Wait),
        2 => Just(Act::Keep),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(worker, works)| Act::Close { worker, works }),
        1 => any::<usize>().prop_map(Act::Haunt),
    ]
}

/// Where a row is. Its key is the block and the ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// Waits for a claim, or for its time.
    Open {
        due: Option<Timestamp>,
    },
    /// A worker has it.
    Held,
    Ended(Status),
}

#[derive(Debug, Clone)]
struct Batch {
    rows: BTreeMap<(i64, u32), Row>,
    blocks: i64,
    starts: Option<Timestamp>,
    /// The line of each row.
    lines: BTreeMap<(i64, u32), u32>,
    /// Rows that were refused at intake.
    refused: BTreeSet<(i64, u32)>,
    /// Its retries, oldest first.
    children: Vec<rowmill::BatchId>,
    held: bool,
    /// When the loader of an append was heard last that has not ended.
    appending: Option<Timestamp>,
    aborted: bool,
    expires: Option<Timestamp>,
    /// Its time has been acted on.
    expired: bool,
    files: bool,
    closed: bool,
    /// A row of it was given a final outcome by a worker.
    begun: bool,
}

impl Batch {
    fn new(rows: BTreeMap<(i64, u32), Row>, lines: BTreeMap<(i64, u32), u32>) -> Self {
        let blocks = rows.keys().map(|(no, _)| no + 1).max().unwrap_or(0);
        Self {
            rows,
            blocks,
            starts: None,
            appending: None,
            lines,
            refused: BTreeSet::new(),
            children: Vec::new(),
            held: false,
            aborted: false,
            expires: None,
            expired: false,
            files: false,
            closed: false,
            begun: false,
        }
    }

    fn count(&self, status: Status) -> u64 {
        u64::try_from(
            self.rows
                .values()
                .filter(|r| **r == Row::Ended(status))
                .count(),
        )
        .unwrap()
    }

    fn all_ended(&self) -> bool {
        self.rows.values().all(|r| matches!(r, Row::Ended(_)))
    }

    fn done(&self) -> bool {
        self.all_ended() && !self.held && (self.closed || !self.files)
    }

    fn stopped(&self, now: Timestamp) -> Option<Status> {
        if self.aborted {
            Some(Status::Aborted)
        } else if self.expires.is_some_and(|at| at <= now) {
            Some(Status::Expired)
        } else {
            None
        }
    }

    /// Every row that no worker has ends.
    fn stop(&mut self, status: Status) {
        self.held = false;
        for row in self.rows.values_mut() {
            if matches!(row, Row::Open { .. }) {
                *row = Row::Ended(status);
            }
        }
    }

    fn status(&self) -> Status {
        use Status::{Aborted, Expired, Failed, Inprog, Queued, Success, Wait};
        if self.done() {
            let has = |status| self.count(status) > 0;
            return [Aborted, Expired, Failed]
                .into_iter()
                .find(|s| has(*s))
                .unwrap_or(Success);
        }
        let runs = self.rows.values().any(|r| *r == Row::Held);
        match (self.held, runs || self.begun || self.aborted) {
            (true, _) => Wait,
            (false, true) => Inprog,
            (false, false) => Queued,
        }
    }
}

/// A task that a worker has, with its rows that have no outcome.
struct Mine {
    worker: WorkerNo,
    task: ClaimedTask,
    left: Vec<u32>,
    parts: u32,
}

struct Run {
    h: Sqlite,
    op: OpId,
    workers: Vec<WorkerNo>,
    ids: Vec<rowmill::BatchId>,
    batches: BTreeMap<rowmill::BatchId, Batch>,
    mine: Vec<Mine>,
    ghosts: Vec<Mine>,
    appends: u32,
    /// Close tasks that were put off, and until when.
    put_off: BTreeMap<rowmill::BatchId, Timestamp>,
    seen: seen::Seen,
}

impl Run {
    async fn new() -> Self {
        let h = Sqlite::open().await;
        // No row is lost often enough to fail: the model need not know of losses.
        let op = h.kit().register(h.kit().key(), true, 32_000).await;
        let workers = vec![h.kit().worker().await, h.kit().worker().await];
        Self {
            h,
            op,
            workers,
            ids: Vec::new(),
            batches: BTreeMap::new(),
            mine: Vec::new(),
            ghosts: Vec::new(),
            appends: 0,
            put_off: BTreeMap::new(),
            seen: seen::Seen::default(),
        }
    }

    fn kit(&self) -> &Kit {
        self.h.kit()
    }

    fn pick(&self, at: usize) -> Option<rowmill::BatchId> {
        (!self.ids.is_empty()).then(|| self.ids[at % self.ids.len()])
    }

    fn of(&mut self, id: rowmill::BatchId) -> &mut Batch {
        self.batches.get_mut(&id).expect("a batch")
    }

    async fn act(&mut self, act: &Act) {
        match act {
            Act::Submit {
                blocks,
                hold,
                rejected,
                expires,
                starts,
            } => {
                self.submit(blocks, *hold, *rejected, *expires, *starts)
                    .await;
            }
            Act::Release(at) => {
                if let Some(id) = self.pick(*at) {
                    let released = self.kit().release(id).await;
                    let batch = self.of(id);
                    assert_eq!(released.is_err(), batch.done());
                    batch.held = false;
                }
            }
            Act::Claim {
                worker,
                most,
                oldest,
                split,
            } => self.claim(*worker, *most, *oldest, *split).await,
            Act::Append {
                at,
                blocks,
                release,
            } => self.append(*at, blocks, *release).await,
            Act::Strand(at) => self.strand(*at).await,
            Act::Record { task, words } => self.record(*task, words).await,
            Act::GiveBack(at) => self.give_back(*at).await,
            Act::Lose { worker, at } => self.lose(*worker, *at).await,
            Act::Abort(at) => {
                if let Some(id) = self.pick(*at) {
                    self.kit().abort(id).await;
                    let batch = self.of(id);
                    if !batch.done() {
                        batch.aborted = true;
                        batch.stop(Status::Aborted);
                    }
                }
            }
            Act::Retry(at) => {
                if let Some(id) = self.pick(*at) {
                    self.retry(id).await;
                }
            }
            Act::Wait(seconds) => self.kit().advance(*seconds),
            Act::Keep => self.keep().await,
            Act::Close { worker, works } => self.close(*worker, *works).await,
            Act::Haunt(at) => {
                if !self.ghosts.is_empty() {
                    let ghost = &self.ghosts[at % self.ghosts.len()];
                    let part = Outcomes::of(&ghost.task)
                        .part(ghost.parts)
                        .all_success()
                        .ends();
                    assert_eq!(
                        self.kit().record(ghost.worker, part).await,
                        Recorded::Fenced
                    );
                }
            }
        }
    }

    async fn submit(
        &mut self,
        sizes: &[u32],
        hold: bool,
        rejected: bool,
        expires: bool,
        starts: bool,
    ) {
        let kit = self.h.kit();
        let new = NewBatch {
            hold,
            run_at: starts.then(|| kit.in_seconds(5)),
            expires_at: expires.then(|| kit.in_seconds(12)),
            ..kit.new_batch()
        };
        let mut blocks = kit.blocks(sizes);
        let mut rows = BTreeMap::new();
        let open = Row::Open { due: new.run_at };
        for (no, block) in (0..).zip(&blocks) {
            rows.extend((0..block.rows).map(|row| ((no, row), open)));
        }
        if rejected {
            let refused: Vec<bool> = (0..blocks[0].rows).map(|i| i % 2 == 0).collect();
            blocks[0] = kit.block_with_rejected(&refused);
            for (row, _) in (0..).zip(&refused).filter(|(_, r)| **r) {
                rows.insert((0, row), Row::Ended(Status::Failed));
            }
        }
        let lines = retry::lines_of(&blocks);
        let refused = rows.iter().filter(|(_, row)| **row != open);
        let refused = refused.map(|(at, _)| *at).collect();
        let (id, expires, starts) = (new.id, new.expires_at, new.run_at);
        kit.try_submit(new, blocks).await.expect("submitted");
        self.ids.push(id);
        let batch = Batch {
            refused,
            held: hold,
            starts,
            expires,
            ..Batch::new(rows, lines)
        };
        self.batches.insert(id, batch);
    }

    async fn claim(&mut self, worker: usize, most: u32, oldest: bool, split: Option<u32>) {
        let worker = self.workers[worker % self.workers.len()];
        let now = self.kit().now();
        let ask = rowmill::store::Claim {
            max_tasks: most,
            oldest,
            split_over: split,
            ..self.kit().ask(worker, self.op)
        };
        // A claim ends the batches that it meets after their time; which, its order decides.
        let before: BTreeSet<_> = self
            .ids
            .iter()
            .copied()
            .filter(|id| !self.batches[id].done())
            .collect();
        let tasks = self.kit().claim_as(ask).await;
        for task in tasks {
            let batch = self.of(task.batch.id);
            assert!(!batch.held && batch.stopped(now).is_none(), "{task:?}");
            let left = rows_of(&task);
            for row in &left {
                let at = batch.rows.get_mut(&(task.claim.no, *row)).expect("a row");
                let ready = matches!(at, Row::Open { due } if due.is_none_or(|due| due <= now));
                assert!(ready, "{at:?} was claimed");
                *at = Row::Held;
            }
            if let Some(most) = split {
                assert!(task.rows <= most);
            }
            self.mine.push(Mine {
                worker,
                task,
                left,
                parts: 0,
            });
        }
        for id in before {
            let timely = self.batches[&id].stopped(now) != Some(Status::Expired);
            if !timely && !self.batches[&id].held {
                let counts = self.kit().batch(id).await.counts;
                if counts.expired > self.batches[&id].count(Status::Expired) {
                    self.of(id).expired = true;
                    self.of(id).stop(Status::Expired);
                }
            }
        }
    }

    async fn record(&mut self, at: usize, words: &[Word]) {
        if self.mine.is_empty() {
            return;
        }
        let at = at % self.mine.len();
        let now = self.kit().now();
        let mine = &mut self.mine[at];
        let stopped = self.batches[&mine.task.batch.id].stopped(now);
        let mut part = Outcomes::of(&mine.task).part(mine.parts);
        let mut outcomes = Vec::new();
        for (word, row) in words.iter().zip(mine.left.clone()) {
            let due = now + std::time::Duration::from_secs(3);
            let again = |due: Option<Timestamp>| stopped.map_or(Row::Open { due }, Row::Ended);
            let outcome;
            (part, outcome) = match word {
                Word::Success if row % 3 == 2 => (
                    part.writes(row, "a.csv", "x\n"),
                    Row::Ended(Status::Success),
                ),
                Word::Success => (part.success(row), Row::Ended(Status::Success)),
                Word::Failed => (part.failed(row), Row::Ended(Status::Failed)),
                Word::Retry { due: true } => (part.retry(row, Some(due)), again(Some(due))),
                Word::Retry { due: false } => (part.retry(row, None), again(None)),
                Word::Later => (part.later(row, due), again(Some(due))),
                Word::Nothing => break,
            };
            let wrote = matches!(word, Word::Success) && row % 3 == 2;
            outcomes.push((
                row,
                outcome,
                matches!(word, Word::Success | Word::Failed),
                wrote,
            ));
        }
        let ended: BTreeSet<u32> = outcomes.iter().map(|o| o.0).collect();
        mine.left.retain(|row| !ended.contains(row));
        mine.parts += 1;
        let over = mine.left.is_empty();
        let row_now = mine.left.first().copied();
        let part = if over {
            part.ends()
        } else {
            part.goes_on(row_now)
        };
        let (worker, id, no) = (mine.worker, mine.task.batch.id, mine.task.claim.no);
        assert_eq!(self.kit().record(worker, part).await, Recorded::Done);
        let batch = self.of(id);
        for (row, outcome, by_worker, wrote) in outcomes {
            batch.rows.insert((no, row), outcome);
            batch.begun |= by_worker;
            batch.files |= wrote;
        }
        if over {
            let mine = self.mine.remove(at);
            self.ghosts.push(mine);
        }
    }

    /// Gives back one task of which nothing was recorded.
    async fn give_back(&mut self, at: usize) {
        let fresh: Vec<usize> = (0..self.mine.len())
            .filter(|i| self.mine[*i].parts == 0)
            .collect();
        if fresh.is_empty() {
            return;
        }
        let mine = self.mine.remove(fresh[at % fresh.len()]);
        let now = self.kit().now();
        let given = self
            .kit()
            .store
            .give_back(mine.worker, vec![mine.task.claim], now);
        given.await.expect("given back");
        self.comes_back(&mine);
        self.ghosts.push(mine);
    }

    /// What a worker had and did not finish is open again, or ends with its batch.
    fn comes_back(&mut self, mine: &Mine) {
        let now = self.kit().now();
        let batch = self.of(mine.task.batch.id);
        for row in &mine.left {
            batch
                .rows
                .insert((mine.task.claim.no, *row), Row::Open { due: None });
        }
        if let Some(status) = batch.stopped(now) {
            batch.expired = true;
            batch.stop(status);
        }
    }

    async fn lose(&mut self, worker: usize, at: usize) {
        let at_worker = worker % self.workers.len();
        let worker = self.workers[at_worker];
        let (lost, kept): (Vec<_>, Vec<_>) = self.mine.drain(..).partition(|m| m.worker == worker);
        self.mine = kept;
        // One suspect task may have said which row it starts.
        let suspect = lost.iter().filter(|m| m.task.suspect).collect::<Vec<_>>();
        if !suspect.is_empty() {
            let mine = suspect[at % suspect.len()];
            let row = mine.left[at % mine.left.len()];
            self.kit()
                .start_row(worker, &mine.task, mine.parts, row)
                .await;
        }
        let taken = self.kit().take_over(worker).await;
        assert_eq!(taken.lost_rows, 0);
        for mine in lost {
            self.comes_back(&mine);
            self.ghosts.push(mine);
        }
        self.workers[at_worker] = self.kit().worker().await;
    }

    async fn keep(&mut self) {
        let now = self.kit().now();
        self.kit().store.keep(now).await.expect("kept");
        self.put_off.retain(|_, due| *due > now);
        for batch in self.batches.values_mut() {
            let timely = batch.expires.is_none_or(|at| at > now);
            if !batch.done() && !batch.aborted && !batch.expired && !timely {
                batch.expired = true;
                batch.stop(Status::Expired);
            }
        }
    }

    async fn close(&mut self, worker: usize, works: bool) {
        let worker = self.workers[worker % self.workers.len()];
        let kit = self.h.kit();
        let token = rowmill::model::Token::random().expect("a token");
        let tasks = kit
            .store
            .claim_close(worker, token, 10, kit.now())
            .await
            .expect("claimed");
        let ready: BTreeSet<_> = self
            .ids
            .iter()
            .copied()
            .filter(|id| {
                let batch = &self.batches[id];
                batch.files && batch.all_ended() && !batch.closed && !self.put_off.contains_key(id)
            })
            .collect();
        let claimed: BTreeSet<_> = tasks.iter().map(|t| t.claim.batch).collect();
        assert_eq!(claimed, ready, "exactly those whose rows have all ended");
        for task in tasks {
            let answer = if works {
                kit.store
                    .close(worker, task.claim, Vec::new(), kit.now())
                    .await
            } else {
                let due = kit.in_seconds(4);
                self.put_off.insert(task.claim.batch, due);
                kit.store
                    .close_later(worker, task.claim, "down".to_owned(), due)
                    .await
            };
            assert_eq!(answer.expect("closed"), Recorded::Done);
            if works {
                self.batches
                    .get_mut(&task.claim.batch)
                    .expect("a batch")
                    .closed = true;
            }
        }
    }

    /// What the store says must be what the model says.
    async fn compare(&mut self) {
        for (id, batch) in &self.batches {
            let seen = self.kit().batch(*id).await;
            assert_eq!(seen.done, batch.done(), "{batch:#?}\n{seen:#?}");
            assert_eq!(seen.status, batch.status(), "{batch:#?}\n{seen:#?}");
            let c = seen.counts;
            assert_eq!(c.rows, u64::try_from(batch.rows.len()).unwrap());
            use Status::{Aborted, Expired, Failed, Success};
            let expected = [Success, Failed, Aborted, Expired].map(|s| batch.count(s));
            assert_eq!(
                [c.success, c.failed, c.aborted, c.expired],
                expected,
                "{batch:#?}\n{seen:#?}"
            );
        }
        self.compare_lists().await;
        self.look().await;
        let facts: Facts = self.h.facts();
        check(&facts);
    }

    /// Everything comes to an end.
    async fn finish(&mut self) {
        for id in self.ids.clone() {
            if !self.batches[&id].done() {
                self.kit().release(id).await.expect("released");
                self.of(id).held = false;
            }
        }
        for at in 0..self.workers.len() {
            self.lose(at, 0).await;
        }
        for _ in 0..50 {
            self.kit().advance(5);
            self.keep().await;
            self.claim(0, 1000, false, None).await;
            while !self.mine.is_empty() {
                self.record(0, &[Word::Success; 8]).await;
            }
            self.close(0, true).await;
        }
        self.compare().await;
        assert!(self.batches.values().all(Batch::done));
        let facts = self.h.facts();
        assert!(facts.tasks.is_empty());
        assert!(
            facts.appends.iter().all(|a| !a.open),
            "every stranded append was swept"
        );
        assert_eq!(facts.notices.len(), self.ids.len(), "every end is told");
        let lost = |p: &&crate::support::facts::PartFact| {
            p.ended_as == Some(EndedAs::Lost) && p.failed > 0
        };
        assert!(!facts.parts.iter().any(|p| lost(&p)));
        invariants(&self.h).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_steps_keep_the_invariants_and_agree_with_the_model(acts in prop::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut run = Run::new().await;
            for act in &acts {
                run.act(act).await;
                run.compare().await;
            }
            run.finish().await;
        });
    }
}
