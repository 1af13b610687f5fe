//! The address of a PostgreSQL server, as libpq takes it: a URL, or `key=value` pairs.

use percent_encoding::percent_decode_str;

/// What an address must be.
pub(crate) const SERVER: &str =
    "must be postgres://USER@HOST/DATABASE, as PostgreSQL's own programs take it";
/// The words of `sslmode`.
pub(crate) const SSLMODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// An address without what the driver does not know.
pub(crate) struct Server {
    /// What the driver reads.
    pub(crate) text: String,
    pub(crate) sslmode: Option<String>,
    pub(crate) sslrootcert: Option<String>,
    /// A port is said.
    pub(crate) has_port: bool,
}

impl Server {
    /// Takes a URL or pairs; no message repeats a value, which may hold a password.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let found = split(text)?;
        if found.text.parse::<tokio_postgres::Config>().is_err() {
            return Err(format!("the database's address: {SERVER}"));
        }
        match &found.sslmode {
            Some(word) if !SSLMODES.contains(&word.as_str()) => {
                Err(format!("sslmode: must be one of {}", SSLMODES.join(", ")))
            }
            _ => Ok(found),
        }
    }
}

fn split(url: &str) -> Result<Server, String> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return split_url(url);
    }
    let mut found = Server {
        text: String::new(),
        sslmode: None,
        sslrootcert: None,
        has_port: false,
    };
    for (key, value) in pairs(url)? {
        match key.as_str() {
            "sslmode" => found.sslmode = Some(value),
            "sslrootcert" => found.sslrootcert = Some(value),
            _ => {
                found.has_port |= key == "port";
                let value = value.replace('\\', r"\\").replace('\'', r"\'");
                found.text.push_str(&format!("{key}='{value}' "));
            }
        }
    }
    Ok(found)
}

fn split_url(url: &str) -> Result<Server, String> {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let mut found = Server {
        text: place.to_owned(),
        sslmode: None,
        sslrootcert: None,
        has_port: hosts(place).1.split(',').any(has_port),
    };
    let mut sign = '?';
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let decoded = || {
            let text = percent_decode_str(value).decode_utf8();
            let text = text.map_err(|_| format!("{key}: must be UTF-8"))?;
            Ok::<_, String>(Some(text.into_owned()))
        };
        match key {
            "sslmode" => found.sslmode = decoded()?,
            "sslrootcert" => found.sslrootcert = decoded()?,
            _ => {
                found.has_port |= key == "port";
                found.text.push(sign);
                found.text.push_str(parameter);
                sign = '&';
            }
        }
    }
    Ok(found)
}

/// The place of a URL before, within and after its hosts.
fn hosts(place: &str) -> (&str, &str, &str) {
    let scheme = place.find("://").map_or(0, |at| at + 3);
    let from = place[scheme..]
        .find('@')
        .map_or(scheme, |at| scheme + at + 1);
    let to = place[from..]
        .find(['/', '?'])
        .map_or(place.len(), |at| from + at);
    (&place[..from], &place[from..to], &place[to..])
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(']')
        .map_or(host, |(_, rest)| rest)
        .contains(':')
}

/// The same URL with a port behind each of its hosts.
pub(crate) fn with_port(url: &str, port: u16) -> String {
    if !url.contains("://") {
        return format!("{url} port={port}");
    }
    let (before, hosts, after) = hosts(url);
    if hosts.is_empty() {
        return url.to_owned();
    }
    let hosts: Vec<String> = hosts
        .split(',')
        .map(|host| format!("{host}:{port}"))
        .collect();
    format!("{before}{}{after}", hosts.join(","))
}

/// `key=value key='a value'`, as libpq reads it.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let bad = || format!("the database's address: {SERVER}");
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(bad)?;
        let after = after.trim_start();
        let quoted = after.starts_with('\'');
        let mut value = String::new();
        let mut chars = after.char_indices().skip(usize::from(quoted));
        let mut end = (!quoted).then_some(after.len());
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => value.push(chars.next().ok_or_else(bad)?.1),
                '\'' if quoted => {
                    end = Some(at + 1);
                    break;
                }
                c if c.is_whitespace() && !quoted => {
                    end = Some(at);
                    break;
                }
                c => value.push(c),
            }
        }
        found.push((key.trim().to_owned(), value));
        rest = after
            .get(end.ok_or_else(bad)?..)
            .unwrap_or_default()
            .trim_start();
    }
    Ok(found)
}
