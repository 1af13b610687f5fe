//! Rows that write into the application's own table in their outcome's transaction, beside the same writes alone.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use rowmill::model::OpSettings;
use rowmill::postgres::tokio_postgres::Transaction;
use rowmill::sqlite::rusqlite::Connection;
use rowmill::{
    BatchProcessor, ChunkCx, ChunkOut, InputRow, JobManager, Kind, Message, RowCx, RowFailure,
    Status, postgres, sqlite,
};

use crate::Size;
use crate::figures::{Failed, Figures, Target, per_second};
use crate::place::{Fresh, On, Place};
use crate::profile::Profiled;
use crate::works::{Works, held, released};

const TABLES: &str = "create table effects (n bigint not null, text text not null);
    create table accounts (n bigint primary key, postings bigint not null, last text not null);
    insert into accounts with recursive a (n) as (select 0 union all select n + 1 from a where n < 99999) select n, 0, '' from a";
pub const INSERT: &str = "insert into effects values ($1, $2)";
const INSERT_MANY: &str = "insert into effects select * from unnest($1::bigint[], $2::text[])";
const UPDATE: &str = "update accounts set postings = postings + 1, last = $2 where n = cast($1 as bigint) * 7919 % 100000";
const UPDATE_MANY: &str = "update accounts a set postings = a.postings + u.times, last = u.text
      from (select n * 7919 % 100000 as n, count(*) as times, max(text) as text
              from unnest($1::bigint[], $2::text[]) u (n, text) group by 1) u
     where a.n = u.n";
/// Records that the reference commits together.
const TOGETHER: u64 = 1_000;

/// Rows of a task that run at once where they need not wait for each other.
const BESIDE: u32 = 64;

type Row = (i64, String);

pub fn row(n: u64) -> Row {
    (n.cast_signed(), format!("payment {n} of the month"))
}

/// Which rows are bad, by their number, and what becomes of them.
#[derive(Clone, Copy)]
pub enum Bad {
    None,
    /// One of so many fails for good.
    Fails(i64),
    /// One of so many fails, and succeeds when it comes again, at once.
    ComesAgain(i64),
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Fails(every) => write!(f, ", each {every}th bad"),
            Self::ComesAgain(every) => write!(f, ", each {every}th comes again"),
        }
    }
}

impl Bad {
    fn look(self, n: i64, attempt: u32) -> Result<(), RowFailure> {
        match self {
            Self::Fails(every) if n % every == every / 2 => Err(Message::new("bad", 1).into()),
            Self::ComesAgain(every) if n % every == every / 2 && attempt == 1 => {
                Err(RowFailure::Retry(Some(Duration::ZERO), "not yet".into()))
            }
            _ => Ok(()),
        }
    }

    fn fails(self, rows: u64) -> u64 {
        match self {
            Self::Fails(_) => (0..rows.cast_signed())
                .filter(|n| self.look(*n, 1).is_err())
                .count() as u64,
            _ => 0,
        }
    }
}

struct Leased(Bad);

impl BatchProcessor for Leased {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = String;

    async fn process(&self, cx: &mut RowCx<'_, (), ()>, row: Row) -> Result<String, RowFailure> {
        self.0.look(row.0, cx.attempt())?;
        Ok(row.1)
    }
}

/// Makes one statement a row.
pub struct OnServer(pub Bad, pub &'static str);

impl postgres::TransactionalProcessor for OnServer {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = ();

    async fn process(
        &self,
        tx: &Transaction<'_>,
        cx: &mut RowCx<'_, (), ()>,
        (n, text): Row,
    ) -> Result<(), RowFailure> {
        let kept = cx.prepare(tx, self.1).await?;
        tx.execute(&kept, &[&n, &text]).await?;
        self.0.look(n, cx.attempt())
    }
}

/// The same, and its rows need not wait for each other.
struct AnyOrder(OnServer);

impl postgres::TransactionalProcessor for AnyOrder {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = ();

    async fn process(
        &self,
        tx: &Transaction<'_>,
        cx: &mut RowCx<'_, (), ()>,
        row: Row,
    ) -> Result<(), RowFailure> {
        self.0.process(tx, cx, row).await
    }

    fn any_order(&self) -> bool {
        true
    }
}

/// The same in a file.
pub struct OnFile(pub Bad, pub &'static str);

impl sqlite::TransactionalProcessor for OnFile {
    type Block = ();
    type Context = ();
    type Input = Row;
    type Output = ();

    fn process(
        &self,
        tx: &mut sqlite::Tx<'_>,
        cx: &mut RowCx<'_, (), ()>,
        (n, text): Row,
    ) -> Result<(), RowFailure> {
        tx.execute(self.1, (n, text))?;
        self.0.look(n, cx.attempt())
    }
}

/// Makes one statement for the rows of a block.
struct Set(&'static str);

impl postgres::SetProcessor for Set {
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
        tx.execute(self.0, &[&numbers, &texts]).await?;
        for at in 0..rows.len() {
            out.success(at, &());
        }
        Ok(())
    }
}

/// The table, in an empty database.
pub async fn made(place: &Place) -> Result<Fresh, Failed> {
    let fresh = place.fresh()?;
    match place.on {
        On::Postgres => fresh.server().await?.batch_execute(TABLES).await?,
        On::Sqlite => {
            // The store's file is the store's to make.
            drop(fresh.store().await?);
            Connection::open(fresh.at())?.execute_batch(TABLES)?;
        }
    }
    Ok(fresh)
}

/// How long an op takes for its rows, of which some are bad.
async fn op(place: &Place, op: &str, rows: u64, bad: Bad) -> Result<Duration, Failed> {
    let fresh = made(place).await?;
    let twice = OpSettings {
        max_attempts: 2,
        ..OpSettings::default()
    };
    let beside = OpSettings {
        parallel: BESIDE,
        local_concurrency: Some(2 * BESIDE),
        ..twice.clone()
    };
    let manager = JobManager::builder(fresh.store().await?)
        .objects(fresh.objects())
        .batch("bench", "leased", Leased(bad))
        .transactional("bench", "insert", OnFile(bad, INSERT))
        .transactional("bench", "insert", OnServer(bad, INSERT))
        .transactional("bench", "update", OnFile(bad, UPDATE))
        .transactional("bench", "update", OnServer(bad, UPDATE))
        .settings("bench", "leased", Kind::Batch, twice.clone())
        .settings("bench", "insert", Kind::Batch, twice);
    let manager = match place.on {
        On::Postgres => manager
            .transactional("bench", "insert_beside", AnyOrder(OnServer(bad, INSERT)))
            .transactional("bench", "update_beside", AnyOrder(OnServer(bad, UPDATE)))
            .settings("bench", "insert_beside", Kind::Batch, beside.clone())
            .settings("bench", "update_beside", Kind::Batch, beside)
            .set_based("bench", "insert_set", Set(INSERT_MANY))
            .set_based("bench", "update_set", Set(UPDATE_MANY)),
        On::Sqlite => manager,
    };
    let manager = manager.build()?;
    let client = manager.client();
    let id = held(&client, op, (0..rows).map(row)).await?;
    let works = Works::begin(&manager);
    let profiled = Profiled::of(&format!("{op}{bad}"))?;
    let took = match bad.fails(rows) {
        0 => released(&client, id, rows).await?,
        expected => {
            let began = Instant::now();
            client.wait_off(id).await?;
            let done = client.wait_done(id, None).await?;
            let took = began.elapsed();
            if (done.status, done.counts.failed) != (Status::Failed, expected) {
                let failed = done.counts.failed;
                return Err(format!("{failed} rows failed of which {expected} are bad").into());
            }
            took
        }
    };
    drop(profiled);
    works.end().await?;
    Ok(took)
}

/// How long one connection takes for the same statements, one a row.
async fn alone(place: &Place, sql: &'static str, rows: u64) -> Result<Duration, Failed> {
    let fresh = made(place).await?;
    let began;
    match place.on {
        On::Postgres => {
            let mut client = fresh.server().await?;
            let statement = client.prepare(sql).await?;
            began = Instant::now();
            for first in (0..rows).step_by(TOGETHER as usize) {
                let tx = client.transaction().await?;
                for n in first..rows.min(first + TOGETHER) {
                    let (n, text) = row(n);
                    tx.execute(&statement, &[&n, &text]).await?;
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
                    tx.prepare_cached(sql)?.execute(row(n))?;
                }
                tx.commit()?;
            }
        }
    }
    Ok(began.elapsed())
}

/// How long two connections take for them, of which as many are on their way on each as rows run beside each other.
async fn alone_beside(place: &Place, sql: &'static str, rows: u64) -> Result<Duration, Failed> {
    let fresh = made(place).await?;
    let mut clients = [fresh.server().await?, fresh.server().await?];
    let pieces = Mutex::new((0..rows).step_by(TOGETHER as usize));
    let began = Instant::now();
    let both = clients.iter_mut().map(|client| async {
        let statement = client.prepare(sql).await?;
        while let Some(first) = next(&pieces) {
            let tx = client.transaction().await?;
            let sent = (first..rows.min(first + TOGETHER)).map(|n| {
                let (tx, statement, (n, text)) = (&tx, &statement, row(n));
                async move { tx.execute(statement, &[&n, &text]).await }
            });
            let mut sent = stream::iter(sent).buffer_unordered(BESIDE as usize);
            while sent.try_next().await?.is_some() {}
            drop(sent);
            tx.commit().await?;
        }
        Ok::<_, Failed>(())
    });
    futures_util::future::try_join_all(both).await?;
    Ok(began.elapsed())
}

fn next<T>(of: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    of.lock().unwrap_or_else(PoisonError::into_inner).next()
}

/// How long one connection takes for one statement a thousand rows.
async fn alone_set(place: &Place, sql: &str, rows: u64) -> Result<Duration, Failed> {
    let fresh = made(place).await?;
    let client = fresh.server().await?;
    let statement = client.prepare(sql).await?;
    let began = Instant::now();
    for first in (0..rows).step_by(TOGETHER as usize) {
        let (numbers, texts): (Vec<_>, Vec<_>) =
            (first..rows.min(first + TOGETHER)).map(row).unzip();
        client.execute(&statement, &[&numbers, &texts]).await?;
    }
    Ok(began.elapsed())
}

pub async fn transactional(
    place: &Place,
    size: &Size,
    figures: &mut Figures,
) -> Result<(), Failed> {
    let rows = (size.rows / 5).max(1);
    for (name, word, sql) in [("insert", "INSERT", INSERT), ("update", "UPDATE", UPDATE)] {
        let own = per_second(rows, op(place, name, rows, Bad::None).await?);
        let alone = per_second(rows, alone(place, sql, rows).await?);
        // What is to be reached is said of INSERTs.
        let (rate, of) = match (place.on, name) {
            (On::Postgres, "insert") => (None, Some(Target::AtLeast(0.5))),
            (On::Sqlite, "insert") => (Some(Target::AtLeast(50_000.0)), None),
            _ => (None, None),
        };
        figures.aim(format!("one {word} a row"), "/s", own, rate);
        figures.add(format!("the same {word}s alone"), "/s", alone);
        figures.aim(format!("of the {word}s alone"), "times", own / alone, of);
        if place.on == On::Sqlite {
            continue;
        }
        let own = per_second(
            rows,
            op(place, &format!("{name}_beside"), rows, Bad::None).await?,
        );
        let alone = per_second(rows, alone_beside(place, sql, rows).await?);
        figures.add(format!("one {word} a row, {BESIDE} at once"), "/s", own);
        figures.add(
            format!("{word}s alone, {BESIDE} at once on two connections"),
            "/s",
            alone,
        );
        figures.add(
            format!("of the {word}s alone, {BESIDE} at once"),
            "times",
            own / alone,
        );
    }
    Ok(())
}

pub async fn set(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    if place.on == On::Sqlite {
        figures.note("on a server alone".into());
        return Ok(());
    }
    let rows = size.rows;
    for (name, word, sql) in [
        ("insert_set", "INSERT", INSERT_MANY),
        ("update_set", "UPDATE", UPDATE_MANY),
    ] {
        let own = per_second(rows, op(place, name, rows, Bad::None).await?);
        let alone = per_second(rows, alone_set(place, sql, rows).await?);
        figures.add(format!("one {word} a block"), "/s", own);
        figures.add(format!("the same {word}s alone"), "/s", alone);
        figures.add(format!("of the {word}s alone"), "times", own / alone);
    }
    Ok(())
}

/// Rows of the ops `leased` and `insert`.
fn both(size: &Size) -> [(&'static str, u64); 2] {
    [("leased", size.rows), ("insert", (size.rows / 5).max(1))]
}

/// What bad rows cost the others.
pub async fn failed(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    let [leased, insert] = both(size);
    let bads = [
        (leased, &[(100, 10.0)][..]),
        (insert, &[(1000, 12.0), (100, 25.0)]),
    ];
    for ((name, rows), bads) in bads {
        let none = op(place, name, rows, Bad::None).await?;
        for (every, percent) in bads {
            let some = op(place, name, rows, Bad::Fails(*every)).await?;
            let figure = format!("{name}{}: time", Bad::Fails(*every));
            let target = Target::Below(*percent);
            figures.aim(figure, "% more", more(none, some), target);
        }
    }
    Ok(())
}

/// What rows cost that succeed when they come again.
pub async fn retried(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    for (name, rows) in both(size) {
        let none = op(place, name, rows, Bad::None).await?;
        let bad = Bad::ComesAgain(100);
        let some = op(place, name, rows, bad).await?;
        let figure = format!("{name}{bad}: time");
        figures.add(figure, "% more", more(none, some));
    }
    Ok(())
}

/// How much longer it took, in percent.
fn more(none: Duration, some: Duration) -> f64 {
    (some.as_secs_f64() / none.as_secs_f64() - 1.0) * 100.0
}
