//! The input file and how it is read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::args::{Input, InputFormat};
use super::exit::Failure;
use crate::config::Config;
use crate::error::Error;
use crate::ingest::{Format, Options, Packing};

/// An input that is open.
pub(super) struct Opened {
    pub(super) reader: Box<dyn Read + Send>,
    pub(super) options: Options,
    /// What messages call it.
    pub(super) name: String,
}

/// Opens the input; nothing of it is read yet. **Cancellation:** safe.
pub(super) async fn open(file: &Path, input: &Input, config: &Config) -> Result<Opened, Failure> {
    let stdin = file.as_os_str() == "-";
    let name = if stdin {
        "stdin".to_owned()
    } else {
        file.display().to_string()
    };
    let format = match input.format {
        Some(InputFormat::Csv) => Format::Csv,
        Some(InputFormat::Jsonl) => Format::Jsonl,
        None => by_extension(file, &name)?,
    };
    let reader: Box<dyn Read + Send> = if stdin {
        Box::new(std::io::stdin())
    } else {
        // Aside: a pipe is open when somebody writes to it, and until then a signal is heard.
        let path = file.to_owned();
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        let opened = opened
            .unwrap_or_else(|e| Err(std::io::Error::other(e)))
            .map_err(|e| Failure::invalid("unreadable_input", format!("{name}: {e}")))?;
        Box::new(opened)
    };
    let usual = match format {
        Format::Csv => Options::csv(),
        Format::Jsonl => Options::jsonl(),
    };
    let Input {
        format: _,
        delimiter,
        quote,
        encoding,
        no_header,
    } = input;
    let options = Options {
        delimiter: delimiter.unwrap_or(usual.delimiter),
        quote: quote.unwrap_or(usual.quote),
        header: !no_header,
        encoding: encoding.unwrap_or(usual.encoding),
        packing: Packing::of_path(file).filter(|_| !stdin),
        max_row_bytes: usize::try_from(config.max_row_bytes.value).unwrap_or(usize::MAX),
        max_input_bytes: config.max_input_bytes.value,
        ..usual
    };
    Ok(Opened {
        reader,
        options,
        name,
    })
}

fn by_extension(file: &Path, name: &str) -> Result<Format, Failure> {
    if let Some(format) = Format::of_path(file) {
        return Ok(format);
    }
    let text =
        format!("{name}: its name does not tell its format; add --format csv or --format jsonl");
    Err(Failure::invalid("unknown_format", text))
}

/// Names the input in an error that is about it.
pub(super) fn named(error: Error, name: &str) -> Error {
    match error.code() {
        "unreadable_input" | "unusable_input" | "input_too_large" | "no_rows" => {
            let text = format!("{name}: {error}");
            Error::with(error.kind(), error.code(), text, error)
        }
        _ => error,
    }
}
