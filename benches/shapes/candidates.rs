//! What could be done otherwise on a row's way, beside what is done: how its text is read, kept, sent and asked for.

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Instant;

use futures_util::future::try_join_all;
use rowmill::ingest::{Options, Records};
use rowmill::postgres::tokio_postgres::binary_copy::BinaryCopyInWriter;
use rowmill::postgres::tokio_postgres::types::{ToSql, Type};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Size;
use crate::batch::Posting;
use crate::effects::made;
use crate::figures::{Failed, Figures, per_second};
use crate::place::{On, Place};

/// Rows of a block.
const BLOCK: u64 = 1_000;
/// Blocks of one INSERT.
const TOGETHER: usize = 16;
/// Statements one after the other, and how many of them are sent before the first is answered.
const STATEMENTS: i64 = 20_000;
const PIPELINED: i64 = 64;

/// A row whose texts lie where it was read.
#[derive(Deserialize)]
struct Borrowed<'a> {
    #[serde(borrow)]
    account: Cow<'a, str>,
    #[serde(borrow)]
    amount: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    r#ref: Cow<'a, str>,
}

pub async fn candidates(place: &Place, size: &Size, figures: &mut Figures) -> Result<(), Failed> {
    let rows = (size.rows / 5).max(BLOCK);
    match place.on {
        // No database has part in it.
        On::Sqlite => in_process(rows, figures),
        On::Postgres => {
            texts(place, rows, figures).await?;
            statements(place, figures).await
        }
    }
}

fn lines(rows: u64) -> Result<String, Failed> {
    let mut text = String::new();
    for n in 0..rows {
        text.push_str(&serde_json::to_string(&Posting::nth(n))?);
        text.push('\n');
    }
    Ok(text)
}

/// Rows a second of something that goes through all of them and says how many there were.
fn timed(
    figures: &mut Figures,
    name: &str,
    rows: u64,
    work: impl FnOnce() -> Result<u64, Failed>,
) -> Result<(), Failed> {
    let began = Instant::now();
    let met = work()?;
    figures.add(name, "/s", per_second(rows, began.elapsed()));
    match met == rows {
        true => Ok(()),
        false => Err(format!("{name}: {met} of {rows} rows").into()),
    }
}

/// Parses each line; how many there were.
fn parsed<T: DeserializeOwned>(text: &str) -> Result<u64, Failed> {
    let mut met = 0;
    for line in text.lines() {
        black_box(serde_json::from_str::<T>(line)?);
        met += 1;
    }
    Ok(met)
}

fn in_process(rows: u64, figures: &mut Figures) -> Result<(), Failed> {
    let text = lines(rows)?;
    timed(figures, "JSON Lines, as they are read", rows, || {
        let mut records = Records::open(text.as_bytes(), Options::jsonl())?;
        let (mut input, mut met) = (String::new(), 0);
        while records.read(&mut input)?.is_some() {
            met += 1;
            input.clear();
        }
        Ok(met)
    })?;
    timed(figures, "JSON Lines, their ends alone", rows, || {
        Ok(memchr::memchr_iter(b'\n', text.as_bytes()).count() as u64)
    })?;
    timed(figures, "JSON Lines, each into a value", rows, || {
        parsed::<serde_json::Value>(&text)
    })?;
    timed(figures, "a row with texts of its own", rows, || {
        parsed::<Posting>(&text)
    })?;
    timed(figures, "a row with borrowed texts", rows, || {
        let mut met = 0;
        for line in text.lines() {
            let row: Borrowed<'_> = serde_json::from_str(line)?;
            met += u64::from(!row.account.is_empty() && !row.amount.is_empty());
            black_box((&row.r#type, &row.r#ref));
        }
        Ok(met)
    })?;
    // It writes into what it reads.
    let mut copy = Vec::new();
    timed(
        figures,
        "a row with texts of its own, simd-json",
        rows,
        || {
            let mut met = 0;
            for line in text.lines() {
                copy.clear();
                copy.extend_from_slice(line.as_bytes());
                black_box(simd_json::serde::from_slice::<Posting>(&mut copy)?);
                met += 1;
            }
            Ok(met)
        },
    )
}

/// Blocks of text into one column, kept in several ways.
async fn texts(place: &Place, rows: u64, figures: &mut Figures) -> Result<(), Failed> {
    let text = lines(rows)?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let blocks: Vec<String> = lines.chunks(BLOCK as usize).map(<[&str]>::concat).collect();
    let fresh = place.fresh()?;
    let mut server = fresh.server().await?;
    let ways = [
        ("text, lz4", "text compression lz4", false, true),
        ("text, pglz", "text compression pglz", false, true),
        ("text, not compressed", "text", false, true),
        ("zstd by the client", "bytea", true, true),
        ("text, lz4, by INSERT", "text compression lz4", false, false),
    ];
    for (name, of, packed, copied) in ways {
        let storage = match (packed, of) {
            (true, _) | (false, "text") => "alter table kept alter body set storage external",
            _ => "",
        };
        let made = format!("drop table if exists kept; create table kept (body {of}); {storage}");
        server.batch_execute(&made).await?;
        let began = Instant::now();
        let tx = server.transaction().await?;
        if copied {
            let of = if packed { Type::BYTEA } else { Type::TEXT };
            let sink = tx.copy_in("copy kept from stdin binary").await?;
            let writer = BinaryCopyInWriter::new(sink, &[of]);
            tokio::pin!(writer);
            for block in &blocks {
                let zstd;
                let body: &(dyn ToSql + Sync) = if packed {
                    zstd = zstd::encode_all(block.as_bytes(), 1)?;
                    &zstd
                } else {
                    block
                };
                writer.as_mut().write(&[body]).await?;
            }
            writer.finish().await?;
        } else {
            for some in blocks.chunks(TOGETHER) {
                let insert = "insert into kept select unnest($1::text[])";
                tx.execute(insert, &[&some]).await?;
            }
        }
        tx.commit().await?;
        figures.add(
            format!("blocks kept as {name}"),
            "rows/s",
            per_second(rows, began.elapsed()),
        );
        let sized = "select pg_total_relation_size('kept')::float8";
        let bytes: f64 = server.query_one(sized, &[]).await?.try_get(0)?;
        figures.add(
            format!("… {name}, on the disk"),
            "bytes a row",
            bytes / rows as f64,
        );
        let began = Instant::now();
        let mut met = 0;
        for row in server.query("select body from kept", &[]).await? {
            met += if packed {
                zstd::decode_all(row.try_get::<_, &[u8]>(0)?)?.len()
            } else {
                row.try_get::<_, &str>(0)?.len()
            };
        }
        figures.add(
            format!("… {name}, read"),
            "rows/s",
            per_second(rows, began.elapsed()),
        );
        if met != text.len() {
            return Err(format!("{name}: {met} of {} bytes", text.len()).into());
        }
    }
    Ok(())
}

/// Small statements of one transaction.
async fn statements(place: &Place, figures: &mut Figures) -> Result<(), Failed> {
    let sql = "update accounts set postings = postings + 1 where n = $1";
    let number = STATEMENTS.cast_unsigned();
    let fresh = made(place).await?;
    let mut server = fresh.server().await?;
    let prepared = server.prepare(sql).await?;

    let began = Instant::now();
    let tx = server.transaction().await?;
    for n in 0..STATEMENTS {
        tx.execute(&prepared, &[&n]).await?;
    }
    tx.commit().await?;
    let rate = per_second(number, began.elapsed());
    figures.add("statements, prepared", "/s", rate);

    let began = Instant::now();
    let tx = server.transaction().await?;
    for n in 0..STATEMENTS {
        tx.query_typed(sql, &[(&n, Type::INT8)]).await?;
    }
    tx.commit().await?;
    let rate = per_second(number, began.elapsed());
    figures.add("statements, planned each time", "/s", rate);

    let began = Instant::now();
    let tx = server.transaction().await?;
    for first in (0..STATEMENTS).step_by(PIPELINED as usize) {
        let sent = (first..STATEMENTS.min(first + PIPELINED)).map(async |n| {
            let params: [&(dyn ToSql + Sync); 1] = [&n];
            tx.execute(&prepared, &params).await
        });
        try_join_all(sent).await?;
    }
    tx.commit().await?;
    let rate = per_second(number, began.elapsed());
    figures.add(
        format!("statements, prepared, {PIPELINED} at once"),
        "/s",
        rate,
    );

    let numbers: Vec<i64> = (0..STATEMENTS).collect();
    let began = Instant::now();
    let many = "update accounts a set postings = postings + 1 from unnest($1::bigint[]) u (n) where a.n = u.n";
    for some in numbers.chunks(BLOCK as usize) {
        server.execute(many, &[&some]).await?;
    }
    let rate = per_second(number, began.elapsed());
    figures.add("the same records by one statement a thousand", "/s", rate);
    Ok(())
}
