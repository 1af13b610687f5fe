//! The same by rows beside each other in one transaction.

use super::{Bank, is_moved_after_kill_at, is_moved_while_connections_are_reset};

/// Rows of a task at once.
const AT_ONCE: u32 = 16;

async fn beside(rows: u32) -> Bank {
    let mut bank = Bank::new(rows).await;
    bank.task.parallel = AT_ONCE;
    bank
}

macro_rules! each_point {
    ($($name:ident: $point:literal, $nth:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            is_moved_after_kill_at(beside(1500).await, $point, $nth).await;
        })+
    };
}

each_point! {
    rows_beside_each_other_move_money_once_when_killed_at_the_start_of_a_row: "row_started", 700;
    rows_beside_each_other_move_money_once_when_killed_at_the_end_of_a_row: "row_done", 900;
    rows_beside_each_other_move_money_once_when_killed_before_a_commit: "piece_before_commit", 3;
    rows_beside_each_other_move_money_once_when_killed_after_a_commit: "piece_committed", 3;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_beside_each_other_move_money_once_when_connections_are_reset() {
    is_moved_while_connections_are_reset(beside(1500).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_beside_each_other_move_money_once_however_often_their_worker_is_killed() {
    let mut bank = beside(2000).await;
    bank.task.fails = 1_000_000;
    crate::fault::random::kill_again_and_again(&bank.task, 6, 300);
    bank.assert_moved().await;
}
