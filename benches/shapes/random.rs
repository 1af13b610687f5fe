//! Rows whose text does not compress, beside trivial ones: how fast, and how many bytes are written for them.

use std::time::Duration;

use rowmill::{BatchProcessor, JobManager, RowCx, RowFailure};

use crate::Size;
use crate::batch::{self, Posting};
use crate::figures::{Failed, Figures, Target, per_second};
use crate::itself;
use crate::place::{Fresh, On, Place};
use crate::works::end_to_end;

/// Characters of a row, of which the first eight are its result: about as many as a trivial row has.
const INPUT: usize = 88;
const RESULT: usize = 8;
/// A row's own bytes: its input and its result as JSON.
const OWN: f64 = (INPUT + RESULT + 4) as f64;

struct Noise;

impl BatchProcessor for Noise {
    type Block = ();
    type Context = ();
    type Input = String;
    type Output = String;

    async fn process(
        &self,
        _: &mut RowCx<'_, (), ()>,
        mut row: String,
    ) -> Result<String, RowFailure> {
        row.truncate(RESULT);
        Ok(row)
    }

    fn wants_ends(&self) -> bool {
        false
    }
}

/// Characters of which none follows from those before: splitmix64, six bits a character.
fn noise(n: u64) -> String {
    const OF: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut state = n.wrapping_mul(0xD134_2543_DE82_EF95);
    let mut left = 0_u64;
    let mut text = String::with_capacity(INPUT);
    for at in 0..INPUT {
        if at % 10 == 0 {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            left = mixed ^ (mixed >> 31);
        }
        text.push(char::from(OF[(left % 64) as usize]));
        left /= 64;
    }
    text
}

/// Bytes that were written so far: into the server's log, or by this process, which is into the file and its log.
async fn written(fresh: &Fresh, on: On) -> Result<f64, Failed> {
    match on {
        On::Sqlite => itself::written(),
        On::Postgres => {
            let sql = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
            let server = fresh.server().await?;
            Ok(server.query_one(sql, &[]).await?.try_get(0)?)
        }
    }
}

/// How long it takes, and bytes written a row, in and out.
async fn measure(
    place: &Place,
    rows: u64,
    work: impl AsyncFnOnce(&JobManager) -> Result<Duration, Failed>,
    manager: impl AsyncFnOnce(&Fresh) -> Result<JobManager, Failed>,
) -> Result<(f64, f64), Failed> {
    let fresh = place.fresh()?;
    let manager = manager(&fresh).await?;
    let before = written(&fresh, place.on).await?;
    let took = work(&manager).await?;
    let bytes = written(&fresh, place.on).await? - before;
    Ok((per_second(rows, took), bytes / rows as f64))
}

pub async fn incompressible(
    place: &Place,
    size: &Size,
    figures: &mut Figures,
) -> Result<(), Failed> {
    let rows = size.rows;
    let (trivial, trivial_bytes) = measure(
        place,
        rows,
        async |manager| end_to_end(manager, "trivial", rows, Posting::nth).await,
        async |fresh| batch::manager(&fresh.at(), fresh.folder()).await,
    )
    .await?;
    let (noise, noise_bytes) = measure(
        place,
        rows,
        async |manager| end_to_end(manager, "noise", rows, noise).await,
        async |fresh| {
            let manager = JobManager::builder(fresh.store().await?).objects(fresh.objects());
            Ok(manager.batch("bench", "noise", Noise).build()?)
        },
    )
    .await?;
    figures.add("trivial rows, end to end", "/s", trivial);
    figures.add("rows that do not compress, end to end", "/s", noise);
    figures.add("of the trivial rows", "times", noise / trivial);
    let what = place.on.pick("log", "log and file");
    let (few, own) = match place.on {
        On::Postgres => (Some(Target::AtMost(40.0)), Some(Target::AtMost(1.3))),
        On::Sqlite => (None, None),
    };
    let name = format!("{what}, a trivial row");
    figures.aim(name, "bytes", trivial_bytes, few);
    let name = format!("{what}, a row that does not compress");
    figures.add(name, "bytes", noise_bytes);
    let name = format!("{what}, of its own {OWN} bytes");
    figures.aim(name, "times", noise_bytes / OWN, own);
    Ok(())
}
