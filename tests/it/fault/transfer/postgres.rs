//! The same on PostgreSQL, where the way to the database fails too.

mod beside;

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use rowmill::{Client, Status, Store};
use tempfile::TempDir;

use crate::fault::child::{Running, Task};
use crate::support::servers::{Database, Options, Postgres, Proxy, until};

const ACCOUNTS: &str = "
    create table accounts (name text primary key, cents bigint not null);
    create table moves (line bigint not null, cents bigint not null);
    insert into accounts values ('a', 1000000000), ('b', 0)";

/// A bank and a batch of transfers.
struct Bank {
    _dir: TempDir,
    database: Database,
    task: Task,
}

impl Bank {
    async fn new(rows: u32) -> Self {
        let database = tokio::task::spawn_blocking(Database::fresh).await.unwrap();
        Self::on(database, rows)
    }

    fn on(database: Database, rows: u32) -> Self {
        database.run(ACCOUNTS);
        let dir = tempfile::tempdir().unwrap();
        let task = Task {
            postgres: Some(database.url().to_owned()),
            block_rows: 200,
            ..Task::new(dir.path(), rows)
        };
        Self {
            _dir: dir,
            database,
            task,
        }
    }

    /// The same, by way of a proxy.
    fn behind(&self, proxy: &Proxy) -> Task {
        Task {
            postgres: Some(proxy.url().to_owned()),
            ..self.task.clone()
        }
    }

    fn numbers(&self, sql: &str) -> Vec<i64> {
        let found = Database::rows_at(self.database.url(), sql);
        found.iter().map(|r| r.get(0)).collect()
    }

    /// Every row's effect is there once if and only if its outcome is success; no money came or went.
    async fn assert_moved(&self) {
        self.assert_moved_by(&[&self.task]).await;
    }

    async fn assert_moved_by(&self, tasks: &[&Task]) {
        let client = Client::new(Store::postgres_url(self.database.url()).await.unwrap());
        let mut good: Vec<i64> = Vec::new();
        for task in tasks {
            let batch = client.batch_status(task.id).await.unwrap();
            assert!(batch.done, "{batch:?}");
            let rows: Vec<_> = client.rows(task.id, None).try_collect().await.unwrap();
            for row in &rows {
                let (line, messages) = (row.line.0, &row.messages);
                let wanted = match line.is_multiple_of(task.fails) {
                    true => Status::Failed,
                    false => Status::Success,
                };
                assert_eq!(row.status, wanted, "line {line}: {messages:?}");
                good.extend((wanted == Status::Success).then_some(i64::from(line)));
            }
        }
        good.sort_unstable();
        let moved = self.numbers("select line from public.moves order by line");
        assert_eq!(moved, good);
        let sum: i64 = good.iter().map(|line| line - 2).sum();
        let of = |name| format!("select cents from public.accounts where name = '{name}'");
        assert_eq!(self.numbers(&of("a")), [1_000_000_000 - sum]);
        assert_eq!(self.numbers(&of("b")), [sum]);
    }
}

async fn is_moved_after_kill_at(bank: Bank, point: &str, nth: u32) {
    let ended_well = bank.task.start(&format!("{point}:{nth}=kill")).wait();
    assert!(!ended_well, "the child was not killed at {point}");
    assert!(bank.task.start("").wait());
    bank.assert_moved().await;
}

macro_rules! each_point {
    ($($name:ident: $point:literal, $nth:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            is_moved_after_kill_at(Bank::new(1500).await, $point, $nth).await;
        })+
    };
}

each_point! {
    on_postgres_money_moves_once_when_killed_after_a_claim: "claimed", 1;
    on_postgres_money_moves_once_when_killed_at_the_start_of_a_row: "row_started", 700;
    on_postgres_money_moves_once_when_killed_at_the_end_of_a_row: "row_done", 900;
    on_postgres_money_moves_once_when_killed_before_a_commit: "piece_before_commit", 3;
    on_postgres_money_moves_once_when_killed_after_a_commit: "piece_committed", 3;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_money_moves_once_when_killed_at_a_commit() {
    let bank = Bank::new(1500).await;
    let proxy = Proxy::start(bank.database.url());
    let mut child = bank.behind(&proxy).start("");
    child.wait_rows(300);
    proxy.swallow_next_answer_to(b"COMMIT\0");
    let child = tokio::task::spawn_blocking(move || {
        until("a commit", || (proxy.swallowed() > 0).then_some(()));
        child.kill();
    });
    child.await.unwrap();
    assert!(bank.task.start("").wait());
    bank.assert_moved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_money_moves_once_when_answers_to_commits_are_lost() {
    let bank = Bank::new(1500).await;
    let proxy = Proxy::start(bank.database.url());
    let mut child = bank.behind(&proxy).start("");
    let ended = tokio::task::spawn_blocking(move || {
        child.wait_rows(1);
        for lost in 1..=3 {
            proxy.swallow_next_answer_to(b"COMMIT\0");
            until("a commit", || (proxy.swallowed() >= lost).then_some(()));
        }
        child.wait()
    });
    assert!(ended.await.unwrap(), "it goes on by itself");
    bank.assert_moved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_money_moves_once_when_connections_are_reset() {
    is_moved_while_connections_are_reset(Bank::new(1500).await).await;
}

async fn is_moved_while_connections_are_reset(bank: Bank) {
    let proxy = Proxy::start(bank.database.url());
    let mut child = bank.behind(&proxy).start("");
    let ended = tokio::task::spawn_blocking(move || {
        for rows in [50, 333, 210, 87] {
            child.wait_rows(rows);
            proxy.cut();
        }
        child.wait()
    });
    assert!(ended.await.unwrap(), "it goes on by itself");
    bank.assert_moved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_money_moves_once_however_often_its_worker_is_killed() {
    let mut bank = Bank::new(2000).await;
    bank.task.fails = 1_000_000;
    crate::fault::random::kill_again_and_again(&bank.task, 6, 300);
    bank.assert_moved().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_money_moves_once_when_the_server_crashes_and_when_it_is_restarted() {
    let moved = tokio::task::spawn_blocking(|| {
        let mut server = Postgres::start(&Options::default());
        let bank = Bank::on(Database::on(&server), 1500);
        let mut child = bank.task.start("");
        child.wait_rows(300);
        server.kill();
        server.restart();
        child.wait_rows(300);
        server.restart();
        assert!(child.wait(), "it goes on by itself");
        (server, bank)
    });
    let (server, bank) = moved.await.unwrap();
    bank.assert_moved().await;
    drop((bank, server));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_money_moves_once_under_kills_resets_and_restarts_together() {
    let moved = tokio::task::spawn_blocking(|| {
        let mut server = Postgres::start(&Options::default());
        // What a child says of all of them fits the pipe, which nobody may read for long.
        let bank = Bank::on(Database::on(&server), 6000);
        let proxy = Proxy::start(bank.database.url());
        let behind = bank.behind(&proxy);
        // Who has run a row has submitted: from then on it goes on by itself.
        let started = || {
            let mut child = behind.start("");
            child.wait_rows(1);
            child
        };
        let mut workers = vec![started(), started()];
        // The moments are as good as any, and a failure can be seen again.
        let mut dice = 0x2545_F491_u32;
        for round in 0..9 {
            dice ^= dice << 13;
            dice ^= dice >> 17;
            dice ^= dice << 5;
            workers.swap(0, usize::from(dice.is_multiple_of(2)));
            workers[0].wait_rows(dice / 2 % 50 + 1);
            match round % 3 {
                0 => workers.swap_remove(0).kill(),
                1 => proxy.cut(),
                _ => server.restart(),
            }
            if workers.len() == 1 {
                workers.push(started());
            }
        }
        let moves = bank.numbers("select count(*) from public.moves");
        assert!(moves[0] < 5900, "it all came while they worked: {moves:?}");
        assert!(workers.into_iter().all(Running::wait), "they go on");
        (server, bank)
    });
    let (server, bank) = moved.await.unwrap();
    bank.assert_moved().await;
    drop((bank, server));
}

/// Waits until the server has made a commit whose answer the proxy holds.
fn is_held_at_a_commit(child: &mut Running, proxy: &Proxy) {
    child.wait_rows(300);
    proxy.hold_next_answer_to(&[b"COMMIT\0"]);
    until("a commit", || (proxy.held() > 0).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_money_moves_once_when_the_server_crashes_at_a_commit() {
    let moved = tokio::task::spawn_blocking(|| {
        let mut server = Postgres::start(&Options::default());
        let bank = Bank::on(Database::on(&server), 1500);
        let proxy = Proxy::start(bank.database.url());
        let mut child = bank.behind(&proxy).start("");
        is_held_at_a_commit(&mut child, &proxy);
        let moves = "select line from public.moves order by line";
        let committed = bank.numbers(moves);
        assert!(committed.len() < 1400, "there is more to do");
        server.kill();
        server.restart();
        assert_eq!(
            bank.numbers(moves),
            committed,
            "what was committed is there"
        );
        proxy.cut();
        assert!(child.wait(), "it goes on by itself");
        (server, bank)
    });
    let (server, bank) = moved.await.unwrap();
    bank.assert_moved().await;
    drop((bank, server));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_money_moves_once_when_its_worker_is_frozen_at_a_commit() {
    let mut bank = Bank::new(1500).await;
    bank.task.heartbeat = Some(Duration::from_secs(5));
    let proxy = Proxy::start(bank.database.url());
    let (task, mut frozen) = (bank.task.clone(), bank.behind(&proxy).start(""));
    let ended = tokio::task::spawn_blocking(move || {
        is_held_at_a_commit(&mut frozen, &proxy);
        frozen.signal(libc::SIGSTOP);
        assert!(
            task.start("").wait(),
            "another takes over, and ends the batch"
        );
        proxy.cut();
        frozen.signal(libc::SIGCONT);
        assert!(frozen.wait(), "it learns that its commit was made");
    });
    ended.await.unwrap();
    bank.assert_moved().await;
}

/// Stops the child while it has a transaction open.
fn frozen_in_a_transaction(url: &str, child: &Running) {
    // In that of a piece, which has written an account: there are others, of a claim or a look.
    let open = "select count(*) from pg_stat_activity a
                 where datname = current_database() and application_name = 'rowmill' and state = 'idle in transaction'
                   and exists (select 1 from pg_locks l where l.pid = a.pid and l.relation = 'public.accounts'::regclass and l.mode = 'RowExclusiveLock')";
    until("a worker that is stopped within a transaction", || {
        child.signal(libc::SIGSTOP);
        // What it had sent is worked off, and it says no more.
        let busy = "select count(*) from pg_stat_activity
                     where datname = current_database() and application_name = 'rowmill' and state = 'active'";
        let count = |sql| Database::rows_at(url, sql)[0].get::<_, i64>(0);
        until("the end of its statements", || {
            (count(busy) == 0).then_some(())
        });
        if count(open) > 0 {
            return Some(());
        }
        child.signal(libc::SIGCONT);
        None
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_worker_that_is_frozen_with_its_transaction_open_moves_no_money_when_it_wakes()
 {
    let bank = Arc::new(Bank::new(600).await);
    let at = Arc::clone(&bank);
    let moved = tokio::task::spawn_blocking(move || {
        let mut frozen = at.task.start("");
        frozen.wait_rows(50);
        frozen_in_a_transaction(at.database.url(), &frozen);
        // Others write to the same accounts; they wait until the server has ended what is open.
        let dir = tempfile::tempdir().unwrap();
        let other = Task {
            postgres: at.task.postgres.clone(),
            block_rows: at.task.block_rows,
            ..Task::new(dir.path(), 200)
        };
        assert!(other.start("").wait(), "the others go on");
        frozen.signal(libc::SIGCONT);
        assert!(frozen.wait(), "it goes on, with what was open undone");
        other
    });
    let other = moved.await.unwrap();
    bank.assert_moved_by(&[&bank.task, &other]).await;
}
