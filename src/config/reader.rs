//! Reads the tables of a configuration file, and collects every mistake with its place.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::mistake::Mistake;
use super::setting::Origin;
use super::suggest::suggest;
use crate::model::parse_duration;

/// The environment: the value of a variable, where it is set.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One table of the file, under the name that messages give it.
pub(super) struct Table<'d> {
    name: String,
    line: u32,
    entries: &'d DeTable<'d>,
}

impl<'d> Table<'d> {
    pub(super) fn root(entries: &'d DeTable<'d>) -> Self {
        Self {
            name: String::new(),
            line: 1,
            entries,
        }
    }

    pub(super) fn line(&self) -> u32 {
        self.line
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    fn key(&self, key: &str) -> String {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let key = if !key.is_empty() && key.chars().all(bare) {
            key.to_owned()
        } else {
            format!("{key:?}")
        };
        if self.name.is_empty() {
            key
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

/// What a key wants to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Text,
    Duration,
    Whole,
    Number,
    Bool,
}

impl Want {
    fn words(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Duration => "a duration in quotes, such as \"30s\"",
            Self::Whole => "a whole number",
            Self::Number => "a number",
            Self::Bool => "true or false",
        }
    }
}

/// A value as it was written, from whichever place.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) key: String,
    pub(super) text: String,
    pub(super) origin: Origin,
}

impl Given {
    /// The value for a message: not the value itself where that is a secret.
    fn shown(&self) -> String {
        match &self.origin {
            Origin::File {
                env: Some(name), ..
            } => format!("what {name} holds"),
            origin => format!("{:?}", origin.shown(&self.text)),
        }
    }
}

/// A string of a list: as it was written, and looked up.
pub(super) struct Item {
    pub(super) written: String,
    pub(super) given: Given,
}

/// Reads one file. Every method notes what is wrong and goes on.
pub(super) struct Reader<'a> {
    env: Env<'a>,
    path: PathBuf,
    line_ends: Vec<usize>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &Path, text: &str, env: Env<'a>, mistakes: Vec<Mistake>) -> Self {
        Self {
            env,
            path: path.to_owned(),
            line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
            mistakes,
        }
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    pub(super) fn line_of(&self, span: &Range<usize>) -> u32 {
        let before = self.line_ends.partition_point(|end| *end < span.start);
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }

    pub(super) fn at(&self, line: u32) -> Origin {
        Origin::File {
            path: self.path.clone(),
            line,
            env: None,
        }
    }

    pub(super) fn refuse(&mut self, origin: Origin, key: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake {
            origin,
            key: key.to_owned(),
            text: text.into(),
        });
    }

    /// Notes what is no TOML. The parser's own message would show the line, and a password in it.
    pub(super) fn refuse_syntax(&mut self, text: &str, errors: &[toml::de::Error]) {
        for error in errors {
            let span = error.span().unwrap_or_default();
            let origin = self.at(self.line_of(&span));
            let key = match error.message() {
                "duplicate key" => text.get(span).unwrap_or_default(),
                _ => "",
            };
            self.refuse(origin, key, error.message());
        }
    }

    pub(super) fn has_refused(&self, key: &str) -> bool {
        self.mistakes.iter().any(|mistake| mistake.key == key)
    }

    pub(super) fn refuse_value(&mut self, given: &Given, wants: &str) {
        let text = format!("must be {wants}, not {}", given.shown());
        self.refuse(given.origin.clone(), &given.key, text);
    }

    /// Notes every key of `table` that is not in `known`, with the nearest one.
    ///
    /// `others` are keys that are known but cannot stand here, each list with what to say of them.
    pub(super) fn only(&mut self, table: &Table<'_>, known: &[&str], others: &[(&[&str], &str)]) {
        for key in table.entries.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let other = others.iter().find(|(keys, _)| keys.contains(&name));
            let text = match (other, suggest(name, known)) {
                (Some((_, text)), _) => (*text).to_owned(),
                (None, Some(near)) => format!("unknown key; is it {near}?"),
                (None, None) => format!("unknown key; known here: {}", known.join(", ")),
            };
            let origin = self.at(self.line_of(&key.span()));
            self.refuse(origin, &table.key(name), text);
        }
    }

    /// Every table inside `table`, by its key, in the order of the file.
    pub(super) fn tables<'d>(&mut self, table: &Table<'d>) -> Vec<(&'d str, Table<'d>)> {
        let mut tables: Vec<_> = table
            .entries
            .keys()
            .filter_map(|key| Some((key.get_ref().as_ref(), self.table(table, key.get_ref())?)))
            .collect();
        tables.sort_by_key(|(_, table)| table.line);
        tables
    }

    /// The table under a key.
    pub(super) fn table<'d>(&mut self, table: &Table<'d>, key: &str) -> Option<Table<'d>> {
        let (at, value) = table.entries.get_key_value(key)?;
        let line = self.line_of(&at.span());
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table {
                name: table.key(key),
                line,
                entries,
            }),
            other => {
                let text = format!("must be a table, not {}", article(other.type_str()));
                self.refuse(self.at(line), &table.key(key), text);
                None
            }
        }
    }

    /// The value under a key as it was written, `env:NAME` not yet looked up.
    pub(super) fn raw(&mut self, table: &Table<'_>, key: &str, want: Want) -> Option<Given> {
        let (at, value) = table.entries.get_key_value(key)?;
        let origin = self.at(self.line_of(&at.span()));
        self.scalar(table.key(key), origin, value.get_ref(), want)
    }

    fn scalar(
        &mut self,
        key: String,
        origin: Origin,
        value: &DeValue<'_>,
        want: Want,
    ) -> Option<Given> {
        let string = matches!(want, Want::Text | Want::Duration);
        let text = match value {
            DeValue::String(text) if string || text.starts_with("env:") => text.to_string(),
            DeValue::Boolean(yes) if want == Want::Bool => yes.to_string(),
            DeValue::Integer(number) if !string && want != Want::Bool => {
                match i128::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => number.to_string(),
                    Err(_) => number.to_string(),
                }
            }
            DeValue::Float(number) if want == Want::Number => number.as_str().to_owned(),
            other => {
                let text = format!(
                    "must be {}, not {}",
                    want.words(),
                    article(other.type_str())
                );
                self.refuse(origin, &key, text);
                return None;
            }
        };
        Some(Given { key, text, origin })
    }

    /// Looks up `env:NAME`; every other text stays as it is.
    pub(super) fn resolve(&mut self, given: Given) -> Option<Given> {
        let Some(name) = given.text.strip_prefix("env:") else {
            return Some(given);
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            let text = "env: wants the name of a variable, as in env:NAME";
            self.refuse(given.origin, &given.key, text);
            return None;
        }
        let (Some(text), Origin::File { path, line, .. }) = ((self.env)(name), &given.origin)
        else {
            let text = format!("the environment variable {name} is not set");
            self.refuse(given.origin.clone(), &given.key, text);
            return None;
        };
        let origin = Origin::File {
            path: path.clone(),
            line: *line,
            env: Some(name.to_owned()),
        };
        Some(Given {
            key: given.key,
            text,
            origin,
        })
    }

    /// The value under a key, looked up.
    pub(super) fn given(&mut self, table: &Table<'_>, key: &str, want: Want) -> Option<Given> {
        let raw = self.raw(table, key, want)?;
        self.resolve(raw)
    }

    /// The strings of the list under a key, which holds at least one.
    pub(super) fn list(&mut self, table: &Table<'_>, key: &str) -> Option<Vec<Item>> {
        let (at, value) = table.entries.get_key_value(key)?;
        let key = table.key(key);
        let items = match value.get_ref() {
            DeValue::Array(items) if !items.is_empty() => items,
            DeValue::Array(_) => {
                let origin = self.at(self.line_of(&at.span()));
                self.refuse(origin, &key, "must not be empty");
                return None;
            }
            other => {
                let origin = self.at(self.line_of(&at.span()));
                let text = format!(
                    "must be a list of strings, not {}",
                    article(other.type_str())
                );
                self.refuse(origin, &key, text);
                return None;
            }
        };
        let texts: Vec<Option<Item>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let origin = self.at(self.line_of(&item.span()));
                let key = format!("{key}[{index}]");
                let raw = self.scalar(key, origin, item.get_ref(), Want::Text)?;
                let written = raw.text.clone();
                let given = self.resolve(raw)?;
                Some(Item { written, given })
            })
            .collect();
        texts.into_iter().collect()
    }

    /// A whole number, 0 or more.
    pub(super) fn whole(&mut self, given: &Given) -> Option<u64> {
        let whole = given.text.parse().ok();
        if whole.is_none() {
            self.refuse_value(given, "a whole number, 0 or more");
        }
        whole
    }

    /// A whole number that 32 bits hold.
    pub(super) fn whole32(&mut self, given: &Given) -> Option<u32> {
        let whole = self.whole(given)?;
        let small = u32::try_from(whole).ok();
        if small.is_none() {
            self.refuse_value(given, &format!("at most {}", u32::MAX));
        }
        small
    }

    /// Any number.
    pub(super) fn number(&mut self, given: &Given) -> Option<f64> {
        let number = given.text.parse().ok();
        if number.is_none() {
            self.refuse_value(given, "a number");
        }
        number
    }

    /// A duration.
    pub(super) fn duration(&mut self, given: &Given) -> Option<Duration> {
        match parse_duration(&given.text) {
            Ok(duration) => Some(duration),
            Err(why) => {
                let text = format!("{} {why}", given.shown());
                self.refuse(given.origin.clone(), &given.key, text);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, given: &Given, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == given.text);
        if found.is_none() {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.refuse_value(given, &words.join(" or "));
        }
        found.map(|(_, value)| *value)
    }
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {noun}")
}
