//! A CSV record's bytes to an object of strings.

use std::str::Utf8Error;

use super::columns::Columns;
use super::encoding::Encoding;
use super::fields::{Field, Fields};
use super::json_text;
use super::jsonl;
use super::options::INPUT_COLUMN;
use super::reject::{Rejection, place_of_bad};
use super::scan::Quoting;

/// Writes the rows of one CSV.
pub(super) struct Csv {
    quoting: Quoting,
    ignored: &'static [&'static str],
    encoding: Encoding,
    /// `None` until the first record of a file without a header tells how many there are.
    columns: Option<Columns>,
    /// Which field is a row's input as JSON: the file is a report of rows that came from no CSV.
    json: Option<usize>,
}

impl Csv {
    pub(super) fn new(
        quoting: Quoting,
        ignored: &'static [&'static str],
        encoding: Encoding,
    ) -> Self {
        Self {
            quoting,
            ignored,
            encoding,
            columns: None,
            json: None,
        }
    }

    /// Names the columns.
    pub(super) fn set_columns(&mut self, names: Vec<String>) {
        self.columns = Some(Columns::named(names, self.ignored));
    }

    /// Takes the columns' names from the header's bytes, or says why they are none.
    pub(super) fn set_header(&mut self, bytes: &[u8]) -> Result<(), String> {
        let header =
            str::from_utf8(bytes).map_err(|error| bad_header(self.encoding, bytes, error))?;
        let names: Vec<String> = self.fields(header).map(Field::to_value).collect();
        let is_report = names.len() == self.ignored.len() + 1
            && (self.ignored.iter()).all(|report| names.iter().any(|name| name == report));
        self.json = names
            .iter()
            .position(|name| is_report && name == INPUT_COLUMN);
        self.set_columns(names);
        Ok(())
    }

    /// The columns in the rows, once they are known.
    pub(super) fn columns(&self) -> Option<&[String]> {
        let columns = self.columns.as_ref().filter(|_| self.json.is_none());
        columns.map(Columns::names)
    }

    /// Appends the object of one record; what is wrong with it, if anything is.
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut String) -> Option<Rejection> {
        if let Some(place) = self.json {
            return self.write_json(place, bytes, out);
        }
        match str::from_utf8(bytes) {
            Ok(record) => {
                let (found, columns) = self.write_object(record, out);
                (found != columns).then(|| Rejection::field_count(found, columns))
            }
            Err(error) => {
                // As a whole, before it is split: the parts of a field could join to a character.
                self.write_object(&String::from_utf8_lossy(bytes), out);
                Some(Rejection::bad_encoding(self.encoding, bytes, error))
            }
        }
    }

    /// Appends the JSON text that is one of the fields.
    fn write_json(&self, place: usize, bytes: &[u8], out: &mut String) -> Option<Rejection> {
        let record = String::from_utf8_lossy(bytes);
        let found = self.fields(&record).count();
        let input = self.fields(&record).nth(place).map(Field::to_value);
        let input = input.unwrap_or_default();
        let columns = self.columns.as_ref().map_or(0, Columns::count);
        if found != columns {
            json_text::push_string(out, &input);
            return Some(Rejection::field_count(found, columns));
        }
        let mut text = String::new();
        let rejected = jsonl::write(input.as_bytes(), self.encoding, &mut text);
        // In a JSON text that is one, line breaks stand between tokens alone.
        out.extend(
            text.chars()
                .map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }),
        );
        match str::from_utf8(bytes) {
            Ok(_) => rejected,
            Err(error) => Some(Rejection::bad_encoding(self.encoding, bytes, error)),
        }
    }

    /// Appends the object; how many fields it has and how many columns there are.
    fn write_object(&mut self, record: &str, out: &mut String) -> (usize, usize) {
        let mut fields = self.fields(record);
        let columns = match &mut self.columns {
            Some(columns) => columns,
            unknown => {
                let count = Fields::new(record, self.quoting).count();
                unknown.insert(Columns::named(vec![String::new(); count], &[]))
            }
        };
        out.reserve(record.len() + columns.lead_bytes + 2);
        let plain = json_text::is_plain(record.as_bytes(), self.quoting.delimiter);
        let mut empty = true;
        let mut found = 0;
        for lead in &columns.leads {
            let Some(field) = fields.next() else { break };
            found += 1;
            if let Some(lead) = lead {
                out.push_str(lead);
                field.push_json(out, plain);
                empty = false;
            }
        }
        let mut last = 0;
        for field in fields {
            found += 1;
            out.push_str(&columns.surplus_lead(found, &mut last, empty));
            field.push_json(out, plain);
            empty = false;
        }
        out.push_str(if empty { "{}" } else { "\"}" });
        (found, columns.count())
    }

    fn fields<'a>(&self, record: &'a str) -> Fields<'a> {
        Fields::new(record, self.quoting)
    }
}

fn bad_header(encoding: Encoding, bytes: &[u8], error: Utf8Error) -> String {
    let (unit, place) = place_of_bad(encoding, bytes, error);
    format!("not {encoding} at its {unit} {place}; save it as UTF-8, or tell its encoding")
}
