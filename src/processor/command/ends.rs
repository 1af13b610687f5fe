//! What becomes of rows whose child is over.

use std::io;
use std::time::Duration;

use super::TARGET;
use super::child::Child;
use super::pool::Slot;
use super::run::{Fault, Run};
use crate::model::{Message, OutcomeStatus, RowOutcome, codes};
use crate::probe;
use crate::processor::whose::timed_out;

/// Rows of a command that cannot be started come later: first after this delay, then after twice as
/// much each time, up to the longest.
const UNSTARTED: Duration = Duration::from_secs(5);
const UNSTARTED_MAX: Duration = Duration::from_secs(300);

/// What a time-out adds where the handler has never written anything.
const BUFFERED: &str = "; the handler has never written anything: \
    its output may be buffered (python: -u, or flush after each line)";

impl Run {
    /// The oldest row has had its time. The others are not to blame, and the child could answer
    /// the oldest at any moment from now on, so it must not get another.
    pub(super) async fn late(&mut self, child: &mut Child) {
        if let Some(row) = child.unanswered.pop_front() {
            let mut outcome = timed_out();
            if !child.output.spoke() {
                for message in &mut outcome.messages {
                    let text = message.text.get_or_insert_default();
                    text.push_str(BUFFERED);
                }
            }
            let batch = &self.work.task.batch;
            let (id, op, pid) = (batch.id, &batch.key, child.process.pid());
            tracing::warn!(target: TARGET, batch = %id, %op, pid, line = row.line.0, "a row took too long; its handler is ended");
            self.work.desk.put(row.place, &outcome);
            probe::at("row_done");
        }
        self.take_back(child);
        child.end(Duration::ZERO).await;
    }

    /// Takes the rows back that a child has not answered; nobody is to blame.
    pub(super) fn take_back(&mut self, child: &mut Child) {
        while let Some(row) = child.unanswered.pop_back() {
            self.again.push_front((row.place, row.alone));
        }
    }

    /// Finds who may have ended a child; rows that it had not answered run again one at a time.
    ///
    /// Each call has a row less to do than the one before, blames one, or leaves rows alone that
    /// were together: so there is an end to it, whatever the command does.
    pub(super) fn lost(&mut self, child: &mut Child) {
        let written = child.feed.written();
        let owed = std::mem::take(&mut child.unanswered);
        let had = owed.iter().filter(|row| row.bytes.start < written).count();
        // Where nothing was written yet, the only row that waited counts as its own.
        let single = had == 1 || (had == 0 && owed.len() == 1);
        for row in owed.into_iter().rev() {
            let was_written = row.bytes.start < written;
            let mut fails = self.once && was_written;
            if single && (was_written || had == 0) {
                let losses = self.losses.entry(row.place).or_default();
                *losses += 1;
                fails |= *losses >= self.work.settings.max_lost;
            }
            if fails {
                let message = Message::own(
                    codes::WORKER_LOST,
                    "the handler ended while the row was running; may still take effect",
                );
                let outcome = RowOutcome::of(OutcomeStatus::Failed, message);
                self.work.desk.put(row.place, &outcome);
                probe::at("row_done");
            } else {
                self.again.push_front((row.place, true));
            }
        }
    }

    /// The command cannot be started. That is the operator's to mend and no fault of the rows:
    /// they come later, so that they cost no attempt and other workers may take them; the delay
    /// grows so that a command that is missing for days does not use up `max_later`.
    pub(super) async fn put_off(mut self, slot: &Slot<'_>, error: &io::Error) {
        let spec = slot.spec();
        let task = &self.work.task;
        let why = spec.check().err();
        tracing::error!(
            target: TARGET,
            batch = %task.batch.id,
            op = %task.batch.key,
            program = spec.program(),
            dir = %spec.folder().display(),
            error = why.unwrap_or_else(|| error.to_string()),
            "the handler cannot be started; its rows come later",
        );
        let delay = UNSTARTED
            .saturating_mul(1 << task.laters.min(16))
            .min(UNSTARTED_MAX);
        let mut outcome = RowOutcome::success(None);
        outcome.status = OutcomeStatus::Later(delay);
        while self.has_next().await {
            for (place, _) in self.again.drain(..) {
                self.work.desk.put(place, &outcome);
            }
        }
    }

    pub(super) fn log_fault(&self, child: &Child, fault: &Fault, how: Option<&str>) {
        let batch = &self.work.task.batch;
        tracing::error!(
            target: TARGET,
            batch = %batch.id,
            op = %batch.key,
            pid = child.process.pid(),
            unanswered = child.unanswered.len(),
            why = fault.why,
            said = fault.said,
            how,
            "the handler wrote what it must not and is ended",
        );
    }

    pub(super) fn log_end(&self, child: &Child, how: Option<&str>) {
        let batch = &self.work.task.batch;
        let (id, op, pid) = (batch.id, &batch.key, child.process.pid());
        let how = how.unwrap_or("it closed its input or output, and is killed");
        let unanswered = child.unanswered.len();
        if unanswered == 0 {
            tracing::info!(target: TARGET, batch = %id, %op, pid, how, "the handler ended; a new one goes on");
        } else {
            tracing::warn!(target: TARGET, batch = %id, %op, pid, how, unanswered, "the handler ended before it had answered");
        }
    }
}
