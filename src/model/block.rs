//! Blocks: the unit of storage. Written once, never changed.

use sha2::{Digest, Sha256};

use super::outcome::push_one_line;
use super::{Line, Message, OutcomeStatus, RowOutcome, encode_outcome};

/// Rows of one batch in line order: one JSON text a line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// The line of its first row.
    pub first_line: u32,
    /// How many rows it has.
    pub rows: u32,
    /// Every row's line where there are gaps; else line = `first_line` + ordinal.
    pub lines: Option<Vec<u32>>,
    /// The inputs, each ended by a line feed.
    pub body: String,
    /// Rows that were refused at intake, by ordinal; they belong to no task.
    pub rejected: Vec<RejectedRow>,
}

/// A row that was refused at intake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Which row of its block, from 0.
    pub ordinal: u32,
    /// Its outcome's line, with the line feed.
    pub outcome: String,
}

impl Block {
    /// The line of the row with this ordinal.
    #[must_use]
    pub fn line(&self, ordinal: u32) -> Line {
        line_of(self.first_line, self.lines.as_deref(), ordinal)
    }

    /// The line of its last row.
    #[must_use]
    pub fn last_line(&self) -> u32 {
        self.line(self.rows.saturating_sub(1)).0
    }

    /// The ordinals that a task is to run; `None` stands for all of them.
    #[must_use]
    pub fn pick(&self) -> Option<Vec<u32>> {
        if self.rejected.is_empty() {
            return None;
        }
        let mut refused = self.rejected.iter().map(|r| r.ordinal).peekable();
        Some(
            (0..self.rows)
                .filter(|ordinal| refused.next_if_eq(ordinal).is_none())
                .collect(),
        )
    }
}

pub(crate) fn line_of(first_line: u32, lines: Option<&[u32]>, ordinal: u32) -> Line {
    let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
    Line(
        lines
            .and_then(|lines| lines.get(at).copied())
            .unwrap_or_else(|| first_line.saturating_add(ordinal)),
    )
}

/// Collects rows into blocks: one closes at `block_rows` or `block_bytes`, whichever is first.
///
/// ```
/// # use rowmill::model::BlockBuilder;
/// let mut builder = BlockBuilder::new(2, 1 << 20);
/// assert_eq!(builder.push(2, "1"), None);
/// assert_eq!(builder.push(3, "2"), None);
/// let full = builder.push(9, "3").expect("two rows fill a block");
/// assert_eq!((full.first_line, full.rows, full.body.as_str()), (2, 2, "1\n2\n"));
/// assert_eq!(builder.finish().expect("one row is left").first_line, 9);
/// ```
#[derive(Debug)]
pub struct BlockBuilder {
    block: Block,
    block_rows: u32,
    block_bytes: usize,
}

impl BlockBuilder {
    /// `block_rows` ≥ 1 rows and about `block_bytes` bytes a block; a larger row is one by itself.
    #[must_use]
    pub fn new(block_rows: u32, block_bytes: usize) -> Self {
        Self {
            block: Block::default(),
            block_rows: block_rows.max(1),
            block_bytes,
        }
    }

    /// Adds a row; returns the block that it found full.
    ///
    /// `line` must be above the line before; `input` is one JSON text, whose line breaks become spaces.
    pub fn push(&mut self, line: u32, input: &str) -> Option<Block> {
        let full = self.block.rows > 0
            && (self.block.rows >= self.block_rows
                || self.block.body.len() + input.len() + 1 > self.block_bytes);
        let closed = full.then(|| self.take());
        let block = &mut self.block;
        if block.rows == 0 {
            block.first_line = line;
        } else if let Some(lines) = &mut block.lines {
            lines.push(line);
        } else if line != block.first_line.wrapping_add(block.rows) {
            let mut lines: Vec<u32> = (0..block.rows).map(|i| block.first_line + i).collect();
            lines.push(line);
            block.lines = Some(lines);
        }
        push_one_line(&mut block.body, input);
        block.body.push('\n');
        block.rows += 1;
        closed
    }

    /// Adds a row that was refused, with the message that says why.
    pub fn push_rejected(&mut self, line: u32, input: &str, message: Message) -> Option<Block> {
        let closed = self.push(line, input);
        let mut outcome = String::new();
        encode_outcome(
            &mut outcome,
            &RowOutcome::of(OutcomeStatus::Failed, message),
        );
        self.block.rejected.push(RejectedRow {
            ordinal: self.block.rows - 1,
            outcome,
        });
        closed
    }

    /// Bytes in the block that is open.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block.body.len()
    }

    /// The rest, if there is any.
    #[must_use]
    pub fn finish(&mut self) -> Option<Block> {
        (self.block.rows > 0).then(|| self.take())
    }

    fn take(&mut self) -> Block {
        let room = self.block.body.len();
        let fresh = Block {
            body: String::with_capacity(room),
            ..Block::default()
        };
        std::mem::replace(&mut self.block, fresh)
    }
}

/// The SHA-256 of rows as they were submitted: what tells a repeat from another batch.
///
/// It is of the inputs, each ended by a line feed, and of the runs of consecutive lines; how the
/// rows are cut into blocks does not change it.
#[derive(Debug, Default, Clone)]
pub struct ContentHash {
    inputs: Sha256,
    lines: Sha256,
    run: Option<(u32, u32)>,
}

impl ContentHash {
    /// Adds the next block.
    pub fn add(&mut self, block: &Block) {
        self.inputs.update(block.body.as_bytes());
        match &block.lines {
            None => self.run(block.first_line, block.rows),
            Some(lines) => lines.iter().for_each(|line| self.run(*line, 1)),
        }
    }

    fn run(&mut self, first: u32, count: u32) {
        self.run = match self.run {
            Some((from, length)) if from.wrapping_add(length) == first => {
                Some((from, length.wrapping_add(count)))
            }
            before => {
                self.end_run(before);
                Some((first, count))
            }
        };
    }

    fn end_run(&mut self, run: Option<(u32, u32)>) {
        if let Some((from, length)) = run {
            self.lines.update(from.to_be_bytes());
            self.lines.update(length.to_be_bytes());
        }
    }

    /// Says that the lines of the blocks that follow count from elsewhere than those before.
    pub fn lines_begin_anew(&mut self) {
        let before = self.run.take();
        self.end_run(before);
        // No run is empty.
        self.lines.update([0; 8]);
    }

    /// The hash of all that was added.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        let last = self.run.take();
        self.end_run(last);
        let mut all = self.inputs;
        all.update(self.lines.finalize());
        all.finalize().into()
    }

    /// The hash of one block alone.
    #[must_use]
    pub fn of(block: &Block) -> [u8; 32] {
        let mut hash = Self::default();
        hash.add(block);
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_in_the_lines_are_kept() {
        let mut builder = BlockBuilder::new(10, 1000);
        for line in [2, 3, 7, 8] {
            assert_eq!(builder.push(line, "0"), None);
        }
        let block = builder.finish().unwrap();
        let lines: Vec<u32> = (0..4).map(|i| block.line(i).0).collect();
        assert_eq!(lines, [2, 3, 7, 8]);
        assert_eq!(block.last_line(), 8);
    }

    #[test]
    fn the_hash_does_not_depend_on_the_cut_into_blocks() {
        let hash = |size: u32, shift: u32| {
            let mut builder = BlockBuilder::new(size, 1000);
            let mut hash = ContentHash::default();
            for line in [2, 3, 4, 9, 10] {
                if let Some(block) = builder.push(line + shift, "{}") {
                    hash.add(&block);
                }
            }
            hash.add(&builder.finish().unwrap());
            hash.finish()
        };
        assert_eq!(hash(1, 0), hash(5, 0));
        assert_eq!(hash(2, 0), hash(3, 0));
        assert_ne!(hash(2, 0), hash(2, 1));
    }

    #[test]
    fn a_large_row_is_a_block_of_its_own() {
        let mut builder = BlockBuilder::new(10, 4);
        assert_eq!(builder.push(1, "1"), None);
        assert_eq!(builder.push(2, "\"a long one\"").unwrap().rows, 1);
        assert_eq!(builder.push(3, "3").unwrap().rows, 1);
        assert_eq!(builder.finish().unwrap().rows, 1);
        assert_eq!(builder.finish(), None);
    }

    #[test]
    fn a_rejected_row_is_in_no_pick() {
        let mut builder = BlockBuilder::new(10, 1000);
        assert_eq!(builder.push(2, "1"), None);
        assert_eq!(
            builder.push_rejected(3, "2", Message::new("bad_json", 22)),
            None
        );
        assert_eq!(builder.push(4, "3"), None);
        let block = builder.finish().unwrap();
        assert_eq!(block.pick(), Some(vec![0, 2]));
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        let mut builder = BlockBuilder::new(10, 1000);
        assert_eq!(builder.push(1, "{\n\"a\":\r\n1}"), None);
        assert_eq!(builder.finish().unwrap().body, "{ \"a\":  1}\n");
    }
}
