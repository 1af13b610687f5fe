//! Outcomes that are on their way to the store, and how large they may be.
//!
//! SQLite refuses a text of 1,000,000,000 bytes, and what it refuses would be tried again without end.

use std::time::Duration;

use crate::model::{Message, OutcomeStatus, RowOutcome, codes, encode_outcome};

/// A desk with so many bytes is emptied before the next row.
pub(super) const FULL: usize = 1 << 20;
/// A part with so many bytes takes no further row: its size does not grow with a chunk's rows.
const PART: usize = 8 << 20;
/// A row's outcome with more bytes than this is not recorded; the row has failed.
const MAX_OUTCOME: usize = 64 << 20;
/// Bytes that JSON makes of one at most.
const ESCAPED: usize = 6;
/// More than a text's name, quotes and commas take.
const FRAME: usize = 512;

/// Outcomes that are on their way to the store.
#[derive(Debug, Default, Clone)]
pub(crate) struct Draft {
    pub(crate) ordinals: Vec<u32>,
    pub(crate) body: String,
    pub(crate) success: u32,
    pub(crate) failed: u32,
    pub(crate) files: bool,
    /// Rows that go again: after this delay (none: by back-off), as a failure or not.
    pub(crate) again: Vec<(u32, Option<Duration>, bool)>,
}

impl Draft {
    pub(crate) fn is_empty(&self) -> bool {
        self.ordinals.is_empty()
    }

    /// Adds a row's outcome, as the desk has judged it.
    pub(crate) fn add(&mut self, ordinal: u32, outcome: &RowOutcome) {
        self.ordinals.push(ordinal);
        match outcome.status {
            OutcomeStatus::Success => self.success += 1,
            OutcomeStatus::Failed => self.failed += 1,
            OutcomeStatus::Retry(delay) => self.again.push((ordinal, delay, true)),
            OutcomeStatus::Later(delay) => self.again.push((ordinal, Some(delay), false)),
            OutcomeStatus::Aborted => {}
        }
        self.files |= write(&mut self.body, outcome);
    }

    /// Whether it has so much that it is to be recorded before the next row.
    pub(crate) fn is_full(&self) -> bool {
        self.body.len() > FULL
    }

    /// Whether it has so much that what comes next belongs to another part.
    pub(super) fn is_part(&self) -> bool {
        self.body.len() >= PART
    }

    /// Whether its lines are those of rows 0, 1, 2, … of a block with `rows` rows, all of them.
    pub(crate) fn is_whole(&self, rows: usize) -> bool {
        self.ordinals.len() == rows
            && self
                .ordinals
                .iter()
                .zip(0..)
                .all(|(ordinal, i)| *ordinal == i)
    }
}

/// Success and failed rows may write to output files, others do not.
fn writes_files(outcome: &RowOutcome) -> bool {
    matches!(
        outcome.status,
        OutcomeStatus::Success | OutcomeStatus::Failed
    )
}

/// Appends the row's line; says whether it has something for output files.
fn write(body: &mut String, outcome: &RowOutcome) -> bool {
    let writes = writes_files(outcome);
    let has = !(outcome.files.is_empty() && outcome.staged.is_empty());
    if has && !writes {
        let bare = RowOutcome {
            files: Vec::new(),
            staged: Vec::new(),
            ..outcome.clone()
        };
        encode_outcome(body, &bare);
    } else {
        encode_outcome(body, outcome);
    }
    has && writes
}

/// What a row has come to whose outcome would take too many bytes; none where it does not.
pub(super) fn too_large(outcome: &RowOutcome) -> Option<RowOutcome> {
    if fits(outcome) {
        return None;
    }
    let text = format!(
        "what it gave back (result, messages, lines of output files) is larger than {} MiB and was not recorded",
        MAX_OUTCOME >> 20
    );
    let message = Message::own(codes::OUTCOME_TOO_LARGE, text);
    Some(RowOutcome::of(OutcomeStatus::Failed, message))
}

/// About how many bytes of a body an outcome takes.
pub(super) fn weight(outcome: &RowOutcome) -> usize {
    let files: usize = outcome.files.iter().map(|(_, lines)| lines.len()).sum();
    files + outcome.result.as_ref().map_or(0, String::len)
}

/// Whether its line is within the limit. Nearly all are far from it, and are not written for that.
fn fits(outcome: &RowOutcome) -> bool {
    let (mut texts, mut frames) = (0, 0);
    let mut text = |text: &str| {
        texts += text.len();
        frames += FRAME;
    };
    for message in &outcome.messages {
        text(&message.errcode);
        for part in message
            .vals
            .iter()
            .chain(&message.field)
            .chain(&message.text)
        {
            text(part);
        }
    }
    if writes_files(outcome) {
        outcome.files.iter().for_each(|(_, lines)| text(lines));
    }
    let result = outcome.result.as_ref().map_or(0, String::len);
    if result + texts > MAX_OUTCOME {
        return false;
    }
    if outcome.staged.is_empty() && result + texts * ESCAPED + frames + FRAME <= MAX_OUTCOME {
        return true;
    }
    let mut line = String::new();
    write(&mut line, outcome);
    line.len() <= MAX_OUTCOME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(bytes: usize) -> RowOutcome {
        let mut line = String::new();
        write(&mut line, &RowOutcome::success(Some("0".to_owned())));
        RowOutcome::success(Some("1".repeat(bytes - line.len() + 1)))
    }

    #[test]
    fn a_line_of_the_limit_fits_and_a_byte_more_does_not() {
        let mut line = String::new();
        write(&mut line, &sized(MAX_OUTCOME));
        assert_eq!(line.len(), MAX_OUTCOME);
        assert!(too_large(&sized(MAX_OUTCOME)).is_none());
        let failed = too_large(&sized(MAX_OUTCOME + 1)).unwrap();
        assert_eq!(failed.status, OutcomeStatus::Failed);
        assert_eq!(failed.messages[0].errcode, codes::OUTCOME_TOO_LARGE.0);
    }

    #[test]
    fn what_is_written_counts_and_nothing_else() {
        // Each of these becomes six bytes.
        let lines = "\u{1}".repeat(MAX_OUTCOME / 6);
        let mut outcome = RowOutcome::success(None);
        outcome.files = vec![("a.csv".parse().unwrap(), lines)];
        assert!(too_large(&outcome).is_some());
        outcome.status = OutcomeStatus::Retry(None);
        assert!(too_large(&outcome).is_none(), "it writes no file");
    }

    #[test]
    fn a_part_takes_one_row_more_than_its_bound_at_most() {
        let mut draft = Draft::default();
        while !draft.is_part() {
            draft.add(0, &sized(1 << 20));
        }
        assert_eq!(draft.ordinals.len(), PART >> 20);
    }
}
