//! What is in force and where it came from, for `rowmill config check`.

use std::fmt;

use super::ops::{Handler, OpConfig, PROCESSOR};
use super::setting::{Origin, Setting};
use super::{Config, Migrate, S3Config, Sse};
use crate::model::{Backoff, OpSettings, format_duration};

/// One key of the configuration in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// The key, such as `database` or `ops."banking/post".timeout`.
    pub key: String,
    /// Its value, with secrets masked.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Config {
    /// Every key with the value in force, masked, and where it came from.
    #[must_use]
    pub fn report(&self) -> Vec<ReportLine> {
        let Self {
            file,
            dir: _,
            database,
            database_session,
            objects,
            s3,
            migrate,
            max_row_bytes,
            max_input_bytes,
            cache,
            ops,
        } = self;
        let file_name = file.value.as_ref().map(|path| path.display());
        let mut lines = vec![
            line("config", file, or_none(file_name)),
            line("database", database, database.value.clone()),
            line("objects", objects, objects.value.clone()),
            line(
                "migrate",
                migrate,
                Migrate::as_str(migrate.value).to_owned(),
            ),
            line(
                "max_row_bytes",
                max_row_bytes,
                max_row_bytes.value.to_string(),
            ),
            line(
                "max_input_bytes",
                max_input_bytes,
                or_none(max_input_bytes.value),
            ),
        ];
        if database_session.value.is_some() {
            let value = or_none(database_session.value.as_ref());
            lines.insert(2, line("database_session", database_session, value));
        }
        if objects.value.starts_with("s3:") {
            lines.extend(s3.report());
        }
        lines.extend(cache.report());
        lines.extend(ops.iter().flat_map(OpConfig::report));
        lines
    }
}

impl S3Config {
    fn report(&self) -> [ReportLine; 5] {
        let Self {
            endpoint,
            region,
            path_style,
            sse,
            kms_key,
        } = self;
        let path_style_in_force = path_style.value.unwrap_or(endpoint.value.is_some());
        [
            line("s3.endpoint", endpoint, or_none(endpoint.value.as_ref())),
            line("s3.region", region, or_none(region.value.as_ref())),
            line("s3.path_style", path_style, path_style_in_force.to_string()),
            line("s3.sse", sse, or_none(sse.value.map(Sse::as_str))),
            line("s3.kms_key", kms_key, or_none(kms_key.value.as_ref())),
        ]
    }
}

impl OpConfig {
    /// The op's lines of [`Config::report`].
    #[must_use]
    pub fn report(&self) -> Vec<ReportLine> {
        let mut values = vec![("kind", self.kind.as_str().to_owned())];
        match &self.handler {
            None => {
                let processor = self.origins.contains_key(PROCESSOR);
                let value = if processor { "processor" } else { "none" };
                values.push((PROCESSOR, value.to_owned()));
            }
            Some(Handler::Command {
                command: _,
                shown,
                window,
            }) => {
                values.push(("handler.command", format!("{shown:?}")));
                values.push(("handler.window", window.to_string()));
            }
        }
        values.extend(settings_report(&self.settings));
        let name = self.name();
        values
            .into_iter()
            .map(|(key, value)| {
                let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
                ReportLine {
                    key: format!("{name}.{key}"),
                    value: origin.shown(&value),
                    origin,
                }
            })
            .collect()
    }
}

/// The settings of an op by their keys, as people read them.
pub(crate) fn settings_report(settings: &OpSettings) -> Vec<(&'static str, String)> {
    let OpSettings {
        max_attempts,
        max_lost,
        backoff: Backoff { base, factor, cap },
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
    } = settings;
    let cores = || "number of cores".to_owned();
    vec![
        ("max_attempts", max_attempts.to_string()),
        ("max_lost", max_lost.to_string()),
        ("backoff.base", format_duration(*base)),
        ("backoff.factor", factor.to_string()),
        ("backoff.cap", format_duration(*cap)),
        ("concurrency", or_none(*concurrency)),
        (
            "local_concurrency",
            local_concurrency.map_or_else(cores, |rows| rows.to_string()),
        ),
        ("parallel", parallel.to_string()),
        ("timeout", or_none(timeout.map(format_duration))),
        ("delivery", delivery.as_str().to_owned()),
        ("block_rows", block_rows.to_string()),
        ("block_bytes", block_bytes.to_string()),
        ("abort_grace", format_duration(*abort_grace)),
        ("max_later", max_later.to_string()),
        ("keep", or_none(keep.map(format_duration))),
    ]
}

pub(super) fn line<T>(key: &str, setting: &Setting<T>, value: String) -> ReportLine {
    ReportLine {
        key: key.to_owned(),
        value: setting.origin.shown(&value),
        origin: setting.origin.clone(),
    }
}

pub(super) fn or_none<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

impl fmt::Display for ReportLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, origin } = self;
        write!(f, "{key} = {value}  ({origin})")
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(f, &self.report())
    }
}

impl fmt::Debug for OpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(f, &self.report())
    }
}

fn debug(f: &mut fmt::Formatter<'_>, lines: &[ReportLine]) -> fmt::Result {
    f.debug_list()
        .entries(lines.iter().map(ReportLine::to_string))
        .finish()
}
