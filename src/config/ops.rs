//! The ops of the file: `[ops."app/op"]`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::mask::mask;
use super::reader::{Given, Reader, Table, Want};
use super::report::settings_report;
use super::setting::Origin;
use super::{NOT_YET, TOP_KEYS};
use crate::model::{AppName, Backoff, Delivery, IdError, JobKey, Kind, OpName, OpSettings};

/// The keys of an op.
pub(super) const KEYS: &[&str] = &[
    "kind",
    "handler",
    "max_attempts",
    "max_lost",
    "backoff",
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
/// What to say of such a key in another table.
pub(super) const BELONGS: &str = "unknown key here: it belongs in [ops.\"app/op\"]";
const HANDLER_KEYS: &[&str] = &["command", "window"];
/// Handlers that a later version has, and what else their tables hold.
const HANDLERS_TO_COME: &[&str] = &["http", "sql"];
const HANDLER_KEYS_TO_COME: &[&str] = &["auth", "mode", "database", "output"];
/// The key under which a processor of the program is reported.
pub(super) const PROCESSOR: &str = "handler";
const BACKOFF_KEYS: &[&str] = &["base", "factor", "cap"];

/// Rows written to a child beyond those that it answered.
const WINDOW: usize = 32;
const MAX_WINDOW: usize = 10_000;

/// An op of the configuration file. Its `Debug` form shows no secret.
#[derive(Clone, PartialEq)]
pub struct OpConfig {
    /// The application, as written.
    pub app: String,
    /// The operation, as written; it is compared in lower case.
    pub op: String,
    /// Batches or slow queries.
    pub kind: Kind,
    /// What runs the rows; none where a processor of the application's own binary does.
    pub handler: Option<Handler>,
    /// How the rows are run.
    pub settings: OpSettings,
    /// The line of the op's table, from 1; 0 where the program alone has the op.
    pub line: u32,
    /// Where each key that is set was set: `timeout`, `backoff.base`, `handler.window`.
    pub origins: BTreeMap<&'static str, Origin>,
}

impl OpConfig {
    /// The op's table in the file, as messages name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("ops.\"{}/{}\"", self.app, self.op)
    }

    /// Whether this is the op of that name; an op's case does not count, an app's does.
    #[must_use]
    pub fn is(&self, app: &str, op: &str) -> bool {
        self.app == app && self.op.eq_ignore_ascii_case(op)
    }

    /// An op of which the file says nothing.
    pub(crate) fn unwritten(key: &JobKey) -> Self {
        Self {
            app: key.app.to_string(),
            op: key.op.to_string(),
            kind: key.kind,
            handler: None,
            settings: OpSettings::default(),
            line: 0,
            origins: BTreeMap::new(),
        }
    }

    /// The op where a processor of the program runs its rows: each key that the file holds wins over the
    /// program's, which wins over the default.
    pub(crate) fn over(mut self, kind: Kind, program: &OpSettings) -> Self {
        self.kind = kind;
        self.settings = merged(&self.settings, program, |key| {
            self.origins.contains_key(key)
        });
        let default = settings_report(&OpSettings::default());
        let said = settings_report(program).into_iter().zip(default);
        // What the program set to the default cannot be told from what it left.
        let set = said.filter(|((_, value), (_, default))| value != default);
        let keys = set.map(|((key, _), _)| key);
        for key in keys.chain(["kind", PROCESSOR]) {
            self.origins.entry(key).or_insert(Origin::Code);
        }
        self
    }
}

/// Of each key, the file's value where the file holds it, else the program's.
fn merged(file: &OpSettings, program: &OpSettings, in_file: impl Fn(&str) -> bool) -> OpSettings {
    let of = |key: &str| if in_file(key) { file } else { program };
    OpSettings {
        max_attempts: of("max_attempts").max_attempts,
        max_lost: of("max_lost").max_lost,
        backoff: Backoff {
            base: of("backoff.base").backoff.base,
            factor: of("backoff.factor").backoff.factor,
            cap: of("backoff.cap").backoff.cap,
        },
        concurrency: of("concurrency").concurrency,
        local_concurrency: of("local_concurrency").local_concurrency,
        parallel: of("parallel").parallel,
        timeout: of("timeout").timeout,
        delivery: of("delivery").delivery,
        block_rows: of("block_rows").block_rows,
        block_bytes: of("block_bytes").block_bytes,
        abort_grace: of("abort_grace").abort_grace,
        max_later: of("max_later").max_later,
        keep: of("keep").keep,
    }
}

/// What runs the rows of an op.
#[derive(Clone, PartialEq, Eq)]
pub enum Handler {
    /// Children of the worker, started in the configuration file's folder.
    Command {
        /// The program and its arguments; never empty.
        command: Vec<String>,
        /// The same as people may see it: `env:NAME` as written, passwords of URLs hidden.
        shown: Vec<String>,
        /// Rows that are written to a child beyond those that it answered.
        window: usize,
    },
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Command {
            command: _,
            shown,
            window,
        } = self;
        f.debug_struct("Command")
            .field("command", shown)
            .field("window", window)
            .finish()
    }
}

/// Reads `[ops]`, in the order of the file.
pub(super) fn read(reader: &mut Reader<'_>, root: &Table<'_>) -> Vec<OpConfig> {
    let Some(all) = reader.table(root, "ops") else {
        return Vec::new();
    };
    let mut ops: Vec<OpConfig> = Vec::new();
    for (name, table) in reader.tables(&all) {
        let Some((app, op)) = names(reader, name, &table) else {
            continue;
        };
        if let Some(first) = ops.iter().find(|first| first.is(app, op)) {
            let text = format!(
                "is the op of line {} again: an op's case does not count",
                first.line
            );
            reader.refuse(reader.at(table.line()), table.name(), text);
        }
        let reading = Op {
            reader,
            origins: BTreeMap::new(),
        };
        ops.push(reading.read(&table, app, op));
    }
    ops
}

/// The app and the op of a key, which has exactly one slash.
fn names<'n>(
    reader: &mut Reader<'_>,
    name: &'n str,
    table: &Table<'_>,
) -> Option<(&'n str, &'n str)> {
    let mut refuse = |text: String| reader.refuse(reader.at(table.line()), table.name(), text);
    let Some((app, op)) = name.split_once('/') else {
        refuse(
            "must be an app and an op with a slash between them, in quotes: [ops.\"app/op\"]"
                .to_owned(),
        );
        return None;
    };
    let wrong: Vec<IdError> = [app.parse::<AppName>().err(), op.parse::<OpName>().err()]
        .into_iter()
        .flatten()
        .collect();
    for IdError { what, rule, .. } in &wrong {
        refuse(format!("the {what} {rule}"));
    }
    wrong.is_empty().then_some((app, op))
}

/// An op while it is read: remembers where each key was.
struct Op<'r, 'a> {
    reader: &'r mut Reader<'a>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Op<'_, '_> {
    fn read(mut self, table: &Table<'_>, app: &str, op: &str) -> OpConfig {
        const HANDLER: &str = "unknown key here: it belongs in handler = { … }";
        const BACKOFF: &str = "unknown key here: it belongs in backoff = { … }";
        const TOP: &str = "unknown key here: it belongs before the first [table] of the file";
        let others = [
            (HANDLER_KEYS, HANDLER),
            (BACKOFF_KEYS, BACKOFF),
            (TOP_KEYS, TOP),
        ];
        self.reader.only(table, KEYS, &others);
        let kind = self.value(table, "kind", Want::Text, |reader, given| {
            reader.word(
                given,
                &[Kind::Batch, Kind::Query].map(|kind| (kind.as_str(), kind)),
            )
        });
        let settings = self.settings(table);
        let handler = self.handler(table, settings.delivery);
        self.check(table, &settings);
        OpConfig {
            app: app.to_owned(),
            op: op.to_owned(),
            kind: kind.unwrap_or(Kind::Batch),
            handler,
            settings,
            line: table.line(),
            origins: self.origins,
        }
    }

    fn settings(&mut self, table: &Table<'_>) -> OpSettings {
        let default = OpSettings::default();
        OpSettings {
            max_attempts: self
                .count(table, "max_attempts")
                .unwrap_or(default.max_attempts),
            max_lost: self.count(table, "max_lost").unwrap_or(default.max_lost),
            backoff: self.backoff(table).unwrap_or(default.backoff),
            concurrency: self.count(table, "concurrency").or(default.concurrency),
            local_concurrency: self
                .count(table, "local_concurrency")
                .or(default.local_concurrency),
            parallel: self.count(table, "parallel").unwrap_or(default.parallel),
            timeout: self.duration(table, "timeout").or(default.timeout),
            delivery: self
                .value(table, "delivery", Want::Text, |reader, given| {
                    reader.word(given, &Delivery::ALL.map(|word| (word.as_str(), word)))
                })
                .unwrap_or(default.delivery),
            block_rows: self
                .count(table, "block_rows")
                .unwrap_or(default.block_rows),
            block_bytes: self
                .count(table, "block_bytes")
                .unwrap_or(default.block_bytes),
            abort_grace: self
                .duration(table, "abort_grace")
                .unwrap_or(default.abort_grace),
            max_later: self.count(table, "max_later").unwrap_or(default.max_later),
            keep: self.duration(table, "keep").or(default.keep),
        }
    }

    fn backoff(&mut self, table: &Table<'_>) -> Option<Backoff> {
        let backoff = self.inner(table, "backoff")?;
        self.reader.only(&backoff, BACKOFF_KEYS, &[(KEYS, BELONGS)]);
        let default = Backoff::default();
        Some(Backoff {
            base: self
                .duration(&backoff, "backoff.base")
                .unwrap_or(default.base),
            factor: self
                .value(&backoff, "backoff.factor", Want::Number, |reader, given| {
                    reader.number(given)
                })
                .unwrap_or(default.factor),
            cap: self
                .duration(&backoff, "backoff.cap")
                .unwrap_or(default.cap),
        })
    }

    fn handler(&mut self, table: &Table<'_>, delivery: Delivery) -> Option<Handler> {
        let handler = self.inner(table, "handler")?;
        if HANDLERS_TO_COME.iter().any(|key| handler.has(key)) {
            let known = [HANDLER_KEYS, HANDLER_KEYS_TO_COME].concat();
            self.reader
                .only(&handler, &known, &[(HANDLERS_TO_COME, NOT_YET)]);
            return None;
        }
        self.reader.only(&handler, HANDLER_KEYS, &[(KEYS, BELONGS)]);
        let window = self
            .value(&handler, "handler.window", Want::Whole, |reader, given| {
                let window = usize::try_from(reader.whole(given)?).unwrap_or(usize::MAX);
                let possible = (1..=MAX_WINDOW).contains(&window);
                if !possible {
                    reader.refuse_value(given, &format!("1 to {MAX_WINDOW}"));
                }
                possible.then_some(window)
            })
            .unwrap_or(match delivery {
                Delivery::AtLeastOnce => WINDOW,
                Delivery::AtMostOnce => 1,
            });
        let line = self.reader.at(handler.line());
        let Some(command) = self.reader.list(&handler, "command") else {
            if !handler.has("command") {
                self.reader
                    .refuse(line, handler.name(), "command is missing");
            }
            return None;
        };
        self.origins.insert("handler.command", line);
        for (index, given) in command.iter().enumerate() {
            let text = given.given.text.as_str();
            if text.contains('\0') || (index == 0 && text.is_empty()) {
                let (origin, key) = (given.given.origin.clone(), &given.given.key);
                self.reader
                    .refuse(origin, key, "must not be empty or hold a NUL character");
            }
        }
        let shown = command.iter().map(|item| mask(&item.written)).collect();
        Some(Handler::Command {
            command: command.into_iter().map(|item| item.given.text).collect(),
            shown,
            window,
        })
    }

    /// Notes what cannot be, at the line of its key, else at that of the table that it is in.
    fn check(&mut self, table: &Table<'_>, settings: &OpSettings) {
        for (path, text) in settings.check() {
            let key = format!("{}.{path}", table.name());
            if self.reader.has_refused(&key) {
                continue;
            }
            let outer = path.split_once('.').map_or(path, |(outer, _)| outer);
            let origin = [path, outer].iter().find_map(|path| self.origins.get(path));
            let origin = origin
                .cloned()
                .unwrap_or_else(|| self.reader.at(table.line()));
            self.reader.refuse(origin, &key, text);
        }
    }

    fn inner<'d>(&mut self, table: &Table<'d>, key: &'static str) -> Option<Table<'d>> {
        let inner = self.reader.table(table, key)?;
        self.origins.insert(key, self.reader.at(inner.line()));
        Some(inner)
    }

    fn count(&mut self, table: &Table<'_>, path: &'static str) -> Option<u32> {
        self.value(table, path, Want::Whole, |reader, given| {
            reader.whole32(given)
        })
    }

    fn duration(&mut self, table: &Table<'_>, path: &'static str) -> Option<Duration> {
        self.value(table, path, Want::Duration, |reader, given| {
            reader.duration(given)
        })
    }

    /// The value of a key, whose path from the op's table is `path`.
    fn value<T>(
        &mut self,
        table: &Table<'_>,
        path: &'static str,
        want: Want,
        read: impl FnOnce(&mut Reader<'_>, &Given) -> Option<T>,
    ) -> Option<T> {
        let key = path.split_once('.').map_or(path, |(_, key)| key);
        let given = self.reader.given(table, key, want)?;
        self.origins.insert(path, given.origin.clone());
        read(self.reader, &given)
    }
}
