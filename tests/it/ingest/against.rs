//! The reader beside the slow one: for the tests here, and for the targets of `fuzz/`.

use std::io::Read;

use rowmill::ingest::{Encoding, IngestError, Options, Packing, Records};

use super::slow::{self, Reading, Row};

/// Gives its bytes in small pieces, of the sizes that it was told.
pub struct Pieces<'a> {
    pub bytes: &'a [u8],
    pub sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let size = self.sizes.next().unwrap_or(1).min(room.len());
        self.bytes.read(&mut room[..size])
    }
}

/// Reads all, to the end or to the error, and checks of each row what holds of every row.
pub fn outcome(reader: impl Read, options: Options) -> Result<Reading, IngestError> {
    let mut records = Records::open(reader, options)?;
    let mut rows: Vec<Row> = Vec::new();
    let mut inputs = String::new();
    loop {
        let begin = inputs.len();
        let Some(record) = records.read(&mut inputs)? else {
            assert_eq!(inputs.len(), begin, "the end appends nothing");
            break;
        };
        let input = inputs[begin..].to_string();
        assert!(
            !input.contains(['\n', '\r']),
            "a raw line break in {input:?}"
        );
        serde_json::from_str::<serde::de::IgnoredAny>(&input).expect("an input is JSON");
        let code = record.rejected.map(|r| r.code.errcode());
        rows.push(Row {
            line: record.line,
            input,
            code,
        });
    }
    assert!(rows.is_sorted_by(|a, b| a.line < b.line), "lines rise");
    Ok(Reading {
        rows,
        columns: records.columns().map(<[String]>::to_vec),
        blank: records.blank(),
        lines: records.lines(),
    })
}

/// Reads all; a header that cannot be read gives its line.
pub fn read(reader: impl Read, options: Options) -> Result<Reading, u32> {
    match outcome(reader, options) {
        Ok(reading) => Ok(reading),
        Err(IngestError::Header { line, .. }) => Err(line),
        Err(other) => panic!("{other}"),
    }
}

/// Splits off the byte that chooses how the others are read: `0` is as usual.
fn choose(data: &[u8]) -> Option<(u8, Pieces<'_>)> {
    let (choice, bytes) = data.split_first()?;
    let size = usize::from(choice >> 4).max(1);
    let sizes = vec![size].into_iter().cycle();
    Some((*choice, Pieces { bytes, sizes }))
}

/// Whether the slow reader, which knows UTF-8 alone, reads such bytes, too.
fn is_plain(bytes: &[u8]) -> bool {
    let marks: [&[u8]; 5] = [
        b"\x1F\x8B\x08",
        b"\x28\xB5\x2F\xFD",
        b"\xFF\xFE",
        b"\xFE\xFF",
        b"\0\0\xFE\xFF",
    ];
    !marks.iter().any(|mark| bytes.starts_with(mark))
}

/// Reads a CSV as the slow reader does. Choice: 1 no header, 2 rows of 16 bytes, 4 other characters.
pub fn csv(data: &[u8]) {
    let Some((choice, pieces)) = choose(data) else {
        return;
    };
    let is = |bit: u8| choice & bit != 0;
    let usual = Options::csv();
    let (delimiter, quote) = if is(4) { (b';', b'\'') } else { (b',', b'"') };
    let options = Options {
        header: !is(1),
        max_row_bytes: if is(2) { 16 } else { usual.max_row_bytes },
        delimiter,
        quote,
        ..usual
    };
    if !is_plain(pieces.bytes) {
        drop(outcome(pieces, options));
        return;
    }
    let expected = slow::csv(pieces.bytes, &options);
    assert_eq!(read(pieces.bytes, options.clone()), expected);
    assert_eq!(read(pieces, options), expected);
}

/// Reads JSON Lines as the slow reader does. Choice: 2 rows of 16 bytes.
pub fn jsonl(data: &[u8]) {
    let Some((choice, pieces)) = choose(data) else {
        return;
    };
    let usual = Options::jsonl();
    let max_row_bytes = if choice & 2 != 0 {
        16
    } else {
        usual.max_row_bytes
    };
    let options = Options {
        max_row_bytes,
        ..usual
    };
    if !is_plain(pieces.bytes) {
        drop(outcome(pieces, options));
        return;
    }
    let expected = Ok(slow::jsonl(pieces.bytes, max_row_bytes));
    assert_eq!(read(pieces.bytes, options.clone()), expected);
    assert_eq!(read(pieces, options), expected);
}

/// Reads what may be packed or in any encoding, whole and in pieces: the same rows, or the same error.
///
/// Choice: 1 JSON Lines, 2 named gzip, 4 named zstd, 8 windows-1252, 2 with 4 UTF-16LE and no name.
pub fn packed(data: &[u8]) {
    let Some((choice, pieces)) = choose(data) else {
        return;
    };
    let usual = if choice & 1 == 0 {
        Options::csv()
    } else {
        Options::jsonl()
    };
    let packing = match choice & 6 {
        2 => Some(Packing::Gzip),
        4 => Some(Packing::Zstd),
        _ => None,
    };
    let label = match (choice & 8, choice & 6) {
        (8, _) => "windows-1252",
        (_, 6) => "utf-16le",
        _ => "utf-8",
    };
    let options = Options {
        packing,
        encoding: label.parse().unwrap_or(Encoding::UTF_8),
        max_input_bytes: Some(1 << 20),
        ..usual
    };
    let whole = outcome(pieces.bytes, options.clone());
    let pieced = outcome(pieces, options);
    if let (Err(one), Err(other)) = (&whole, &pieced)
        && [one, other]
            .iter()
            .any(|e| matches!(e, IngestError::Packed { .. }))
    {
        // Of two things that are wrong, which one is met first depends on the pieces.
        return;
    }
    let told = |result: Result<Reading, IngestError>| result.map_err(|e| e.to_string());
    assert_eq!(told(pieced), told(whole));
}
