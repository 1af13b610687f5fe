//! What goes into the steps of an append and comes out of them.

use std::collections::HashSet;

use crate::model::{BatchId, Block, Token};

/// Rows that are to be added to a held batch.
#[derive(Debug, Clone)]
pub struct NewAppend {
    /// The batch.
    pub batch: BatchId,
    /// The caller's own name for it, unique in its batch; without one its content and place tell a repeat.
    pub key: Option<String>,
    /// The batch is released in the transaction that makes the rows count.
    pub release: bool,
    /// Who appends.
    pub by: String,
}

/// Blocks to append, in line order.
#[derive(Debug, Clone, Default)]
pub struct AppendBlocks {
    /// Blocks whose lines count from the last line that the batch had before the append.
    pub following: Vec<Block>,
    /// Blocks behind those, whose lines are the batch's own.
    pub given: Vec<Block>,
}

/// Blocks of an append that is being loaded.
#[derive(Debug)]
pub struct AppendPiece {
    /// To which batch.
    pub batch: BatchId,
    /// The loader's token.
    pub token: Token,
    /// The next blocks; none says that the loader lives.
    pub blocks: AppendBlocks,
}

/// What is known of an append when its last row was read.
#[derive(Debug, Clone)]
pub struct AppendContent {
    /// Of the rows with their lines as they were given: it does not depend on the batch.
    pub hash: [u8; 32],
    /// A CSV's columns; those that the batch does not have are added to its own.
    pub columns: Option<Vec<String>>,
}

/// Whether an append is to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Its pieces are awaited.
    New,
    /// It may be there already: its content tells when it is finished, and no piece is taken.
    Known,
}

/// Rows that were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// How many.
    pub rows: u64,
    /// The line of the first.
    pub first_line: u32,
    /// The line of the last.
    pub last_line: u32,
    /// They had been added before: this call added nothing.
    pub repeated: bool,
}

/// A batch's columns with those of an append behind them; `None` where nothing changes.
pub(crate) fn more_columns(there: &[String], appended: &[String]) -> Option<Vec<String>> {
    let known: HashSet<&String> = there.iter().collect();
    let mut more = appended.iter().filter(|c| !known.contains(c)).peekable();
    more.peek()?;
    Some(there.iter().chain(more).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::more_columns;

    #[test]
    fn columns_of_another_order_change_nothing_and_new_ones_come_last() {
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(more_columns(&names("a,b"), &names("b,a")), None);
        assert_eq!(more_columns(&names("a,b"), &names("b")), None);
        let more = more_columns(&names("a,b"), &names("c,b,d"));
        assert_eq!(more, Some(names("a,b,c,d")));
    }
}
