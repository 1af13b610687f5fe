//! `[s3]`: where the store of `objects = "s3://…"` is, and how it is spoken to.

use super::reader::{Env, Given, Reader, Table, Want};
use super::setting::{Origin, Setting};
use super::{from_env, setting, variable};

pub(super) const KEYS: &[&str] = &["endpoint", "region", "path_style", "sse", "kms_key"];

/// What `[s3]` says. Credentials are never among it: they come from the environment, as every tool of AWS takes them.
#[derive(Debug, Clone, PartialEq)]
pub struct S3Config {
    /// The address of a store that is not AWS's own.
    pub endpoint: Setting<Option<String>>,
    /// The bucket's region.
    pub region: Setting<Option<String>>,
    /// Whether the bucket's name is in the path; where nobody says it, it is with an endpoint.
    pub path_style: Setting<Option<bool>>,
    /// How the store encrypts what it keeps; else by the bucket's own rule.
    pub sse: Setting<Option<Sse>>,
    /// The id of KMS's key; else the bucket's.
    pub kms_key: Setting<Option<String>>,
}

/// How the store encrypts what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sse {
    /// With keys of its own.
    Aes256,
    /// With a key of KMS.
    Kms,
}

impl Sse {
    /// The word that users write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "aws:kms",
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, root: &Table<'_>, env: Env<'_>) -> S3Config {
    let table = reader.table(root, "s3");
    if let Some(table) = &table {
        reader.only(table, KEYS, &[]);
    }
    let mut given = |key, want| given(reader, table.as_ref(), key, want, env);
    let endpoint = given("endpoint", Want::Text);
    let region = given("region", Want::Text);
    let path_style = given("path_style", Want::Bool);
    let sse = given("sse", Want::Text);
    let kms_key = given("kms_key", Want::Text);
    let sse = setting(sse, None, |given| {
        let words = [Sse::Aes256, Sse::Kms].map(|word| (word.as_str(), word));
        reader.word(given, &words).map(Some)
    });
    S3Config {
        endpoint: setting(endpoint, None, |given| {
            text(
                reader,
                given,
                is_endpoint,
                "http://HOST or https://HOST, without a user",
            )
        }),
        region: setting(region, None, |given| {
            text(
                reader,
                given,
                is_name,
                "a region's name, such as eu-central-1",
            )
        }),
        path_style: setting(path_style, None, |given| {
            let words = [("true", true), ("1", true), ("false", false), ("0", false)];
            reader.word(given, &words).map(Some)
        }),
        kms_key: setting(kms_key, None, |given| {
            if sse.value != Some(Sse::Kms) {
                let why = "is of use only with sse = \"aws:kms\"";
                reader.refuse(given.origin.clone(), &given.key, why);
                return None;
            }
            text(reader, given, is_key, "a key's id or its ARN")
        }),
        sse,
    }
}

/// What is in force for a key, from the environment or the file.
fn given(
    reader: &mut Reader<'_>,
    table: Option<&Table<'_>>,
    key: &str,
    want: Want,
    env: Env<'_>,
) -> Option<Given> {
    let written = table.and_then(|table| reader.raw(table, key, want));
    let name = variable(&format!("s3_{key}"));
    if let Some(text) = from_env(env, &name) {
        return Some(Given {
            key: format!("s3.{key}"),
            text,
            origin: Origin::Env(name),
        });
    }
    reader.resolve(written?)
}

/// No message repeats the value: somebody may have put a credential where none is looked for.
fn text(
    reader: &mut Reader<'_>,
    given: &Given,
    can_be: impl Fn(&str) -> bool,
    wants: &str,
) -> Option<Option<String>> {
    if can_be(&given.text) {
        return Some(Some(given.text.clone()));
    }
    let why = format!("must be {wants}");
    reader.refuse(given.origin.clone(), &given.key, why);
    None
}

fn is_endpoint(text: &str) -> bool {
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let strange = |c: char| c.is_whitespace() || c.is_control() || "@?#".contains(c);
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/') && !host.contains(strange))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())
}
