//! How fast inputs are read, in every form, and how much memory the worst of them take.
//!
//! `cargo bench --bench intake [-- MEGABYTES]` [64]: the size of the text that is read in each form.
//! Sizes that nobody should send follow, each made while it is read; last, ten million rows are
//! stored. It fails where rows are lost or memory is not bounded.

use std::io::{Cursor, Read, Write as _};
use std::time::Instant;

use flate2::{Compression, write::GzEncoder};
use rowmill::ingest::{Options, Records};
use rowmill::{Client, JobKey, Kind, NewBatch, Store};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Runs of each form; the best counts.
const RUNS: usize = 3;
const MB: usize = 1_000_000;
/// What reading may take of memory where no row is large: the window, the unpacker, a row.
const FLAT: u64 = 16 << 20;
/// Rows of the longest inputs.
const ROWS: u64 = 10_000_000;

fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    let megabytes = args.next().map_or(Ok(64), |text| text.parse())?;
    forms(megabytes * MB)?;
    println!();
    sizes()?;
    println!();
    store()
}

// --- how fast -------------------------------------------------------------------------------------

/// Row `n` as fields, of which every eighth has a quote and every fourth is not ASCII.
fn row(n: usize) -> [String; 5] {
    let name = ["Ann Smith", "Zoë Müller", "O'Neil, \"Bob\"", "Li"][n % 4];
    let mixed = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    [
        format!("ACC{:09}", mixed >> 34),
        name.into(),
        format!("{}.{:02}", mixed % 100_000, n % 100),
        ["credit", "debit"][n % 2].into(),
        format!("payment {n} of the month"),
    ]
}

const COLUMNS: [&str; 5] = ["account", "name", "amount", "kind", "text"];

/// A CSV of about so many bytes, and the same as JSON Lines; how many rows they have.
fn texts(bytes: usize) -> Result<(String, String, u64), Failed> {
    let mut csv = COLUMNS.join(",") + "\n";
    let mut jsonl = String::new();
    let mut rows = 0;
    while csv.len() < bytes {
        let fields = row(rows);
        for (place, (column, field)) in COLUMNS.iter().zip(&fields).enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let quoted = field.contains(['"', ',']);
            let text = if quoted {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field.clone()
            };
            csv.push_str(comma);
            csv.push_str(&text);
            let brace = if place == 0 { "{" } else { "," };
            jsonl.push_str(&format!(
                "{brace}\"{column}\":{}",
                serde_json::to_string(field)?
            ));
        }
        csv.push('\n');
        jsonl.push_str("}\n");
        rows += 1;
    }
    Ok((csv, jsonl, rows as u64))
}

/// Reads all of an input; rows, bad rows, and the bytes of the rows' JSON.
fn read(reader: impl Read, options: Options) -> Result<(u64, u64, u64), Failed> {
    let mut records = Records::open(reader, options)?;
    let mut input = String::new();
    let (mut rows, mut bad, mut bytes) = (0, 0, 0);
    while let Some(record) = records.read(&mut input)? {
        rows += 1;
        bad += u64::from(record.rejected.is_some());
        bytes += input.len() as u64;
        input.clear();
    }
    Ok((rows, bad, bytes))
}

fn forms(bytes: usize) -> Result<(), Failed> {
    let (csv, jsonl, rows) = texts(bytes)?;
    let mut gz = GzEncoder::new(Vec::new(), Compression::new(6));
    gz.write_all(csv.as_bytes())?;
    let gz = gz.finish()?;
    let zst = zstd::encode_all(csv.as_bytes(), 3)?;
    let utf16: Vec<u8> = "\u{FEFF}"
        .encode_utf16()
        .chain(csv.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let latin: Vec<u8> = csv
        .chars()
        .map(|c| u8::try_from(c).unwrap_or(b'?'))
        .collect();
    let in_latin = Options {
        encoding: "windows-1252".parse()?,
        ..Options::csv()
    };
    println!(
        "{:<16} {:>8} {:>8} {:>12} {:>8} {:>7}",
        "form", "MB", "read MB", "rows/s", "MB/s", "plain ="
    );
    let mut plain = f64::NAN;
    for (name, text, bytes, options) in [
        ("csv", csv.len(), csv.as_bytes(), Options::csv()),
        ("csv.gz", csv.len(), gz.as_slice(), Options::csv()),
        ("csv.zst", csv.len(), zst.as_slice(), Options::csv()),
        ("csv utf-16", csv.len(), utf16.as_slice(), Options::csv()),
        ("csv windows-1252", csv.len(), latin.as_slice(), in_latin),
        ("jsonl", jsonl.len(), jsonl.as_bytes(), Options::jsonl()),
    ] {
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let began = Instant::now();
            let (found, bad, _) = read(bytes, options.clone())?;
            best = best.min(began.elapsed().as_secs_f64());
            if (found, bad) != (rows, 0) {
                return Err(format!("{name}: {found} rows and {bad} bad, not {rows}").into());
            }
        }
        if name == "csv" {
            plain = best;
        }
        let per_second = |count: f64| count / best;
        println!(
            "{name:<16} {:>8.1} {:>8.1} {:>12.0} {:>8.1} {:>7.2}",
            mb(text as u64),
            mb(bytes.len() as u64),
            per_second(float(rows)),
            per_second(mb(text as u64)),
            plain / best
        );
    }
    println!(
        "MB/s of the text in UTF-8; the last column is the speed in rows, that of csv being 1."
    );
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}

fn mb(bytes: u64) -> f64 {
    float(bytes) / float(MB as u64)
}

// --- how large ------------------------------------------------------------------------------------

/// So many times the same bytes, after a beginning, without taking memory for them.
struct Repeated {
    begin: Cursor<Vec<u8>>,
    part: Vec<u8>,
    at: usize,
    left: u64,
}

impl Repeated {
    fn new(begin: &[u8], part: &[u8], times: u64) -> Self {
        Self {
            begin: Cursor::new(begin.to_vec()),
            part: part.to_vec(),
            at: 0,
            left: times,
        }
    }
}

impl Read for Repeated {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let mut written = self.begin.read(room)?;
        while self.left > 0 && written < room.len() {
            let rest = &self.part[self.at..];
            let count = rest.len().min(room.len() - written);
            room[written..written + count].copy_from_slice(&rest[..count]);
            written += count;
            self.at += count;
            if self.at == self.part.len() {
                self.at = 0;
                self.left -= 1;
            }
        }
        Ok(written)
    }
}

/// The most memory that this process has held since it was last asked to forget, in bytes; 0 where
/// the system does not tell.
fn peak() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1024
}

/// Reads an input that is made while it is read, prints what it took, and checks it.
fn size(
    name: &str,
    reader: impl Read,
    options: Options,
    expected: (u64, u64),
    most: u64,
) -> Result<(), Failed> {
    drop(std::fs::write("/proc/self/clear_refs", "5"));
    let before = status("VmRSS:");
    let began = Instant::now();
    let (rows, bad, bytes) = read(reader, options)?;
    let seconds = began.elapsed().as_secs_f64();
    let taken = peak().saturating_sub(before);
    println!(
        "{name:<36} {rows:>9} rows {bad:>7} bad {:>8.1} MB out {seconds:>6.2} s {:>6.1} MiB",
        mb(bytes),
        float(taken >> 10) / 1024.0
    );
    if (rows, bad) != expected {
        return Err(format!("{name}: not {expected:?}").into());
    }
    if taken > most {
        return Err(format!("{name}: more than {} MiB", most >> 20).into());
    }
    Ok(())
}

fn sizes() -> Result<(), Failed> {
    let csv = Options::csv;
    let field = |bytes: u64| {
        Cursor::new(b"a,b\n1,2\n3,".to_vec())
            .chain(std::io::repeat(b'x').take(bytes))
            .chain(Cursor::new(b"\n5,6\n".to_vec()))
    };
    let large = Options {
        max_row_bytes: 256 << 20,
        ..csv()
    };
    let rows = || Repeated::new(b"a,b,c\n", b"ACC000017,1234.56,credit\n", ROWS);
    size("10,000,000 rows", rows(), csv(), (ROWS, 0), FLAT)?;
    let blank = Repeated::new(b"a\n1\n", b"\r\n", ROWS);
    size("10,000,000 blank lines", blank, csv(), (1, 0), FLAT)?;
    let bad = Repeated::new(b"a,b\n", b"1\n", 200_000);
    size(
        "200,000 rows without a field",
        bad,
        csv(),
        (200_000, 200_000),
        FLAT,
    )?;
    let open = Repeated::new(b"a,b\n", b"x\"y,\"z\n", 200_000);
    size("200,000 open quotes", open, csv(), (200_000, 200_000), FLAT)?;
    let header = (1..=5_000).map(|n| format!("c{n},")).collect::<String>();
    let wide = Repeated::new(
        format!("{}\n", header.trim_end_matches(',')).as_bytes(),
        format!("1{}\n", ",1".repeat(4_999)).as_bytes(),
        5_000,
    );
    size("5,000 columns, 5,000 rows", wide, csv(), (5_000, 0), FLAT)?;
    size(
        "a field of 50 MiB, refused",
        field(50 << 20),
        csv(),
        (3, 1),
        FLAT,
    )?;
    let most = 4 * (50 << 20);
    size(
        "a field of 50 MiB, taken",
        field(50 << 20),
        large.clone(),
        (3, 0),
        most,
    )?;
    let most = 4 * (256 << 20);
    size(
        "a field of 255 MiB, taken",
        field(255 << 20),
        large,
        (3, 0),
        most,
    )?;

    let mut gz = GzEncoder::new(Vec::new(), Compression::new(9));
    gz.write_all(&vec![b'0'; 16 << 20])?;
    let bomb = Repeated::new(&packed_header()?, &gz.finish()?, 64);
    size(
        "1 GiB of one line from 1 MB of gzip",
        bomb,
        csv(),
        (1, 1),
        FLAT,
    )?;
    let mut zst = zstd::Encoder::new(Vec::new(), 3)?;
    zst.window_log(27)?;
    zst.write_all(&vec![b'0'; 16 << 20])?;
    let bomb = Repeated::new(&zstd::encode_all(&b"a\n"[..], 1)?, &zst.finish()?, 64);
    // The window of 128 MiB, and what was read.
    size(
        "the same of zstd, window 128 MiB",
        bomb,
        csv(),
        (1, 1),
        FLAT + (136 << 20),
    )
}

fn packed_header() -> Result<Vec<u8>, Failed> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(b"a\n")?;
    Ok(gz.finish()?)
}

// --- how well it is stored ------------------------------------------------------------------------

fn store() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let dir = tempfile::tempdir_in(".")?;
    let path = dir.path().join("rowmill.db");
    runtime.block_on(async {
        let client = Client::new(Store::sqlite(path).await?);
        drop(std::fs::write("/proc/self/clear_refs", "5"));
        let before = status("VmRSS:");
        let began = Instant::now();
        let rows = Repeated::new(b"a,b,c\n", b"ACC000017,1234.56,credit\n", ROWS);
        let new = NewBatch::new(JobKey::new("bench", "load", Kind::Batch)?);
        let submission = client
            .batch_submit_reader(new, rows, Options::csv())
            .await?;
        let seconds = began.elapsed().as_secs_f64();
        let taken = peak().saturating_sub(before);
        println!(
            "{} rows stored in {seconds:.1} s: {:.0} rows/s, {:.1} MiB",
            submission.batch.counts.rows,
            float(ROWS) / seconds,
            float(taken >> 10) / 1024.0
        );
        if taken > 64 << 20 {
            return Err("storing took more than 64 MiB".into());
        }
        Ok(())
    })
}
