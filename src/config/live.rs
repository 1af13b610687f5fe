//! Settings of an op that are set in the database, over those of the processes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::suggest::suggest;
use crate::model::{Delivery, OpSettings, parse_duration};

/// The keys that can be set while workers run, in the order of the file's.
pub const LIVE_KEYS: &[&str] = &[
    "max_attempts",
    "max_lost",
    "backoff.base",
    "backoff.factor",
    "backoff.cap",
    "concurrency",
    "local_concurrency",
    "parallel",
    "timeout",
    "delivery",
    "block_rows",
    "block_bytes",
    "abort_grace",
    "max_later",
    "keep",
];
/// Keys of an op that only the process which works on it can know.
const FIXED: &[&str] = &["kind", "handler", "handler.command", "handler.window"];
/// What lifts a limit that the process sets.
const NONE: &str = "none";

/// What is set in the database for an op: a few keys, which win over what the processes say.
///
/// ```
/// use rowmill::config::LiveSettings;
/// let mut live = LiveSettings::default();
/// live.set("concurrency", "4")?;
/// live.set("backoff.base", "5s")?;
/// assert_eq!(live.to_json().as_deref(), Some(r#"{"backoff":{"base":"5s"},"concurrency":4}"#));
/// assert_eq!(live.over(&Default::default()).concurrency, Some(4));
/// live.set("concurrency", "")?;
/// assert_eq!(live.over(&Default::default()).concurrency, None);
/// assert!(live.set("timeuot", "5s").unwrap_err().contains("timeout"));
/// # Ok::<_, String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveSettings {
    values: BTreeMap<&'static str, String>,
}

impl LiveSettings {
    /// Reads the JSON object that a store keeps.
    ///
    /// # Errors
    /// What is wrong with it: a newer program may have written what this one does not know.
    pub fn parse(json: &str) -> Result<Self, String> {
        let object: Map<String, Value> =
            serde_json::from_str(json).map_err(|e| format!("is no JSON object: {e}"))?;
        let mut live = Self::default();
        for (key, value) in &object {
            match value {
                Value::Object(inner) => {
                    for (name, value) in inner {
                        live.set_value(&format!("{key}.{name}"), value)?;
                    }
                }
                value => live.set_value(key, value)?,
            }
        }
        Ok(live)
    }

    fn set_value(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match value {
            Value::String(text) => self.set(key, text),
            other => self.set(key, &other.to_string()),
        }
    }

    /// The JSON object that a store keeps; none where nothing is set.
    #[must_use]
    pub fn to_json(&self) -> Option<String> {
        let mut object = Map::new();
        for (key, text) in &self.values {
            // What a number is written as is a number; durations, words and `none` are strings.
            let number = serde_json::from_str(text).ok().filter(Value::is_number);
            let value = number.unwrap_or_else(|| Value::from(text.as_str()));
            match key.split_once('.') {
                None => drop(object.insert((*key).to_owned(), value)),
                Some((outer, name)) => {
                    let inner = object.entry(outer).or_insert_with(|| Map::new().into());
                    if let Value::Object(inner) = inner {
                        inner.insert(name.to_owned(), value);
                    }
                }
            }
        }
        (!object.is_empty()).then(|| Value::from(object).to_string())
    }

    /// Sets a key to what a person wrote; an empty text leaves it to the processes again, and
    /// `none` lifts a limit that they set.
    ///
    /// # Errors
    /// The key with what is wrong, for that person.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let key = known(key)?;
        if text.is_empty() {
            self.values.remove(key);
            return Ok(());
        }
        put(&mut OpSettings::default(), key, text).map_err(|why| format!("{key}: {why}"))?;
        self.values.insert(key, text.to_owned());
        Ok(())
    }

    /// The keys that are set.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.values.keys().copied()
    }

    /// What is in force where the process says `base`.
    #[must_use]
    pub fn over(&self, base: &OpSettings) -> OpSettings {
        let mut settings = base.clone();
        for (key, text) in &self.values {
            // It was read when it was set.
            drop(put(&mut settings, key, text));
        }
        settings
    }
}

/// The key as it is known.
fn known(key: &str) -> Result<&'static str, String> {
    if let Some(known) = LIVE_KEYS.iter().find(|known| **known == key) {
        return Ok(known);
    }
    let why = match suggest(key, LIVE_KEYS) {
        _ if FIXED.contains(&key) => {
            "cannot be set here: it belongs to the workers' own configuration".to_owned()
        }
        _ if key == "backoff" => {
            "is a table; set backoff.base, backoff.factor or backoff.cap".to_owned()
        }
        Some(near) => format!("unknown key; is it {near}?"),
        None => format!("unknown key; known here: {}", LIVE_KEYS.join(", ")),
    };
    Err(format!("{key}: {why}"))
}

/// Reads a value into its setting.
fn put(settings: &mut OpSettings, key: &str, text: &str) -> Result<(), String> {
    match key {
        "max_attempts" => settings.max_attempts = whole(text)?,
        "max_lost" => settings.max_lost = whole(text)?,
        "backoff.base" => settings.backoff.base = duration(text)?,
        "backoff.factor" => {
            let number = text.parse::<f64>();
            settings.backoff.factor = number.map_err(|_| wants("a number", text))?;
        }
        "backoff.cap" => settings.backoff.cap = duration(text)?,
        "concurrency" => settings.concurrency = or_none(text, whole)?,
        "local_concurrency" => settings.local_concurrency = or_none(text, whole)?,
        "parallel" => settings.parallel = whole(text)?,
        "timeout" => settings.timeout = or_none(text, duration)?,
        "delivery" => {
            let words = Delivery::ALL.map(|word| format!("{:?}", word.as_str()));
            settings.delivery =
                Delivery::from_word(text).ok_or_else(|| wants(&words.join(" or "), text))?;
        }
        "block_rows" => settings.block_rows = whole(text)?,
        "block_bytes" => settings.block_bytes = whole(text)?,
        "abort_grace" => settings.abort_grace = duration(text)?,
        "max_later" => settings.max_later = whole(text)?,
        "keep" => settings.keep = or_none(text, duration)?,
        _ => return Err("unknown key".to_owned()),
    }
    Ok(())
}

fn wants(what: &str, text: &str) -> String {
    format!("must be {what}, not {text:?}")
}

fn or_none<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text == NONE {
        return Ok(None);
    }
    read(text).map(Some)
}

fn whole(text: &str) -> Result<u32, String> {
    let whole: u64 = text
        .parse()
        .map_err(|_| wants("a whole number, 0 or more", text))?;
    u32::try_from(whole).map_err(|_| wants(&format!("at most {}", u32::MAX), text))
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|why| format!("{text:?} {why}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::ops_refused;
    use super::*;

    fn refused(key: &str, text: &str) -> String {
        LiveSettings::default().set(key, text).unwrap_err()
    }

    #[test]
    fn every_key_is_kept_and_read_back() {
        let mut live = LiveSettings::default();
        let texts = [
            "7",
            "8",
            "3s",
            "1.5",
            "1h",
            "9",
            "none",
            "2",
            "5m",
            "at_most_once",
            "10",
            "2000",
            "1s",
            "11",
            "90d",
        ];
        for (key, text) in LIVE_KEYS.iter().zip(texts) {
            live.set(key, text).unwrap();
        }
        let json = live.to_json().unwrap();
        assert_eq!(LiveSettings::parse(&json), Ok(live.clone()));
        let base = OpSettings {
            local_concurrency: Some(3),
            ..OpSettings::default()
        };
        let OpSettings {
            max_attempts,
            max_lost,
            backoff,
            concurrency,
            local_concurrency,
            parallel,
            timeout,
            delivery,
            block_rows,
            block_bytes,
            abort_grace,
            max_later,
            keep,
        } = live.over(&base);
        assert_eq!((max_attempts, max_lost, parallel, max_later), (7, 8, 2, 11));
        assert_eq!(
            (backoff.factor, concurrency, local_concurrency),
            (1.5, Some(9), None)
        );
        assert_eq!((block_rows, block_bytes), (10, 2000));
        let seconds = [backoff.base, backoff.cap, timeout.unwrap(), abort_grace];
        assert_eq!(seconds.map(|s| s.as_secs()), [3, 3600, 300, 1]);
        assert_eq!(delivery, Delivery::AtMostOnce);
        assert_eq!(keep, Some(Duration::from_secs(90 * 86_400)));
    }

    #[test]
    fn an_empty_text_leaves_a_key_to_the_processes() {
        let mut live = LiveSettings::default();
        live.set("timeout", "5s").unwrap();
        live.set("backoff.cap", "2h").unwrap();
        live.set("timeout", "").unwrap();
        assert_eq!(
            live.to_json().as_deref(),
            Some(r#"{"backoff":{"cap":"2h"}}"#)
        );
        live.set("backoff.cap", "").unwrap();
        assert_eq!(live.to_json(), None);
    }

    #[test]
    fn a_bad_value_is_refused_in_the_words_of_the_configuration_file() {
        for (key, toml, text) in [
            ("max_attempts", "\"env:N\"", "x"),
            ("max_attempts", "-1", "-1"),
            ("concurrency", "4294967296", "4294967296"),
            ("timeout", "\"soon\"", "soon"),
            ("abort_grace", "\"1month\"", "1month"),
            ("delivery", "\"never\"", "never"),
        ] {
            let told = ops_refused(&format!("[ops.\"a/b\"]\n{key} = {toml}\n"));
            let why = refused(key, text);
            let why = why.strip_prefix(&format!("{key}: ")).unwrap();
            let same = why.replace("\"x\"", "what N holds");
            assert!(told.contains(&same), "{told}\n{why}");
        }
    }

    #[test]
    fn keys_that_cannot_be_set_are_refused_by_name() {
        assert!(refused("timeuot", "5s").contains("is it timeout?"));
        assert!(refused("colour", "red").contains("known here: max_attempts"));
        assert!(refused("backoff", "2s").contains("backoff.base"));
        for key in FIXED {
            assert!(
                refused(key, "x").contains("workers' own configuration"),
                "{key}"
            );
        }
    }

    #[test]
    fn what_a_newer_program_wrote_is_an_error_and_not_a_panic() {
        for json in [
            "[]",
            "1",
            "{\"colour\":1}",
            "{\"timeout\":{\"a\":1}}",
            "{\"timeout\":[1]}",
        ] {
            assert!(LiveSettings::parse(json).is_err(), "{json}");
        }
        assert_eq!(LiveSettings::parse("{}"), Ok(LiveSettings::default()));
    }
}
