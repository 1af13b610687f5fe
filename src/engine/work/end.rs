//! The last part of an attempt, and what it leaves.

use super::{Table, Worked, ended_as};
use crate::model::{Delivery, EndedAs, Message, OutcomeStatus, RowOutcome, codes};
use crate::processor::CancelCause;
use crate::store::{Again, Then};

impl Table {
    /// Says at once what a suspect task's last row came to: until then it is to blame for a death.
    async fn clear_last_row(&mut self) {
        let draft = self.all_but_the_last(None, true).await;
        if !draft.is_empty() {
            let then = Then::GoesOn {
                row_now: None,
                soft: true,
            };
            let part = self.part(draft, Vec::new(), then);
            self.send(part, None).await;
        }
    }

    /// Sends the last part: every row has an outcome, goes again, or ends with its batch.
    pub(super) async fn end(mut self, panicked: bool) -> Worked {
        let cause = self.seat.cancel.signal().cause();
        if self.ended {
            let (rows, _) = self.desk.progress();
            return self.worked(rows);
        }
        if cause == Some(CancelCause::Fenced) {
            return self.worked(0);
        }
        if self.is_soft() {
            self.clear_last_row().await;
        }
        let started = self.desk.started();
        let upcoming = self.desk.give_back(0);
        let mut again = Vec::new();
        let then = if cause == Some(CancelCause::Aborted) {
            let interrupted = u32::try_from(started.len()).unwrap_or(u32::MAX);
            let outcome = RowOutcome::of(
                OutcomeStatus::Aborted,
                Message::own(
                    codes::INTERRUPTED,
                    "was running when the batch was aborted; may still take effect",
                ),
            );
            for place in started {
                self.desk.put(place, &outcome);
            }
            let ended_as = if interrupted == 0 && upcoming.is_empty() {
                EndedAs::Finished
            } else {
                EndedAs::Aborted
            };
            Then::Ends {
                ended_as,
                rest: upcoming,
                interrupted,
            }
        } else {
            again = self.leftovers(started, upcoming, cause, panicked);
            Then::Ends {
                ended_as: ended_as(again.is_empty()),
                rest: Vec::new(),
                interrupted: 0,
            }
        };
        let draft = self.all_but_the_last(None, false).await;
        let (done, _) = self.desk.progress();
        let part = self.part(draft, again, then);
        self.send(part, None).await;
        self.worked(done)
    }

    fn worked(&self, rows: usize) -> Worked {
        Worked {
            rows,
            recorded: self.recorded,
            took: self.began.elapsed(),
        }
    }

    /// What becomes of rows without an outcome when the batch goes on.
    fn leftovers(
        &self,
        started: Vec<usize>,
        mut upcoming: Vec<u32>,
        cause: Option<CancelCause>,
        panicked: bool,
    ) -> Vec<Again> {
        let once = self.seat.settings.delivery == Delivery::AtMostOnce;
        let outcome = if cause == Some(CancelCause::Shutdown) && once {
            Some((
                OutcomeStatus::Failed,
                codes::WORKER_LOST,
                "was cut off by a stop; may have taken effect",
            ))
        } else if cause == Some(CancelCause::Shutdown) {
            None
        } else if panicked {
            Some((
                OutcomeStatus::Retry(None),
                codes::PANIC,
                "could not be processed",
            ))
        } else {
            Some((
                OutcomeStatus::Retry(None),
                codes::NO_OUTCOME,
                "its processor gave no outcome for it",
            ))
        };
        match outcome {
            Some((status, code, text)) => {
                let outcome = RowOutcome::of(status, Message::own(code, text));
                for place in started {
                    self.desk.put(place, &outcome);
                }
            }
            None => {
                let cut = started.into_iter().map(|place| self.desk.ordinal(place));
                upcoming = cut.chain(upcoming).collect();
                upcoming.sort_unstable();
            }
        }
        self.same_again(upcoming)
    }
}
