//! Where rows come from: calls, files, pages of the store.

use std::io::Read;

use futures_util::{Stream, TryStreamExt as _};
use tokio::sync::mpsc;

use super::{AHEAD, Feeder, Intake};
use crate::client::NewRow;
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::{IngestError, Options, Records};
use crate::model::{BlockBuilder, Line, Message, RawJson};

type Feed = Box<dyn FnOnce(&mut Feeder<'_>) -> Result<()> + Send>;

/// Where rows come from.
pub(crate) struct Source {
    pub(super) feed: Feed,
    /// It waits for others: for whoever writes what it reads, or for the store itself. On the runtime's
    /// threads for what blocks it would keep the store's reads waiting, of which it may need one.
    pub(super) waits: bool,
}

impl Source {
    fn of(feed: impl FnOnce(&mut Feeder<'_>) -> Result<()> + Send + 'static) -> Self {
        Self {
            feed: Box::new(feed),
            waits: false,
        }
    }

    pub(crate) fn rows<R>(rows: R) -> Self
    where
        R: IntoIterator<Item = NewRow> + Send + 'static,
    {
        Self::of(move |feeder| {
            let mut last = 0_u32;
            for row in rows {
                if row.line.is_some() && feeder.follows {
                    // From here on lines are the batch's own; the store knows what is before them.
                    last = 0;
                    if !feeder.lines_are_given() {
                        break;
                    }
                }
                last = next_line(last, row.line)?;
                if !feeder.row(last, row.input.get()) {
                    break;
                }
            }
            Ok(())
        })
    }

    pub(crate) fn reader(reader: impl Read + Send + 'static, options: Options) -> Self {
        let source = Self::of(move |feeder| {
            let mut records = Records::open(reader, options).map_err(unusable)?;
            feeder.intake.encoding = Some(records.encoding());
            feeder.intake.packing = records.packing();
            let mut input = String::new();
            while let Some(record) = records.read(&mut input).map_err(unusable)? {
                let more = match record.rejected {
                    None => feeder.row(record.line, &input),
                    Some(why) => {
                        let code = (why.code.errcode(), why.code.msgid());
                        let mut message = Message::own(code, why.text);
                        message.vals = why.vals;
                        feeder.rejected(record.line, &input, message)
                    }
                };
                if !more {
                    break;
                }
                input.clear();
            }
            feeder.intake.blank = records.blank();
            feeder.intake.columns = records.columns().map(<[String]>::to_vec);
            Ok(())
        });
        Self {
            waits: true,
            ..source
        }
    }

    /// Rows that come in pages of lines and inputs; this source's thread waits for each page.
    pub(crate) fn pages(
        columns: Option<Vec<String>>,
        pages: impl Stream<Item = Result<Vec<(u32, Box<RawJson>)>>> + Send + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let source = Self::of(move |feeder| {
            let mut pages = std::pin::pin!(pages);
            while let Some(rows) = runtime.block_on(pages.try_next())? {
                for (line, input) in rows {
                    if !feeder.row(line, input.get()) {
                        return Ok(());
                    }
                }
            }
            feeder.intake.columns = columns;
            Ok(())
        });
        Self {
            waits: true,
            ..source
        }
    }

    /// Reads everything and stores nothing.
    pub(crate) fn count(self) -> Result<Intake> {
        let (pieces, mut inbox) = mpsc::channel(AHEAD);
        let drain = std::thread::spawn(move || while inbox.blocking_recv().is_some() {});
        let mut feeder = Feeder::new(BlockBuilder::new(1000, 1 << 20), false, &pieces);
        let fed = (self.feed)(&mut feeder);
        let intake = feeder.intake;
        drop(pieces);
        drop(drain.join());
        fed.map(|()| intake)
    }
}

/// The line of the row after line `last`: its own, or the next.
pub(crate) fn next_line(last: u32, own: Option<u32>) -> Result<u32> {
    let line = own.unwrap_or_else(|| last.saturating_add(1));
    if line <= last || line > Line::MAX.0 {
        let most = Line::MAX;
        let text = format!("line {line} after line {last}: lines rise from 1 to {most}");
        return Err(Error::invalid("bad_line", text));
    }
    Ok(line)
}

fn unusable(error: IngestError) -> Error {
    let (kind, code) = match &error {
        IngestError::Io(_) | IngestError::Packed { .. } => (ErrorKind::Invalid, "unreadable_input"),
        IngestError::TooLarge { .. } => (ErrorKind::Invalid, "input_too_large"),
        _ => (ErrorKind::Invalid, "unusable_input"),
    };
    Error::with(kind, code, error.to_string(), error)
}
