//! The bank on either database: its tables, and the processor that moves money in them.

use rowmill::postgres::{self, tokio_postgres};
use rowmill::sqlite::{self, rusqlite};
use rowmill::{BoxError, Message, RowCx, RowFailure, Store};

/// From which account, to which, how much.
pub type Row = (i32, i32, i64);
type Cx<'a> = RowCx<'a, (), ()>;

const CHANGE: &str = "update demo_accounts set cents = cents + $1 where id = $2";
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

/// The application's own connection.
pub enum Bank {
    File(rusqlite::Connection),
    Server(tokio_postgres::Client),
}

impl Bank {
    pub async fn open(at: &str) -> Result<Self, BoxError> {
        if !at.starts_with("postgres") {
            return Ok(Self::File(rusqlite::Connection::open(at)?));
        }
        let (client, connection) = tokio_postgres::connect(at, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(Self::Server(client))
    }

    pub async fn run(&self, sql: &str) -> Result<(), BoxError> {
        match self {
            Self::File(file) => file.execute_batch(sql)?,
            Self::Server(server) => server.batch_execute(sql).await?,
        }
        Ok(())
    }

    pub async fn number(&self, sql: &str) -> Result<i64, BoxError> {
        Ok(match self {
            Self::File(file) => file.query_row(sql, [], |r| r.get(0))?,
            Self::Server(server) => server.query_one(sql, &[]).await?.try_get(0)?,
        })
    }

    /// Resets every connection of the workers', where there are any.
    pub async fn reset(&self) -> Result<(), BoxError> {
        if let Self::Server(server) = self {
            let all = "select pg_terminate_backend(pid) from pg_stat_activity
                        where application_name = 'rowmill' and datname = current_database()";
            server.batch_execute(all).await?;
        }
        Ok(())
    }
}
