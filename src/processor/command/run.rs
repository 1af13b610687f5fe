//! A task's rows on their way through children.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::child::{Child, Given};
use super::pool::{Pool, Slot};
use super::rows::Rows;
use super::wire::{self, Asks};
use crate::model::Delivery;
use crate::probe;
use crate::processor::desk::Work;

/// The exit status of a child that has closed its output is waited for so long.
const EXIT: Duration = Duration::from_secs(1);

/// Works on a task. **Cancellation:** its child is killed if it owes answers.
pub(super) async fn run(pool: &Pool, work: Work) {
    // Before the first row is taken: a row that waits for a child has not started.
    let slot = tokio::select! {
        slot = pool.slot() => slot,
        _ = work.cancel.cancelled() => None,
    };
    if let Some(slot) = slot {
        Run::new(pool, work).through(&slot).await;
    }
}

/// Why a child's work for the task is over.
enum End {
    /// No row is left, or nothing more may start.
    Done,
    /// The oldest row took too long.
    Late,
    /// It ended by itself.
    Gone,
    /// It did what it must not.
    Broken(Fault),
}

/// What a child did that it must not.
pub(super) struct Fault {
    pub(super) why: String,
    /// What it said, cut.
    pub(super) said: String,
}

impl Fault {
    fn new(why: impl Into<String>, said: &[u8]) -> Self {
        Self {
            why: why.into(),
            said: wire::cut(said),
        }
    }
}

/// A task with a child after another.
pub(super) struct Run {
    pub(super) work: Work,
    rows: Rows,
    asks: Asks,
    window: usize,
    pub(super) once: bool,
    /// Rows that go to a child before any other, and whether alone.
    pub(super) again: VecDeque<(usize, bool)>,
    /// How often a row was the only one that a child was working on when it ended.
    pub(super) losses: BTreeMap<usize, u32>,
}

impl Run {
    fn new(pool: &Pool, work: Work) -> Self {
        let once = work.settings.delivery == Delivery::AtMostOnce;
        let window = match pool.spec().window {
            window if !once && !work.task.suspect => window.max(1),
            _ => 1,
        };
        Self {
            rows: Rows::new(work.taker()),
            asks: Asks::new(&work),
            window,
            once,
            again: VecDeque::new(),
            losses: BTreeMap::new(),
            work,
        }
    }

    async fn through(mut self, slot: &Slot<'_>) {
        while self.has_next().await {
            let mut leased = match slot.child().await {
                Ok(leased) => leased,
                Err(error) => return self.put_off(slot, &error).await,
            };
            let Some(child) = leased.get() else { return };
            child.works_on(&self.work.task.batch);
            let end = self.with(child).await;
            slot.heard(child);
            match end {
                End::Done => return,
                End::Late => self.late(child).await,
                End::Gone => {
                    let how = child.end(EXIT).await;
                    self.log_end(child, how.as_deref());
                    if !child.output.spoke() && !slot.stays().await {
                        // What it was given it may have read, whatever the next one does.
                        if self.once {
                            self.lost(child);
                        }
                        self.take_back(child);
                        let how = how.as_deref().unwrap_or("killed");
                        let error =
                            io::Error::other(format!("it ends before it reads a row: {how}"));
                        return self.put_off(slot, &error).await;
                    }
                    self.lost(child);
                }
                End::Broken(fault) => {
                    let how = child.end(Duration::ZERO).await;
                    self.log_fault(child, &fault, how.as_deref());
                    self.lost(child);
                }
            }
        }
    }

    /// Makes sure that there is a row for a child, so that none is started for nothing.
    pub(super) async fn has_next(&mut self) -> bool {
        if self.work.cancel.is_cancelled() {
            return false;
        }
        if self.again.is_empty()
            && let Some(place) = self.rows.next().await
        {
            self.again.push_back((place, false));
        }
        !self.again.is_empty()
    }

    /// Gives a child rows and takes its answers, until there is a reason not to.
    async fn with(&mut self, child: &mut Child) -> End {
        loop {
            self.give_again(child);
            let more = self.rows.more() || !self.again.is_empty();
            if child.unanswered.is_empty() && !more {
                return End::Done;
            }
            if !child.feed.is_open() && !owes_what_it_has(child) {
                // What it answers when it takes no rows is waited for, but no longer.
                return End::Gone;
            }
            let takes = self.again.is_empty() && self.rows.more() && child.has_room(self.window);
            let limit = self.limit(child);
            // In this order: what is due is never kept waiting by a child that is busy writing,
            // and rows that are there are written together.
            let ended = tokio::select! {
                biased;
                () = limit => self.at_limit(child),
                place = self.rows.next(), if takes => {
                    if let Some(place) = place {
                        self.give(child, place, false);
                    }
                    None
                }
                () = child.process.ended() => {
                    child.output.read_now();
                    Some(self.last_answers(child))
                }
                read = child.output.read() => match read {
                    Ok(0) | Err(_) => Some(self.last_answers(child)),
                    Ok(_) => self.answers(child).err().map(End::Broken),
                },
                () = child.feed.write(), if child.feed.has_unwritten() => None,
            };
            if let Some(end) = ended {
                return end;
            }
        }
    }

    /// Waits until the child's oldest row has taken too long.
    fn limit(&self, child: &Child) -> impl Future<Output = ()> + Send + use<> {
        let limit = match self.work.settings.timeout {
            // A time that cannot be reckoned never comes.
            Some(time) if !child.unanswered.is_empty() => child.oldest_since.checked_add(time),
            _ => None,
        };
        async move {
            match limit {
                Some(limit) => sleep_until(limit).await,
                None => pending().await,
            }
        }
    }

    /// The answer may lie in the pipe: this process may have been the one that was late.
    fn at_limit(&self, child: &mut Child) -> Option<End> {
        let oldest = child.unanswered.front().map(|row| row.place);
        child.output.read_now();
        match self.answers(child) {
            Err(fault) => Some(End::Broken(fault)),
            Ok(()) if child.unanswered.front().map(|row| row.place) == oldest => Some(End::Late),
            Ok(()) => None,
        }
    }

    /// Gives rows that are to run again as far as they may run together.
    fn give_again(&mut self, child: &mut Child) {
        if self.work.cancel.is_cancelled() {
            // They were started and may not start again: whoever gets the task runs them.
            self.again.clear();
        }
        while let Some((place, alone)) = self.again.front().copied()
            && child.has_room(if alone { 1 } else { self.window })
        {
            self.again.pop_front();
            self.give(child, place, alone);
        }
    }

    fn give(&self, child: &mut Child, place: usize, alone: bool) {
        probe::at("row_started");
        let work = &self.work;
        let line = work.line(place);
        child.give((place, line, alone), |text| {
            self.asks
                .write(text, line, &work.key(place), work.input(place));
        });
    }

    /// Puts down the outcomes of all whole lines.
    fn answers(&self, child: &mut Child) -> Result<(), Fault> {
        while let Some(line) = child.output.line() {
            let Child {
                feed,
                output,
                unanswered,
                ..
            } = child;
            let oldest = unanswered.front().map(|row| row.place);
            self.answer(unanswered, feed.written(), output.get(line))?;
            if unanswered.front().map(|row| row.place) != oldest {
                child.oldest_since = Instant::now();
            }
        }
        if child.output.floods() {
            return Err(Fault::new(
                "it floods: its line has no end",
                child.output.begun(),
            ));
        }
        Ok(())
    }

    /// The same when no more will come; the last line needs no end.
    fn last_answers(&self, child: &mut Child) -> End {
        let answered = self.answers(child).and_then(|()| {
            let Child {
                feed,
                output,
                unanswered,
                ..
            } = child;
            match output.rest() {
                Some(line) => self.answer(unanswered, feed.written(), output.get(line)),
                None => Ok(()),
            }
        });
        match answered {
            Ok(()) => End::Gone,
            Err(fault) => End::Broken(fault),
        }
    }

    fn answer(
        &self,
        unanswered: &mut VecDeque<Given>,
        written: u64,
        said: &[u8],
    ) -> Result<(), Fault> {
        let fault = |why: String| Fault::new(why, said);
        let text = std::str::from_utf8(said).map_err(|_| fault("it is not UTF-8".to_owned()))?;
        let answer = wire::read(text).map_err(|why| fault(format!("it is no answer: {why}")))?;
        let at = unanswered
            .iter()
            .position(|row| row.line == answer.line && row.bytes.end <= written)
            .ok_or_else(|| {
                let line = answer.line;
                fault(format!("line {line} was not given, or is answered already"))
            })?;
        let Some(row) = unanswered.get(at) else {
            return Ok(());
        };
        let place = row.place;
        if answer
            .key
            .as_ref()
            .is_some_and(|key| **key != self.work.key(place))
        {
            return Err(fault(format!("the key of line {} is another", answer.line)));
        }
        unanswered.remove(at);
        self.work.desk.put(place, &answer.into_outcome());
        probe::at("row_done");
        Ok(())
    }
}

/// Whether a child owes an answer to a row that it has in full.
fn owes_what_it_has(child: &Child) -> bool {
    let written = child.feed.written();
    child.unanswered.iter().any(|row| row.bytes.end <= written)
}
