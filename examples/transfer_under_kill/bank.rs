//! The bank on either database: its tables, and the processor that moves money in them.

use std::time::{Duration, Instant};

use rowmill::postgres::{self, tokio_postgres};
use rowmill::sqlite::{self, rusqlite};
use rowmill::{BoxError, Message, RowCx, RowFailure, Store};

/// From which account, to which, how much.
pub type Row = (i32, i32, i64);
type Cx<'a> = RowCx<'a, (), ()>;

const CHANGE: &str = "update demo_accounts set cents = cents + $1 where id = $2";
/// How long a server may be away.
const AWAY: Duration = Duration::from_secs(60);
const NOTE: &str = "insert into demo_transfers values ($1)";

/// Looked at when something is written already: it is undone, and the row has no effect.
fn check(cents: i64) -> Result<(), RowFailure> {
    if cents > 95 {
        return Err(Message::new("too_much", 101).into());
    }
    Ok(())
}

pub struct OnFile;

impl sqlite::TransactionalProcessor for OnFile {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = ();

    fn process(
        &self,
        tx: &mut sqlite::Tx<'_>,
        cx: &mut Cx<'_>,
        row: Row,
    ) -> Result<(), RowFailure> {
        let (from, to, cents) = row;
        tx.execute(CHANGE, (-cents, from))?;
        tx.execute(NOTE, [cx.line().0])?;
        check(cents)?;
        tx.execute(CHANGE, (cents, to))?;
        Ok(())
    }
}

pub struct OnServer;

impl postgres::TransactionalProcessor for OnServer {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = ();

    async fn process(
        &self,
        tx: &tokio_postgres::Transaction<'_>,
        cx: &mut Cx<'_>,
        (from, to, cents): Row,
    ) -> Result<(), RowFailure> {
        tx.execute(CHANGE, &[&-cents, &from]).await?;
        tx.execute(NOTE, &[&i64::from(cx.line().0)]).await?;
        check(cents)?;
        tx.execute(CHANGE, &[&cents, &to]).await?;
        Ok(())
    }
}

/// The store at an address: of a server, or a file's path.
pub async fn store(at: &str) -> rowmill::Result<Store> {
    Ok(match at.starts_with("postgres") {
        true => Store::postgres_url(at).await?,
        false => Store::sqlite(at).await?,
    })
}

/// The application's own way to its tables.
pub enum Bank {
    File(rusqlite::Connection),
    /// Connected to anew each time: a server that restarts ends what there was.
    Server(String),
}

impl Bank {
    pub fn open(at: &str) -> Result<Self, BoxError> {
        Ok(match at.starts_with("postgres") {
            true => Self::Server(at.to_owned()),
            false => Self::File(rusqlite::Connection::open(at)?),
        })
    }

    /// Makes the tables anew, with 1,000.00 in each account.
    pub async fn prepare(&self, accounts: i32) -> Result<(), BoxError> {
        self.run(
            "drop table if exists demo_accounts; drop table if exists demo_transfers;
             create table demo_accounts (id integer primary key, cents bigint not null);
             create table demo_transfers (line bigint not null);",
        )
        .await?;
        for id in 0..accounts {
            let account = format!("insert into demo_accounts values ({id}, 100000)");
            self.run(&account).await?;
        }
        Ok(())
    }

    async fn run(&self, sql: &str) -> Result<(), BoxError> {
        match self {
            Self::File(file) => file.execute_batch(sql)?,
            Self::Server(url) => connect(url).await?.batch_execute(sql).await?,
        }
        Ok(())
    }

    pub async fn number(&self, sql: &str) -> Result<i64, BoxError> {
        Ok(match self {
            Self::File(file) => file.query_row(sql, [], |r| r.get(0))?,
            Self::Server(url) => connect(url).await?.query_one(sql, &[]).await?.try_get(0)?,
        })
    }

    /// Resets every connection of the workers', where there are any; returns how many there were.
    pub async fn reset(&self) -> Result<i64, BoxError> {
        match self {
            Self::File(_) => Ok(0),
            Self::Server(_) => {
                let all = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                            where application_name = 'rowmill' and datname = current_database()";
                self.number(all).await
            }
        }
    }
}

/// A connection; a server that restarts is waited for.
async fn connect(url: &str) -> Result<tokio_postgres::Client, BoxError> {
    let began = Instant::now();
    loop {
        match tokio_postgres::connect(url, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return Ok(client);
            }
            Err(error) if began.elapsed() > AWAY => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
