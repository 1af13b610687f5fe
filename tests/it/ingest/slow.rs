//! A reader that looks at one byte after the other and keeps the whole input: it shares no code
//! and no method with the reader under test, only the input rules's words.

use std::collections::HashSet;

use rowmill::ingest::Options;

use super::grammar::is_json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub line: u32,
    pub input: String,
    pub code: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub rows: Vec<Row>,
    pub columns: Option<Vec<String>>,
    pub blank: u64,
    pub lines: u64,
}

/// A record by the quotes alone, as if there were no limits.
struct Walk {
    /// Where its line break stands, or the end of the input.
    end: usize,
    fields: Vec<Vec<u8>>,
    /// Where each quote opens; where it closes, and after how many line breaks of the record.
    quotes: Vec<(usize, Option<(usize, usize)>)>,
}

fn walk(bytes: &[u8], delimiter: u8, quote: u8) -> Walk {
    let mut fields = vec![Vec::new()];
    let mut quotes: Vec<(usize, Option<(usize, usize)>)> = Vec::new();
    let mut breaks = 0;
    let mut at = 0;
    let mut field_begins = true;
    let mut inside = false;
    while at < bytes.len() {
        let byte = bytes[at];
        let field = fields.last_mut().unwrap();
        if inside {
            if byte != quote {
                field.push(byte);
                if byte == b'\r' || byte == b'\n' && bytes[at - 1] != b'\r' {
                    breaks += 1;
                }
            } else if bytes.get(at + 1) == Some(&quote) {
                field.push(byte);
                at += 1;
            } else {
                inside = false;
                quotes.last_mut().unwrap().1 = Some((at, breaks));
            }
        } else if byte == b'\n' || byte == b'\r' {
            break;
        } else if byte == delimiter {
            fields.push(Vec::new());
            field_begins = true;
            at += 1;
            continue;
        } else if byte == quote && field_begins {
            inside = true;
            quotes.push((at, None));
        } else {
            field.push(byte);
        }
        field_begins = false;
        at += 1;
    }
    Walk {
        end: at,
        fields,
        quotes,
    }
}

/// The physical lines of some bytes: where each ends, and where the next begins.
fn physical(bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let is_break = |byte: &u8| *byte == b'\n' || *byte == b'\r';
        let end = at + rest.iter().position(is_break).unwrap_or(rest.len());
        at = match bytes.get(end..) {
            Some([b'\r', b'\n', ..]) => end + 2,
            Some([_, ..]) => end + 1,
            _ => end,
        };
        Some((end, at))
    })
}

fn string(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn beginning(bytes: &[u8]) -> String {
    string(&lossy(bytes).chars().take(1024).collect::<String>())
}

fn names(given: Vec<String>) -> Vec<String> {
    let mut taken: HashSet<String> = given.iter().filter(|n| !n.is_empty()).cloned().collect();
    let mut seen: Vec<String> = Vec::new();
    let mut out = Vec::new();
    for (index, name) in given.into_iter().enumerate() {
        let times = seen.iter().filter(|s| **s == name).count() + 1;
        seen.push(name.clone());
        let made = if name.is_empty() {
            free("column", index + 1, &taken)
        } else if times == 1 {
            name
        } else {
            free(&name, times, &taken)
        };
        taken.insert(made.clone());
        out.push(made);
    }
    out
}

fn free(stem: &str, from: usize, taken: &HashSet<String>) -> String {
    (from..)
        .map(|n| format!("{stem}_{n}"))
        .find(|n| !taken.contains(n))
        .unwrap()
}

fn object(fields: &[Vec<u8>], columns: &[String], ignored: &[&str]) -> String {
    let mut taken: HashSet<String> = columns.iter().cloned().collect();
    let mut members = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let name = columns.get(index).cloned();
        let name = name.unwrap_or_else(|| free("column", index + 1, &taken));
        taken.insert(name.clone());
        if columns.contains(&name) && ignored.contains(&name.as_str()) {
            continue;
        }
        members.push(format!("{}:{}", string(&name), string(&lossy(field))));
    }
    format!("{{{}}}", members.join(","))
}

/// One record as it is to be told, with what it takes from the input.
enum Told {
    Record(Vec<u8>),
    Refused(&'static str, String),
}

/// Takes the record at the front of `bytes`: what it is, its length with the line break, its lines.
fn take(bytes: &[u8], options: &Options) -> (Told, usize, usize) {
    let limit = options.max_row_bytes;
    let found = walk(bytes, options.delimiter, options.quote);
    let in_time = |(close, breaks)| close < limit && breaks < 1_000;
    let stray = found
        .quotes
        .iter()
        .any(|&(open, close)| open < limit && !close.is_some_and(in_time));
    // With a stray quote its first line is its last, else the one that ends or passes the limit.
    let from = if stray { 0 } else { found.end.min(limit) };
    let last = |(_, (end, _)): &(usize, (usize, usize))| *end >= from;
    let (index, (end, next)) = physical(bytes).enumerate().find(last).unwrap();
    let told = if end > limit {
        Told::Refused("row_too_large", beginning(&bytes[..end]))
    } else if stray {
        Told::Refused("unclosed_quote", string(&lossy(&bytes[..end])))
    } else {
        Told::Record(bytes[..end].to_vec())
    };
    (told, next, index + 1)
}

fn after_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(bytes)
}

/// All of a CSV, or the line of a header that cannot be read.
pub fn csv(bytes: &[u8], options: &Options) -> Result<Reading, u32> {
    let split = |bytes: &[u8]| walk(bytes, options.delimiter, options.quote).fields;
    let mut reading = Reading {
        rows: Vec::new(),
        columns: None,
        blank: 0,
        lines: 0,
    };
    // Where the columns are made by number none of them can be.
    let ignored = options.ignored;
    let mut rest = after_mark(bytes);
    while !rest.is_empty() {
        let line = reading.lines as u32 + 1;
        let (told, length, lines) = take(rest, options);
        rest = &rest[length..];
        reading.lines += lines as u64;
        let header = options.header && reading.columns.is_none();
        let (input, code) = match told {
            Told::Record(record) if record.is_empty() => {
                reading.blank += 1;
                continue;
            }
            Told::Record(record) if header => {
                let header = String::from_utf8(record).map_err(|_| line)?;
                let given = split(header.as_bytes());
                reading.columns = Some(names(given.iter().map(|name| lossy(name)).collect()));
                continue;
            }
            Told::Refused(..) if header => return Err(line),
            Told::Refused(code, input) => (input, Some(code)),
            Told::Record(record) => {
                let fields = split(lossy(&record).as_bytes());
                let columns = reading
                    .columns
                    .get_or_insert_with(|| names(vec![String::new(); fields.len()]));
                let code = if String::from_utf8(record).is_err() {
                    Some("bad_encoding")
                } else if fields.len() != columns.len() {
                    Some("field_count")
                } else {
                    None
                };
                (object(&fields, columns, ignored), code)
            }
        };
        reading.rows.push(Row { line, input, code });
    }
    if options.header && reading.columns.is_none() {
        return Err(reading.lines as u32 + 1);
    }
    if let Some(columns) = &mut reading.columns {
        columns.retain(|name| !ignored.contains(&name.as_str()));
    }
    Ok(reading)
}

/// The fields of every record, where all quotes are closed.
pub fn fields_of_all(bytes: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
    let options = Options::csv();
    let mut rest = after_mark(bytes);
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (told, length, _) = take(rest, &options);
        rest = &rest[length..];
        match told {
            Told::Record(record) if record.is_empty() => {}
            Told::Record(record) => {
                all.push(walk(&record, options.delimiter, options.quote).fields)
            }
            Told::Refused(..) => return None,
        }
    }
    Some(all)
}

/// All of JSON Lines.
pub fn jsonl(bytes: &[u8], limit: usize) -> Reading {
    let bytes = after_mark(bytes);
    let mut reading = Reading {
        rows: Vec::new(),
        columns: None,
        blank: 0,
        lines: 0,
    };
    let mut begin = 0;
    for (end, next) in physical(bytes) {
        let line = &bytes[begin..end];
        begin = next;
        reading.lines += 1;
        let text = lossy(line);
        let trimmed = text.trim_matches([' ', '\t']);
        let (input, code) = if line.len() > limit {
            (beginning(line), Some("row_too_large"))
        } else if trimmed.is_empty() {
            reading.blank += 1;
            continue;
        } else {
            let valid = is_json(trimmed);
            let code = if std::str::from_utf8(line).is_err() {
                Some("bad_encoding")
            } else {
                (!valid).then_some("bad_json")
            };
            (
                if valid {
                    trimmed.to_string()
                } else {
                    string(&text)
                },
                code,
            )
        };
        reading.rows.push(Row {
            line: reading.lines as u32,
            input,
            code,
        });
    }
    reading
}
