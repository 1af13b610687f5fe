//! `rows`: the rows of a batch, in line order, as a stream.

use std::io::{BufWriter, Write};
use std::pin::pin;

use futures_util::TryStreamExt as _;

use super::args::{Rows, RowsFormat};
use super::exit::{About, Failure};
use super::rows_csv::CsvRows;
use super::session::Session;
use super::shown::{self, Out, cut};
use super::{named, output};
use crate::model::{Batch, Message, RawJson, RowView};

/// Bytes that are collected before they are written.
pub(super) const BUFFER: usize = 1 << 16;

pub(super) async fn run(session: &Session, args: &Rows) -> Result<(), Failure> {
    let format = match args.format {
        None if session.json => RowsFormat::Jsonl,
        None => RowsFormat::Table,
        Some(RowsFormat::Csv | RowsFormat::Table) if session.json => {
            return Err(Failure::invalid(
                "usage",
                "--json is JSON Lines; leave out --json or --format",
            ));
        }
        Some(format) => format,
    };
    let (client, id) = named::find(session, &args.named).await?;
    let batch = client.batch_now(id).await.about(id)?;
    let mut rows = pin!(client.rows(id, args.status));
    // The head goes out with the first row: an error is told alone.
    let mut next = rows.try_next().await.about(id)?;
    let mut printer = Printer::begin(format, &batch)?;
    while let Some(row) = next {
        printer.row(&row)?;
        next = rows.try_next().await.about(id)?;
    }
    printer.end()
}

enum Printer {
    Csv(Box<CsvRows<Out>>),
    Jsonl(BufWriter<Out>),
    Table(Table),
}

impl Printer {
    fn begin(format: RowsFormat, batch: &Batch) -> Result<Self, Failure> {
        let out = Out::new();
        Ok(match format {
            RowsFormat::Csv => Self::Csv(Box::new(CsvRows::begin(out, batch.columns.as_deref())?)),
            RowsFormat::Jsonl => Self::Jsonl(BufWriter::with_capacity(BUFFER, out)),
            RowsFormat::Table => Self::Table(Table::begin(out)?),
        })
    }

    fn row(&mut self, row: &RowView) -> Result<(), Failure> {
        match self {
            Self::Csv(csv) => csv.row(row),
            Self::Jsonl(out) => {
                let written = serde_json::to_writer(&mut *out, row).map_err(std::io::Error::from);
                output::ended(written.and_then(|()| out.write_all(b"\n")))
            }
            Self::Table(table) => table.row(row),
        }
    }

    fn end(self) -> Result<(), Failure> {
        match self {
            Self::Csv(csv) => csv.end(),
            Self::Jsonl(mut out) | Self::Table(Table { mut out, .. }) => output::ended(out.flush()),
        }
    }
}

/// A line a row, cut to the terminal's width.
struct Table {
    out: BufWriter<Out>,
    width: usize,
}

impl Table {
    fn begin(out: Out) -> Result<Self, Failure> {
        let mut table = Self {
            out: BufWriter::with_capacity(BUFFER, out),
            width: shown::columns(),
        };
        table.line(&format!(
            "{:>8}  {:8}  {}",
            "line", "status", "input → result or messages"
        ))?;
        Ok(table)
    }

    fn row(&mut self, row: &RowView) -> Result<(), Failure> {
        let mut text = format!("{:>8}  {:8}  {}", row.line, row.status, row.input.get());
        let told = match (&row.messages, &row.result) {
            (Some(messages), _) => Some(Told::of(messages).short()),
            (None, Some(result)) => Some(result.get().to_owned()),
            (None, None) => None,
        };
        if let Some(told) = told.filter(|t| !t.is_empty() && t != "null") {
            // What became of the row is seen whole before its input is.
            let room = self.width.saturating_sub(shown::width(&told) + 4);
            text = cut(&text, room.max(self.width / 2));
            text.push_str(" → ");
            text.push_str(&told);
        }
        self.line(&text)
    }

    fn line(&mut self, text: &str) -> Result<(), Failure> {
        let text = cut(text, self.width);
        output::ended(writeln!(self.out, "{text}"))
    }
}

/// A row's messages in two texts.
pub(super) struct Told {
    pub(super) codes: String,
    pub(super) text: String,
}

impl Told {
    pub(super) fn of(messages: &RawJson) -> Self {
        let read: Vec<Message> = serde_json::from_str(messages.get()).unwrap_or_default();
        let join = |each: fn(&Message) -> String| -> String {
            read.iter().map(each).collect::<Vec<_>>().join("; ")
        };
        Self {
            codes: join(|m| m.errcode.clone()),
            text: join(|m| {
                let mut text = m.text.clone().unwrap_or_else(|| m.vals.join(", "));
                if let Some(field) = &m.field {
                    text = if text.is_empty() {
                        field.clone()
                    } else {
                        format!("{field}: {text}")
                    };
                }
                text
            }),
        }
    }

    /// Both in one.
    pub(super) fn short(&self) -> String {
        if self.text.is_empty() {
            self.codes.clone()
        } else {
            format!("{} ({})", self.codes, self.text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_codes_and_a_text() {
        let messages = r#"[{"msgid":1,"errcode":"a","field":"f","text":"t"},{"msgid":2,"errcode":"b","vals":["x","y"]}]"#;
        let messages = RawJson::from_string(messages.to_owned()).unwrap();
        let told = Told::of(&messages);
        assert_eq!(told.codes, "a; b");
        assert_eq!(told.text, "f: t; x, y");
        assert_eq!(told.short(), "a; b (f: t; x, y)");
    }
}
