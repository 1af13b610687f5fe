//! Rows that write into the application's own table in their outcome's transaction, beside the same writes alone.

use std::time::{Duration, Instant};

use rowmill::postgres::tokio_postgres::{self, Client as Server, NoTls, Transaction};
use rowmill::sqlite::rusqlite::Connection;
use rowmill::{
    BatchProcessor, ChunkCx, ChunkOut, InputRow, JobManager, Message, RowCx, RowFailure, Status,
    postgres, sqlite,
};

use crate::Size;
use crate::batch::{held, released};
use crate::figures::{Failed, Figures, per_second};
use crate::place::{Fresh, On, Place};

const TABLE: &str = "create table effects (n bigint not null, text text not null)";
const INSERT: &str = "insert into effects values ($1, $2)";
const MANY: &str = "insert into effects select * from unnest($1::bigint[], $2::text[])";
/// Records that the reference commits together.
const TOGETHER: u64 = 1_000;

type Row = (i64, String);

fn row(n: u64) -> Row {
    (n.cast_signed(), format!("payment {n} of the month"))
}

/// Which rows are bad, by their number.
#[derive(Clone, Copy)]
struct Bad(Option<i64>);

impl Bad {
    fn look(self, n: i64) -> Result<(), RowFailure> {
        match self.0 {
            Some(every) if n % every == every / 2 => Err(Message::new("bad", 1).into()),
            _ => Ok(()),
        }
    }
}

struct Leased(Bad);

impl BatchProcessor for Leased {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = String;

    async fn process(&self, _: &mut RowCx<'_, (), ()>, row: Row) -> Result<String, RowFailure> {
        self.0.look(row.0)?;
        Ok(row.1)
    }
}

struct OnServer(Bad);

impl postgres::TransactionalProcessor for OnServer {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = ();

    async fn process(
        &self,
        tx: &Transaction<'_>,
        _: &mut RowCx<'_, (), ()>,
        (n, text): Row,
    ) -> Result<(), RowFailure> {
        tx.execute(INSERT, &[&n, &text]).await?;
        self.0.look(n)
    }
}

struct OnFile(Bad);

impl sqlite::TransactionalProcessor for OnFile {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = ();

    fn process(
        &self,
        tx: &mut sqlite::Tx<'_>,
        _: &mut RowCx<'_, (), ()>,
        (n, text): Row,
    ) -> Result<(), RowFailure> {
        tx.execute(INSERT, (n, text))?;
        self.0.look(n)
    }
}

struct InsertMany;

impl postgres::SetProcessor for InsertMany {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = ();

    async fn process(
        &self,
        tx: &Transaction<'_>,
        _: &ChunkCx<'_, (), ()>,
        rows: &[InputRow<Row>],
        out: &mut ChunkOut<()>,
    ) -> Result<(), RowFailure> {
        let numbers: Vec<i64> = rows.iter().map(|row| row.input.0).collect();
        let texts: Vec<&str> = rows.iter().map(|row| row.input.1.as_str()).collect();
        tx.execute(MANY, &[&numbers, &texts]).await?;
        for at in 0..rows.len() {
            out.success(at, &());
        }
        Ok(())
    }
}

/// The table, in an empty database.
async fn made(place: &Place) -> Result<Fresh, Failed> {
    let fresh = place.fresh()?;
    match place.on {
        On::Postgres => server(&fresh).await?.batch_execute(TABLE).await?,
        On::Sqlite => {
            // The store's file is the store's to make.
            drop(fresh.store().await?);
            Connection::open(fresh.at())?.execute_batch(TABLE)?;
        }
    }
    Ok(fresh)
}

async fn server(fresh: &Fresh) -> Result<Server, Failed> {
    let (client, connection) = tokio_postgres::connect(&fresh.at(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// How long an op takes for its rows, of which some are bad.
async fn op(place: &Place, op: &str, rows: u64, bad: Bad) -> Result<Duration, Failed> {
    let fresh = made(place).await?;
    let manager = JobManager::builder(fresh.store().await?)
        .objects(fresh.objects())
        .batch("bench", "leased", Leased(bad))
        .transactional("bench", "insert", OnFile(bad))
        .transactional("bench", "insert", OnServer(bad));
    let manager = match place.on {
        On::Postgres => manager.set_based("bench", "set", InsertMany),
        On::Sqlite => manager,
    };
    let manager = manager.build()?;
    let id = held(&manager.client(), op, (0..rows).map(row)).await?;
    let stop = rowmill::CancellationToken::new();
    let works = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
    let client = manager.client();
    let took = match bad.0 {
        None => released(&client, id, rows).await?,
        Some(every) => {
            let began = Instant::now();
            client.wait_off(id).await?;
            let done = client.wait_done(id, None).await?;
            let took = began.elapsed();
            let expected = (0..rows.cast_signed())
                .filter(|n| bad.look(*n).is_err())
                .count() as u64;
            if (done.status, done.counts.failed) != (Status::Failed, expected) {
                let failed = done.counts.failed;
                return Err(format!("{failed} rows failed of which each {every}th is bad").into());
            }
            took
        }
    };
    stop.cancel();
    works.await??;
    Ok(took)
}

/// How long one connection takes for the same statements, one a row.
async fn alone(place: &Place, rows: u64) -> Result<Duration, Failed> {
    let fresh = made(place).await?;
    let began;
    match place.on {
        On::Postgres => {
            let mut client = server(&fresh).await?;
            let insert = client.prepare(INSERT).await?;
            began = Instant::now();
            for first in (0..rows).step_by(TOGETHER as usize) {
                let tx = client.transaction().await?;
                for n in first..rows.min(first + TOGETHER) {
                    let (n, text) = row(n);
                    tx.execute(&insert, &[&n, &text]).await?;
                }
                tx.commit().await?;
            }
        }
        On::Sqlite => {
            let mut db = Connection::open(fresh.at())?;
            db.execute_batch("pragma synchronous = full")?;
            began = Instant::now();
            for first in (0..rows).step_by(TOGETHER as usize) {
                let tx = db.transaction()?;
                for n in first..rows.min(first + TOGETHER) {
                    tx.prepare_cached(INSERT)?.execute(row(n))?;
                }
                tx.commit()?;
            }
        }
    }
    Ok(began.elapsed())
}

/// How long one connection takes for one statement a thousand rows.
async fn alone_set(place: &Place, rows: u64) -> Result<Duration, Failed> {
    let fresh = made(place).await?;
    let client = server(&fresh).await?;
    let insert = client.prepare(MANY).await?;
    let began = Instant::now();
    for first in (0..rows).step_by(TOGETHER as usize) {
        let (numbers, texts): (Vec<_>, Vec<_>) =
            (first..rows.min(first + TOGETHER)).map(row).unzip();
        client.execute(&insert, &[&numbers, &texts]).await?;
    }
    Ok(began.elapsed())
}

pub async fn transactional(
    place: &Place,
    size: &Size,
    figures: &mut Figures,
) -> Result<(), Failed> {
    let rows = (size.rows / 5).max(1);
    let own = per_second(rows, op(place, "insert", rows, Bad(None)).await?);
    let alone = per_second(rows, alone(place, rows).await?);
    figures.add("one INSERT a row", "/s", own);
    figures.add("the same INSERTs alone", "/s", alone);
    figures.add("of the INSERTs alone", "times", own / alone);
    Ok(())
}

pub async fn set(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    if place.on == On::Sqlite {
        return Ok(());
    }
    let rows = size.rows;
    let own = per_second(rows, op(place, "set", rows, Bad(None)).await?);
    let alone = per_second(rows, alone_set(place, rows).await?);
    figures.add("one statement a block", "/s", own);
    figures.add("the same statements alone", "/s", alone);
    figures.add("of the statements alone", "times", own / alone);
    Ok(())
}

/// What bad rows cost the others.
pub async fn failed(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    for (name, rows, bads) in [
        ("leased", size.rows, &[100][..]),
        ("insert", (size.rows / 5).max(1), &[1000, 100]),
    ] {
        let none = op(place, name, rows, Bad(None)).await?.as_secs_f64();
        for every in bads {
            let some = op(place, name, rows, Bad(Some(*every))).await?;
            let more = (some.as_secs_f64() / none - 1.0) * 100.0;
            figures.add(format!("{name}, each {every}th bad: time"), "% more", more);
        }
    }
    Ok(())
}
