//! What rows wrote to output files, read from their outcomes' lines.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{StagedFile, Word};

/// What the rows of a body wrote to output files, line after line: each text is told while it stands unescaped, which needs no copy of its own.
pub(crate) struct FilesOf<'a>(serde_json::Deserializer<serde_json::de::StrRead<'a>>);

impl<'a> FilesOf<'a> {
    /// Of a body, or of one line of it.
    pub(crate) fn new(body: &'a str) -> Self {
        Self(serde_json::Deserializer::from_str(body))
    }

    /// Tells what the next line's row wrote, file by file, and returns what it streamed; of a row that was to go again, nothing.
    ///
    /// # Errors
    /// There is no next line, or it is not one that [`encode_outcome`](super::encode_outcome) wrote.
    pub(crate) fn next(
        &mut self,
        tell: impl FnMut(&str, &str),
    ) -> Result<Vec<StagedFile>, serde_json::Error> {
        self.0.deserialize_map(FileLine(tell))
    }

    /// Nothing is left.
    ///
    /// # Errors
    /// Something is.
    pub(crate) fn end(mut self) -> Result<(), serde_json::Error> {
        self.0.end()
    }
}

/// A name that is borrowed where it stands in the line as it is.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Status,
    Files,
    Staged,
    #[serde(other)]
    Other,
}

/// A line of which only what went to files is wanted.
struct FileLine<F>(F);

impl<'de, F: FnMut(&str, &str)> Visitor<'de> for FileLine<F> {
    type Value = Vec<StagedFile>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an outcome")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut status, mut staged) = (None, None);
        let (mut wrote, mut told) = (false, false);
        while let Some(key) = map.next_key()? {
            match key {
                Key::Status if status.is_some() => {
                    return Err(A::Error::duplicate_field("status"));
                }
                // What was told cannot be taken back.
                Key::Status if told => return Err(A::Error::custom("its status comes late")),
                Key::Status => status = Some(map.next_value()?),
                Key::Files if wrote => return Err(A::Error::duplicate_field("files")),
                Key::Files => {
                    wrote = true;
                    if ends(status) {
                        told = true;
                        map.next_value_seed(Texts(&mut self.0))?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Key::Staged if staged.is_some() => {
                    return Err(A::Error::duplicate_field("staged"));
                }
                Key::Staged => staged = Some(map.next_value()?),
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(staged.filter(|_| ends(status)).unwrap_or_default())
    }
}

/// Whether a row has ended with what its line says of it.
fn ends(status: Option<Word>) -> bool {
    status.unwrap_or_default().status().is_some()
}

/// Tells texts by the names of their files.
struct Texts<'f, F>(&'f mut F);

impl<'de, F: FnMut(&str, &str)> DeserializeSeed<'de> for Texts<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str, &str)> Visitor<'de> for Texts<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("texts by the names of their files")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            map.next_value_seed(Told(&name, &mut *self.0))?;
        }
        Ok(())
    }
}

/// Tells a text of a file.
struct Told<'f, F>(&'f str, &'f mut F);

impl<'de, F: FnMut(&str, &str)> DeserializeSeed<'de> for Told<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_str(self)
    }
}

impl<F: FnMut(&str, &str)> Visitor<'_> for Told<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        (self.1)(self.0, text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{OutcomeStatus, RowOutcome, encode_outcome};
    use super::*;

    fn own(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    type Told = (Vec<(String, String)>, Vec<StagedFile>);

    /// What a body's lines wrote to files.
    fn told(body: &str) -> Result<Told, serde_json::Error> {
        let (mut texts, mut staged) = (Vec::new(), Vec::new());
        let mut files = FilesOf::new(body);
        for _ in body.lines() {
            staged.extend(files.next(|name, text| texts.push(own(name, text)))?);
        }
        files.end().map(|()| (texts, staged))
    }

    #[test]
    fn files_are_told_of_rows_that_have_ended_line_after_line() {
        let streamed = StagedFile {
            name: "s".into(),
            handle: "h".into(),
            size: 1,
            sha256: "0".into(),
        };
        let mut body = String::new();
        for status in [
            OutcomeStatus::Retry(None),
            OutcomeStatus::Success,
            OutcomeStatus::Later(Duration::ZERO),
            OutcomeStatus::Failed,
            OutcomeStatus::Aborted,
        ] {
            let mut outcome = RowOutcome::success(Some(r#"{"files":{"x":"\n"}}"#.into()));
            outcome.status = status;
            encode_outcome(&mut body, &outcome);
            outcome.files = vec![
                ("a".parse().unwrap(), format!("\"{status:?}\n")),
                ("b".parse().unwrap(), "\\é\u{1}plain".to_owned()),
            ];
            outcome.staged = vec![streamed.clone()];
            encode_outcome(&mut body, &outcome);
        }
        let b = own("b", "\\é\u{1}plain");
        assert_eq!(
            told(&body).unwrap(),
            (
                ["Success", "Failed", "Aborted"]
                    .iter()
                    .flat_map(|status| [own("a", &format!("\"{status}\n")), b.clone()])
                    .collect(),
                vec![streamed; 3],
            )
        );
    }

    #[test]
    fn a_file_s_name_is_borrowed_where_it_stands_as_it_is() {
        let read = |json: &'static str| serde_json::from_str::<Name<'_>>(json).unwrap().0;
        assert!(matches!(read(r#""a.csv""#), Cow::Borrowed("a.csv")));
        assert_eq!(read(r#""\u0061.csv""#), "a.csv");
    }

    #[test]
    fn files_that_no_outcome_can_have_are_an_error() {
        for body in [
            "",
            "[]",
            "{\"files\":[]}",
            "{\"files\":{\"a\":1}}",
            "{\"files\":{\"a\":\"b}",
            "{\"staged\":[{}]}",
            "{\"files\":{},\"files\":{}}",
            "{\"staged\":[],\"staged\":[]}",
            "{\"status\":\"failed\",\"status\":\"failed\"}",
            "{\"status\":\"gone\"}",
            "{} {",
            // They would have been told.
            "{\"files\":{\"a\":\"b\"},\"status\":\"retry\"}",
        ] {
            let mut files = FilesOf::new(body);
            let told = files.next(|_, _| ()).and_then(|_| files.end());
            assert!(told.is_err(), "{body}");
        }
    }
}
