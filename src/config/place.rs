//! `sqlite:PATH`, `postgres://…`, `file:PATH` and `s3://BUCKET/PREFIX`: where a database is, and where files go.

use std::path::Path;

use super::reader::{Given, Reader};
use super::server::{SERVER, Server};
use super::setting::{Origin, Setting};

/// Where a place may be that is no path.
#[derive(Clone, Copy)]
enum Or {
    /// A database's server.
    Server,
    /// A bucket.
    Bucket,
}

/// A key whose value is a scheme and a path.
pub(super) struct Place {
    scheme: &'static str,
    default: &'static str,
    /// Where else it may be.
    or: Or,
}

impl Place {
    pub(super) const DATABASE: Self = Self {
        scheme: "sqlite",
        default: "sqlite:rowmill.db",
        or: Or::Server,
    };
    pub(super) const OBJECTS: Self = Self {
        scheme: "file",
        default: "file:rowmill-files",
        or: Or::Bucket,
    };

    /// The value in force, its path as seen from the current directory.
    pub(super) fn read(
        &self,
        reader: &mut Reader<'_>,
        given: Option<Given>,
        dir: &Path,
    ) -> Setting<String> {
        super::setting(given, self.default.to_owned(), |given| {
            match self.locate(given, dir) {
                Ok(place) => Some(place),
                Err(why) => {
                    reader.refuse(given.origin.clone(), &given.key, why);
                    None
                }
            }
        })
    }

    /// No message repeats the value: it may hold a password that is not where one is looked for.
    fn locate(&self, given: &Given, dir: &Path) -> Result<String, String> {
        let Self {
            scheme,
            default,
            or,
        } = self;
        let other = match or {
            Or::Server => "postgres://HOST/DATABASE",
            Or::Bucket => "s3://BUCKET/PREFIX",
        };
        let wants = || format!("must be {scheme}:PATH or {other}, such as {default}");
        let Some((found, path)) = given.text.split_once(':') else {
            return Err(wants());
        };
        let is = |scheme: &str| found.eq_ignore_ascii_case(scheme);
        match or {
            Or::Bucket if is("s3") => return in_bucket(path),
            Or::Server if is("postgres") || is("postgresql") => return on_server(path),
            _ => {}
        }
        if !found.eq_ignore_ascii_case(scheme) {
            return Err(wants());
        }
        let path = match path.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(_) => return Err(format!("names a host after //, and has none; {}", wants())),
            None => path,
        };
        if path.is_empty() || path == ":memory:" || path.contains('\0') {
            return Err(format!("names nothing on disk; {}", wants()));
        }
        // A shell writes it out at a word's beginning alone, and a folder of that name is no user's home.
        if path == "~" || path.starts_with("~/") {
            return Err(format!(
                "~ is not your home here: write the path out; {}",
                wants()
            ));
        }
        let relative_to_file = matches!(given.origin, Origin::File { .. });
        if !relative_to_file {
            return Ok(format!("{scheme}:{path}"));
        }
        match dir.join(path).to_str() {
            Some(path) => Ok(format!("{scheme}:{path}")),
            None => Err(
                "starts at the file's folder, whose name is not UTF-8; write an absolute path"
                    .to_owned(),
            ),
        }
    }
}

/// `postgres://USER@HOST/DATABASE`; what it leaves open is looked for in the environment when it is opened.
fn on_server(path: &str) -> Result<String, String> {
    let url = format!("postgres:{path}");
    if !path.starts_with("//") {
        return Err(SERVER.to_owned());
    }
    match Server::read(&url) {
        Ok(_) => Ok(url),
        Err(why) => Err(why),
    }
}

/// The address of a server without a pooler in between.
pub(super) fn session(reader: &mut Reader<'_>, given: &Given) -> Option<String> {
    let scheme = given.text.split_once(':').unwrap_or_default();
    let located = match scheme.0.to_ascii_lowercase().as_str() {
        "postgres" | "postgresql" => on_server(scheme.1),
        _ => Err(SERVER.to_owned()),
    };
    match located {
        Ok(url) => Some(url),
        Err(why) => {
            reader.refuse(given.origin.clone(), &given.key, why);
            None
        }
    }
}

/// `s3://BUCKET/PREFIX`, as it is kept: without slashes that say nothing.
fn in_bucket(path: &str) -> Result<String, String> {
    let Some(path) = path.strip_prefix("//") else {
        return Err("must be s3://BUCKET/PREFIX, such as s3://reports/rowmill".to_owned());
    };
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
        && !bucket.starts_with(['-', '.'])
        && !bucket.ends_with(['-', '.']);
    if !is_bucket {
        return Err(
            "must name a bucket after s3://: 3 to 63 lower-case letters, digits, dots and dashes, and no user or password"
                .to_owned(),
        );
    }
    let prefix = prefix.trim_end_matches('/');
    let can_be = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    if !prefix.is_empty() && !prefix.split('/').all(can_be) {
        return Err(
            "the prefix after the bucket must be names with one slash between them".to_owned(),
        );
    }
    Ok(match prefix {
        "" => format!("s3://{bucket}"),
        prefix => format!("s3://{bucket}/{prefix}"),
    })
}
