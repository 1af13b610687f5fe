//! Rows as CSV: the input's own columns, then what became of them, so that a corrected file goes
//! straight back to `submit`.

use std::fmt;
use std::io::Write;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::exit::Failure;
use super::output;
use super::rows::Told;
use crate::ingest::{INPUT_COLUMN, REPORT_COLUMNS};
use crate::model::{RawJson, RowView};

/// Records that were refused when they were read: what can be written of them is not what they were.
const REFUSED: [&str; 5] = [
    "field_count",
    "bad_encoding",
    "unclosed_quote",
    "bad_json",
    "row_too_large",
];

/// Writes rows of one batch.
pub(super) struct CsvRows<W: Write> {
    out: csv::Writer<W>,
    /// The input's own columns; none where it was no CSV.
    columns: Option<Vec<String>>,
}

impl<W: Write> CsvRows<W> {
    /// Writes the header.
    pub(super) fn begin(out: W, columns: Option<&[String]>) -> Result<Self, Failure> {
        let mut out = csv::WriterBuilder::new().flexible(true).from_writer(out);
        let own: Vec<&str> = match columns {
            Some(columns) => columns.iter().map(String::as_str).collect(),
            None => vec![INPUT_COLUMN],
        };
        written(out.write_record(own.into_iter().chain(REPORT_COLUMNS)))?;
        Ok(Self {
            out,
            columns: columns.map(<[String]>::to_vec),
        })
    }

    /// Writes a row.
    ///
    /// Fields beyond the header's stand at the record's end; a record that was refused for another
    /// reason gets an empty one there. So it does not fit the header, and fails again until whoever
    /// corrects it takes that field away.
    pub(super) fn row(&mut self, row: &RowView) -> Result<(), Failure> {
        let told = row.messages.as_deref().map(Told::of);
        let refused = told
            .as_ref()
            .is_some_and(|t| REFUSED.contains(&t.codes.as_str()));
        let (own, mut surplus) = match &self.columns {
            None => (vec![whole(&row.input, refused)], Vec::new()),
            Some(columns) => spread(columns, &row.input),
        };
        if surplus.is_empty() && refused {
            surplus.push(String::new());
        }
        let (codes, text) = told.map_or_else(Default::default, |t| (t.codes, t.text));
        let report = [
            row.line.to_string(),
            row.status.as_str().to_owned(),
            codes,
            text,
        ];
        written(
            self.out
                .write_record(own.into_iter().chain(report).chain(surplus)),
        )
    }

    /// Writes what is left.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        output::ended(self.out.flush())
    }
}

fn written(result: csv::Result<()>) -> Result<(), Failure> {
    output::ended(result.map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }))
}

/// An input as JSON; of a record that was no row, the text that stood there.
fn whole(input: &RawJson, refused: bool) -> String {
    let text = serde_json::from_str::<String>(input.get()).ok();
    text.filter(|_| refused)
        .unwrap_or_else(|| input.get().to_owned())
}

/// An input's values in the order of the columns, and those of other names.
fn spread(columns: &[String], input: &RawJson) -> (Vec<String>, Vec<String>) {
    let mut own = vec![String::new(); columns.len()];
    let mut surplus = Vec::new();
    match serde_json::from_str::<Input>(input.get()) {
        Ok(Input::Object(fields)) => {
            for (at, (name, value)) in fields.into_iter().enumerate() {
                // Nearly always the fields are in the columns' order.
                let place = match columns.get(at) {
                    Some(column) if *column == name => Some(at),
                    _ => columns.iter().position(|column| *column == name),
                };
                match place.and_then(|place| own.get_mut(place)) {
                    Some(slot) => *slot = value,
                    None => surplus.push(value),
                }
            }
        }
        // A record that was no row: its text stands where the record began.
        Ok(Input::Text(text)) => {
            if let Some(slot) = own.first_mut() {
                *slot = text;
            }
        }
        Err(_) => {
            if let Some(slot) = own.first_mut() {
                input.get().clone_into(slot);
            }
        }
    }
    (own, surplus)
}

/// A row's input: an object in its order, or a text.
enum Input {
    Object(Vec<(String, String)>),
    Text(String),
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;

        impl<'de> Visitor<'de> for Reads {
            type Value = Input;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Input, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawJson>()? {
                    // A string's own text; anything else as JSON.
                    let text = serde_json::from_str(value.get());
                    let text = text.unwrap_or_else(|_| value.get().to_owned());
                    fields.push((name, text));
                }
                Ok(Input::Object(fields))
            }
        }

        deserializer.deserialize_any(Reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Line, Status};

    fn row(input: &str, messages: Option<&str>) -> RowView {
        let raw = |text: &str| RawJson::from_string(text.to_owned()).unwrap();
        RowView {
            line: Line(7),
            status: Status::Failed,
            input: raw(input),
            result: None,
            messages: messages.map(raw),
            attempt: Some(1),
            done_at: None,
            redacted: false,
        }
    }

    fn csv(columns: Option<&[&str]>, rows: &[RowView]) -> String {
        let columns: Option<Vec<String>> =
            columns.map(|c| c.iter().map(|&c| c.to_owned()).collect());
        let mut text = Vec::new();
        let mut out = CsvRows::begin(&mut text, columns.as_deref()).unwrap();
        for row in rows {
            out.row(row).unwrap();
        }
        out.end().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn values_stand_under_their_columns_whatever_their_order() {
        let text = csv(
            Some(&["a", "b"]),
            &[row(
                r#"{"b":"x, \"y\"","a":"1\n2"}"#,
                Some(r#"[{"msgid":1,"errcode":"e","text":"t"}]"#),
            )],
        );
        assert_eq!(
            text,
            "a,b,_line,_status,_errcode,_message\n\"1\n2\",\"x, \"\"y\"\"\",7,failed,e,t\n"
        );
    }

    #[test]
    fn surplus_fields_keep_the_record_from_fitting() {
        let text = csv(
            Some(&["a"]),
            &[
                row(r#"{"a":"1","column_2":"2"}"#, None),
                row(r#""1,\"2""#, None),
            ],
        );
        assert_eq!(
            text,
            "a,_line,_status,_errcode,_message\n1,7,failed,,,2\n\"1,\"\"2\",7,failed,,\n"
        );
    }

    #[test]
    fn a_line_that_was_no_json_is_written_as_it_stood_and_does_not_fit() {
        let bad = row(
            r#""{\"n\":""#,
            Some(r#"[{"msgid":22,"errcode":"bad_json","text":"t"}]"#),
        );
        assert_eq!(
            csv(None, &[bad]),
            "_input,_line,_status,_errcode,_message\n\"{\"\"n\"\":\",7,failed,bad_json,t,\n"
        );
    }

    #[test]
    fn an_input_that_was_no_csv_is_one_column_of_json() {
        assert_eq!(
            csv(None, &[row(r#"{"n":1.50}"#, None)]),
            "_input,_line,_status,_errcode,_message\n\"{\"\"n\"\":1.50}\",7,failed,,\n"
        );
    }
}
