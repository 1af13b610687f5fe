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
    /// What does not fit the header stands at the record's end: the surplus fields of a record that was
    /// refused for them, an empty one where it was refused for another reason, and as JSON what a row
    /// that was no CSV has beside the columns. So the record does not fit the header, and fails again
    /// until whoever corrects it takes that field away.
    pub(super) fn row(&mut self, row: &RowView) -> Result<(), Failure> {
        let told = row.messages.as_deref().map(Told::of);
        let refused = told
            .as_ref()
            .is_some_and(|t| REFUSED.contains(&t.codes.as_str()));
        let (own, surplus) = match &self.columns {
            None => {
                let surplus = refused.then(String::new).into_iter().collect();
                (vec![whole(&row.input, refused)], surplus)
            }
            Some(columns) if refused => spread_refused(columns, &row.input),
            Some(columns) => spread(columns, &row.input),
        };
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

/// An input's values in the order of the columns, and the rest of it as JSON.
fn spread(columns: &[String], input: &RawJson) -> (Vec<String>, Vec<String>) {
    let Ok(Input::Object(fields)) = serde_json::from_str(input.get()) else {
        let own = vec![String::new(); columns.len()];
        return (own, vec![input.get().to_owned()]);
    };
    let (own, rest) = place(columns, fields);
    if rest.is_empty() {
        return (own, Vec::new());
    }
    let rest: Vec<String> = rest
        .into_iter()
        .map(|(name, value)| format!("{}:{}", serde_json::Value::from(name), value.get()))
        .collect();
    (own, vec![format!("{{{}}}", rest.join(","))])
}

/// What is kept of a record that was no row, with the fields that it has beyond the columns.
fn spread_refused(columns: &[String], input: &RawJson) -> (Vec<String>, Vec<String>) {
    let mut own = vec![String::new(); columns.len()];
    let mut surplus = Vec::new();
    match serde_json::from_str(input.get()) {
        Ok(Input::Object(fields)) => {
            let rest;
            (own, rest) = place(columns, fields);
            surplus.extend(rest.into_iter().map(|(_, value)| text_of(value)));
        }
        // Its text stands where the record began.
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
    if surplus.is_empty() {
        surplus.push(String::new());
    }
    (own, surplus)
}

type Field<'a> = (String, &'a RawJson);

/// The columns' values, and the fields that have no column or stand there twice.
fn place<'a>(columns: &[String], fields: Vec<Field<'a>>) -> (Vec<String>, Vec<Field<'a>>) {
    let mut own: Vec<Option<String>> = vec![None; columns.len()];
    let mut rest = Vec::new();
    for (at, (name, value)) in fields.into_iter().enumerate() {
        // Nearly always the fields are in the columns' order.
        let place = match columns.get(at) {
            Some(column) if *column == name => Some(at),
            _ => columns.iter().position(|column| *column == name),
        };
        match place.and_then(|place| own.get_mut(place)) {
            Some(slot @ None) => *slot = Some(text_of(value)),
            _ => rest.push((name, value)),
        }
    }
    (
        own.into_iter().map(Option::unwrap_or_default).collect(),
        rest,
    )
}

/// A string's own text; anything else as JSON.
fn text_of(value: &RawJson) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

/// A row's input: an object in its order, or a text.
enum Input<'a> {
    Object(Vec<Field<'a>>),
    Text(String),
}

impl<'de> Deserialize<'de> for Input<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;

        impl<'de> Visitor<'de> for Reads {
            type Value = Input<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Input<'de>, E> {
                Ok(Input::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Input<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, &RawJson>()? {
                    fields.push(field);
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
                row(
                    r#"{"a":"1","column_2":"2"}"#,
                    Some(r#"[{"msgid":20,"errcode":"field_count"}]"#),
                ),
                row(
                    r#""1,\"2""#,
                    Some(r#"[{"msgid":24,"errcode":"unclosed_quote"}]"#),
                ),
            ],
        );
        assert_eq!(
            text,
            "a,_line,_status,_errcode,_message\n1,7,failed,field_count,,2\n\"1,\"\"2\",7,failed,unclosed_quote,,\n"
        );
    }

    #[test]
    fn what_fits_no_column_stands_behind_them_as_json() {
        let text = csv(
            Some(&["a"]),
            &[
                row(r#"{"b\"":{"c":1.0},"a":2,"a":"3"}"#, None),
                row("[1]", None),
                row(r#""x""#, None),
            ],
        );
        assert_eq!(
            text,
            "a,_line,_status,_errcode,_message\n\
             2,7,failed,,,\"{\"\"b\\\"\"\"\":{\"\"c\"\":1.0},\"\"a\"\":\"\"3\"\"}\"\n\
             ,7,failed,,,[1]\n\
             ,7,failed,,,\"\"\"x\"\"\"\n"
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
