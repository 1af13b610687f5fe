//! What is read of a published file: its bytes, its size, a link to it.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use tokio::io::AsyncRead;

use super::errors::{failed, is_missing};
use super::publish::content_type;
use super::{Bucket, StageError};

pub(super) async fn open(
    bucket: &Bucket,
    key: &str,
) -> Result<Box<dyn AsyncRead + Send + Unpin>, StageError> {
    let key = bucket.key(key);
    let get = bucket.client.get_object().bucket(bucket.name()).key(&key);
    let found = get.send().await.map_err(failed("opening", bucket, &key))?;
    Ok(Box::new(found.body.into_async_read()))
}

pub(super) async fn size(bucket: &Bucket, key: &str) -> Result<Option<u64>, StageError> {
    let key = bucket.key(key);
    let head = bucket.client.head_object().bucket(bucket.name()).key(&key);
    match head.send().await {
        Ok(found) => Ok(Some(bytes(found.content_length))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed("looking at", bucket, &key)(error)),
    }
}

/// A length as S3 says it.
pub(super) fn bytes(length: Option<i64>) -> u64 {
    u64::try_from(length.unwrap_or_default()).unwrap_or_default()
}

pub(super) async fn signed_url(
    bucket: &Bucket,
    key: &str,
    valid_for: Duration,
) -> Result<String, StageError> {
    let name = key.rsplit('/').next().unwrap_or(key);
    let key = bucket.key(key);
    let valid = PresigningConfig::expires_in(valid_for).map_err(|error| StageError {
        what: format!("signing a link to s3://{}/{key}", bucket.name()),
        source: std::io::Error::other(error),
    })?;
    let get = bucket.client.get_object().bucket(bucket.name()).key(&key);
    let get = get
        .response_content_disposition(disposition(name))
        .response_content_type(content_type(name));
    let signed = get.presigned(valid).await;
    let signed = signed.map_err(failed("signing a link to", bucket, &key))?;
    Ok(signed.uri().to_owned())
}

/// Says that the file is to be kept under its name.
fn disposition(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._- ".contains(c);
    if name.chars().all(plain) {
        format!("attachment; filename=\"{name}\"")
    } else {
        format!("attachment; filename*=UTF-8''{}", encoded(name))
    }
}

/// A text as it may stand in a header or an address: what is neither a letter, a digit nor one of `-._~/` in hexadecimal.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}
